//! The conversation with the node agent: which pods to serve.

use std::collections::HashSet;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use drain::{Task, Watch};
use linux::NetNs;
use tokio::time::{MissedTickBehavior, interval, sleep};
use types::PodUid;
use zds::proxy::Session;
use zds::{Request, ZdsError};

use crate::error::ZtunnelError;
use crate::pods::{Arrival, Pods};

/// The first wait before another attempt to connect; it doubles.
const FIRST_BACKOFF: Duration = Duration::from_millis(10);

/// The longest wait between attempts.
const LONGEST_BACKOFF: Duration = Duration::from_secs(15);

/// How often pods that could not be started are tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Follows the agent: connects, serves what it says, reconnects, until nothing more is served.
pub(crate) struct Follower {
    pub(crate) socket: PathBuf,
    pub(crate) pods: Pods,
    /// Settled while a snapshot is complete and no pod waits for another try.
    pub(crate) readiness: Task,
    /// The order to end: until then the agent is looked for whenever it is away.
    pub(crate) process: Watch,
    /// The end of serving: until then the agent is listened to.
    pub(crate) serving: Watch,
}

/// What the agent has said since it was connected.
struct Snapshot {
    mentioned: HashSet<PodUid>,
    is_complete: bool,
}

impl Follower {
    /// Runs until nothing more is served, or the agent is lost while the process drains.
    ///
    /// While the agent is away, pods are served as they were.
    ///
    /// # Errors
    /// When the agent breaks the protocol in a way that a new connection would not mend.
    pub(crate) async fn run(mut self) -> Result<(), ZtunnelError> {
        let (process, serving) = (self.process.clone(), self.serving.clone());
        let mut backoff = FIRST_BACKOFF;
        loop {
            // An agent hands new pods to whoever connected last, which must not be one that is about to end.
            let Some(connected) = process.unless_draining(Session::connect(&self.socket)).await else { return Ok(()) };
            match connected {
                Ok(session) => {
                    tracing::info!(socket = %self.socket.display(), "connected to the node agent");
                    backoff = FIRST_BACKOFF;
                    let ended = serving.unless_draining(self.converse(session)).await;
                    self.readiness.pend();
                    match ended {
                        None => return Ok(()),
                        Some(Err(error)) => return Err(error),
                        Some(Ok(reason)) => tracing::warn!(error = %reason, "lost the node agent; pods are served on"),
                    }
                }
                Err(error) => {
                    tracing::debug!(socket = %self.socket.display(), %error, "cannot reach the node agent");
                }
            }
            if process.unless_draining(sleep(backoff)).await.is_none() {
                return Ok(());
            }
            backoff = (backoff * 2).min(LONGEST_BACKOFF);
        }
    }

    /// Takes requests until the connection ends; gives the reason, unless it is one to start anew for.
    async fn converse(&mut self, mut session: Session) -> Result<ZdsError, ZtunnelError> {
        // The agent mentions again what it still wants.
        self.pods.forget_parked();
        let mut snapshot = Snapshot { mentioned: HashSet::new(), is_complete: false };
        let mut retry = interval(RETRY);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (pods, mut is_discovered) = (self.pods.clone(), false);
        let mut discovered = pin!(pods.discovered());
        loop {
            let request = tokio::select! {
                biased;
                () = &mut discovered, if !is_discovered => {
                    is_discovered = true;
                    self.pods.retry().await;
                    self.report(&snapshot);
                    continue;
                }
                request = session.next() => request,
                // Before that, a pod that was refused would be listened in without its agent's knowledge.
                _ = retry.tick(), if is_discovered && self.pods.has_parked() => {
                    self.pods.retry().await;
                    self.report(&snapshot);
                    continue;
                }
            };
            let answer = match request {
                Ok(request) => self.fulfil(&mut snapshot, request)?,
                Err(error) if error.is_protocol_violation() => return Err(error.into()),
                Err(ZdsError::Closed) => return Ok(ZdsError::Closed),
                Err(error) => {
                    // The agent is told, if it listens; then both start over.
                    let _ = session.acknowledge(Err(error.to_string())).await;
                    return Ok(error);
                }
            };
            self.report(&snapshot);
            if let Err(error) = session.acknowledge(answer).await {
                return Ok(error);
            }
        }
    }

    fn fulfil(&self, snapshot: &mut Snapshot, request: Request) -> Result<Result<(), String>, ZtunnelError> {
        match request {
            Request::Add { uid, info, netns } => {
                let arrival = if snapshot.is_complete { Arrival::New } else { Arrival::Again };
                if arrival == Arrival::Again {
                    snapshot.mentioned.insert(uid.clone());
                }
                match NetNs::from_fd(netns) {
                    Ok(netns) => Ok(self.pods.add(uid, info, netns, arrival)),
                    Err(error) => Ok(Err(error.to_string())),
                }
            }
            Request::Keep(_) if snapshot.is_complete => Err(ZtunnelError::Snapshot("keep after the snapshot")),
            Request::Keep(uid) => {
                let is_running = self.pods.is_running(&uid);
                snapshot.mentioned.insert(uid);
                Ok(if is_running { Ok(()) } else { Err("the pod is not served, and has no namespace here".to_owned()) })
            }
            Request::Del(uid) if snapshot.is_complete => {
                self.pods.remove(&uid);
                Ok(Ok(()))
            }
            Request::Del(uid) => {
                snapshot.mentioned.remove(&uid);
                Ok(Ok(()))
            }
            Request::SnapshotSent if snapshot.is_complete => Err(ZtunnelError::Snapshot("a second snapshot")),
            Request::SnapshotSent => {
                snapshot.is_complete = true;
                self.pods.retain(&snapshot.mentioned);
                snapshot.mentioned = HashSet::new();
                Ok(Ok(()))
            }
        }
    }

    fn report(&mut self, snapshot: &Snapshot) {
        if snapshot.is_complete && !self.pods.has_parked() {
            self.readiness.settle();
        } else {
            self.readiness.pend();
        }
    }
}
