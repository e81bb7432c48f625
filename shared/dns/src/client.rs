//! Queries of the proxy's own, for a name that it was given instead of an address.

use std::net::IpAddr;

use hickory_proto::op::{Message, MessageType, OpCode, Query as Question, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

/// A query for the addresses of one family that a name has; `None` when it is no host name.
#[must_use]
pub fn question(name: &str, record_type: RecordType, id: u16) -> Option<Vec<u8>> {
    let absolute = format!("{}.", name.trim_end_matches('.'));
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.queries.push(Question::query(Name::from_ascii(absolute).ok()?, record_type));
    message.to_vec().ok()
}

/// The addresses in an answer; none when it tells of a failure or cannot be read.
#[must_use]
pub fn addresses(answer: &[u8]) -> Vec<IpAddr> {
    let Ok(message) = Message::from_vec(answer) else { return Vec::new() };
    if message.metadata.response_code != ResponseCode::NoError {
        return Vec::new();
    }
    let addresses = message.answers.iter().filter_map(|record| match &record.data {
        RData::A(ip) => Some(IpAddr::V4(ip.0)),
        RData::AAAA(ip) => Some(IpAddr::V6(ip.0)),
        _ => None,
    });
    addresses.collect()
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::{A, AAAA, CNAME};

    use super::*;
    use crate::{Query, Transport};

    #[test]
    fn a_question_is_a_query_that_asks_for_the_absolute_name() {
        for name in ["a.example", "a.example."] {
            let query = Query::parse(&question(name, RecordType::A, 7).unwrap(), Transport::Tcp).unwrap();
            assert_eq!((query.name().to_string().as_str(), query.record_type()), ("a.example.", RecordType::A));
        }
        let long = "x".repeat(64);
        for name in ["", &long, "a..example"] {
            let asked = question(name, RecordType::A, 7);
            assert!(asked.is_none() || name.is_empty(), "{name}");
        }
    }

    #[test]
    fn addresses_are_read_past_aliases() {
        let mut message = Message::from_vec(&question("a.example", RecordType::A, 7).unwrap()).unwrap();
        let name: Name = "a.example.".parse().unwrap();
        message.answers = [
            RData::CNAME(CNAME("b.example.".parse().unwrap())),
            RData::A(A("10.0.0.1".parse().unwrap())),
            RData::AAAA(AAAA("fd00::1".parse().unwrap())),
        ]
        .map(|data| Record::from_rdata(name.clone(), 30, data))
        .to_vec();
        let expected: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        assert_eq!(addresses(&message.to_vec().unwrap()), expected);
        message.metadata.response_code = ResponseCode::ServFail;
        assert!(addresses(&message.to_vec().unwrap()).is_empty());
        assert!(addresses(b"nonsense").is_empty());
    }
}
