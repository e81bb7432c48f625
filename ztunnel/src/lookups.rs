//! Name lookups that a pod makes: port 15053, over UDP and TCP.
//!
//! What the mesh knows is answered where it is received; what others have to be asked for takes one of a bounded number
//! of places. Without a free one the client is told at once that the lookup failed, and may ask again.

mod datagrams;
mod sockets;
mod streams;
mod upstream;

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use discovery::{View, Workload};
use dns::{Query, RecordType, ResponseCode, Settings, Transport, Unusable};
use telemetry::Registry;
use telemetry::metrics::{LookupLabels, LookupMetrics};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::accept;
use crate::lane::Lane;

pub(crate) use sockets::{Sockets, listen};
pub(crate) use upstream::name_servers;

/// Lookups of one pod that others are being asked for; further ones fail.
const PLACES_OF_A_POD: usize = 256;

/// The same for all pods of the node: each takes a file descriptor.
const PLACES: usize = 4096;

/// What lookups of all pods share.
pub(crate) struct Lookups {
    pub(crate) addresses: Vec<SocketAddr>,
    settings: Settings,
    servers: Vec<SocketAddr>,
    metrics: LookupMetrics,
    places: Semaphore,
}

impl Lookups {
    pub(crate) fn new(config: &config::Ztunnel, servers: Vec<SocketAddr>, registry: &Registry) -> Self {
        let mut settings = Settings::new(&config.dns.cluster_domain);
        settings.ipv6 = config.in_pod.ipv6;
        settings.preferred_namespace.clone_from(&config.dns.preferred_namespace);
        Self {
            addresses: config.dns.listen.clone(),
            settings,
            servers,
            metrics: LookupMetrics::new(registry),
            places: Semaphore::new(PLACES),
        }
    }

    /// Lets go of what metrics remember of workloads that have left.
    pub(crate) fn sweep(&self, view: &View) {
        let workloads = view.workloads();
        let live: HashSet<(&str, &str)> =
            workloads.iter().map(|workload| (&*workload.canonical_name, &*workload.canonical_revision)).collect();
        self.metrics.sweep(|service, revision| service.is_empty() || live.contains(&(service, revision)));
    }
}

/// The lookups of one pod.
struct Server {
    lane: Arc<Lane>,
    places: Semaphore,
}

/// What became of the bytes that a client sent.
enum Begun {
    /// There is nothing to say.
    Nothing,
    /// The answer.
    Answered(Vec<u8>),
    /// Others have to be asked, or discovery has to learn of the pod first.
    Pending(Box<Pending>),
}

/// A lookup that waits.
struct Pending {
    query: Query,
    bytes: Vec<u8>,
    client: Option<Arc<Workload>>,
}

/// Answers lookups until the pod leaves or the process ends; those under way are finished.
pub(crate) async fn serve(lane: Arc<Lane>, sockets: Vec<Sockets>) {
    let _guard = lane.drain.guard();
    if !accept::may_serve(&lane).await {
        return;
    }
    let server = Arc::new(Server { lane, places: Semaphore::new(PLACES_OF_A_POD) });
    let serving = sockets.into_iter().map(|Sockets { udp, tcp }| {
        let server = Arc::clone(&server);
        async move { tokio::join!(datagrams::serve(&server, udp), streams::serve(&server, tcp)) }
    });
    futures::future::join_all(serving).await;
}

/// The addresses of a name, as the pod itself would find them; IPv6 ones when there are no others.
pub(crate) async fn addresses(lane: &Arc<Lane>, name: &str) -> Vec<IpAddr> {
    let server = Server { lane: Arc::clone(lane), places: Semaphore::new(1) };
    for record_type in [RecordType::A, RecordType::AAAA] {
        let Some(question) = dns::question(name, record_type, rand::random()) else { return Vec::new() };
        let answer = match server.begin(&question, Transport::Tcp) {
            Begun::Answered(answer) => answer,
            Begun::Pending(pending) => server.finish(pending).await,
            Begun::Nothing => return Vec::new(),
        };
        let addresses = dns::addresses(&answer);
        if !addresses.is_empty() {
            return addresses;
        }
    }
    Vec::new()
}

