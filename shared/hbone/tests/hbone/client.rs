//! Our client in front of a hand-written server: what it sends and what it makes of answers.

use std::time::Duration;

use hbone::client::Connect;
use hbone::{Baggage, Forwarded, HboneError, Parameters, TraceParent};
use tokio::io::{AsyncReadExt, duplex};
use tokio::time::Instant;

use crate::raw::*;
use crate::support::*;

const MAX_CONCURRENT_STREAMS: u16 = 3;

async fn pair(settings: &[(u16, u32)]) -> (Dialled, Raw) {
    let (near, far) = duplex(PIPE);
    let parameters = Parameters::default();
    tokio::join!(Dialled::new(near, &parameters), Raw::server(far, settings))
}

/// The outcome of a request that the server answers with this header block.
async fn outcome(block: &[u8], flags: u8) -> Result<(), HboneError> {
    let (dialled, mut raw) = pair(&[]).await;
    let request = connect("a:80");
    let answer = async {
        raw.next(HEADERS).await;
        raw.send(HEADERS, END_HEADERS | flags, 1, block).await;
        raw
    };
    let (outcome, _raw) = tokio::join!(dialled.client.connect(&request, deadline()), answer);
    outcome.map(drop)
}

#[tokio::test]
async fn the_parameters_of_the_wire_are_announced() {
    let (_dialled, mut raw) = pair(&[]).await;
    let mut settings = raw.next(SETTINGS).await.settings();
    settings.sort_unstable();
    // ENABLE_PUSH, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE
    assert_eq!(settings, [(2, 0), (4, 4 << 20), (5, 1 << 20), (6, 16 << 10)]);
    let window = raw.next(WINDOW_UPDATE).await;
    assert_eq!((window.stream, window.number()), (0, (16 << 20) - 65_535));
}

#[tokio::test]
async fn a_request_is_method_authority_and_the_headers_of_the_mesh() {
    let (near, far) = duplex(PIPE);
    let dialled = Dialled::new(near, &Parameters::default()).await;
    let request = Connect {
        authority: "[2001:db8::1]:8080".parse().unwrap(),
        baggage: Some(Baggage { namespace: "shop".into(), workload_name: "cart".into(), ..Baggage::default() }),
        forwarded: Some(Forwarded { client: "10.0.0.1:999".parse().ok(), host: Some("cart.shop.svc".into()) }),
        traceparent: TraceParent::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"),
        network: None,
    };
    let answer = async {
        let mut connection = h2::server::handshake(far).await.unwrap();
        let (request, mut respond) = connection.accept().await.unwrap().unwrap();
        respond.send_response(http::Response::new(()), true).unwrap();
        tokio::spawn(async move { while connection.accept().await.is_some() {} });
        request
    };
    let (opened, received) = tokio::join!(dialled.client.connect(&request, deadline()), answer);
    opened.unwrap();
    assert_eq!(received.method(), http::Method::CONNECT);
    let uri = received.uri().clone().into_parts();
    assert_eq!(uri.authority.unwrap(), "[2001:db8::1]:8080");
    assert_eq!((uri.scheme, uri.path_and_query), (None, None));
    let mut headers: Vec<_> =
        received.headers().iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    headers.sort();
    assert_eq!(
        headers,
        [
            "baggage: k8s.namespace.name=shop,k8s.deployment.name=cart",
            "forwarded: for=\"10.0.0.1:999\";host=cart.shop.svc",
            "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
        ]
    );
}

#[tokio::test]
async fn an_answer_carries_the_destinations_baggage() {
    let (dialled, mut raw) = pair(&[]).await;
    let request = connect("a:80");
    let answer = async {
        raw.next(HEADERS).await;
        let mut block = STATUS_200.to_vec();
        block.extend(headers(&[("baggage", "k8s.namespace.name=shop,k8s.pod.name=cart-1,cloud.region=r")]));
        raw.send(HEADERS, END_HEADERS, 1, &block).await;
    };
    let (opened, ()) = tokio::join!(dialled.client.connect(&request, deadline()), answer);
    let baggage = opened.unwrap().baggage();
    assert_eq!((baggage.workload_kind.as_str(), baggage.workload_name.as_str()), ("pod", "cart-1"));
    assert_eq!((baggage.namespace.as_str(), baggage.region.as_str()), ("shop", "r"));
}

#[tokio::test]
async fn anything_but_200_is_that_status() {
    for (code, another) in [(400, false), (401, false), (404, false), (503, true), (204, false), (302, false)] {
        let block = headers(&[(":status", &code.to_string())]);
        let error = outcome(&block, END_STREAM).await.unwrap_err();
        assert!(matches!(error, HboneError::Status(status) if status == code), "{error}");
        assert_eq!(error.to_string(), format!("http status: {code}"));
        assert_eq!(error.permits_another_endpoint(), another, "{code}");
    }
}

