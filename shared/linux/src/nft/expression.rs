//! Statements as the expressions that the kernel runs, with what each needs to be known before it.

use std::io;

use super::display::family_of;
use super::model::{Family, Relation, Rule, Statement, Transport};
use super::register::{
    compare, compare_masked, expression, keep_bits, load, load_ct, load_meta, load_payload, load_random, look_up,
    octets, operator, redirect, store, to_network_order, translate, verdict,
};
use super::wire::{Writer, kind};
use crate::Prefix;

/// Where in the packet a payload expression starts counting.
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

/// Length of an interface's name with padding (`IFNAMSIZ`).
const INTERFACE_NAME: usize = 16;

/// What the statements before have made sure of.
struct Known {
    network: Option<Family>,
    transport: Option<Transport>,
}

/// Where in the message the expressions of each statement start, to find the one that the kernel refuses.
pub(super) type Starts = Vec<usize>;

/// Appends the expressions of `rule`, for a table of `family`.
pub(super) fn write_rule(writer: &mut Writer, family: Family, rule: &Rule) -> io::Result<Starts> {
    let mut known = Known { network: (family != Family::Inet).then_some(family), transport: None };
    let mut starts = Starts::new();
    let mut outcome = Ok(());
    writer.nested(kind::RULE_EXPRESSIONS, |writer| {
        for statement in &rule.statements {
            starts.push(writer.position());
            outcome = write_statement(writer, &mut known, statement);
            if outcome.is_err() {
                break;
            }
        }
    });
    outcome.map(|()| starts)
}

fn write_statement(writer: &mut Writer, known: &mut Known, statement: &Statement) -> io::Result<()> {
    match statement {
        Statement::L4Protocol(transport) => known.require_transport(writer, *transport)?,
        Statement::Mark { mask, relation, value } => {
            load_meta(writer, libc::NFT_META_MARK);
            compare_masked(writer, *mask, *relation, *value);
        }
        Statement::CtState(states) => {
            load_ct(writer, libc::NFT_CT_STATE);
            keep_bits(writer, &states.0.to_ne_bytes());
            compare(writer, libc::NFT_CMP_NEQ, &[0; 4]);
        }
        Statement::Source(relation, prefix) => known.match_prefix(writer, Side::Source, *relation, *prefix)?,
        Statement::Destination(relation, prefix) => {
            known.match_prefix(writer, Side::Destination, *relation, *prefix)?;
        }
        Statement::SourceIn(family, set) => known.match_set(writer, Side::Source, *family, set)?,
        Statement::DestinationIn(family, set) => known.match_set(writer, Side::Destination, *family, set)?,
        Statement::SourcePort(transport, relation, port) => {
            known.require_transport(writer, *transport)?;
            load_payload(writer, TRANSPORT_HEADER, 0, 2);
            compare(writer, operator(*relation), &port.to_be_bytes());
        }
        Statement::DestinationPort(transport, relation, port) => {
            known.require_transport(writer, *transport)?;
            load_payload(writer, TRANSPORT_HEADER, 2, 2);
            compare(writer, operator(*relation), &port.to_be_bytes());
        }
        Statement::TcpFlags { mask, value } => {
            known.require_transport(writer, Transport::Tcp)?;
            load_payload(writer, TRANSPORT_HEADER, 13, 1);
            keep_bits(writer, &[mask.0]);
            compare(writer, libc::NFT_CMP_EQ, &[value.0]);
        }
        Statement::InInterface(relation, name) => {
            match_interface(writer, libc::NFT_META_IIFNAME, *relation, name)?;
        }
        Statement::OutInterface(relation, name) => {
            match_interface(writer, libc::NFT_META_OIFNAME, *relation, name)?;
        }
        Statement::FromSocket => {
            load_meta(writer, libc::NFT_META_SKUID);
            to_network_order(writer);
            compare(writer, libc::NFT_CMP_GTE, &[0; 4]);
        }
        Statement::RandomBelow { modulus, below } => {
            load_random(writer, *modulus);
            to_network_order(writer);
            compare(writer, libc::NFT_CMP_LT, &below.to_be_bytes());
        }
        Statement::RandomIs { modulus, value } => {
            load_random(writer, *modulus);
            compare(writer, libc::NFT_CMP_EQ, &value.to_ne_bytes());
        }
        action => write_action(writer, known, action)?,
    }
    Ok(())
}

