//! Which messages of a server are answers.

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::RecordType;

use crate::forward::{Forwarding, Verdict};
use crate::tests::world::{ask, encode};

fn forwarding() -> Forwarding {
    Forwarding::new(&encode(&ask("example.com", RecordType::A)), 0xbeef).unwrap()
}

fn response(edit: impl FnOnce(&mut Message)) -> Vec<u8> {
    let mut message = ask("example.com", RecordType::A);
    message.metadata.id = 0xbeef;
    message.metadata.message_type = MessageType::Response;
    message.metadata.authoritative = true;
    edit(&mut message);
    encode(&message)
}

#[test]
fn only_the_identifier_changes_on_the_way_out() {
    let query = encode(&ask("example.com", RecordType::SRV));
    let forwarding = Forwarding::new(&query, 0xbeef).unwrap();
    assert_eq!(forwarding.bytes()[..2], [0xbe, 0xef]);
    assert_eq!(forwarding.bytes()[2..], query[2..]);
}

#[test]
fn only_identifier_and_authority_change_on_the_way_back() {
    for code in [ResponseCode::NoError, ResponseCode::NXDomain] {
        let bytes = response(|message| message.metadata.response_code = code);
        let Verdict::Answer { bytes: answer, is_poor } = forwarding().judge(&bytes) else { panic!("{code}") };
        let answer = Message::from_vec(&answer).unwrap();
        assert_eq!((answer.metadata.id, answer.metadata.response_code, is_poor), (7, code, false));
        assert!(!answer.metadata.authoritative);
    }
}

#[test]
fn failures_of_a_server_are_answers_that_another_may_better() {
    for code in [ResponseCode::ServFail, ResponseCode::Refused, ResponseCode::NotImp] {
        let verdict = forwarding().judge(&response(|message| message.metadata.response_code = code));
        assert!(matches!(verdict, Verdict::Answer { is_poor: true, .. }), "{code}");
    }
}

#[test]
fn a_server_that_cannot_read_the_query_may_leave_the_question_out() {
    let without = |code| {
        response(move |message| {
            message.queries.clear();
            message.metadata.response_code = code;
        })
    };
    assert!(matches!(forwarding().judge(&without(ResponseCode::FormErr)), Verdict::Answer { .. }));
    assert_eq!(forwarding().judge(&without(ResponseCode::NoError)), Verdict::Foreign);
}

#[test]
fn other_messages_are_foreign() {
    let other_id = response(|message| message.metadata.id = 0xbee0);
    let no_response = response(|message| message.metadata.message_type = MessageType::Query);
    let other_name = response(|message| message.queries = ask("examplf.com", RecordType::A).queries);
    let other_type = response(|message| message.queries = ask("example.com", RecordType::AAAA).queries);
    for foreign in [other_id, no_response, other_name, other_type, vec![], vec![0xbe, 0xef], vec![0xbe; 12]] {
        assert_eq!(forwarding().judge(&foreign), Verdict::Foreign, "{foreign:?}");
    }
    let other_case = response(|message| message.queries = ask("EXAMPLE.com", RecordType::A).queries);
    assert!(matches!(forwarding().judge(&other_case), Verdict::Answer { .. }));
}

#[test]
fn a_query_without_a_whole_question_is_not_forwarded() {
    let query = encode(&ask("example.com", RecordType::A));
    for length in 0..query.len() {
        assert!(Forwarding::new(&query[..length], 1).is_none(), "{length}");
    }
    let mut compressed = query;
    compressed[12] = 0xc0;
    assert!(Forwarding::new(&compressed, 1).is_none());
}
