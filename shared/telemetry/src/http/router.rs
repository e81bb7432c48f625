//! Paths and what answers them.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use ::http::{HeaderValue, Method, StatusCode, header};
use bytes::Bytes;

use super::Body;
use crate::Registry;
use crate::metrics::Format;

/// A request with its whole body.
pub type Request = ::http::Request<Bytes>;

/// An answer.
pub type Response = ::http::Response<Body>;

type Answer = Pin<Box<dyn Future<Output = Response> + Send>>;
type Handler = Arc<dyn Fn(Request) -> Answer + Send + Sync>;

/// Exact paths and what answers them; other paths are 404, other methods 405.
#[derive(Clone, Default)]
pub struct Router {
    routes: BTreeMap<&'static str, (Methods, Handler)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Methods {
    Any,
    /// GET, and HEAD with it.
    Get,
    Post,
}

impl Router {
    /// Answers nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers GET and HEAD at `path`.
    #[must_use]
    pub fn get<F, A>(self, path: &'static str, handler: F) -> Self
    where
        F: Fn(Request) -> A + Send + Sync + 'static,
        A: Future<Output = Response> + Send + 'static,
    {
        self.route(path, Methods::Get, handler)
    }

    /// Answers POST at `path`.
    #[must_use]
    pub fn post<F, A>(self, path: &'static str, handler: F) -> Self
    where
        F: Fn(Request) -> A + Send + Sync + 'static,
        A: Future<Output = Response> + Send + 'static,
    {
        self.route(path, Methods::Post, handler)
    }

    /// Answers every method at `path`.
    #[must_use]
    pub fn any<F, A>(self, path: &'static str, handler: F) -> Self
    where
        F: Fn(Request) -> A + Send + Sync + 'static,
        A: Future<Output = Response> + Send + 'static,
    {
        self.route(path, Methods::Any, handler)
    }

    fn route<F, A>(mut self, path: &'static str, methods: Methods, handler: F) -> Self
    where
        F: Fn(Request) -> A + Send + Sync + 'static,
        A: Future<Output = Response> + Send + 'static,
    {
        self.routes.insert(path, (methods, Arc::new(move |request| Box::pin(handler(request)))));
        self
    }

    /// Answers a request.
    pub async fn answer(&self, request: Request) -> Response {
        let Some((methods, handler)) = self.routes.get(request.uri().path()) else {
            return text(StatusCode::NOT_FOUND, "not found\n");
        };
        let allowed = match methods {
            Methods::Any => None,
            Methods::Get if matches!(*request.method(), Method::GET | Method::HEAD) => None,
            Methods::Post if *request.method() == Method::POST => None,
            Methods::Get => Some("GET, HEAD"),
            Methods::Post => Some("POST"),
        };
        match allowed {
            None => handler(request).await,
            Some(allowed) => {
                let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
                response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
                response
            }
        }
    }
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.routes.keys()).finish()
    }
}

/// An answer in plain text.
pub fn text(status: StatusCode, body: impl Into<Body>) -> Response {
    response(status, "text/plain; charset=utf-8", body)
}

/// An answer in HTML.
pub fn html(body: impl Into<Body>) -> Response {
    response(StatusCode::OK, "text/html; charset=utf-8", body)
}

/// An answer in JSON.
pub fn json(body: impl Into<Body>) -> Response {
    response(StatusCode::OK, "application/json", body)
}

fn response(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The answer to a scrape, in the format that the request asks for.
#[must_use]
pub fn metrics(registry: &Registry, request: &Request) -> Response {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Format::accepted(accept);
    response(StatusCode::OK, format.content_type(), registry.exposed(format))
}
