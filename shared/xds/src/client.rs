//! The client's transport: connects, keeps one stream alive, and hands messages to the state machine.

mod stream;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::future::BoxFuture;
use proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, Node};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tracing::{debug, info, warn};

pub use crate::backoff::Termination;

use crate::BoxError;
use crate::backoff::Backoff;
use crate::delta::{self, Feed, Mode, Undecodable};
use crate::demand::{self, Demand, Supply};

use stream::Responses;

/// The largest response that is accepted: the whole mesh comes in one.
pub const MAX_RESPONSE: usize = 200 * 1024 * 1024;

/// How long a connection may take to come about; the factory's own deadlines are usually shorter.
const CONNECT_DEADLINE: Duration = Duration::from_secs(20);

/// How many requests may wait for the server to read them; beyond that, no further response is read.
const QUEUED_REQUESTS: usize = 32;

/// Makes a connection to the control plane, with its TLS and its HTTP/2 keepalive; called for every attempt.
///
/// Without keepalive a server that vanished is never noticed: silence is normal on a discovery stream.
pub type ChannelFactory = Arc<dyn Fn() -> BoxFuture<'static, Result<Channel, BoxError>> + Send + Sync>;

/// Makes the metadata of a stream (`authorization`, `clusterid`); called for every attempt, since tokens rotate.
pub type MetadataProvider = Arc<dyn Fn() -> BoxFuture<'static, Result<MetadataMap, BoxError>> + Send + Sync>;

/// Hears what is worth counting. The defaults ignore it.
pub trait Observer: Send + Sync {
    /// An attempt or a stream ended.
    fn terminated(&self, _termination: Termination) {}
    /// A response arrived, with resources of that size.
    fn received(&self, _type_url: &str, _resource_bytes: usize) {}
}

impl Observer for () {}

/// What a client is made from.
#[derive(Clone)]
pub struct Options {
    /// Who it says it is.
    pub node: Node,
    /// Where connections come from.
    pub channel: ChannelFactory,
    /// What each stream carries as metadata.
    pub metadata: MetadataProvider,
    /// Who counts.
    pub observer: Arc<dyn Observer>,
}

/// A client of the control plane.
///
/// ```no_run
/// # async fn example(options: xds::client::Options, addresses: xds::feed::AddressFeed, policies: xds::feed::PolicyFeed) {
/// use xds::delta::Mode;
/// let mut client = xds::client::Client::new(options);
/// client.subscribe(proto::ADDRESS_TYPE, Mode::Wildcard, addresses);
/// client.subscribe(proto::AUTHORIZATION_TYPE, Mode::Wildcard, policies);
/// let mut ready = client.ready();
/// let running = tokio::spawn(client.run());
/// let _ = ready.wait_for(|is_ready| *is_ready).await;
/// # running.abort();
/// # }
/// ```
pub struct Client {
    options: Options,
    state: delta::Client,
    ready: watch::Sender<bool>,
    supplies: Vec<(String, Supply)>,
}

/// One attempt, from connecting to the end of the stream.
struct Attempt {
    termination: Termination,
    responses: u64,
    cause: Option<BoxError>,
}

