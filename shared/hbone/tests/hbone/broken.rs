//! Frames that are cut off, too long or no frames at all, from a client and from a server: the connection ends clearly,
//! everything that lived on it learns so, and other connections live on.

use hbone::{HboneError, Parameters, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::time::timeout;

use crate::raw::*;
use crate::support::*;

const PROTOCOL_ERROR: u32 = 1;
const FRAME_SIZE_ERROR: u32 = 6;
const COMPRESSION_ERROR: u32 = 9;

/// One byte more than we accept in a frame.
const TOO_LONG: u32 = (1 << 20) + 1;

const PADDED: u8 = 8;

/// Frames of the kinds that carry a tunnel, whole.
fn whole_frames() -> Vec<(&'static str, Vec<u8>)> {
    let block = headers(&[(":method", "CONNECT"), (":authority", "b:80")]);
    vec![
        ("HEADERS", frame(HEADERS, END_HEADERS, 3, &block)),
        ("DATA", frame(DATA, END_STREAM, 1, b"the end of what was asked for")),
        ("SETTINGS", frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9])),
        ("GOAWAY", frame(GOAWAY, 0, 0, &[0; 8])),
    ]
}

/// What no peer may send: bytes, and the reasons that it may be given.
fn nonsense() -> Vec<(&'static str, Vec<u8>, &'static [u32])> {
    let too_long = |kind, stream| {
        let mut header = TOO_LONG.to_be_bytes()[1..].to_vec();
        header.extend_from_slice(&[kind, 0]);
        header.extend_from_slice(&u32::to_be_bytes(stream));
        header
    };
    // RFC 9113 wants FRAME_SIZE_ERROR for a wrong length; the library says PROTOCOL_ERROR. Both end the connection.
    const LENGTH: &[u32] = &[FRAME_SIZE_ERROR, PROTOCOL_ERROR];
    vec![
        ("HEADERS too long", too_long(HEADERS, 3), &[FRAME_SIZE_ERROR]),
        ("DATA too long", too_long(DATA, 1), &[FRAME_SIZE_ERROR]),
        ("SETTINGS too long", too_long(SETTINGS, 0), &[FRAME_SIZE_ERROR]),
        ("an unknown kind too long", too_long(0xbb, 0), &[FRAME_SIZE_ERROR]),
        ("words", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), &[FRAME_SIZE_ERROR]),
        ("SETTINGS of five bytes", frame(SETTINGS, 0, 0, &[0; 5]), LENGTH),
        ("SETTINGS of a stream", frame(SETTINGS, 0, 1, &[]), &[PROTOCOL_ERROR]),
        ("PING of seven bytes", frame(PING, 0, 0, &[0; 7]), LENGTH),
        ("WINDOW_UPDATE of three bytes", frame(WINDOW_UPDATE, 0, 1, &[1; 3]), LENGTH),
        ("RST_STREAM of three bytes", frame(RST_STREAM, 0, 1, &[0; 3]), LENGTH),
        ("DATA of no stream", frame(DATA, 0, 0, b"x"), &[PROTOCOL_ERROR]),
        ("DATA with more padding than bytes", frame(DATA, PADDED, 1, &[9, 0]), &[PROTOCOL_ERROR]),
        ("HEADERS with more padding than bytes", frame(HEADERS, PADDED | END_HEADERS, 3, &[9, 0]), &[PROTOCOL_ERROR]),
        // An index of 126 into a table that has no such entry.
        ("HEADERS that mean nothing", frame(HEADERS, END_HEADERS, 3, &[0xfe]), &[COMPRESSION_ERROR, PROTOCOL_ERROR]),
        ("CONTINUATION of nothing", frame(CONTINUATION, END_HEADERS, 1, &[0x82]), &[PROTOCOL_ERROR]),
    ]
}

/// A connection that nobody spoils.
struct Bystander {
    stream: Stream,
    _dialled: Dialled,
    _served: Served,
}

impl Bystander {
    async fn new() -> Self {
        let (near, far) = duplex(PIPE);
        let mut served = Served::new(near, Parameters::default());
        let dialled = Dialled::new(far, &Parameters::default()).await;
        let (stream, accepted) = tokio::join!(dialled.open("bystander:80"), served.accept());
        tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(accepted);
            tokio::io::copy(&mut read, &mut write).await
        });
        Self { stream, _dialled: dialled, _served: served }
    }

    async fn lives(&mut self, after: &str) {
        self.stream.write_all(b"alive").await.unwrap();
        let mut back = [0; 5];
        timeout(DEADLINE, self.stream.read_exact(&mut back)).await.expect(after).expect(after);
        assert_eq!(&back, b"alive", "{after}");
    }
}

/// A tunnel's bytes end with an error: what was cut off must not look like all there was.
async fn is_broken(mut stream: Stream, what: &str) {
    let mut bytes = Vec::new();
    let end = timeout(DEADLINE, stream.read_to_end(&mut bytes)).await.unwrap_or_else(|_| panic!("{what}: no end"));
    assert!(end.is_err(), "{what}: the stream ends as if it were whole, with {bytes:?}");
    assert!(bytes.is_empty(), "{what}: half a frame was delivered: {bytes:?}");
}

