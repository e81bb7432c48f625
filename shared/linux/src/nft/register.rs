//! The kernel's expressions: each loads into a register, compares a register, or acts on the packet.
//!
//! The numbers of an expression's attributes are those of `enum nft_<name>_attributes` in
//! `linux/netfilter/nf_tables.h`.

use std::net::IpAddr;

use super::batch::family_number;
use super::display::family_of;
use super::model::Relation;
use super::wire::{Writer, kind};
use crate::Prefix;

/// The registers that the expressions use.
const REGISTER: u32 = libc::NFT_REG_1.cast_unsigned();
const SECOND_REGISTER: u32 = libc::NFT_REG_2.cast_unsigned();
const THIRD_REGISTER: u32 = libc::NFT_REG_3.cast_unsigned();
const VERDICT_REGISTER: u32 = libc::NFT_REG_VERDICT.cast_unsigned();

/// The port of a translation is given (`NF_NAT_RANGE_PROTO_SPECIFIED`).
const PORT_GIVEN: u32 = 2;

pub(super) fn load_meta(writer: &mut Writer, key: i32) {
    expression(writer, "meta", |data| {
        data.number(2, key.cast_unsigned());
        data.number(1, REGISTER);
    });
}

pub(super) fn load_ct(writer: &mut Writer, key: i32) {
    expression(writer, "ct", |data| {
        data.number(2, key.cast_unsigned());
        data.number(1, REGISTER);
    });
}

/// Sets a packet's or connection's property from the register.
pub(super) fn store(writer: &mut Writer, expression_name: &str, key: i32) {
    // The attribute of the source register differs between the two.
    let source = if expression_name == "meta" { 3 } else { 4 };
    expression(writer, expression_name, |data| {
        data.number(2, key.cast_unsigned());
        data.number(source, REGISTER);
    });
}

pub(super) fn load_payload(writer: &mut Writer, base: u32, offset: u32, length: u32) {
    expression(writer, "payload", |data| {
        data.number(1, REGISTER);
        data.number(2, base);
        data.number(3, offset);
        data.number(4, length);
    });
}

pub(super) fn load_random(writer: &mut Writer, modulus: u32) {
    expression(writer, "numgen", |data| {
        data.number(1, REGISTER);
        data.number(2, modulus);
        data.number(3, libc::NFT_NG_RANDOM.cast_unsigned());
        data.number(4, 0);
    });
}

/// Values are kept in host order, but order comparisons go byte by byte.
pub(super) fn to_network_order(writer: &mut Writer) {
    expression(writer, "byteorder", |data| {
        data.number(1, REGISTER);
        data.number(2, REGISTER);
        data.number(3, libc::NFT_BYTEORDER_HTON.cast_unsigned());
        data.number(4, 4);
        data.number(5, 4);
    });
}

pub(super) fn compare(writer: &mut Writer, operator: i32, value: &[u8]) {
    expression(writer, "cmp", |data| {
        data.number(1, REGISTER);
        data.number(2, operator.cast_unsigned());
        data.nested(3, |data| data.bytes(kind::DATA_VALUE, value));
    });
}

pub(super) fn compare_masked(writer: &mut Writer, mask: u32, relation: Relation, value: u32) {
    if mask != u32::MAX {
        keep_bits(writer, &mask.to_ne_bytes());
    }
    compare(writer, operator(relation), &value.to_ne_bytes());
}

/// `register = register & mask`
pub(super) fn keep_bits(writer: &mut Writer, mask: &[u8]) {
    expression(writer, "bitwise", |data| {
        data.number(1, REGISTER);
        data.number(2, REGISTER);
        data.number(3, u32::try_from(mask.len()).unwrap_or(u32::MAX));
        data.nested(4, |data| data.bytes(kind::DATA_VALUE, mask));
        // And flips none of them afterwards.
        data.nested(5, |data| data.bytes(kind::DATA_VALUE, &vec![0; mask.len()]));
    });
}

/// Puts a value into the register.
pub(super) fn load(writer: &mut Writer, value: &[u8]) {
    immediate(writer, REGISTER, value);
}

/// Whether the register's value is in a set.
pub(super) fn look_up(writer: &mut Writer, set: &str) {
    expression(writer, "lookup", |data| {
        data.text(1, set);
        data.number(2, REGISTER);
    });
}

pub(super) fn redirect(writer: &mut Writer, port: u16) {
    load(writer, &port.to_be_bytes());
    expression(writer, "redir", |data| {
        data.number(1, REGISTER);
        data.number(3, PORT_GIVEN);
    });
}

fn immediate(writer: &mut Writer, register: u32, value: &[u8]) {
    expression(writer, "immediate", |data| {
        data.number(1, register);
        data.nested(2, |data| data.bytes(kind::DATA_VALUE, value));
    });
}

pub(super) fn verdict(writer: &mut Writer, code: i32, chain: Option<&String>) {
    expression(writer, "immediate", |data| {
        data.number(1, VERDICT_REGISTER);
        data.nested(2, |data| {
            data.nested(kind::DATA_VERDICT, |data| {
                data.number(kind::VERDICT_CODE, code.cast_unsigned());
                if let Some(chain) = chain {
                    data.text(kind::VERDICT_CHAIN, chain);
                }
            });
        });
    });
}

pub(super) fn translate(writer: &mut Writer, direction: i32, to: Prefix, port: Option<u16>) {
    immediate(writer, REGISTER, &octets(to.network().address()));
    if !to.is_host() {
        immediate(writer, THIRD_REGISTER, &octets(to.last()));
    }
    if let Some(port) = port {
        immediate(writer, SECOND_REGISTER, &port.to_be_bytes());
    }
    expression(writer, "nat", |data| {
        data.number(1, direction.cast_unsigned());
        data.number(2, family_number(family_of(to.address())).into());
        data.number(3, REGISTER);
        if !to.is_host() {
            data.number(4, THIRD_REGISTER);
        }
        if port.is_some() {
            data.number(5, SECOND_REGISTER);
            data.number(7, PORT_GIVEN);
        }
    });
}

/// Appends an expression.
pub(super) fn expression(writer: &mut Writer, name: &str, data: impl FnOnce(&mut Writer)) {
    writer.nested(kind::LIST_ELEMENT, |writer| {
        writer.text(kind::EXPRESSION_NAME, name);
        writer.nested(kind::EXPRESSION_DATA, data);
    });
}

pub(super) fn operator(relation: Relation) -> i32 {
    match relation {
        Relation::Equal => libc::NFT_CMP_EQ,
        Relation::NotEqual => libc::NFT_CMP_NEQ,
    }
}

/// The bytes of an address in network order.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