fn write_action(writer: &mut Writer, known: &Known, statement: &Statement) -> io::Result<()> {
    match statement {
        Statement::SetMark(value) => {
            load(writer, &value.to_ne_bytes());
            store(writer, "meta", libc::NFT_META_MARK);
        }
        Statement::SetCtZone(zone) => {
            load(writer, &zone.to_ne_bytes());
            store(writer, "ct", libc::NFT_CT_ZONE);
        }
        Statement::Redirect(port) => {
            known.check_port_can_be_translated()?;
            redirect(writer, *port);
        }
        Statement::DnatTo(to) => {
            known.check_port_can_be_translated()?;
            known.check_network(family_of(to.ip()))?;
            translate(writer, libc::NFT_NAT_DNAT, Prefix::host(to.ip()), Some(to.port()));
        }
        Statement::DnatAmong(prefix, port) => {
            known.check_port_can_be_translated()?;
            known.check_network(family_of(prefix.address()))?;
            translate(writer, libc::NFT_NAT_DNAT, *prefix, Some(*port));
        }
        Statement::SnatTo(to) => {
            known.check_network(family_of(*to))?;
            translate(writer, libc::NFT_NAT_SNAT, Prefix::host(*to), None);
        }
        Statement::NoTrack => expression(writer, "notrack", |_| {}),
        Statement::Masquerade => expression(writer, "masq", |_| {}),
        Statement::Accept => verdict(writer, libc::NF_ACCEPT, None),
        Statement::Drop => verdict(writer, libc::NF_DROP, None),
        Statement::Return => verdict(writer, libc::NFT_RETURN, None),
        Statement::Jump(chain) => verdict(writer, libc::NFT_JUMP, Some(chain)),
        Statement::Goto(chain) => verdict(writer, libc::NFT_GOTO, Some(chain)),
        Statement::RejectWithReset => expression(writer, "reject", |data| {
            data.number(1, libc::NFT_REJECT_TCP_RST.cast_unsigned());
            data.bytes(2, &[0]);
        }),
        Statement::Counter => expression(writer, "counter", |data| {
            data.bytes(1, &[0; 8]);
            data.bytes(2, &[0; 8]);
        }),
        // The matches, which the caller has written.
        Statement::L4Protocol(_)
        | Statement::Mark { .. }
        | Statement::CtState(_)
        | Statement::Source(..)
        | Statement::Destination(..)
        | Statement::SourceIn(..)
        | Statement::DestinationIn(..)
        | Statement::SourcePort(..)
        | Statement::DestinationPort(..)
        | Statement::TcpFlags { .. }
        | Statement::InInterface(..)
        | Statement::OutInterface(..)
        | Statement::FromSocket
        | Statement::RandomBelow { .. }
        | Statement::RandomIs { .. } => {}
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Side {
    Source,
    Destination,
}

impl Known {
    fn require_transport(&mut self, writer: &mut Writer, wanted: Transport) -> io::Result<()> {
        match self.transport {
            Some(known) if known == wanted => {}
            Some(known) => return Err(refused(format!("a rule for {known} cannot match {wanted}"))),
            None => {
                let number = match wanted {
                    Transport::Tcp => 6,
                    Transport::Udp => 17,
                };
                load_meta(writer, libc::NFT_META_L4PROTO);
                compare(writer, libc::NFT_CMP_EQ, &[number]);
                self.transport = Some(wanted);
            }
        }
        Ok(())
    }

    fn require_network(&mut self, writer: &mut Writer, wanted: Family) -> io::Result<()> {
        self.check_network(wanted)?;
        if self.network.is_none() {
            load_meta(writer, libc::NFT_META_NFPROTO);
            compare(writer, libc::NFT_CMP_EQ, &[super::batch::family_number(wanted)]);
            self.network = Some(wanted);
        }
        Ok(())
    }

    fn check_network(&self, wanted: Family) -> io::Result<()> {
        match self.network {
            _ if wanted == Family::Inet => Err(refused("an address is either ip or ip6".to_owned())),
            Some(known) if known != wanted => Err(refused(format!("a rule for {known} cannot hold {wanted}"))),
            _ => Ok(()),
        }
    }

    fn check_port_can_be_translated(&self) -> io::Result<()> {
        match self.transport {
            Some(_) => Ok(()),
            None => Err(refused("a port can only be translated after a match on tcp or udp".to_owned())),
        }
    }

    fn load_address(&mut self, writer: &mut Writer, side: Side, family: Family) -> io::Result<()> {
        self.require_network(writer, family)?;
        // Offsets of the addresses in the headers of RFC 791 and RFC 8200.
        let (offset, length) = match (family, side) {
            (Family::Ip6, Side::Source) => (8, 16),
            (Family::Ip6, Side::Destination) => (24, 16),
            (_, Side::Source) => (12, 4),
            (_, Side::Destination) => (16, 4),
        };
        load_payload(writer, NETWORK_HEADER, offset, length);
        Ok(())
    }

    fn match_prefix(&mut self, writer: &mut Writer, side: Side, relation: Relation, prefix: Prefix) -> io::Result<()> {
        self.load_address(writer, side, family_of(prefix.address()))?;
        if !prefix.is_host() {
            let mask = octets(prefix.mask());
            keep_bits(writer, &mask);
        }
        compare(writer, operator(relation), &octets(prefix.network().address()));
        Ok(())
    }

    fn match_set(&mut self, writer: &mut Writer, side: Side, family: Family, set: &str) -> io::Result<()> {
        self.load_address(writer, side, family)?;
        look_up(writer, set);
        Ok(())
    }
}

fn match_interface(writer: &mut Writer, key: i32, relation: Relation, name: &str) -> io::Result<()> {
    let mut padded = name.as_bytes().to_vec();
    if padded.is_empty() || padded.len() >= INTERFACE_NAME || padded.contains(&0) {
        return Err(refused(format!("{name:?} is not the name of an interface")));
    }
    padded.resize(INTERFACE_NAME, 0);
    load_meta(writer, key);
    compare(writer, operator(relation), &padded);
    Ok(())
}

fn refused(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}
