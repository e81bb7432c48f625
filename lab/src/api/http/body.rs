//! The body of a request.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde_json::Value;

use crate::api::{DeleteOptions, Patch, Status, protobuf};

/// The limit of kube-apiserver.
const MAX_BYTES: usize = 3 * 1024 * 1024;

/// How long a client may take to send it.
const DEADLINE: Duration = Duration::from_secs(30);

/// Reads all of a body.
///
/// # Errors
/// `RequestEntityTooLarge`, `BadRequest` when it does not arrive.
async fn bytes(body: Incoming) -> Result<Vec<u8>, Status> {
    let collected = tokio::time::timeout(DEADLINE, Limited::new(body, MAX_BYTES).collect()).await;
    match collected {
        Ok(Ok(collected)) => Ok(collected.to_bytes().to_vec()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let message = format!("Request entity too large: limit is {MAX_BYTES}");
            Err(Status::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message))
        }
        Ok(Err(error)) => Err(Status::bad_request(format!("cannot read the body: {error}"))),
        Err(_elapsed) => Err(Status::bad_request("the body did not arrive in time")),
    }
}

fn media(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

/// Reads a body as one object.
///
/// # Errors
/// `UnsupportedMediaType`, `BadRequest` for a body that is not what it says.
pub(super) async fn object(headers: &HeaderMap, body: Incoming) -> Result<Value, Status> {
    let media = media(headers).to_owned();
    let bytes = bytes(body).await?;
    decode(&media, &bytes)
}

fn decode(media: &str, bytes: &[u8]) -> Result<Value, Status> {
    match media {
        "" | "application/json" => serde_json::from_slice(bytes)
            .map_err(|error| Status::bad_request(format!("couldn't get version/kind; json parse error: {error}"))),
        "application/yaml" | "application/x-yaml" | "text/yaml" => yaml(bytes),
        "application/vnd.kubernetes.protobuf" => protobuf::decode(bytes).map_err(Status::unsupported_media_type),
        other => Err(Status::unsupported_media_type(format!(
            "the body of the request was in an unknown format ({other}) - accepted media types include: \
             application/json, application/yaml, application/vnd.kubernetes.protobuf"
        ))),
    }
}

fn yaml(bytes: &[u8]) -> Result<Value, Status> {
    let text = str::from_utf8(bytes).map_err(|_invalid| Status::bad_request("the body is not UTF-8"))?;
    let mut objects =
        kinds::manifest::read(text).map_err(|error| Status::bad_request(format!("yaml: {error}")))?.into_iter();
    match (objects.next(), objects.next()) {
        (Some(object), None) => Ok(object),
        _ => Err(Status::bad_request("the body must hold exactly one object")),
    }
}

/// Reads a body as a patch, whose kind is its media type.
///
/// # Errors
/// `UnsupportedMediaType`, for server-side apply too, and `BadRequest`.
pub(super) async fn patch(headers: &HeaderMap, body: Incoming) -> Result<Patch, Status> {
    let kind: fn(Value) -> Patch = match media(headers) {
        "application/merge-patch+json" => Patch::Merge,
        "application/json-patch+json" => Patch::Json,
        "application/strategic-merge-patch+json" => Patch::Strategic,
        "application/apply-patch+yaml" | "application/apply-patch+cbor" => {
            return Err(Status::unsupported_media_type(
                "this API server has no server-side apply; use kubectl apply without --server-side, or a merge patch",
            ));
        }
        other => {
            return Err(Status::unsupported_media_type(format!(
                "the body of the request was in an unknown format ({other}) - accepted media types include: \
                 application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json"
            )));
        }
    };
    decode("application/json", &bytes(body).await?).map(kind)
}

/// Reads a body as the options of a deletion; the query may hold some of them too.
///
/// # Errors
/// As [`object`].
pub(super) async fn delete_options(call: super::Call) -> Result<(DeleteOptions, bool), Status> {
    let media = media(&call.headers).to_owned();
    let bytes = bytes(call.body).await?;
    let options = if bytes.is_empty() { Value::Null } else { decode(&media, &bytes)? };
    let given = |field: &str| options.get(field).and_then(Value::as_str).unwrap_or_default();
    let grace = match call.query.number("gracePeriodSeconds")? {
        Some(seconds) => Some(seconds),
        None => options.get("gracePeriodSeconds").and_then(Value::as_u64),
    };
    let policy = [call.query.text("propagationPolicy"), given("propagationPolicy")];
    let orphan = policy.contains(&"Orphan")
        || call.query.flag("orphanDependents")
        || options.get("orphanDependents") == Some(&Value::Bool(true));
    let precondition =
        |field: &str| options.pointer(&format!("/preconditions/{field}")).and_then(Value::as_str).map(str::to_owned);
    let is_dry_run = call.query.write()?.is_dry_run
        || options.get("dryRun").and_then(Value::as_array).is_some_and(|stages| !stages.is_empty());
    let options = DeleteOptions {
        grace_period: grace.map(Duration::from_secs),
        uid: precondition("uid"),
        resource_version: precondition("resourceVersion"),
        orphan,
    };
    Ok((options, is_dry_run))
}
