//! The body of an answer: whole, or produced piece by piece.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::mpsc;

/// How many pieces of a streamed body may wait for the client.
const PIECES: usize = 4;

/// The body of an answer.
#[derive(Debug)]
pub enum Body {
    /// All at once; taken when it is sent.
    Whole(Bytes),
    /// Piece by piece.
    Streamed(mpsc::Receiver<Bytes>),
}

/// Produces the pieces of a streamed body; it ends when the sender is dropped.
#[derive(Debug)]
pub struct BodySender(mpsc::Sender<Bytes>);

impl Body {
    /// A body to be produced piece by piece.
    #[must_use]
    pub fn streamed() -> (BodySender, Self) {
        let (sender, receiver) = mpsc::channel(PIECES);
        (BodySender(sender), Self::Streamed(receiver))
    }
}

impl BodySender {
    /// Sends a piece when the client has taken earlier ones; `false` when it is gone.
    pub async fn send(&self, piece: impl Into<Bytes>) -> bool {
        self.0.send(piece.into()).await.is_ok()
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Self {
        Self::Whole(bytes.into())
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Streamed(pieces) => pieces.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Streamed(_) => SizeHint::default(),
        }
    }
}
