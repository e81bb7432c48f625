//! What holds for any bytes and any name.

use std::sync::LazyLock;

use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use proptest::prelude::*;

use crate::forward::{Forwarding, Verdict};
use crate::query::{Query, Transport};
use crate::tests::world::{World, ask, encode};

static WORLD: LazyLock<World> = LazyLock::new(World::new);

/// Names of one to six labels out of few, so that many are known.
fn host() -> impl Strategy<Value = String> {
    let label = prop::sample::select(vec![
        "cart", "shop", "svc", "cluster", "local", "crowd", "example", "com", "wild", "test",
    ]);
    prop::collection::vec(label, 1..7).prop_map(|labels| labels.join("."))
}

proptest! {
    #[test]
    fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..128)) {
        let _ = Query::parse(&bytes, Transport::Udp);
        if let Some(forwarding) = Forwarding::new(&bytes, 1) {
            let _ = forwarding.judge(&bytes);
        }
    }

    #[test]
    fn a_damaged_query_does_no_harm(host in host(), at in 0_usize..40, to in any::<u8>()) {
        let mut bytes = encode(&ask(&host, RecordType::A));
        if let Some(byte) = bytes.get_mut(at) {
            *byte = to;
        }
        if let Ok(query) = Query::parse(&bytes, Transport::Udp) {
            let client = crate::tests::world::client();
            let _ = crate::answer(&WORLD.view(), &WORLD.settings, &client, &query, &mut rand::rng());
        }
    }

    #[test]
    fn answers_fit_and_are_about_the_question(host in host(), is_udp in any::<bool>()) {
        let transport = if is_udp { Transport::Udp } else { Transport::Tcp };
        let query = ask(&host, RecordType::A);
        if let Some(answer) = WORLD.answer(&query, transport) {
            prop_assert!(!is_udp || answer.bytes.len() <= 512);
            prop_assert_eq!(&answer.message.queries, &query.queries);
            prop_assert_eq!(answer.message.metadata.id, query.metadata.id);
            prop_assert_eq!(answer.message.metadata.truncation, is_udp && answer.message.answers.len() < answer.endpoints);
            if let Some(first) = answer.message.answers.first() {
                prop_assert_eq!(&first.name, query.queries[0].name());
            }
        }
    }

    #[test]
    fn a_forwarded_answer_is_unchanged_but_for_identifier_and_authority(tail in prop::collection::vec(any::<u8>(), 0..64)) {
        let query = encode(&ask("example.com", RecordType::TXT));
        let forwarding = Forwarding::new(&query, 0x1234).unwrap();
        let mut response = forwarding.bytes().to_vec();
        response[2] = 0x84;
        response.extend(&tail);
        let Verdict::Answer { bytes, .. } = forwarding.judge(&response) else { panic!("foreign") };
        prop_assert_eq!(&bytes[..2], &query[..2]);
        prop_assert_eq!(bytes[2], 0x80);
        prop_assert_eq!(&bytes[3..], &response[3..]);
        let _ = Message::from_vec(&bytes);
    }
}
