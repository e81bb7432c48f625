//! Responses.

use bytes::Bytes;
use futures::Stream;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use serde::Serialize;

use super::Shape;
use crate::api::core::Target;
use crate::api::kind;
use crate::api::store::{Object, text as text_at};
use crate::api::table::{self, Include};
use crate::api::{Status, table::partial};

/// The body of any response.
pub(in crate::api) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// A list as the API writes it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List<'a> {
    kind: String,
    api_version: String,
    metadata: serde_json::Value,
    items: &'a [Object],
}

/// What a list says about itself.
pub(super) struct Listing {
    pub(super) revision: u64,
    /// How to ask for the next page.
    pub(super) next: Option<String>,
    /// How many objects the further pages have.
    pub(super) remaining: Option<usize>,
}

impl Listing {
    fn metadata(&self) -> serde_json::Value {
        let mut metadata = serde_json::json!({
            "resourceVersion": self.revision.to_string(), "continue": self.next, "remainingItemCount": self.remaining,
        });
        metadata.as_object_mut().into_iter().for_each(|fields| fields.retain(|_, value| !value.is_null()));
        metadata
    }
}

/// A JSON response.
pub(super) fn json(status: StatusCode, document: &impl Serialize) -> Response<Body> {
    // Writing maps with text keys to memory cannot fail; an empty body would show at once.
    let bytes = serde_json::to_vec(document).unwrap_or_default();
    let mut response = Response::new(whole(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A text response.
pub(super) fn text(text: &'static str) -> Response<Body> {
    Response::new(whole(text.into()))
}

/// A refusal.
pub(in crate::api) fn failure(status: &Status) -> Response<Body> {
    json(status.code, &status.to_json())
}

/// A response without a known end.
pub(super) fn streamed(
    media: &'static str,
    chunks: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
) -> Response<Body> {
    use futures::StreamExt as _;
    let body = StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data)));
    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

/// One object in the form that the client accepts.
pub(super) fn object(target: Target<'_>, object: &Object, shape: Shape, include: Include) -> Response<Body> {
    let object = in_version(target, object);
    match shape {
        Shape::Plain => json(StatusCode::OK, &*object),
        Shape::Partial => json(StatusCode::OK, &partial(&object)),
        Shape::Table => {
            let metadata = serde_json::json!({"resourceVersion": text_at(&object, "/metadata/resourceVersion")});
            json(StatusCode::OK, &table::table(target.kind, &[object], include, &metadata))
        }
    }
}

/// A list in the form that the client accepts.
pub(super) fn list(
    target: Target<'_>,
    objects: &[Object],
    listing: &Listing,
    (shape, include): (Shape, Include),
) -> Response<Body> {
    let items: Vec<_> = objects.iter().map(|object| in_version(target, object)).collect();
    let metadata = listing.metadata();
    match shape {
        Shape::Table => json(StatusCode::OK, &table::table(target.kind, &items, include, &metadata)),
        Shape::Plain => {
            let api_version = target.kind.api_version(target.version);
            let kind = format!("{}List", target.kind.kind);
            json(StatusCode::OK, &List { kind, api_version, metadata, items: &items })
        }
        Shape::Partial => {
            let items: Vec<_> = items.iter().map(|object| partial(object).into()).collect();
            let (kind, api_version) = ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned());
            json(StatusCode::OK, &List { kind, api_version, metadata, items: &items })
        }
    }
}

/// An object in the version of the request.
pub(super) fn in_version(target: Target<'_>, object: &Object) -> Object {
    if kind::is_kept_as(target.kind, target.version) {
        return Object::clone(object);
    }
    let mut object = (**object).clone();
    kind::to_version(target.kind, target.version, &mut object);
    object.into()
}

/// Adds a warning that kubectl shows
/// ([RFC 7234](https://www.rfc-editor.org/rfc/rfc7234#section-5.5)).
pub(super) fn warn(response: &mut Response<Body>, warnings: &[String]) {
    for warning in warnings {
        let plain: String = warning.chars().filter(|character| (' '..='~').contains(character)).collect();
        let quoted = plain.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::try_from(format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}

fn whole(bytes: Vec<u8>) -> Body {
    Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync()
}
