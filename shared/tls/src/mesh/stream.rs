//! An established mesh connection as a byte stream.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::{AlertDescription, ContentType, Error, HandshakeType, InvalidMessage};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Negotiated;
use super::handshake::{Established, Keys};
use super::incoming::Incoming;
use super::outgoing::Outgoing;
use crate::session::Proof;

/// The longest message that a peer may spread over several records, in bytes: a session ticket of the largest size.
const LONGEST_MESSAGE: usize = 66 << 10;

/// "Switch to your next key", without asking the peer to do the same (RFC 8446, section 4.6.3).
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// A mutual-TLS connection of the mesh, of either side and over any transport.
///
/// Records are read many at a time, opened and sealed in place, and what is written is gathered until it is flushed.
/// While nothing is on its way, the connection owns no buffer.
///
/// Shutting it down sends `close_notify`; reading past the peer's ends cleanly, a transport that ends without one is
/// an [`io::ErrorKind::UnexpectedEof`].
pub struct MeshStream<S> {
    transport: S,
    incoming: Incoming,
    outgoing: Outgoing,
    keys: Keys,
    /// That of a server to which the client may come back.
    proof: Option<Proof>,
    negotiated: Negotiated,
    /// A message of the peer's that is not complete.
    message: Vec<u8>,
    reading: Reading,
    /// The peer wants us to change our key, too.
    owes_key: bool,
    has_said_goodbye: bool,
}

/// What may still be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Open,
    /// The peer said `close_notify`.
    Ended,
    /// The peer broke the protocol, or off.
    Broken,
}

impl<S> MeshStream<S> {
    pub(super) fn new(transport: S, established: Established, negotiated: Negotiated) -> Self {
        let Established { incoming, outgoing, keys, proof, has_ended } = established;
        Self {
            transport,
            incoming,
            outgoing,
            keys,
            proof,
            negotiated,
            message: Vec::new(),
            reading: if has_ended { Reading::Ended } else { Reading::Open },
            owes_key: false,
            has_said_goodbye: false,
        }
    }

    /// What the handshake agreed on.
    #[must_use]
    pub fn negotiated(&self) -> &Negotiated {
        &self.negotiated
    }

    /// The client will not come back to this server.
    pub(super) fn forget_sessions(&mut self) {
        self.proof = None;
    }

    /// Deals with whole records until there is plaintext to read, the peer has ended or more must be received.
    fn open(&mut self) -> Result<(), Error> {
        while let Some((content, bytes)) = self.incoming.open()? {
            // The parts of a message come one after the other (section 5.1).
            if content != ContentType::Handshake && !self.message.is_empty() {
                return Err(Error::InvalidMessage(InvalidMessage::InvalidContentType));
            }
            match content {
                ContentType::ApplicationData if bytes.is_empty() => {}
                ContentType::ApplicationData => return Ok(()),
                ContentType::Alert => match *bytes {
                    [_, description] => match AlertDescription::from(description) {
                        AlertDescription::CloseNotify => {
                            self.reading = Reading::Ended;
                            return Ok(());
                        }
                        AlertDescription::UserCanceled => {}
                        description => return Err(Error::AlertReceived(description)),
                    },
                    _ => return Err(Error::InvalidMessage(InvalidMessage::MessageTooShort)),
                },
                ContentType::Handshake => {
                    self.message.extend_from_slice(bytes);
                    self.messages()?;
                }
                _ => return Err(Error::InvalidMessage(InvalidMessage::InvalidContentType)),
            }
        }
        Ok(())
    }

