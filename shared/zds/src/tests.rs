//! Round trips of every message, and conversations between the two sides.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use proptest::prelude::*;
use types::PodUid;

use crate::agent::{Answer, Listener};
use crate::connection::Connection;
use crate::{Ack, Hello, MAX_MESSAGE, Request, WorkloadInfo, ZdsError, agent, proxy};

fn descriptor() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

fn info(name: &str) -> WorkloadInfo {
    WorkloadInfo { name: name.to_owned(), namespace: "shop".to_owned(), service_account: "cart".to_owned() }
}

async fn sessions() -> (agent::Session, proxy::Session) {
    let (one, other) = Connection::pair().unwrap();
    let (agent, proxy) = tokio::join!(agent::Session::start(one), proxy::Session::start(other));
    (agent.unwrap(), proxy.unwrap())
}

proptest! {
    #[test]
    fn requests_survive_a_round_trip(kind in 0..4, uid in "[a-z0-9-]{0,63}", name in "\\PC{0,60}", namespace in "\\PC{0,60}") {
        let uid = PodUid::from(uid);
        let request = match kind {
            0 => Request::Add {
                uid,
                info: WorkloadInfo { name, namespace, service_account: String::new() },
                netns: descriptor(),
            },
            1 => Request::Keep(uid),
            2 => Request::Del(uid),
            _ => Request::SnapshotSent,
        };
        let (bytes, sent) = request.encode().unwrap();
        prop_assert_eq!(sent.is_some(), kind == 0);
        let received = sent.map(|sent| sent.try_clone_to_owned().unwrap());
        let decoded = Request::decode(&bytes, received).unwrap();
        // The descriptor has another number on the other side, as it has here.
        match (request, decoded) {
            (Request::Add { uid: a, info: b, .. }, Request::Add { uid: c, info: d, .. }) => {
                prop_assert_eq!((a, b), (c, d));
            }
            (Request::Keep(a), Request::Keep(b)) | (Request::Del(a), Request::Del(b)) => prop_assert_eq!(a, b),
            (Request::SnapshotSent, Request::SnapshotSent) => {}
            (sent, received) => prop_assert!(false, "{sent:?} became {received:?}"),
        }
    }

    #[test]
    fn acknowledgements_fit_and_survive(reason in "\\PC{1,2000}") {
        let bytes = Ack(Err(reason.clone())).encode();
        prop_assert!(bytes.len() <= MAX_MESSAGE);
        let Ack(Err(read)) = Ack::decode(&bytes).unwrap() else { panic!("an error became a success") };
        prop_assert!(reason.starts_with(&read));
        prop_assert!(read == reason || bytes.len() > MAX_MESSAGE - 24);
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), with_descriptor: bool) {
        let _ = Request::decode(&bytes, with_descriptor.then(descriptor));
        let _ = (Ack::decode(&bytes), Hello::decode(&bytes));
    }
}

#[test]
fn a_success_is_an_empty_error() {
    assert_eq!(Ack(Ok(())).encode(), [0x0a, 0x00]);
    assert_eq!(Ack::decode(&[0x0a, 0x00]).unwrap(), Ack(Ok(())));
}

#[test]
fn hello_is_what_other_agents_expect_and_ours_recognises() {
    // Field 1 is version 1; field 100 is a string.
    assert_eq!(Hello::aquifer().encode(), b"\x08\x01\xa2\x06\x07aquifer");
    assert!(Hello::decode(&Hello::aquifer().encode()).unwrap().drains_on_del());
    let other = Hello::decode(&[0x08, 0x01]).unwrap();
    assert!(other.is_version_1 && !other.drains_on_del());
}

#[test]
fn the_removed_pod_is_field_2() {
    let (bytes, _) = Request::<OwnedFd>::Del(PodUid::from("u")).encode().unwrap();
    assert_eq!(bytes, [0x12, 0x03, 0x12, 0x01, b'u']);
}

#[test]
fn a_pod_needs_exactly_its_namespace() {
    let request = Request::Add { uid: PodUid::from("u"), info: info("cart-1"), netns: descriptor() };
    let (add, _) = request.encode().unwrap();
    assert!(matches!(Request::decode(&add, None), Err(ZdsError::Descriptor(_))));
    let (del, _) = Request::<OwnedFd>::Del(PodUid::from("u")).encode().unwrap();
    assert!(matches!(Request::decode(&del, Some(descriptor())), Err(ZdsError::Descriptor(_))));
}

