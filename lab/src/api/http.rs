//! The REST interface: from a request to an operation, and from its result to a response.

mod body;
mod container;
mod exec;
mod list;
mod log;
mod objects;
mod path;
mod query;
mod respond;
mod review;
mod shape;
mod stream;

use std::sync::Arc;

use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::Status;
use super::core::Core;
use super::discovery;
use super::tokens::Caller;
use path::Path;
use query::Query;
use respond::{Body, failure, json, streamed, text};
use shape::{Shape, accepts_aggregated};

/// A request whose sender is known.
struct Call {
    core: Arc<Core>,
    caller: Caller,
    method: Method,
    query: Query,
    headers: http::HeaderMap,
    body: Incoming,
    /// The connection, for those who want to speak something else on it.
    upgrade: Option<OnUpgrade>,
}

/// Answers one request.
pub(super) async fn answer(core: Arc<Core>, request: Request<Incoming>) -> Response<Body> {
    let (mut parts, body) = request.into_parts();
    let upgrade = parts.extensions.remove::<OnUpgrade>();
    let line = format!("{} {}", parts.method, parts.uri.path());
    let response = async {
        let path = path::parse(parts.uri.path())?;
        if let Path::Health = path {
            return Ok(text("ok"));
        }
        if let Path::Version = path {
            return Ok(json(StatusCode::OK, &discovery::version()));
        }
        let caller = authenticate(&core, &parts.headers)?;
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let call = Call { core, caller, method: parts.method, query, headers: parts.headers, body, upgrade };
        // Boxed: the future of a write is much larger than what an idle connection should hold.
        Box::pin(dispatch(call, path)).await
    };
    let response = response.await.unwrap_or_else(|status: Status| failure(&status));
    tracing::trace!(request = line, status = response.status().as_u16(), "answered");
    response
}

async fn dispatch(call: Call, path: Path) -> Result<Response<Body>, Status> {
    let found = |document: Option<serde_json::Value>| {
        document.map(|document| json(StatusCode::OK, &document)).ok_or_else(Status::no_such_resource)
    };
    match path {
        Path::Objects(address) => objects::serve(call, address).await,
        Path::Review(kind) => review::serve(call, kind).await,
        _ if call.method != Method::GET && call.method != Method::HEAD => Err(method_not_allowed()),
        Path::Health | Path::Version => Err(Status::no_such_resource()),
        Path::CoreVersions | Path::Groups if accepts_aggregated(&call.headers) => {
            let mut response = json(StatusCode::OK, &discovery::aggregated(matches!(path, Path::CoreVersions)));
            let media = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
            response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(media));
            Ok(response)
        }
        Path::CoreVersions => found(Some(discovery::core_versions())),
        Path::Groups => found(Some(discovery::groups())),
        Path::Group(name) => found(discovery::has_group(&name).then(|| discovery::group(&name))),
        Path::Resources { group, version } => found(discovery::resources(&group, &version)),
        Path::OpenApi2 => {
            let media = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
            Ok(streamed(media, futures::stream::once(async { Ok(discovery::OPENAPI_V2.into()) })))
        }
        Path::OpenApiPaths => found(Some(discovery::openapi_paths())),
        Path::OpenApi { group, version } => found(discovery::openapi(&group, &version)),
    }
}

fn authenticate(core: &Core, headers: &http::HeaderMap) -> Result<Caller, Status> {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (scheme, token) = value.split_once(' ').ok_or_else(Status::unauthorized)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Status::unauthorized());
    }
    match core.authenticate(token.trim(), &[]) {
        Ok((caller, _)) => Ok(caller),
        Err(why) => {
            tracing::debug!(why, "a token was refused");
            Err(Status::unauthorized())
        }
    }
}

fn method_not_allowed() -> Status {
    let message = "the server does not allow this method on the requested resource";
    Status::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
}
