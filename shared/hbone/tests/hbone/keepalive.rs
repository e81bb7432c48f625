//! Peers that fall silent, on paused time.

use std::time::Duration;

use hbone::{HboneError, Parameters};
use tokio::io::{AsyncReadExt, duplex};
use tokio::time::{Instant, sleep};

use crate::raw::*;
use crate::support::*;

/// Reads frames without ever answering, until the connection ends; returns when each PING came.
async fn silent(mut raw: Raw, start: Instant) -> Vec<u64> {
    let mut pings = Vec::new();
    while let Some(frame) = raw.read_frame().await {
        if frame.kind == PING {
            pings.push(start.elapsed().as_secs());
        }
    }
    pings
}

#[tokio::test(start_paused = true)]
async fn a_server_lets_a_silent_client_go_after_ping_and_timeout() {
    let start = Instant::now();
    let (near, far) = duplex(PIPE);
    let mut served = Served::new(near, Parameters::default());
    let mut raw = Raw::client(far, &[]).await;
    raw.send_connect(1, "a:80").await;
    let mut stream = served.accept().await;
    let silent = tokio::spawn(silent(raw, start));
    let error = stream.read_u8().await.unwrap_err();
    assert_eq!(start.elapsed().as_secs(), 30, "{error}");
    assert!(matches!(served.end().await.unwrap_err(), HboneError::Timeout("the answer to PING")));
    assert_eq!(silent.await.unwrap(), [10]);
}

#[tokio::test(start_paused = true)]
async fn a_client_lets_a_silent_server_go_after_ping_and_timeout() {
    let start = Instant::now();
    let (near, far) = duplex(PIPE);
    let mut dialled = Dialled::new(near, &Parameters::default()).await;
    let silent = tokio::spawn(silent(Raw::server(far, &[]).await, start));
    assert!(matches!(dialled.end().await.unwrap_err(), HboneError::Timeout(_)));
    assert_eq!((start.elapsed().as_secs(), silent.await.unwrap()), (30, vec![10]));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_is_kept_and_asked_again() {
    let (near, far) = duplex(PIPE);
    let served = Served::new(near, Parameters::default());
    let mut raw = Raw::client(far, &[]).await;
    let start = Instant::now();
    for round in 1..=20 {
        raw.next(PING).await;
        assert_eq!(start.elapsed().as_secs(), 10 * round);
    }
    drop(served);
}

#[tokio::test(start_paused = true)]
async fn a_connection_with_traffic_is_not_asked() {
    let (near, far) = duplex(PIPE);
    let mut served = Served::new(near, Parameters::default());
    let mut raw = Raw::client(far, &[]).await;
    raw.send_connect(1, "a:80").await;
    let mut stream = served.accept().await;
    raw.next(HEADERS).await;
    for _ in 0..30 {
        sleep(Duration::from_secs(3)).await;
        raw.send(DATA, 0, 1, b"x").await;
        stream.read_u8().await.unwrap();
    }
    drop(served);
    let frames = raw.rest().await;
    assert!(frames.iter().all(|frame| frame.kind != PING), "{frames:?}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_late_behind_data_is_forgiven() {
    let (near, far) = duplex(PIPE);
    let mut served = Served::new(near, Parameters::default());
    let mut raw = Raw::client(far, &[]).await;
    raw.send_connect(1, "a:80").await;
    let mut stream = served.accept().await;
    raw.next(HEADERS).await;
    // Asked after ten seconds, this peer is busy sending for a minute before it answers.
    let ping = loop {
        let frame = raw.read_frame().await.unwrap();
        if frame.kind == PING {
            break frame;
        }
    };
    for _ in 0..6 {
        sleep(Duration::from_secs(10)).await;
        raw.send(DATA, 0, 1, b"x").await;
        stream.read_u8().await.unwrap();
    }
    raw.send(PING, ACK, 0, &ping.payload).await;
    raw.send(DATA, END_STREAM, 1, b"x").await;
    assert_eq!(stream.read_u8().await.unwrap(), b'x');
    drop(served);
}