#[test]
fn a_pod_without_description_violates_the_protocol() {
    // WorkloadRequest{add: AddWorkload{uid: "u"}}
    let error = Request::decode(&[0x0a, 0x03, 0x0a, 0x01, b'u'], Some(descriptor())).unwrap_err();
    assert!(matches!(error, ZdsError::MissingInfo(_)) && error.is_protocol_violation());
    assert!(Request::decode(&[], None).unwrap_err().is_protocol_violation());
}

#[test]
fn a_message_that_no_peer_could_read_is_not_sent() {
    let request = Request::Add { uid: PodUid::from("u"), info: info(&"n".repeat(MAX_MESSAGE)), netns: descriptor() };
    assert!(matches!(request.encode(), Err(ZdsError::TooLong(_))));
}

#[tokio::test]
async fn a_conversation_goes_request_by_request() {
    let (mut agent, mut proxy) = sessions().await;
    assert!(agent.hello().drains_on_del());
    let file = descriptor();
    let uid = PodUid::from("7f0c");
    let asking = async {
        let mut answers = Vec::new();
        answers.push(agent.add(&uid, &info("cart-1"), file.as_fd()).await.unwrap());
        answers.push(agent.keep(&uid).await.unwrap());
        answers.push(agent.snapshot_sent().await.unwrap());
        answers.push(agent.del(&uid).await.unwrap());
        answers
    };
    let answering = async {
        let mut heard = Vec::new();
        for result in [Ok(()), Ok(()), Ok(()), Err("port 15008 is taken".to_owned())] {
            heard.push(proxy.next().await.unwrap());
            proxy.acknowledge(result).await.unwrap();
        }
        heard
    };
    let (answers, heard) = tokio::join!(asking, answering);
    assert_eq!(answers[..3], [Answer::Acknowledged, Answer::Acknowledged, Answer::Acknowledged]);
    assert_eq!(answers[3], Answer::Refused("port 15008 is taken".to_owned()));
    assert!(matches!(&heard[0], Request::Add { uid, info, .. } if uid.as_str() == "7f0c" && info.name == "cart-1"));
    assert!(matches!(&heard[1..], [Request::Keep(_), Request::SnapshotSent, Request::Del(_)]));
}

#[tokio::test]
async fn the_end_of_either_side_is_seen_by_the_other() {
    let (agent, mut proxy) = sessions().await;
    drop(agent);
    assert!(matches!(proxy.next().await, Err(ZdsError::Closed)));
    let (agent, proxy) = sessions().await;
    drop(proxy);
    assert!(matches!(agent.ended().await, ZdsError::Closed));
}

#[tokio::test]
async fn a_proxy_that_speaks_out_of_turn_is_noticed() {
    let (agent, mut proxy) = sessions().await;
    proxy.acknowledge(Ok(())).await.unwrap();
    assert!(agent.ended().await.is_protocol_violation());
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_does_not_answer_runs_into_the_deadline() {
    let (mut agent, _proxy) = sessions().await;
    let before = tokio::time::Instant::now();
    assert!(matches!(agent.snapshot_sent().await, Err(ZdsError::Timeout("answer"))));
    assert_eq!(before.elapsed(), Duration::from_secs(5));
}

#[tokio::test]
async fn a_packet_over_the_limit_is_refused() {
    let (one, other) = Connection::pair().unwrap();
    let mut proxy = proxy::Session::start(other).await.unwrap();
    one.recv_soon().await.unwrap();
    one.send(&[0; MAX_MESSAGE + 1], None).await.unwrap();
    assert!(proxy.next().await.is_err());
}

#[tokio::test]
async fn a_listener_replaces_what_an_earlier_agent_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ztunnel.sock");
    drop(Listener::bind(&path).unwrap());
    assert!(Connection::connect(&path).is_err(), "nobody listens");
    let listener = Listener::bind(&path).unwrap();
    let (accepted, session) = tokio::join!(
        async { agent::Session::start(listener.accept().await.unwrap()).await },
        proxy::Session::connect(&path)
    );
    session.unwrap();
    assert!(accepted.unwrap().hello().drains_on_del());
}
