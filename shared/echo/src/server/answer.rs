//! Bodies of answers: the report, filler of a wished size, or the request's own body sent back.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::BoxError;

/// One frame of filler.
static FILLER: [u8; 16 * 1024] = [b'x'; 16 * 1024];

/// The body of an answer.
#[derive(Debug)]
pub(super) enum Answer {
    /// Text that is at hand; `None` once it was sent.
    Text(Option<Bytes>),
    /// This many bytes of filler are left.
    Filler(u64),
    /// The request's body, frame by frame, without trailers.
    Back(Incoming),
    /// A gRPC answer, with its trailers.
    Grpc(tonic::body::Body),
}

impl Answer {
    /// An answer of `text`.
    pub(super) fn text(text: impl Into<Bytes>) -> Self {
        Self::Text(Some(text.into()).filter(|text: &Bytes| !text.is_empty()))
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Filler(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(FILLER.len());
                *left -= length as u64;
                let bytes = FILLER.get(..length).filter(|bytes| !bytes.is_empty());
                Poll::Ready(bytes.map(|bytes| Ok(Frame::data(Bytes::from_static(bytes)))))
            }
            Self::Back(body) => Pin::new(body).poll_frame(context).map_err(Into::into),
            Self::Grpc(body) => Pin::new(body).poll_frame(context).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_none(),
            Self::Filler(left) => *left == 0,
            Self::Back(body) => body.is_end_stream(),
            Self::Grpc(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Self::Filler(left) => SizeHint::with_exact(*left),
            Self::Back(body) => body.size_hint(),
            Self::Grpc(body) => body.size_hint(),
        }
    }
}

/// Reads a body to its end and counts it.
///
/// # Errors
/// `Err(None)` when it is longer than `limit`, else the transport's error.
pub(super) async fn count(mut body: Incoming, limit: u64) -> Result<u64, Option<hyper::Error>> {
    let mut total = 0_u64;
    while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(Some)?;
        total += frame.data_ref().map_or(0, |data| data.len() as u64);
        if total > limit {
            return Err(None);
        }
    }
    Ok(total)
}