/// The peer is told why, as one of these, and then the transport ends.
async fn is_told(raw: &mut Raw, reasons: &[u32], what: &str) {
    let frames = raw.rest().await;
    let told: Vec<u32> = frames.iter().filter(|frame| frame.kind == GOAWAY).map(|frame| frame.goaway().1).collect();
    assert!(told.last().is_some_and(|reason| reasons.contains(reason)), "{what}: told {told:?}");
}

#[tokio::test]
async fn a_client_that_is_cut_off_within_a_frame_ends_its_connection_alone() {
    let mut bystander = Bystander::new().await;
    for (kind, bytes) in whole_frames() {
        for cut in 1..bytes.len() {
            let what = format!("{kind} cut off after {cut} bytes");
            let (mut served, stream, raw) = accepted().await;
            let mut io = raw.into_io();
            io.write_all(&bytes[..cut]).await.unwrap();
            drop(io);
            let end = served.end().await;
            assert!(matches!(end, Err(HboneError::Stream(_))), "{what}: {end:?}");
            is_broken(stream, &what).await;
        }
        bystander.lives(kind).await;
    }
}

#[tokio::test]
async fn a_server_that_is_cut_off_within_a_frame_ends_its_connection_alone() {
    let mut bystander = Bystander::new().await;
    for (kind, bytes) in whole_frames() {
        for cut in 1..bytes.len() {
            let what = format!("{kind} cut off after {cut} bytes");
            let (mut dialled, stream, mut raw) = opened().await;
            let (client, waits) = (dialled.client.clone(), connect("b:80"));
            let waits = tokio::spawn(async move { client.connect(&waits, deadline()).await });
            raw.next(HEADERS).await;
            let mut io = raw.into_io();
            io.write_all(&bytes[..cut]).await.unwrap();
            drop(io);
            let end = dialled.end().await;
            assert!(matches!(end, Err(HboneError::Stream(_))), "{what}: {end:?}");
            is_broken(stream, &what).await;
            waits.await.unwrap().expect_err(&what);
            dialled.client.connect(&connect("c:80"), deadline()).await.expect_err(&what);
        }
        bystander.lives(kind).await;
    }
}

#[tokio::test]
async fn a_client_that_sends_nonsense_is_told_so_and_ends_its_connection_alone() {
    let mut bystander = Bystander::new().await;
    for (what, bytes, reasons) in nonsense() {
        let (mut served, stream, mut raw) = accepted().await;
        raw.try_write(&bytes).await;
        is_told(&mut raw, reasons, what).await;
        served.end().await.expect_err(what);
        is_broken(stream, what).await;
        bystander.lives(what).await;
    }
}

#[tokio::test]
async fn a_server_that_sends_nonsense_is_told_so_and_ends_its_connection_alone() {
    let mut bystander = Bystander::new().await;
    for (what, bytes, reasons) in nonsense() {
        let (mut dialled, stream, mut raw) = opened().await;
        let (client, waits) = (dialled.client.clone(), connect("b:80"));
        let waits = tokio::spawn(async move { client.connect(&waits, deadline()).await });
        raw.next(HEADERS).await;
        raw.try_write(&bytes).await;
        is_told(&mut raw, reasons, what).await;
        dialled.end().await.expect_err(what);
        is_broken(stream, what).await;
        waits.await.unwrap().expect_err(what);
        bystander.lives(what).await;
    }
}

#[tokio::test]
async fn a_preface_that_is_cut_off_is_no_connection() {
    for cut in 0..PREFACE.len() {
        let (near, mut far) = duplex(PIPE);
        let mut served = Served::new(near, Parameters::default());
        far.write_all(&PREFACE[..cut]).await.unwrap();
        drop(far);
        let end = served.end().await;
        assert!(matches!(end, Err(HboneError::Handshake(_))), "cut off after {cut} bytes: {end:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_preface_that_never_ends_is_given_up() {
    for length in 0..PREFACE.len() {
        let (near, mut far) = duplex(PIPE);
        let mut served = Served::new(near, Parameters::default());
        far.write_all(&PREFACE[..length]).await.unwrap();
        let end = served.end().await;
        assert!(matches!(end, Err(HboneError::Timeout(_))), "{length} bytes: {end:?}");
    }
}

#[tokio::test]
async fn a_preface_with_one_wrong_byte_is_refused() {
    for wrong in 0..PREFACE.len() {
        let (near, mut far) = duplex(PIPE);
        let mut served = Served::new(near, Parameters::default());
        let mut preface = PREFACE.to_vec();
        preface[wrong] ^= 0x20;
        far.write_all(&preface).await.unwrap();
        let end = served.end().await;
        assert!(matches!(end, Err(HboneError::Handshake(_))), "byte {wrong}: {end:?}");
    }
}
