//! gRPC: the service of `proto/echo.proto`, with health and server reflection, on the port of HTTP/2.

use std::convert::Infallible;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use http::{Request as HttpRequest, Response as HttpResponse, header};
use hyper::body::Incoming;
use proto::aquifer::echo::v1::echo_server::{Echo, EchoServer};
use proto::aquifer::echo::v1::{self, EchoRequest, EchoResponse, Header, RepeatRequest};
use tokio::sync::watch;
use tonic::metadata::{KeyAndValueRef, MetadataMap};
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower_service::Service as _;

use super::Pod;
use super::answer::Answer;
use super::http::Ends;

/// Longest wait that is granted.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Most messages of one call.
const MAX_COUNT: u32 = 1_000_000;

/// The highest status that gRPC knows.
const LAST_CODE: u32 = 16;

/// The services, cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Services(Routes);

/// What a call gets of its answer before the message.
#[derive(Debug, Clone)]
struct Seen {
    pod: v1::Pod,
    source: String,
    headers: Vec<Header>,
}

struct Service {
    pod: v1::Pod,
    stopped: watch::Receiver<bool>,
}

/// Whether an HTTP/2 request is a gRPC call.
pub(super) fn is_call<B>(request: &HttpRequest<B>) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind == "application/grpc" || kind.starts_with("application/grpc+") || kind.starts_with("application/grpc;")
}

impl Services {
    /// The services of a peer, and what tells its health. Streams end once `stopped` turns true.
    pub(super) async fn new(pod: &Pod, stopped: watch::Receiver<bool>) -> (Self, HealthReporter) {
        let pod = v1::Pod {
            name: pod.name.clone(),
            namespace: pod.namespace.clone(),
            node: pod.node.clone(),
            ip: pod.ip.clone(),
            version: pod.version.clone(),
        };
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter.set_serving::<EchoServer<Service>>().await;
        let routes = Routes::new(EchoServer::new(Service { pod, stopped })).add_service(health);
        let routes = routes.add_service(reflection().build_v1().expect("the definitions are complete"));
        let routes = routes.add_service(reflection().build_v1alpha().expect("the definitions are complete"));
        (Self(routes.prepare()), reporter)
    }

    /// Answers one call.
    pub(super) async fn answer(
        mut self,
        mut request: HttpRequest<Incoming>,
        ends: Ends,
    ) -> Result<HttpResponse<Answer>, Infallible> {
        request.extensions_mut().insert(ends);
        // The routes are always ready.
        self.0.call(request).await.map(|response| response.map(Answer::Grpc))
    }
}

/// Nobody is to begin anything new.
pub(super) async fn end(health: &HealthReporter) {
    health.set_service_status("", ServingStatus::NotServing).await;
    health.set_not_serving::<EchoServer<Service>>().await;
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

#[tonic::async_trait]
impl Echo for Service {
    type RepeatStream = BoxStream<'static, Result<EchoResponse, Status>>;
    type ChatStream = BoxStream<'static, Result<EchoResponse, Status>>;

    async fn echo(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        let seen = self.seen(&request);
        Ok(Response::new(answer(request.into_inner(), &seen, 0).await?))
    }

    async fn repeat(&self, request: Request<RepeatRequest>) -> Result<Response<Self::RepeatStream>, Status> {
        let seen = self.seen(&request);
        let RepeatRequest { message, count, interval_ms } = request.into_inner();
        let interval = wait("interval_ms", interval_ms)?;
        if count > MAX_COUNT {
            return Err(Status::invalid_argument(format!("count: {count} is more than {MAX_COUNT}")));
        }
        let stopped = self.stopped.clone();
        let answers = stream::try_unfold((seen, stopped, 0), move |(mut seen, mut stopped, number)| {
            let message = message.clone();
            async move {
                if number == count {
                    return Ok(None);
                }
                if number > 0 {
                    pause(interval, &mut stopped).await?;
                }
                let response = seen.response(message, number);
                seen.headers.clear();
                Ok(Some((response, (seen, stopped, number + 1))))
            }
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn chat(&self, request: Request<Streaming<EchoRequest>>) -> Result<Response<Self::ChatStream>, Status> {
        let seen = self.seen(&request);
        let start = (request.into_inner(), seen, self.stopped.clone(), 0_u32);
        let answers = stream::try_unfold(start, |(mut messages, mut seen, mut stopped, number)| async move {
            let next = tokio::select! {
                next = messages.message() => next?,
                _ = stopped.wait_for(|stop| *stop) => return Err(ending()),
            };
            let Some(message) = next else { return Ok(None) };
            let response = answer(message, &seen, number).await?;
            seen.headers.clear();
            Ok(Some((response, (messages, seen, stopped, number.wrapping_add(1)))))
        });
        Ok(Response::new(answers.boxed()))
    }
}

impl Service {
    fn seen<T>(&self, request: &Request<T>) -> Seen {
        let source = request.extensions().get::<Ends>().map(|ends| ends.source.to_string()).unwrap_or_default();
        Seen { pod: self.pod.clone(), source, headers: headers(request.metadata()) }
    }
}

impl Seen {
    fn response(&self, message: String, number: u32) -> EchoResponse {
        let Self { pod, source, headers } = self.clone();
        EchoResponse { message, number, pod: Some(pod), source, headers }
    }
}

/// The answer to one message, which may be a status.
async fn answer(request: EchoRequest, seen: &Seen, number: u32) -> Result<EchoResponse, Status> {
    let EchoRequest { message, delay_ms, code } = request;
    let delay = wait("delay_ms", delay_ms)?;
    let code = match i32::try_from(code) {
        Ok(number) if code <= LAST_CODE => Code::from_i32(number),
        _ => return Err(Status::invalid_argument(format!("code: {code} is more than {LAST_CODE}"))),
    };
    // A call that is given up is not waited for: its future is dropped.
    tokio::time::sleep(delay).await;
    if code == Code::Ok { Ok(seen.response(message, number)) } else { Err(Status::new(code, message)) }
}

fn wait(field: &str, milliseconds: u32) -> Result<Duration, Status> {
    let wait = Duration::from_millis(milliseconds.into());
    let refused = || format!("{field}: {milliseconds} is more than {}", MAX_WAIT.as_millis());
    if wait <= MAX_WAIT { Ok(wait) } else { Err(Status::invalid_argument(refused())) }
}

async fn pause(time: Duration, stopped: &mut watch::Receiver<bool>) -> Result<(), Status> {
    tokio::select! {
        () = tokio::time::sleep(time) => Ok(()),
        _ = stopped.wait_for(|stop| *stop) => Err(ending()),
    }
}

fn ending() -> Status {
    Status::unavailable("the peer ends")
}

/// Headers whose values are text.
fn headers(metadata: &MetadataMap) -> Vec<Header> {
    let texts = metadata.iter().filter_map(|entry| match entry {
        KeyAndValueRef::Ascii(name, value) => Some((name.as_str(), value.to_str().ok()?)),
        KeyAndValueRef::Binary(..) => None,
    });
    texts.map(|(name, value)| Header { name: name.to_owned(), value: value.to_owned() }).collect()
}
