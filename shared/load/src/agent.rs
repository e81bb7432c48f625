//! A small HTTP server that carries out plans in the client's pod, one at a time.
//!
//! | request | answer |
//! |---|---|
//! | `POST /run`, a [`crate::Plan`] | 200 and the [`crate::Outcome`] at its end; 400 for a plan that makes no sense, 409 while another one runs, 502 when it cannot be carried out |
//! | `POST /stop` | 204: the running plan ends, see [`crate::Run::stop`]; 409 when none runs |
//! | `GET /status` | 200: `{"running": false}`, or `{"running": true, "phase": "holding", "open": 10000}` |
//!
//! Failures are `{"error": "…"}`. Whoever closes the connection of a `POST /run` ends the plan.
//! Whoever can reach the agent can make it send load anywhere: let it listen on loopback, or inside a pod that lives for
//! the comparison only.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::plan::Plan;
use crate::run::{Control, LoadError, Progress, start};

/// Connections at a time; more wait to be accepted.
const MOST_CONNECTIONS: usize = 16;

/// Bytes of a plan at most.
const MOST_BODY: usize = 64 << 10;

/// How long a request may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the agent waits when a connection cannot be accepted.
const AFTER_FAILURE: Duration = Duration::from_millis(50);

/// An agent that listens.
#[derive(Debug)]
pub struct Agent {
    address: SocketAddr,
    listener: TcpListener,
}

impl Agent {
    /// Listens.
    ///
    /// # Errors
    ///
    /// The address cannot be bound.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self { address: listener.local_addr()?, listener })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `end` resolves; a plan that runs then is stopped.
    pub async fn serve(self, end: impl Future<Output = ()>) {
        let running = Arc::new(Running::default());
        let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let mut connections = JoinSet::new();
        let accept = async {
            loop {
                let Ok(place) = places.clone().acquire_owned().await else { return };
                let Ok((stream, _)) = self.listener.accept().await else {
                    tokio::time::sleep(AFTER_FAILURE).await;
                    continue;
                };
                let running = running.clone();
                connections.spawn(async move {
                    let answer = service_fn(|request| answer(request, running.clone()));
                    let mut server = http1::Builder::new();
                    server.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
                    // A broken connection is its client's to tell.
                    let _ = server.serve_connection(TokioIo::new(stream), answer).await;
                    drop(place);
                });
                while connections.try_join_next().is_some() {}
            }
        };
        tokio::select! {
            () = accept => {}
            () = end => {}
        }
    }
}

/// The plan that runs.
#[derive(Debug, Default)]
struct Running(Mutex<Option<Control>>);

/// Clears the place of a plan that has ended, in whatever way.
struct Place<'a>(&'a Running);

impl Running {
    fn control(&self) -> Option<Control> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, control: Option<Control>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = control;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.set(None);
    }
}

#[derive(Debug, Serialize)]
struct Status {
    running: bool,
    #[serde(flatten)]
    progress: Option<Progress>,
}

type Answer = Response<Full<Bytes>>;

async fn answer(request: Request<Incoming>, running: Arc<Running>) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    Ok(match (head.method, head.uri.path()) {
        (Method::POST, "/run") => match timeout(PATIENCE, Limited::new(body, MOST_BODY).collect()).await {
            Ok(Ok(body)) => carry_out(&body.to_bytes(), &running).await,
            Ok(Err(error)) => failure(StatusCode::BAD_REQUEST, &format!("the plan cannot be read: {error}")),
            Err(_) => failure(StatusCode::REQUEST_TIMEOUT, "the plan took too long to arrive"),
        },
        (Method::POST, "/stop") => match running.control() {
            Some(control) => {
                control.stop();
                json_answer(StatusCode::NO_CONTENT, None::<()>)
            }
            None => failure(StatusCode::CONFLICT, "no plan runs"),
        },
        (Method::GET, "/status") => {
            let progress = running.control().map(|control| *control.progress().borrow());
            json_answer(StatusCode::OK, Some(Status { running: progress.is_some(), progress }))
        }
        (_, "/run" | "/stop" | "/status") => failure(StatusCode::METHOD_NOT_ALLOWED, "not this method"),
        _ => failure(StatusCode::NOT_FOUND, "only /run, /stop and /status are here"),
    })
}

async fn carry_out(body: &[u8], running: &Running) -> Answer {
    let plan: Plan = match serde_json::from_slice(body) {
        Ok(plan) => plan,
        Err(error) => return failure(StatusCode::BAD_REQUEST, &format!("not a plan: {error}")),
    };
    let (run, _place) = {
        let mut place = running.0.lock().unwrap_or_else(PoisonError::into_inner);
        if place.is_some() {
            return failure(StatusCode::CONFLICT, "another plan runs");
        }
        match start(plan) {
            Ok(run) => {
                *place = Some(run.control());
                (run, Place(running))
            }
            Err(LoadError::Plan(error)) => return failure(StatusCode::BAD_REQUEST, &error.to_string()),
            Err(error) => return failure(StatusCode::BAD_GATEWAY, &chain(&error)),
        }
    };
    match run.outcome().await {
        Ok(outcome) => json_answer(StatusCode::OK, Some(outcome)),
        Err(error) => failure(StatusCode::BAD_GATEWAY, &chain(&error)),
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn failure(status: StatusCode, reason: &str) -> Answer {
    json_answer(status, Some(json!({ "error": reason })))
}

fn json_answer(status: StatusCode, body: Option<impl Serialize>) -> Answer {
    // Our own types have string keys and finite numbers only.
    let body = body.and_then(|body| serde_json::to_vec(&body).ok()).unwrap_or_default();
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    answer
}