impl Client {
    /// A client that has subscribed to nothing yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let state = delta::Client::new(options.node.clone());
        Self { state, options, ready: watch::Sender::new(false), supplies: Vec::new() }
    }

    /// Adds a type of which only that is subscribed to what is asked for.
    pub fn subscribe_on_demand(&mut self, type_url: &str, feed: impl Feed + 'static) -> Demand {
        let (demand, supply) = demand::pair();
        self.supplies.push((type_url.to_owned(), supply));
        self.subscribe(type_url, Mode::OnDemand, feed);
        demand
    }

    /// Adds a type; types are requested in the order in which they were added.
    pub fn subscribe(&mut self, type_url: &str, mode: Mode, feed: impl Feed + 'static) {
        self.state.subscribe(type_url, mode, feed);
    }

    /// Becomes `true`, and stays so, when every wildcard type has been acknowledged once.
    #[must_use]
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Connects, and reconnects whenever a stream ends, until the future is dropped.
    ///
    /// Run it until the last connection has ended, not until the drain begins: policy keeps changing meanwhile.
    pub async fn run(mut self) -> Infallible {
        let mut backoff = Backoff::default();
        loop {
            let started = Instant::now();
            let Attempt { termination, responses, cause } = self.attempt().await;
            self.options.observer.terminated(termination);
            let wait = backoff.after(termination, responses, started.elapsed(), &mut rand::rng());
            let cause = cause.map(|cause| chain(&*cause));
            match termination {
                Termination::Complete => debug!(responses, ?wait, "discovery stream ended"),
                _ => warn!(cause, reason = termination.label(), responses, ?wait, "discovery stream failed"),
            }
            sleep(wait).await;
        }
    }

    async fn attempt(&mut self) -> Attempt {
        let (requests, stream) = match self.open().await {
            Ok(opened) => opened,
            Err(cause) => {
                return Attempt { termination: Termination::ConnectionError, responses: 0, cause: Some(cause) };
            }
        };
        self.converse(&requests, stream).await
    }

    /// Opens a stream and sends the first requests on it.
    async fn open(&mut self) -> Result<(mpsc::Sender<DeltaDiscoveryRequest>, Responses), BoxError> {
        let channel = within(CONNECT_DEADLINE, (self.options.channel)()).await?;
        let metadata = within(CONNECT_DEADLINE, (self.options.metadata)()).await?;
        let first = self.state.connect();
        let (requests, queue) = mpsc::channel(first.len() + QUEUED_REQUESTS);
        for request in first {
            requests.try_send(request)?;
        }
        // No deadline: some servers send their headers with the first response, and a server that starts with a
        // thousand clients at its door may take long to come to this one. The channel's keepalive notices dead ones.
        let responses = Box::pin(stream::open(channel, metadata, ReceiverStream::new(queue))).await?;
        info!("discovery stream opened");
        Ok((requests, responses))
    }

    /// Reads responses and answers each, until the stream ends.
    async fn converse(&mut self, requests: &mpsc::Sender<DeltaDiscoveryRequest>, mut stream: Responses) -> Attempt {
        let mut responses = 0;
        let mut tidying = interval(demand::IDLE / 10);
        tidying.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // No deadline: a mesh in which nothing changes is silent.
            let message = tokio::select! {
                message = stream.next() => message,
                (type_url, name) = next_order(&mut self.supplies) => {
                    if let Some(request) = self.state.want(&type_url, &name) {
                        send(requests, request).await;
                    }
                    continue;
                }
                _ = tidying.tick(), if !self.supplies.is_empty() => {
                    self.release_idle(requests).await;
                    continue;
                }
            };
            let answer = match message {
                Ok(Some(encoded)) => self.receive(&encoded).map_err(|error| Status::internal(error.to_string())),
                Ok(None) => return Attempt { termination: Termination::Complete, responses, cause: None },
                Err(status) => Err(status),
            };
            match answer {
                Ok(answer) => send(requests, answer).await,
                Err(status) => {
                    return Attempt { termination: classify(&status), responses, cause: Some(status.into()) };
                }
            }
            responses += 1;
        }
    }

    /// Takes back what nobody has asked for in a while.
    async fn release_idle(&mut self, requests: &mpsc::Sender<DeltaDiscoveryRequest>) {
        for (type_url, supply) in &self.supplies {
            if let Some(request) = self.state.release(type_url, &supply.take_idle()) {
                send(requests, request).await;
            }
        }
    }

    fn receive(&mut self, encoded: &[u8]) -> Result<DeltaDiscoveryRequest, Undecodable> {
        let received = self.state.receive(encoded)?;
        self.options.observer.received(&received.answer.type_url, received.resource_bytes);
        if let Some(status) = &received.answer.error_detail {
            warn!(
                type_url = received.answer.type_url,
                count = received.rejected.len(),
                resources = status.message,
                "refused resources; last good versions stay, and policies without one deny"
            );
        }
        // What they were waiting for is in the feed by now.
        for (_, supply) in self.supplies.iter().filter(|(type_url, _)| *type_url == received.answer.type_url) {
            supply.settle(&received.settled);
        }
        let is_ready = self.state.is_ready();
        self.ready.send_if_modified(|ready| !std::mem::replace(ready, *ready || is_ready) && *ready);
        Ok(received.answer)
    }
}

async fn send(requests: &mpsc::Sender<DeltaDiscoveryRequest>, request: DeltaDiscoveryRequest) {
    if requests.send(request).await.is_err() {
        // The transport has let go of the request stream; reading on tells why.
        debug!("the server no longer reads");
    }
}

/// The next name that somebody asks for; never, when nobody can any more.
async fn next_order(supplies: &mut [(String, Supply)]) -> (String, String) {
    let next = std::future::poll_fn(|context| {
        for (type_url, supply) in supplies.iter_mut() {
            if let Poll::Ready(Some(name)) = supply.orders.poll_recv(context) {
                return Poll::Ready((type_url.clone(), name));
            }
        }
        Poll::Pending
    });
    next.await
}

/// How a stream that ended with a status is counted, and so how soon the next one is opened.
fn classify(status: &Status) -> Termination {
    let moves_on =
        ["transport is closing", "received prior goaway"].iter().any(|phrase| status.message().contains(phrase));
    match status.code() {
        Code::Unknown | Code::Cancelled | Code::DeadlineExceeded => Termination::Reconnect,
        Code::Unavailable if moves_on => Termination::Reconnect,
        _ => Termination::Error,
    }
}

async fn within<T>(limit: Duration, step: impl Future<Output = Result<T, BoxError>>) -> Result<T, BoxError> {
    timeout(limit, step).await.unwrap_or_else(|_elapsed| Err(format!("took longer than {limit:?}").into()))
}

/// An error with its causes: a transport's own message says little.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
