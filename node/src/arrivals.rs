//! Pods that the CNI plugin announces: the agent's HTTP server on a unix socket, for root alone.
//!
//! The answer comes when the pod is in the mesh, or is known not to belong there; until then nothing runs in it.

mod decide;
mod socket;

pub(crate) use decide::Knowledge;
pub(crate) use socket::RootOnly;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cni::announcement::{NewPod, PATH};
use http::StatusCode;
use k8s_openapi::api::core::v1::Pod;
use linux::netns::NetNs;
use telemetry::http::{Response, Router, text};
use telemetry::metrics::Counters;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

use crate::eligibility::Capture;
use crate::enrol::full_name;

/// How long the agent works on a pod before it says what is missing: less than the plugin waits.
const DEADLINE: Duration = Duration::from_millis(4500);

/// Announcements that may wait for the agent's loop.
const QUEUE: usize = 64;

/// A pod that waits to be let in.
pub(crate) struct Arrival {
    pub(crate) pod: Arc<Pod>,
    pub(crate) capture: Capture,
    pub(crate) netns: NetNs,
    pub(crate) addresses: Vec<IpAddr>,
    /// When the plugin is told that it did not work.
    pub(crate) deadline: Instant,
    pub(crate) answer: oneshot::Sender<Result<(), String>>,
}

/// Takes announcements.
#[derive(Clone)]
pub(crate) struct Arrivals {
    knowledge: Knowledge,
    host_root: PathBuf,
    node_name: Arc<str>,
    agent: mpsc::Sender<Arrival>,
    /// Answers, by status.
    answers: Counters,
}

/// Why a pod does not start.
#[derive(Debug, thiserror::Error)]
enum ArrivalError {
    #[error("the announcement is not what it should be: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("the node agent on node {0} has not seen the pod yet")]
    Unknown(Arc<str>),
    #[error("its network namespace cannot be opened: {0}")]
    Netns(#[from] std::io::Error),
    #[error("the node agent on node {0} is ending")]
    Ending(Arc<str>),
    #[error("{0}")]
    Refused(String),
}

impl Arrivals {
    /// Takes announcements for the agent that has the other end.
    pub(crate) fn new(
        knowledge: Knowledge,
        host_root: PathBuf,
        node_name: &str,
        answers: Counters,
    ) -> (Self, mpsc::Receiver<Arrival>) {
        let (agent, arrivals) = mpsc::channel(QUEUE);
        (Self { knowledge, host_root, node_name: node_name.into(), agent, answers }, arrivals)
    }

    /// What answers on the socket.
    pub(crate) fn router(self) -> Router {
        Router::new().post(PATH, move |request| {
            let arrivals = self.clone();
            async move { arrivals.handle(request.body()).await }
        })
    }

    async fn handle(&self, body: &[u8]) -> Response {
        let (status, words) = match self.take(body).await {
            Ok(outcome) => (StatusCode::OK, outcome.to_owned()),
            Err(error @ ArrivalError::Malformed(_)) => (StatusCode::BAD_REQUEST, error.to_string()),
            Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        };
        self.answers.with(&[status.as_str()]).increment();
        text(status, format!("{words}\n"))
    }

    async fn take(&self, body: &[u8]) -> Result<&'static str, ArrivalError> {
        let deadline = Instant::now() + DEADLINE;
        let new: NewPod = serde_json::from_slice(body)?;
        let decided = timeout_at(deadline, self.knowledge.decide(&new)).await;
        let unknown = || ArrivalError::Unknown(Arc::clone(&self.node_name));
        let (pod, capture) = match decided.map_err(|_late| unknown())? {
            Ok(found) => found,
            Err(reason) => {
                debug!(pod = %format_args!("{}/{}", new.namespace, new.name), %reason, "announced, and not captured");
                return Ok("not captured");
            }
        };
        let netns = NetNs::open(&on_host(&self.host_root, &new.netns))?;
        let ending = || ArrivalError::Ending(Arc::clone(&self.node_name));
        let (answer, answered) = oneshot::channel();
        let name = full_name(&pod);
        let arrival = Arrival { pod, capture, netns, addresses: new.ips(), deadline, answer };
        self.agent.send(arrival).await.map_err(|_ending| ending())?;
        match answered.await {
            Ok(Ok(())) => Ok("captured"),
            Ok(Err(why)) => {
                warn!(pod = %name, why, "a new pod has to wait");
                Err(ArrivalError::Refused(why))
            }
            Err(_dropped) => Err(ending()),
        }
    }
}

/// A path of the host as the agent sees it.
fn on_host(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_host_stay_below_its_root() {
        assert_eq!(on_host(Path::new("/host"), "/var/run/netns/a"), Path::new("/host/var/run/netns/a"));
        assert_eq!(on_host(Path::new("/"), "/proc/7/ns/net"), Path::new("/proc/7/ns/net"));
        assert_eq!(on_host(Path::new("/host"), "//a"), Path::new("/host/a"));
    }
}