impl Server {
    /// Answers what can be answered without waiting.
    fn begin(&self, bytes: &[u8], transport: Transport) -> Begun {
        let query = match Query::parse(bytes, transport) {
            Ok(query) => query,
            Err(Unusable::Ignore) => return Begun::Nothing,
            Err(Unusable::Refuse(answer)) => return Begun::Answered(answer),
        };
        let shared = &self.lane.shared;
        let client = shared.view.find_local(&self.lane.pod.name);
        if let Some(client) = &client
            && let Some(answer) = self.answer(client, &query)
        {
            return Begun::Answered(answer);
        }
        Begun::Pending(Box::new(Pending { query, bytes: bytes.to_vec(), client }))
    }

    /// Waits for what a lookup needs; there is an answer always, if only that it failed.
    async fn finish(&self, pending: Box<Pending>) -> Vec<u8> {
        let Pending { query, bytes, client } = *pending;
        // Both are given back when the lookup is done.
        let (Ok(_place), Ok(_of_all)) = (self.places.try_acquire(), self.lane.shared.lookups.places.try_acquire())
        else {
            log(client.as_deref(), &query, "busy", 0);
            return query.failure(ResponseCode::ServFail);
        };
        let client = match client {
            Some(client) => client,
            None => match self.lane.local_workload().await {
                Ok(client) => {
                    if let Some(answer) = self.answer(&client, &query) {
                        return answer;
                    }
                    client
                }
                Err(error) => {
                    tracing::debug!(target: "dns", pod = %self.lane.pod.uid, %error, "lookup failed");
                    return query.failure(ResponseCode::ServFail);
                }
            },
        };
        self.forward(&client, &query, &bytes).await
    }

    /// The mesh's own answer, if it has one.
    fn answer(&self, client: &Workload, query: &Query) -> Option<Vec<u8>> {
        let shared = &self.lane.shared;
        let lookups = &shared.lookups;
        let answer = dns::answer(&shared.view, &lookups.settings, client, query, &mut rand::rng())?;
        lookups.metrics.requested(&labels(client, query));
        log(Some(client), query, "answered", answer.endpoints);
        Some(answer.bytes)
    }

    async fn forward(&self, client: &Workload, query: &Query, bytes: &[u8]) -> Vec<u8> {
        let lookups = &self.lane.shared.lookups;
        let labels = labels(client, query);
        lookups.metrics.requested(&labels);
        let asked = Instant::now();
        let answer = upstream::ask(&self.lane, &lookups.servers, bytes, query).await;
        lookups.metrics.forwarded(&labels, asked.elapsed(), answer.is_ok());
        match answer {
            Ok(answer) => {
                log(Some(client), query, "forwarded", 0);
                answer
            }
            Err(error) => {
                tracing::debug!(target: "dns", pod = %self.lane.pod.uid, domain = %query.name(), %error, "no server answered");
                log(Some(client), query, "failed", 0);
                query.failure(ResponseCode::ServFail)
            }
        }
    }
}

fn labels(client: &Workload, query: &Query) -> LookupLabels {
    // A pod must not choose how many label values there are.
    let query_type = match query.record_type() {
        RecordType::Unknown(_) => "unknown".to_owned(),
        known => known.to_string().to_ascii_lowercase(),
    };
    LookupLabels {
        query_type: Arc::from(query_type),
        protocol: query.transport().as_str(),
        service: Arc::clone(&client.canonical_name),
        revision: Arc::clone(&client.canonical_revision),
    }
}

fn log(client: Option<&Workload>, query: &Query, result: &str, endpoints: usize) {
    tracing::debug!(
        target: "dns",
        query = %query.record_type(),
        src.workload = client.map(|client| &*client.name),
        src.namespace = client.map(|client| &*client.namespace),
        domain = %query.name(),
        result,
        endpoints,
        "lookup"
    );
}
