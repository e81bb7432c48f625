//! Our server in front of a hand-written client: answers, limits and leaving.

use hbone::server::Incoming;
use hbone::{Baggage, HboneError, Parameters, Refusal, Status};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use crate::raw::*;
use crate::support::*;

async fn pair() -> (Served, Raw) {
    let (near, far) = duplex(PIPE);
    let served = Served::new(near, Parameters::default());
    (served, Raw::client(far, &[]).await)
}

#[tokio::test]
async fn the_parameters_of_the_wire_are_announced() {
    let (_served, mut raw) = pair().await;
    let mut settings = raw.next(SETTINGS).await.settings();
    settings.sort_unstable();
    // MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE
    assert_eq!(settings, [(3, 200), (4, 4 << 20), (5, 1 << 20), (6, 64 << 10)]);
    let window = raw.next(WINDOW_UPDATE).await;
    assert_eq!((window.stream, window.number()), (0, (16 << 20) - 65_535));
}

#[tokio::test]
async fn an_accepted_request_is_answered_with_200_and_baggage() {
    let (mut served, mut raw) = pair().await;
    raw.send_connect(1, "10.0.0.1:80").await;
    let request = served.request().await;
    assert_eq!(request.authority().to_string(), "10.0.0.1:80");
    let baggage = Baggage { namespace: "shop".into(), ..Baggage::default() };
    let _stream = request.accept(Some(&baggage)).unwrap();
    let answer = raw.next(HEADERS).await;
    assert!(answer.payload.starts_with(STATUS_200) && answer.payload.len() > STATUS_200.len());
    assert!(!answer.ends_stream());
}

#[tokio::test]
async fn a_refusal_is_a_status_that_ends_the_stream() {
    let (mut served, mut raw) = pair().await;
    let statuses = [(Status::BadRequest, STATUS_400), (Status::Denied, STATUS_401), (Status::Unavailable, STATUS_503)];
    for (stream, (status, bytes)) in (1..).step_by(2).zip(statuses) {
        raw.send_connect(stream, "cart.shop.svc:80").await;
        served.request().await.refuse(status);
        let answer = raw.next(HEADERS).await;
        assert_eq!((answer.payload.as_slice(), answer.ends_stream()), (bytes, true), "{status}");
        // Nothing more is wanted from the client, and that is no error (RFC 9113, section 8.1).
        assert_eq!(raw.next(RST_STREAM).await.number(), NO_ERROR);
    }
}

#[tokio::test]
async fn an_authority_without_port_is_a_bad_request() {
    let (mut served, mut raw) = pair().await;
    for (stream, authority) in (1..).step_by(2).zip(["cart.shop.svc", "10.0.0.1", "[::1]", "user@cart:80"]) {
        raw.send_connect(stream, authority).await;
        assert!(matches!(served.incoming().await, Incoming::Refused(Refusal::BadAuthority)), "{authority}");
        let answer = raw.next(HEADERS).await;
        assert_eq!((answer.payload.as_slice(), answer.ends_stream()), (STATUS_400, true), "{authority}");
    }
}

#[tokio::test]
async fn another_method_is_a_bad_request() {
    let (mut served, mut raw) = pair().await;
    let get = headers(&[(":method", "GET"), (":scheme", "https"), (":authority", "cart:80"), (":path", "/")]);
    raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &get).await;
    assert!(matches!(served.incoming().await, Incoming::Refused(Refusal::NotConnect)));
    let answer = raw.next(HEADERS).await;
    assert_eq!((answer.payload.as_slice(), answer.ends_stream()), (STATUS_400, true));
}

#[tokio::test]
async fn a_malformed_request_costs_its_stream_only() {
    let (mut served, mut raw) = pair().await;
    let malformed = [
        // CONNECT has neither scheme nor path, and the protocol extension was not offered.
        headers(&[(":method", "CONNECT"), (":authority", "a:80"), (":protocol", "websocket"), (":scheme", "https")]),
        headers(&[(":authority", "a:80")]),
        headers(&[(":method", "CONNECT"), (":authority", "a:80"), ("connection", "close")]),
        headers(&[(":method", "CONNECT"), (":authority", "a b:80")]),
    ];
    let count = u32::try_from(malformed.len()).unwrap();
    for (stream, block) in (1..).step_by(2).zip(malformed) {
        raw.send(HEADERS, END_HEADERS, stream, &block).await;
        let frame = loop {
            let frame = raw.frame().await.unwrap();
            if matches!(frame.kind, HEADERS | RST_STREAM) {
                break frame;
            }
        };
        let is_refused = frame.kind == RST_STREAM || frame.payload == STATUS_400;
        assert!(is_refused && frame.stream == stream, "{frame:?}");
    }
    raw.send_connect(2 * count + 1, "a:80").await;
    loop {
        if let Incoming::Request(request) = served.incoming().await {
            assert_eq!(request.authority().to_string(), "a:80");
            break;
        }
    }
}

#[tokio::test]
async fn headers_over_the_limit_are_answered_with_431() {
    let (mut served, mut raw) = pair().await;
    let long = "x".repeat(15_000);
    let fields: Vec<_> = (0..5).map(|index| (format!("x-{index}"), long.clone())).collect();
    let mut block = headers(&[(":method", "CONNECT"), (":authority", "a:80")]);
    for (name, value) in &fields {
        block.extend(headers(&[(name, value)]));
    }
    let (first, rest) = block.split_at(16_384);
    raw.send(HEADERS, 0, 1, first).await;
    let mut chunks = rest.chunks(16_384).peekable();
    while let Some(chunk) = chunks.next() {
        raw.send(CONTINUATION, if chunks.peek().is_none() { END_HEADERS } else { 0 }, 1, chunk).await;
    }
    let answer = raw.next(HEADERS).await;
    assert_eq!((answer.payload.as_slice(), answer.ends_stream()), (STATUS_431, true));
    raw.send_connect(3, "a:80").await;
    served.request().await;
}

