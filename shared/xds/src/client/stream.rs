//! One stream of discovery over gRPC: requests as generated, responses as bytes.
//!
//! The first response is the whole mesh. A generated client collects it in a buffer that grows to its size and stays
//! for as long as the stream does; here every message has a buffer of its own, which goes when it has been read.

use std::convert::Infallible;
use std::future::poll_fn;

use futures::{Stream, StreamExt};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, TE};
use http::{Method, StatusCode, Uri};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use prost::Message;
use prost::bytes::{Buf, BufMut, Bytes, BytesMut};
use proto::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::MAX_RESPONSE;

/// The method that is called.
const PATH: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// What precedes each message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// The responses of a stream, each encoded.
pub(super) struct Responses {
    body: Body,
    assembly: Assembly,
}

/// Puts messages together from the pieces in which they arrive.
#[derive(Default)]
struct Assembly {
    /// What has arrived and is not part of a message yet.
    unread: Bytes,
    prefix: BytesMut,
    /// The message that has begun, and how long it becomes.
    message: Option<(Vec<u8>, usize)>,
}

/// Opens a stream.
pub(super) async fn open(
    mut channel: Channel,
    metadata: MetadataMap,
    requests: impl Stream<Item = DeltaDiscoveryRequest> + Send + 'static,
) -> Result<Responses, Status> {
    let frames = requests.map(|request| Ok::<_, Infallible>(Frame::data(framed(&request))));
    let mut request = http::Request::new(Body::new(StreamBody::new(frames)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static(PATH);
    *request.headers_mut() = metadata.into_headers();
    request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let failed = |error: tonic::transport::Error| Status::from_error(error.into());
    poll_fn(|context| GrpcService::poll_ready(&mut channel, context)).await.map_err(failed)?;
    let (head, body) = GrpcService::call(&mut channel, request).await.map_err(failed)?.into_parts();
    if let Some(status) = Status::from_header_map(&head.headers) {
        // The stream ended as it began.
        return if status.code() == Code::Ok { Ok(Responses::over()) } else { Err(status) };
    }
    match head.status {
        StatusCode::OK => Ok(Responses { body, assembly: Assembly::default() }),
        refused => Err(Status::new(code_of(refused), format!("the server answered {refused}"))),
    }
}

impl Responses {
    fn over() -> Self {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        let last = futures::stream::iter([Ok::<_, Infallible>(Frame::<Bytes>::trailers(trailers))]);
        Self { body: Body::new(StreamBody::new(last)), assembly: Assembly::default() }
    }

    /// The next response; `None` when the stream ended well. Cancelling loses nothing.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, Status> {
        loop {
            if let Some(message) = self.assembly.next()? {
                return Ok(Some(message));
            }
            let Some(frame) = self.body.frame().await else {
                return Err(Status::unknown("the stream ended without a status"));
            };
            match frame?.into_data() {
                Ok(data) => self.assembly.unread = data,
                Err(frame) => return self.end(&frame.into_trailers().unwrap_or_default()),
            }
        }
    }

    fn end(&self, trailers: &HeaderMap) -> Result<Option<Vec<u8>>, Status> {
        match Status::from_header_map(trailers) {
            Some(status) if status.code() != Code::Ok => Err(status),
            Some(_) if self.assembly.is_empty() => Ok(None),
            Some(_) => Err(Status::internal("the stream ended inside a message")),
            None => Err(Status::unknown("the stream ended without a status")),
        }
    }
}

impl Assembly {
    fn is_empty(&self) -> bool {
        self.prefix.is_empty() && self.message.is_none()
    }

    /// The next message that is whole; without one everything unread has been taken.
    fn next(&mut self) -> Result<Option<Vec<u8>>, Status> {
        if self.message.is_none() {
            let missing = (PREFIX - self.prefix.len()).min(self.unread.len());
            self.prefix.put(self.unread.split_to(missing));
            if self.prefix.len() < PREFIX {
                return Ok(None);
            }
            let mut prefix = self.prefix.split();
            if prefix.get_u8() != 0 {
                return Err(Status::internal("a compressed message, which nobody asked for"));
            }
            let length = usize::try_from(prefix.get_u32()).unwrap_or(usize::MAX);
            if length > MAX_RESPONSE {
                return Err(Status::out_of_range(format!("a response of {length} bytes; {MAX_RESPONSE} are accepted")));
            }
            self.message = Some((Vec::with_capacity(length), length));
        }
        let is_whole = |(message, length): &mut (Vec<u8>, usize)| {
            message.put(self.unread.split_to((*length - message.len()).min(self.unread.len())));
            message.len() == *length
        };
        Ok(self.message.take_if(is_whole).map(|(message, _)| message))
    }
}

fn framed(request: &DeltaDiscoveryRequest) -> Bytes {
    let length = request.encoded_len();
    let mut framed = Vec::with_capacity(PREFIX + length);
    framed.put_u8(0);
    // A request of four GiB would name more resources than a response may hold.
    framed.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    framed.extend(request.encode_to_vec());
    framed.into()
}

/// The code for a server that does not speak gRPC, by the [mapping of gRPC].
///
/// [mapping of gRPC]: https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md
fn code_of(status: StatusCode) -> Code {
    match status {
        StatusCode::BAD_REQUEST => Code::Internal,
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::NOT_FOUND => Code::Unimplemented,
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Code::Unavailable,
        _ => Code::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Hands the pieces over one by one.
    fn assemble(pieces: &[&[u8]]) -> Result<Vec<Vec<u8>>, Status> {
        let (mut assembly, mut messages) = (Assembly::default(), Vec::new());
        for piece in pieces {
            assembly.unread = Bytes::copy_from_slice(piece);
            while let Some(message) = assembly.next()? {
                messages.push(message);
            }
            assert!(assembly.unread.is_empty());
        }
        assert!(assembly.is_empty());
        Ok(messages)
    }

    proptest! {
        #[test]
        fn messages_do_not_depend_on_how_they_are_cut(
            names in proptest::collection::vec("[a-z]{0,30}", 0..5),
            cuts in proptest::collection::vec(1..9_usize, 1..20),
        ) {
            let request = |type_url: &String| DeltaDiscoveryRequest { type_url: type_url.clone(), ..Default::default() };
            let requests: Vec<_> = names.iter().map(request).collect();
            let wire: Vec<u8> = requests.iter().flat_map(framed).collect();
            let (mut pieces, mut rest) = (Vec::new(), &*wire);
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, behind) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = behind;
            }
            let messages = assemble(&pieces).unwrap();
            prop_assert_eq!(messages, requests.iter().map(Message::encode_to_vec).collect::<Vec<_>>());
        }
    }

    #[test]
    fn compressed_and_oversized_messages_are_refused() {
        assert_eq!(assemble(&[&[1, 0, 0, 0, 1, 0]]).unwrap_err().code(), Code::Internal);
        assert_eq!(assemble(&[&[0, 0xff, 0, 0, 0]]).unwrap_err().code(), Code::OutOfRange);
    }
}
