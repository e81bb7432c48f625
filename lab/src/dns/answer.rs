//! Query in, answer out: a pure function over the zone.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{CNAME, SOA, SRV};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::zone::{Found, Zone};

/// How long answers may be kept, in seconds; as the common cluster DNS does it.
const TTL: u32 = 5;

/// Largest datagram that is sent, in bytes; [DNS flag day 2020](https://www.dnsflagday.net/2020/).
pub(super) const MAX_DATAGRAM: u16 = 1232;

/// How the query came, which bounds the answer's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// The bytes to send back for the bytes that came in; `None` when even a refusal would be wrong.
pub(super) fn answer(zone: &Zone, domain: &Name, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
    let Ok(query) = Message::from_vec(query) else { return malformed(query) };
    // An answer to an answer would let two servers talk for ever.
    if query.metadata.message_type != MessageType::Query {
        return None;
    }
    let limit = match transport {
        Transport::Tcp => u16::MAX,
        Transport::Udp => query.max_payload().min(MAX_DATAGRAM),
    };
    let response = respond(zone, domain, &query);
    let bytes = response.to_vec().ok()?;
    if bytes.len() <= usize::from(limit) {
        return Some(bytes);
    }
    let mut truncated = response.truncate();
    truncated.edns = response.edns;
    truncated.to_vec().ok()
}

/// The id is all that can be trusted of a query that cannot be read.
fn malformed(query: &[u8]) -> Option<Vec<u8>> {
    let (id, flags) = (query.first_chunk::<2>()?, query.get(2)?);
    // Bit 7 of the flags marks an answer.
    if flags & 0x80 != 0 {
        return None;
    }
    Message::error_msg(u16::from_be_bytes(*id), OpCode::Query, ResponseCode::FormErr).to_vec().ok()
}

fn respond(zone: &Zone, domain: &Name, query: &Message) -> Message {
    let mut response = Message::new(query.metadata.id, MessageType::Response, query.metadata.op_code);
    response.metadata = Metadata::response_from_request(&query.metadata);
    response.metadata.recursion_available = false;
    response.queries.clone_from(&query.queries);
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_DATAGRAM);
        response.edns = Some(edns);
    }
    response.metadata.response_code = match (query.metadata.op_code, query.queries.as_slice()) {
        (OpCode::Query, [question]) if question.query_class() == DNSClass::IN => {
            let question = question.clone();
            fill(zone, domain, question.name(), question.query_type(), &mut response)
        }
        (OpCode::Query, [_]) => ResponseCode::Refused,
        (OpCode::Query, _) => ResponseCode::FormErr,
        _ => ResponseCode::NotImp,
    };
    response
}

/// Puts the records for one question into the response.
fn fill(zone: &Zone, domain: &Name, name: &Name, kind: RecordType, response: &mut Message) -> ResponseCode {
    // The lab has no way out: it does not say that other names do not exist, only that it does not know.
    if !domain.zone_of(name) {
        return ResponseCode::Refused;
    }
    response.metadata.authoritative = true;
    let relative = usize::from(name.num_labels().saturating_sub(domain.num_labels()));
    let labels: Vec<String> =
        name.iter().take(relative).map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let found = zone.look_up(&labels);
    let is_nothing = found == Found::Nothing;
    match found {
        Found::Nothing => {}
        Found::Addresses(addresses) => response.answers.extend(addresses_of(&addresses, name, kind)),
        Found::Port { number, target } => {
            let target_name = Name::from_labels(target.iter().map(|label| label.as_bytes()))
                .and_then(|relative| relative.append_domain(domain));
            if let (RecordType::SRV | RecordType::ANY, Ok(target_name)) = (kind, target_name) {
                let labels: Vec<&str> = target.iter().map(String::as_str).collect();
                if let Found::Addresses(addresses) = zone.look_up(&labels) {
                    let more = addresses.iter().map(|address| record(&target_name, RData::from(*address)));
                    response.additionals.extend(more);
                }
                response.answers.push(record(name, RData::SRV(SRV::new(0, 100, number, target_name))));
            }
        }
        Found::Alias(alias) => {
            if let Ok(mut alias) = Name::from_ascii(alias) {
                alias.set_fqdn(true);
                response.answers.push(record(name, RData::CNAME(CNAME(alias))));
            }
        }
    }
    if response.answers.is_empty() {
        response.authorities.extend(start_of_authority(domain));
    }
    if is_nothing { ResponseCode::NXDomain } else { ResponseCode::NoError }
}

fn addresses_of(addresses: &[IpAddr], name: &Name, kind: RecordType) -> Vec<Record> {
    let is_wanted = |address: &&IpAddr| match kind {
        RecordType::A => address.is_ipv4(),
        RecordType::AAAA => address.is_ipv6(),
        RecordType::ANY => true,
        _ => false,
    };
    addresses.iter().filter(is_wanted).map(|address| record(name, RData::from(*address))).collect()
}

fn record(name: &Name, data: RData) -> Record {
    Record::from_rdata(name.clone(), TTL, data)
}

/// Says how long the absence of a name may be remembered; RFC 2308.
fn start_of_authority(domain: &Name) -> Option<Record> {
    let server = domain.prepend_label("ns").and_then(|name| name.prepend_label("dns")).ok()?;
    let contact = domain.prepend_label("hostmaster").ok()?;
    let soa = SOA::new(server, contact, 1, 7200, 1800, 86400, TTL);
    Some(record(domain, RData::SOA(soa)))
}

#[cfg(test)]
mod tests;
