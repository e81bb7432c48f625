//! The node proxies that are connected, and the pods that they serve: the agent's end of the ZDS socket.
//!
//! More than one proxy is connected while one replaces another: a new pod goes to the newest that takes it, a removed pod
//! is taken from all, and a proxy that connects is first told every pod there is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use linux::netns::NetNs;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, info, warn};
use types::PodUid;
use zds::WorkloadInfo;
use zds::agent::{Answer, Listener, Session};

/// Requests that may wait for one proxy; further ones wait for a place.
const QUEUE: usize = 256;
/// A proxy that reconnects in a loop must not keep the agent busy: five connections a second.
const ACCEPT_INTERVAL: Duration = Duration::from_millis(200);

/// Why a pod was not handed over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandOverError {
    /// No proxy is connected.
    #[error("no ztunnel is connected on this node")]
    NoProxy,
    /// The proxy could not start serving the pod.
    #[error("ztunnel cannot serve the pod: {0}")]
    Refused(String),
    /// The proxy went away or does not answer.
    #[error("ztunnel did not answer")]
    NoAnswer,
}

/// What is served and by whom; a clone shares it.
#[derive(Debug, Clone)]
pub struct Proxies {
    shared: Arc<Mutex<Shared>>,
    connected: Arc<watch::Sender<usize>>,
}

#[derive(Debug, Default)]
struct Shared {
    pods: BTreeMap<PodUid, Served>,
    /// In order of connection: the last is the newest.
    sessions: Vec<Handle>,
    next_session: u64,
}

#[derive(Debug, Clone)]
struct Served {
    info: WorkloadInfo,
    /// Unknown for a pod of an earlier agent whose namespace was not found; its proxy is asked to keep it.
    netns: Option<NetNs>,
}

#[derive(Debug, Clone)]
struct Handle {
    id: u64,
    drains_on_del: bool,
    requests: mpsc::Sender<Request>,
}

#[derive(Debug)]
struct Request {
    kind: Kind,
    answer: oneshot::Sender<Answer>,
}

#[derive(Debug)]
enum Kind {
    Add(PodUid, WorkloadInfo, NetNs),
    Del(PodUid),
}

impl Default for Proxies {
    fn default() -> Self {
        Self { shared: Arc::default(), connected: Arc::new(watch::Sender::new(0)) }
    }
}

impl Proxies {
    /// Notes a pod that an earlier agent handed over, so that a connecting proxy keeps it. Call before [`Self::serve`].
    pub fn remember(&self, uid: PodUid, info: WorkloadInfo, netns: Option<NetNs>) {
        self.lock().pods.insert(uid, Served { info, netns });
    }

    /// How many proxies are connected.
    #[must_use]
    pub fn connected(&self) -> watch::Receiver<usize> {
        self.connected.subscribe()
    }

    /// Whether the proxy that serves new pods cuts live connections when a pod is taken from it.
    ///
    /// Nobody knows that of a proxy that is away; it may be ours, on its way back to an agent that was restarted.
    #[must_use]
    pub fn cuts_on_del(&self) -> bool {
        self.lock().sessions.last().is_some_and(|session| !session.drains_on_del)
    }

    /// Hands a pod to the newest proxy that takes it and waits until that listens in the pod.
    ///
    /// The newest may not be able to serve yet; it takes the pod over from an older one when it can.
    /// The pod stays on the list when this fails, for the next proxy that connects.
    ///
    /// # Errors
    /// No proxy is connected, or it could not or did not serve the pod.
    pub async fn add(&self, uid: PodUid, info: WorkloadInfo, netns: NetNs) -> Result<(), HandOverError> {
        let sessions = {
            let mut shared = self.lock();
            shared.pods.insert(uid.clone(), Served { info: info.clone(), netns: Some(netns.clone()) });
            shared.sessions.clone()
        };
        let mut newest = None;
        for session in sessions.iter().rev() {
            let error = match session.ask(Kind::Add(uid.clone(), info.clone(), netns.clone())).await {
                Some(Answer::Acknowledged) => return Ok(()),
                Some(Answer::Refused(reason)) => HandOverError::Refused(reason),
                None => HandOverError::NoAnswer,
            };
            newest.get_or_insert(error);
        }
        Err(newest.unwrap_or(HandOverError::NoProxy))
    }