    /// Deals with what a peer may say after the handshake: new keys, and sessions to come back with.
    fn messages(&mut self) -> Result<(), Error> {
        while let Some(&[kind, a, b, c]) = self.message.first_chunk::<4>() {
            let length = 4 + u32::from_be_bytes([0, a, b, c]) as usize;
            if length > LONGEST_MESSAGE {
                return Err(Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge));
            }
            if self.message.len() < length {
                return Ok(());
            }
            match (HandshakeType::from(kind), &self.keys) {
                (HandshakeType::KeyUpdate, _) => {
                    // What comes behind it is sealed with another key, and cannot be in the same record.
                    let &[_, _, _, 1, is_asked @ (0 | 1)] = self.message.as_slice() else {
                        return Err(Error::InvalidMessage(InvalidMessage::InvalidKeyUpdate));
                    };
                    self.incoming.rekey(self.keys.next_opener()?);
                    self.owes_key |= is_asked == 1;
                }
                (HandshakeType::NewSessionTicket, Keys::Client(_)) => {
                    if let (Some(proof), Some(ticket)) = (self.proof, self.message.get(4..length)) {
                        self.keys.keep_session(ticket, proof)?;
                    }
                }
                _ => return Err(Error::InvalidMessage(InvalidMessage::UnexpectedMessage("after the handshake"))),
            }
            self.message.drain(..length);
        }
        if self.message.is_empty() {
            self.message = Vec::new();
        }
        Ok(())
    }

    /// Changes the own key when it has done its share, or the peer asked for it.
    fn change_key(&mut self) -> Result<(), Error> {
        if (self.owes_key || self.outgoing.is_worn()) && self.outgoing.say(ContentType::Handshake, &KEY_UPDATE)? {
            self.owes_key = false;
            self.outgoing.rekey(self.keys.next_sealer()?);
        }
        Ok(())
    }

    fn alert(&mut self, description: AlertDescription) {
        let level = if description == AlertDescription::CloseNotify { 1 } else { 2 };
        // Without room for it the peer learns from the end of the transport.
        let _ = self.outgoing.say(ContentType::Alert, &[level, description.into()]);
        self.has_said_goodbye = true;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> MeshStream<S> {
    /// Takes a failure of the peer's, and tells it.
    fn fail(&mut self, cx: &mut Context<'_>, error: Error) -> io::Error {
        self.reading = Reading::Broken;
        if !matches!(error, Error::AlertReceived(_)) {
            let description = match error {
                Error::DecryptError => AlertDescription::BadRecordMac,
                Error::PeerSentOversizedRecord => AlertDescription::RecordOverflow,
                _ => AlertDescription::UnexpectedMessage,
            };
            self.alert(description);
            // One try: whoever breaks the protocol is not waited for.
            let _ = self.outgoing.poll_send(cx, &mut self.transport);
        }
        io::Error::new(io::ErrorKind::InvalidData, error)
    }

    /// Turns down a peer whose handshake is over; a peer that takes nothing is not waited for.
    pub(super) async fn refuse(&mut self) {
        self.alert(AlertDescription::CertificateUnknown);
        poll_fn(|cx| {
            let _ = self.outgoing.poll_send(cx, &mut self.transport);
            Poll::Ready(())
        })
        .await;
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.outgoing.poll_send(cx, &mut self.transport))?;
        if self.owes_key || self.outgoing.is_worn() {
            self.change_key().map_err(io::Error::other)?;
            ready!(self.outgoing.poll_send(cx, &mut self.transport))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes bytes from each of the slices, as many as there is room for; sends only to make room.
    fn poll_take<'a>(
        &mut self,
        cx: &mut Context<'_>,
        slices: impl Iterator<Item = &'a [u8]>,
    ) -> Poll<io::Result<usize>> {
        if self.has_said_goodbye {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut taken = 0;
        for slice in slices {
            let mut rest = slice;
            while !rest.is_empty() {
                let count = self.outgoing.write(rest).map_err(io::Error::other)?;
                taken += count;
                rest = rest.get(count..).unwrap_or_default();
                if count == 0 {
                    match self.poll_send(cx) {
                        Poll::Ready(sent) => sent?,
                        Poll::Pending if taken > 0 => return Poll::Ready(Ok(taken)),
                        Poll::Pending => return Poll::Pending,
                    }
                }
            }
        }
        Poll::Ready(Ok(taken))
    }
}

impl<S: ::io::Transport> ::io::Transport for MeshStream<S> {
    fn round_trip(&self) -> Duration {
        self.transport.round_trip()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for MeshStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = out.remaining();
        while out.remaining() > 0 {
            if this.incoming.read(out) {
                continue;
            }
            if this.reading == Reading::Open
                && let Err(error) = this.open()
            {
                let error = this.fail(cx, error);
                // What came before it is read first; the next call finds the connection broken.
                return if out.remaining() < before { Poll::Ready(Ok(())) } else { Poll::Ready(Err(error)) };
            }
            if this.owes_key {
                // It goes out with whatever is sent next; the peer does not wait for it.
                let _ = this.poll_send(cx)?;
            }
            if this.incoming.has_plaintext() {
                continue;
            }
            match this.reading {
                Reading::Ended => break,
                Reading::Broken => return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
                Reading::Open if out.remaining() < before => break,
                Reading::Open => {}
            }
            if ready!(this.incoming.poll_receive(cx, &mut this.transport))? == 0 {
                this.reading = Reading::Broken;
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for MeshStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_take(cx, std::iter::once(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_take(cx, slices.iter().map(|slice| &**slice))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.has_said_goodbye {
            self.alert(AlertDescription::CloseNotify);
        }
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}

impl<S> fmt::Debug for MeshStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeshStream").field("reading", &self.reading).finish_non_exhaustive()
    }
}