#[tokio::test]
async fn the_201st_stream_is_refused_and_one_that_ended_makes_room() {
    let (mut served, mut raw) = pair().await;
    let mut streams = Vec::new();
    for index in 0..200 {
        raw.send_connect(2 * index + 1, "a:80").await;
        streams.push(served.accept().await);
        raw.next(HEADERS).await;
    }
    raw.send_connect(401, "a:80").await;
    let reset = raw.next(RST_STREAM).await;
    assert_eq!((reset.stream, reset.number()), (401, REFUSED_STREAM));
    streams.pop().unwrap().shutdown().await.unwrap();
    raw.send(DATA, END_STREAM, 399, b"").await;
    raw.next(DATA).await;
    raw.send_connect(403, "a:80").await;
    served.accept().await;
}

#[tokio::test]
async fn a_dropped_request_is_reset() {
    let (mut served, mut raw) = pair().await;
    raw.send_connect(1, "a:80").await;
    drop(served.request().await);
    assert_eq!(raw.next(RST_STREAM).await.number(), CANCEL);
}

#[tokio::test]
async fn a_draining_server_finishes_its_streams_and_takes_no_more() {
    let (mut served, mut raw) = pair().await;
    raw.send_connect(1, "a:80").await;
    let mut stream = served.accept().await;
    served.drain().await;
    assert_eq!(raw.next(GOAWAY).await.goaway(), (0x7fff_ffff, NO_ERROR));
    // A request that crossed the announcement is still served.
    raw.send_connect(3, "a:80").await;
    let late = served.accept().await;
    let final_goaway = raw.next(GOAWAY).await.goaway();
    assert_eq!(final_goaway.1, NO_ERROR);

    raw.send(DATA, END_STREAM, 1, b"ping").await;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    stream.write_all(b"pong").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!((text.as_str(), raw.data(1, 5).await.as_slice()), ("ping", &b"pong"[..]));
    drop((late, stream));
    raw.rest().await;
    served.end().await.unwrap();
}

#[tokio::test]
async fn an_aborting_server_ends_its_streams_at_once() {
    let (mut served, mut raw) = pair().await;
    raw.send_connect(1, "a:80").await;
    let mut stream = served.accept().await;
    served.abort().await;
    let frames = raw.rest().await;
    let goaway = frames.iter().find(|frame| frame.kind == GOAWAY).unwrap();
    assert_eq!(goaway.goaway(), (1, NO_ERROR));
    served.end().await.unwrap();
    assert!(stream.read_u8().await.is_err());
}

#[tokio::test]
async fn a_client_that_breaks_the_rules_is_told_and_let_go() {
    const PROTOCOL_ERROR: u32 = 1;
    const FLOW_CONTROL_ERROR: u32 = 3;
    const FRAME_SIZE_ERROR: u32 = 6;
    const RULES: [(u8, u32, usize, u32); 3] = [
        // A frame larger than was announced, DATA on a stream that nobody opened, a window update of nothing.
        (DATA, 1, (1 << 20) + 1, FRAME_SIZE_ERROR),
        (DATA, 7, 1, PROTOCOL_ERROR),
        (WINDOW_UPDATE, 0, 4, PROTOCOL_ERROR),
    ];
    for (kind, stream, length, reason) in RULES {
        let (mut served, mut raw) = pair().await;
        let payload = vec![0; length];
        tokio::join!(raw.try_send(kind, stream, &payload), async { served.end().await.unwrap_err() });
        let goaway = raw.rest().await.into_iter().find(|frame| frame.kind == GOAWAY).unwrap();
        assert_eq!(goaway.goaway().1, reason, "frame {kind} of {length} bytes");
    }
    // More than the connection window: the first 65,535 bytes fit before SETTINGS are acknowledged.
    let (mut served, mut raw) = pair().await;
    raw.send_connect(1, "a:80").await;
    let _stream = served.accept().await;
    for _ in 0..5 {
        raw.try_send(DATA, 1, &[0; 16_384]).await;
    }
    let reset = raw.next(RST_STREAM).await;
    assert_eq!(reset.number(), FLOW_CONTROL_ERROR);
}

#[tokio::test]
async fn frames_of_unknown_kind_are_ignored() {
    let (mut served, mut raw) = pair().await;
    raw.send(0xfa, 0xff, 0, b"grease").await;
    raw.send_connect(1, "a:80").await;
    served.request().await;
}

#[tokio::test]
async fn what_is_not_http2_is_refused() {
    let (near, mut far) = duplex(PIPE);
    let mut served = Served::new(near, Parameters::default());
    far.write_all(b"GET / HTTP/1.1\r\nHost: cart\r\n\r\n").await.unwrap();
    assert!(matches!(served.end().await.unwrap_err(), HboneError::Handshake(_)));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_let_go() {
    let (near, _far) = duplex(PIPE);
    let mut served = Served::new(near, Parameters::default());
    assert!(matches!(served.end().await.unwrap_err(), HboneError::Timeout(_)));
}

#[tokio::test]
async fn a_transport_that_breaks_ends_connection_and_streams() {
    let (mut served, mut raw) = pair().await;
    raw.send_connect(1, "a:80").await;
    let mut stream = served.accept().await;
    drop(raw.into_io());
    assert!(stream.read_u8().await.is_err());
    let error = stream.write_all(&[0; 1 << 20]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    drop(stream);
    let _ = served.end().await;
}
