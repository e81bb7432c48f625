//! Mesh connections against rustls's own record layer: data, keys, ends and breaks.

use std::io::{ErrorKind, IoSlice};

use tls::MeshStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::support::*;

/// Ours as server, and rustls as client.
async fn pair(capacity: usize) -> (MeshStream<DuplexStream>, TlsStream<DuplexStream>) {
    let ca = TestCa::new();
    let (server, shown) = (ca.workload(CART), ca.issue(&[FRONTEND]));
    let (near, far) = duplex(capacity);
    let both = async { tokio::join!(tls::accept(near, &server), open_carelessly(far, careless_client(Some(&shown)))) };
    let (ours, theirs) = timeout(DEADLINE, both).await.unwrap();
    (ours.unwrap().0, theirs.unwrap())
}

fn pattern(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|position| u8::try_from((position * 31 + position / 251 + seed) % 251).unwrap()).collect()
}

#[tokio::test]
async fn everything_arrives_both_ways_however_the_transport_splits_it() {
    for (capacity, length) in [(7, 4_000), (1000, 100_000), (16_406, 1_000_000), (1 << 20, 1_000_000)] {
        let (ours, theirs) = pair(capacity).await;
        let ((mut our_read, mut our_write), (mut their_read, mut their_write)) = (split(ours), split(theirs));
        let (up, down) = (pattern(length, 1), pattern(length, 2));
        let send_up = async {
            for (number, chunk) in up.chunks(9_973).enumerate() {
                for part in chunk.chunks(1 + number * 1_237 % 9_973) {
                    their_write.write_all(part).await.unwrap();
                }
            }
            their_write.shutdown().await.unwrap();
        };
        let send_down = async {
            for (number, chunk) in down.chunks(30_011).enumerate() {
                if number % 2 == 0 {
                    our_write.write_all(chunk).await.unwrap();
                } else {
                    let (head, tail) = chunk.split_at(chunk.len() / 3);
                    let count = our_write.write_vectored(&[IoSlice::new(head), IoSlice::new(tail)]).await.unwrap();
                    our_write.write_all(&chunk[count..]).await.unwrap();
                }
                if number % 5 == 0 {
                    our_write.flush().await.unwrap();
                }
            }
            our_write.shutdown().await.unwrap();
        };
        let (mut received_up, mut received_down) = (Vec::new(), Vec::new());
        let all = async {
            let (_, _, ours, theirs) = tokio::join!(
                send_up,
                send_down,
                our_read.read_to_end(&mut received_up),
                their_read.read_to_end(&mut received_down)
            );
            (ours.unwrap(), theirs.unwrap())
        };
        assert_eq!(timeout(DEADLINE, all).await.unwrap(), (length, length));
        assert!(received_up == up && received_down == down, "capacity {capacity}");
    }
}

#[tokio::test]
async fn many_small_writes_make_one_record() {
    let (mut ours, theirs) = pair(1 << 16).await;
    for _ in 0..100 {
        ours.write_all(b"0123456789").await.unwrap();
    }
    ours.flush().await.unwrap();
    let (mut transport, _) = theirs.into_inner();
    let mut bytes = vec![0; 1 << 16];
    let count = transport.read(&mut bytes).await.unwrap();
    assert_eq!(count, 5 + 1000 + 1 + 16);
}

#[tokio::test]
async fn a_peer_may_change_its_key_and_ask_for_a_new_one_of_ours() {
    let (mut ours, mut theirs) = pair(1 << 16).await;
    for round in 0..3_u8 {
        theirs.get_mut().1.refresh_traffic_keys().unwrap();
        theirs.write_all(&[round; 100]).await.unwrap();
        theirs.flush().await.unwrap();
        let mut bytes = [0; 100];
        timeout(DEADLINE, ours.read_exact(&mut bytes)).await.unwrap().unwrap();
        assert_eq!(bytes, [round; 100]);
        ours.write_all(&[round; 50]).await.unwrap();
        ours.flush().await.unwrap();
        let mut bytes = [0; 50];
        timeout(DEADLINE, theirs.read_exact(&mut bytes)).await.unwrap().unwrap();
        assert_eq!(bytes, [round; 50]);
    }
}

#[tokio::test]
async fn a_spoilt_record_ends_the_connection_with_an_alert() {
    let (mut ours, mut theirs) = pair(1 << 16).await;
    theirs.write_all(b"whole").await.unwrap();
    let record = [23, 3, 3, 0, 40].into_iter().chain([5; 40]).collect::<Vec<u8>>();
    theirs.get_mut().0.write_all(&record).await.unwrap();
    let mut bytes = [0; 100];
    assert_eq!(ours.read(&mut bytes).await.unwrap(), 5, "what came before it counts");
    let error = ours.read(&mut bytes).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::ConnectionAborted), "{error}");
    let error = theirs.read(&mut bytes).await.unwrap_err();
    assert!(error.to_string().contains("BadRecordMac"), "{error}");
}

#[tokio::test]
async fn an_end_is_told_from_a_break() {
    let (mut ours, mut theirs) = pair(1 << 16).await;
    theirs.write_all(b"last words").await.unwrap();
    theirs.shutdown().await.unwrap();
    let mut text = String::new();
    ours.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "last words");
    assert_eq!(ours.read(&mut [0; 10]).await.unwrap(), 0, "it stays ended");

    let (mut ours, mut theirs) = pair(1 << 16).await;
    theirs.write_all(b"last words").await.unwrap();
    theirs.get_mut().0.shutdown().await.unwrap();
    let mut bytes = [0; 10];
    ours.read_exact(&mut bytes).await.unwrap();
    assert_eq!(ours.read(&mut bytes).await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert_eq!(ours.read(&mut bytes).await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
}

#[tokio::test]
async fn nothing_is_written_after_the_end() {
    let (mut ours, mut theirs) = pair(1 << 16).await;
    ours.write_all(b"bye").await.unwrap();
    ours.shutdown().await.unwrap();
    assert_eq!(ours.write(b"more").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    let mut text = String::new();
    theirs.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "bye");
}

#[tokio::test]
async fn a_peer_that_reads_nothing_stops_the_writer() {
    let (mut ours, _theirs) = pair(1 << 12).await;
    let chunk = vec![0; 1 << 16];
    let mut taken = 0;
    let endless = async {
        loop {
            taken += ours.write(&chunk).await.unwrap();
        }
    };
    assert!(timeout(std::time::Duration::from_millis(50), endless).await.is_err());
    assert!(taken < 3 << 16, "{taken} bytes are kept for one connection");
}
