//! HTTP/2 by hand: frames as RFC 9113 draws them and headers as HPACK literals, with none of a library's manners.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::timeout;

use crate::support::DEADLINE;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const INTERNAL_ERROR: u32 = 2;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const CONNECT_ERROR: u32 = 10;

/// `:status` in HPACK: an index of the static table, or a literal whose digits are Huffman-coded.
pub(crate) const STATUS_200: &[u8] = &[0x88];
pub(crate) const STATUS_400: &[u8] = &[0x8c];
pub(crate) const STATUS_401: &[u8] = &[0x48, 0x82, 0x68, 0x01];
pub(crate) const STATUS_431: &[u8] = &[0x48, 0x83, 0x69, 0x90, 0xff];
pub(crate) const STATUS_503: &[u8] = &[0x48, 0x83, 0x6c, 0x0c, 0xff];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn ends_stream(&self) -> bool {
        self.flags & END_STREAM != 0
    }

    /// The four bytes of RST_STREAM and WINDOW_UPDATE.
    pub(crate) fn number(&self) -> u32 {
        u32::from_be_bytes(self.payload[..4].try_into().unwrap())
    }

    /// Last stream and reason of GOAWAY.
    pub(crate) fn goaway(&self) -> (u32, u32) {
        (self.number(), u32::from_be_bytes(self.payload[4..8].try_into().unwrap()))
    }

    /// Identifier and value of each setting.
    pub(crate) fn settings(&self) -> Vec<(u16, u32)> {
        let pair = |chunk: &[u8]| {
            (u16::from_be_bytes(chunk[..2].try_into().unwrap()), u32::from_be_bytes(chunk[2..].try_into().unwrap()))
        };
        self.payload.chunks(6).map(pair).collect()
    }
}

/// A peer that sends and sees bare frames.
pub(crate) struct Raw {
    io: DuplexStream,
}

impl Raw {
    /// Begins as a client, with these settings.
    pub(crate) async fn client(mut io: DuplexStream, settings: &[(u16, u32)]) -> Self {
        io.write_all(PREFACE).await.unwrap();
        let mut raw = Self { io };
        raw.send_settings(settings).await;
        raw
    }

    /// Begins as a server, with these settings.
    pub(crate) async fn server(mut io: DuplexStream, settings: &[(u16, u32)]) -> Self {
        let mut preface = [0; PREFACE.len()];
        io.read_exact(&mut preface).await.unwrap();
        assert_eq!(preface, PREFACE);
        let mut raw = Self { io };
        raw.send_settings(settings).await;
        raw
    }

    async fn send_settings(&mut self, settings: &[(u16, u32)]) {
        let mut payload = Vec::new();
        for (identifier, value) in settings {
            payload.extend_from_slice(&identifier.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        self.send(SETTINGS, 0, 0, &payload).await;
    }

    pub(crate) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let frame = frame(kind, flags, stream, payload);
        timeout(DEADLINE, self.io.write_all(&frame)).await.expect("peer does not read").unwrap();
    }

    /// Sends a frame to a peer that may hang up over it.
    pub(crate) async fn try_send(&mut self, kind: u8, stream: u32, payload: &[u8]) {
        let frame = frame(kind, 0, stream, payload);
        let _ = timeout(DEADLINE, self.io.write_all(&frame)).await.expect("peer neither reads nor hangs up");
    }

    /// Sends bytes that need not be a frame to a peer that may hang up over them.
    pub(crate) async fn try_write(&mut self, bytes: &[u8]) {
        let _ = timeout(DEADLINE, self.io.write_all(bytes)).await.expect("peer neither reads nor hangs up");
    }

    pub(crate) async fn send_reset(&mut self, stream: u32, reason: u32) {
        self.send(RST_STREAM, 0, stream, &reason.to_be_bytes()).await;
    }

    pub(crate) async fn send_window(&mut self, stream: u32, bytes: u32) {
        self.send(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes()).await;
    }

    /// A CONNECT request for this authority.
    pub(crate) async fn send_connect(&mut self, stream: u32, authority: &str) {
        let block = headers(&[(":method", "CONNECT"), (":authority", authority)]);
        self.send(HEADERS, END_HEADERS, stream, &block).await;
    }

    /// The next frame, whatever it is; `None` at the end of the connection.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        timeout(DEADLINE, self.read_frame()).await.expect("no frame arrives")
    }

    /// As [`Raw::frame`], for as long as it takes.
    pub(crate) async fn read_frame(&mut self) -> Option<Frame> {
        let mut header = [0; 9];
        self.io.read_exact(&mut header).await.ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize];
        self.io.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes(header[5..9].try_into().unwrap());
        Some(Frame { kind: header[3], flags: header[4], stream, payload })
    }

    /// The next frame of this kind; acknowledges SETTINGS and PING on the way and skips the rest.
    pub(crate) async fn next(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.frame().await.expect("connection ends");
            if frame.flags & ACK == 0 && matches!(frame.kind, SETTINGS | PING) {
                let answer = if frame.kind == PING { frame.payload.clone() } else { Vec::new() };
                self.send(frame.kind, ACK, 0, &answer).await;
            }
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// Reads DATA of a stream until so many bytes have come or the stream has ended; returns the bytes.
    pub(crate) async fn data(&mut self, stream: u32, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let frame = self.next(DATA).await;
            assert_eq!(frame.stream, stream);
            bytes.extend_from_slice(&frame.payload);
            if frame.ends_stream() {
                break;
            }
        }
        bytes
    }

    /// Waits for the end of the connection; returns the frames before it.
    pub(crate) async fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.frame().await {
            frames.push(frame);
        }
        frames
    }

    pub(crate) fn into_io(self) -> DuplexStream {
        self.io
    }
}

/// Nine bytes of header, then the payload (RFC 9113, section 4.1).
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A header block of literals without indexing and without Huffman coding (RFC 7541, section 6.2.2).
pub(crate) fn headers(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            string(&mut block, text.as_bytes());
        }
    }
    block
}

/// A length as a seven-bit-prefix integer (RFC 7541, section 5.1), then the bytes.
fn string(block: &mut Vec<u8>, bytes: &[u8]) {
    let mut length = bytes.len();
    if length < 127 {
        block.push(u8::try_from(length).unwrap());
    } else {
        block.push(127);
        length -= 127;
        while length >= 128 {
            block.push(u8::try_from(length % 128).unwrap() | 128);
            length /= 128;
        }
        block.push(u8::try_from(length).unwrap());
    }
    block.extend_from_slice(bytes);
}