    /// Takes a pod from all proxies and waits until each has acknowledged or gone away.
    pub async fn remove(&self, uid: &PodUid) {
        let sessions = {
            let mut shared = self.lock();
            shared.pods.remove(uid);
            shared.sessions.clone()
        };
        // All at once: one that drains and no longer answers must not hold up the others.
        let removals = sessions.iter().map(async |session| match session.ask(Kind::Del(uid.clone())).await {
            Some(Answer::Acknowledged) => {}
            Some(Answer::Refused(reason)) => warn!(%uid, reason, "ztunnel refuses to let a pod go"),
            None => debug!(%uid, "a ztunnel went away before it let a pod go"),
        });
        futures::future::join_all(removals).await;
    }

    /// Accepts proxies until the listener fails; ends its sessions when dropped.
    ///
    /// # Errors
    /// The listener's.
    pub async fn serve(self, listener: Listener) -> std::io::Result<()> {
        let mut sessions = JoinSet::new();
        let mut pace = interval(ACCEPT_INTERVAL);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            pace.tick().await;
            let connection = listener.accept().await?;
            let proxies = self.clone();
            sessions.spawn(async move {
                match Session::start(connection).await {
                    Ok(session) => proxies.serve_one(session).await,
                    Err(error) => warn!(%error, "a ztunnel connected without a proper hello"),
                }
            });
            while sessions.try_join_next().is_some() {}
        }
    }

    async fn serve_one(&self, mut session: Session) {
        let hello = session.hello().clone();
        if !hello.is_version_1 {
            warn!("a ztunnel speaks another version of the protocol; going on with version 1");
        }
        let (id, pods, requests) = self.register(hello.drains_on_del());
        info!(implementation = hello.implementation, pods = pods.len(), "ztunnel connected");
        let error = match send_snapshot(&mut session, pods).await {
            Ok(()) => answer_requests(&mut session, requests).await,
            Err(error) => error,
        };
        self.unregister(id);
        info!(%error, "ztunnel disconnected");
    }

    /// Snapshot and registration happen under one lock: a pod added later arrives as a request.
    fn register(&self, drains_on_del: bool) -> (u64, Vec<(PodUid, Served)>, mpsc::Receiver<Request>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut shared = self.lock();
        let id = shared.next_session;
        shared.next_session += 1;
        shared.sessions.push(Handle { id, drains_on_del, requests: sender });
        let pods = shared.pods.iter().map(|(uid, served)| (uid.clone(), served.clone())).collect();
        self.connected.send_replace(shared.sessions.len());
        (id, pods, receiver)
    }

    fn unregister(&self, id: u64) {
        let mut shared = self.lock();
        shared.sessions.retain(|session| session.id != id);
        self.connected.send_replace(shared.sessions.len());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        // Nothing panics while it holds the lock; if something did, the maps are still whole.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handle {
    /// `None` when the proxy went away or did not answer in time.
    ///
    /// There is no deadline for the whole: each exchange that comes before has its own on the socket, and the session
    /// that misses one ends, which answers everybody who waits. A thousand pods may come at once.
    async fn ask(&self, kind: Kind) -> Option<Answer> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request { kind, answer }).await.ok()?;
        answered.await.ok()
    }
}

async fn send_snapshot(session: &mut Session, pods: Vec<(PodUid, Served)>) -> Result<(), zds::ZdsError> {
    for (uid, served) in pods {
        let answer = match served.netns {
            Some(netns) => session.add(&uid, &served.info, &netns).await?,
            None => session.keep(&uid).await?,
        };
        if let Answer::Refused(reason) = answer {
            // The proxy keeps trying by itself.
            warn!(%uid, reason, "ztunnel cannot serve a pod yet");
        }
    }
    session.snapshot_sent().await.map(|_answer| ())
}

/// Passes requests on one by one, until the proxy is gone.
async fn answer_requests(session: &mut Session, mut requests: mpsc::Receiver<Request>) -> zds::ZdsError {
    loop {
        let request = tokio::select! {
            request = requests.recv() => request,
            error = session.ended() => return error,
        };
        let Some(Request { kind, answer }) = request else { return zds::ZdsError::Closed };
        let outcome = match kind {
            Kind::Add(uid, info, netns) => session.add(&uid, &info, &netns).await,
            Kind::Del(uid) => session.del(&uid).await,
        };
        match outcome {
            // Whoever asked may have given up meanwhile.
            Ok(outcome) => drop(answer.send(outcome)),
            Err(error) => return error,
        }
    }
}
