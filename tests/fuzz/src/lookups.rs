//! DNS messages: a pod's query, and a server's answer to it.

use dns::{Forwarding, Query, ResponseCode, Transport};

/// The identifier under which queries are forwarded.
const ID: u16 = 0x1234;

/// Two bytes of length, a query of that length, and the rest is the answer.
pub(crate) fn run(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first_chunk::<2>() else { return };
    let (query, answer) = rest.split_at(rest.len().min(usize::from(u16::from_be_bytes(*length))));
    for transport in [Transport::Udp, Transport::Tcp] {
        if let Ok(parsed) = Query::parse(query, transport) {
            let failure = parsed.failure(ResponseCode::ServFail);
            assert!(failure.len() <= parsed.limit(), "an answer of {} bytes", failure.len());
            assert_eq!(failure.get(..2), query.get(..2), "the answer has the query's identifier");
        }
    }
    if let Some(forwarding) = Forwarding::new(query, ID) {
        assert_eq!(forwarding.bytes().len(), query.len());
        let _ = forwarding.judge(answer);
        let _ = forwarding.judge(forwarding.bytes());
    }
}