#[tokio::test]
async fn an_interim_answer_is_not_the_answer() {
    let (dialled, mut raw) = pair(&[]).await;
    let request = connect("a:80");
    let answer = async {
        raw.next(HEADERS).await;
        raw.send(HEADERS, END_HEADERS, 1, &headers(&[(":status", "103")])).await;
        raw.send(HEADERS, END_HEADERS, 1, STATUS_200).await;
    };
    let (opened, ()) = tokio::join!(dialled.client.connect(&request, deadline()), answer);
    opened.unwrap();
}

#[tokio::test]
async fn an_answer_over_the_header_limit_is_an_error() {
    let long = "x".repeat(17 << 10);
    let mut block = STATUS_200.to_vec();
    block.extend(headers(&[("x", &long)]));
    let (dialled, mut raw) = pair(&[]).await;
    let request = connect("a:80");
    let answer = async {
        raw.next(HEADERS).await;
        let (first, second) = block.split_at(16_000);
        raw.send(HEADERS, 0, 1, first).await;
        raw.send(CONTINUATION, END_HEADERS, 1, second).await;
    };
    let (outcome, ()) = tokio::join!(dialled.client.connect(&request, deadline()), answer);
    assert!(matches!(outcome.unwrap_err(), HboneError::Stream(_)));
}

#[tokio::test]
async fn a_reset_request_fails() {
    let (dialled, mut raw) = pair(&[]).await;
    let request = connect("a:80");
    let reset = async {
        raw.next(HEADERS).await;
        raw.send_reset(1, REFUSED_STREAM).await;
    };
    let (outcome, ()) = tokio::join!(dialled.client.connect(&request, deadline()), reset);
    let error = outcome.unwrap_err();
    assert!(matches!(error, HboneError::Stream(_)) && error.permits_another_endpoint(), "{error}");
}

#[tokio::test]
async fn goaway_ends_new_requests_and_spares_open_streams() {
    let (dialled, mut raw) = pair(&[]).await;
    let answer = async {
        raw.next(HEADERS).await;
        raw.send(HEADERS, END_HEADERS, 1, STATUS_200).await;
    };
    let (mut stream, ()) = tokio::join!(dialled.open("a:80"), answer);
    raw.send(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]).await;
    raw.send(DATA, 0, 1, b"still").await;
    let mut text = [0; 5];
    stream.read_exact(&mut text).await.unwrap();
    let error = dialled.client.connect(&connect("a:80"), deadline()).await.unwrap_err();
    assert!(matches!(error, HboneError::Closed | HboneError::Stream(_)), "{error}");
    raw.send(DATA, END_STREAM, 1, b" here").await;
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert_eq!((&text, rest.as_str()), (b"still", " here"));
}

#[tokio::test]
async fn an_unanswered_request_is_given_up_at_the_deadline() {
    let (dialled, mut raw) = pair(&[]).await;
    let soon = Instant::now() + Duration::from_millis(50);
    let request = connect("a:80");
    let (outcome, _) = tokio::join!(dialled.client.connect(&request, soon), raw.next(HEADERS));
    assert!(matches!(outcome.unwrap_err(), HboneError::Timeout(_)));
    assert_eq!(raw.next(RST_STREAM).await.number(), CANCEL);
}

#[tokio::test]
async fn the_peers_limit_is_known_once_its_settings_are_there() {
    let (near, far) = duplex(PIPE);
    let dialled = Dialled::new(near, &Parameters::default()).await;
    assert_eq!(dialled.client.peer_limit(), None);
    let mut raw = Raw::server(far, &[(MAX_CONCURRENT_STREAMS, 7)]).await;
    while raw.frame().await.unwrap() != (Frame { kind: SETTINGS, flags: ACK, stream: 0, payload: Vec::new() }) {}
    assert_eq!(dialled.client.peer_limit(), Some(7));
}

#[tokio::test]
async fn a_connection_without_handles_and_streams_closes_in_peace() {
    let (near, far) = duplex(PIPE);
    let (client, driver) = hbone::client::handshake(near, &Parameters::default()).await.unwrap();
    let mut raw = Raw::server(far, &[]).await;
    drop(client);
    let (outcome, frames) = tokio::join!(driver, raw.rest());
    outcome.unwrap();
    assert!(frames.iter().any(|frame| frame.kind == GOAWAY && frame.goaway().1 == NO_ERROR), "{frames:?}");
}

#[tokio::test]
async fn a_name_that_no_uri_can_hold_is_malformed() {
    let (dialled, _raw) = pair(&[]).await;
    let error = dialled.client.connect(&Connect { network: Some("a\nb".into()), ..connect("a:80") }, deadline()).await;
    assert!(matches!(error.unwrap_err(), HboneError::Malformed("x-forwarded-network")));
}
