//! The stream against peers that behave, and against each way to misbehave.

use std::future::pending;

use tokio::io::DuplexStream;

use super::*;

/// Runs the client for `time` against `peer`.
async fn against<F: Future<Output = ()> + Send + 'static>(
    time: Duration,
    peer: impl FnOnce(DuplexStream) -> F,
) -> Report {
    let (ours, theirs) = tokio::io::duplex(4096);
    let peer = tokio::spawn(peer(theirs));
    let report = exchange(ours, 100, tokio::time::sleep(time)).await;
    peer.abort();
    report
}

/// Sends back what comes, with `change` applied to each byte by its position.
async fn echo(stream: DuplexStream, change: fn(u64, u8) -> u8) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (mut buffer, mut position) = ([0; 300], 0);
    while let Ok(length @ 1..) = reader.read(&mut buffer).await {
        for byte in &mut buffer[..length] {
            *byte = change(position, *byte);
            position += 1;
        }
        writer.write_all(&buffer[..length]).await.unwrap();
    }
    writer.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_honest_echo_is_whole() {
    let report = against(Duration::from_secs(2), |peer| echo(peer, |_, byte| byte)).await;
    assert!(report.whole, "{report:?}");
    assert!(report.sent >= 150 * CHUNK as u64, "{report:?}");
    assert_eq!(report.sent, report.received);
}

#[tokio::test(start_paused = true)]
async fn one_changed_byte_is_found_at_its_position() {
    let change = |position, byte: u8| if position == 5000 { byte ^ 1 } else { byte };
    let report = against(Duration::from_secs(2), move |peer| echo(peer, change)).await;
    assert_eq!((report.whole, report.received), (false, 5000));
    assert_eq!(report.error.as_deref(), Some("byte 5000 is not the one that was sent"));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_closes_first_is_named() {
    let report = against(Duration::from_secs(60), |mut peer| async move {
        let mut buffer = [0; 1000];
        peer.read_exact(&mut buffer).await.unwrap();
        peer.write_all(&buffer).await.unwrap();
        peer.shutdown().await.unwrap();
        pending::<()>().await;
    })
    .await;
    assert_eq!(report.error.as_deref(), Some("the peer closed first"));
    assert_eq!(report.received, 1000);
}

#[tokio::test(start_paused = true)]
async fn bytes_that_never_come_back_are_counted() {
    let report = against(Duration::from_secs(1), |mut peer| async move {
        let mut buffer = [0; 4096];
        let mut first = true;
        while let Ok(length @ 1..) = peer.read(&mut buffer).await {
            if first {
                peer.write_all(&buffer[..length]).await.unwrap();
            }
            first = false;
        }
    })
    .await;
    assert!(!report.whole);
    assert!(report.error.as_deref().is_some_and(|error| error.ends_with("bytes did not come back")), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_stops_reading_does_not_hold_the_client() {
    let report = against(Duration::from_secs(1), |peer| async move {
        pending::<()>().await;
        drop(peer);
    })
    .await;
    assert_eq!(report.error.as_deref(), Some("the rest did not come back within 10 s"));
}

#[tokio::test]
async fn a_port_without_listener_is_an_error_that_names_it() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = listener.local_addr().unwrap().to_string();
    drop(listener);
    let options = Options { to: to.clone(), rate: 10, duration: None, banner: false };
    let error = run(&options, |_| {}, pending()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot connect to {to}"));
}
