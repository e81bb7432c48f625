//! The agent's end of the ZDS socket against scripted node proxies.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that is not as it should be")]

use std::path::PathBuf;
use std::time::Duration;

use linux::netns::NetNs;
use node::proxies::{HandOverError, Proxies};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use types::PodUid;
use zds::agent::Listener;
use zds::proxy::Session;
use zds::{Request, WorkloadInfo};

const DEADLINE: Duration = Duration::from_secs(5);

struct Agent {
    proxies: Proxies,
    path: PathBuf,
    server: JoinHandle<std::io::Result<()>>,
    _directory: tempfile::TempDir,
}

impl Agent {
    fn start(proxies: Proxies) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ztunnel.sock");
        let listener = Listener::bind(&path).unwrap();
        let server = tokio::spawn(proxies.clone().serve(listener));
        Self { proxies, path, server, _directory: directory }
    }

    async fn add(&self, uid: &str) -> Result<(), HandOverError> {
        self.proxies.add(PodUid::from(uid), info(), NetNs::current().unwrap()).await
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn info() -> WorkloadInfo {
    WorkloadInfo { name: "cart".to_owned(), namespace: "shop".to_owned(), service_account: "cart".to_owned() }
}

/// A word for each request that a proxy hears.
fn word(request: &Request) -> String {
    match request {
        Request::Add { uid, .. } => format!("add {uid}"),
        Request::Keep(uid) => format!("keep {uid}"),
        Request::Del(uid) => format!("del {uid}"),
        Request::SnapshotSent => "snapshot".to_owned(),
    }
}

async fn hear(session: &mut Session) -> String {
    let request = timeout(DEADLINE, session.next()).await.unwrap().unwrap();
    session.acknowledge(Ok(())).await.unwrap();
    word(&request)
}

#[tokio::test]
async fn a_pod_is_not_handed_over_without_a_proxy() {
    let agent = Agent::start(Proxies::default());
    assert_eq!(agent.add("a").await, Err(HandOverError::NoProxy));
    assert!(!agent.proxies.cuts_on_del(), "the proxy that comes may be one that drains");
}

#[tokio::test]
async fn a_proxy_that_connects_hears_every_pod_there_is() {
    let proxies = Proxies::default();
    proxies.remember(PodUid::from("known"), info(), Some(NetNs::current().unwrap()));
    proxies.remember(PodUid::from("lost"), info(), None);
    let agent = Agent::start(proxies);
    let mut session = Session::connect(&agent.path).await.unwrap();
    assert_eq!(hear(&mut session).await, "add known");
    assert_eq!(hear(&mut session).await, "keep lost");
    assert_eq!(hear(&mut session).await, "snapshot");
    assert!(!agent.proxies.cuts_on_del());
}

#[tokio::test]
async fn a_new_pod_goes_to_the_newest_proxy_and_a_removed_one_from_all() {
    let agent = Agent::start(Proxies::default());
    let mut old = Session::connect(&agent.path).await.unwrap();
    assert_eq!(hear(&mut old).await, "snapshot");
    let mut new = Session::connect(&agent.path).await.unwrap();
    assert_eq!(hear(&mut new).await, "snapshot");

    let (added, heard) = tokio::join!(agent.add("a"), hear(&mut new));
    assert_eq!((added, heard.as_str()), (Ok(()), "add a"));

    let uid = PodUid::from("a");
    let (_, by_old, by_new) = tokio::join!(agent.proxies.remove(&uid), hear(&mut old), hear(&mut new));
    assert_eq!((by_old.as_str(), by_new.as_str()), ("del a", "del a"));
}

#[tokio::test]
async fn a_new_pod_goes_to_an_older_proxy_while_the_newest_cannot_serve() {
    let agent = Agent::start(Proxies::default());
    let mut old = Session::connect(&agent.path).await.unwrap();
    assert_eq!(hear(&mut old).await, "snapshot");
    let mut new = Session::connect(&agent.path).await.unwrap();
    assert_eq!(hear(&mut new).await, "snapshot");
    let refuse = async {
        let request = timeout(DEADLINE, new.next()).await.unwrap().unwrap();
        new.acknowledge(Err("not yet".to_owned())).await.unwrap();
        word(&request)
    };
    let (added, by_new, by_old) = tokio::join!(agent.add("a"), refuse, hear(&mut old));
    assert_eq!((added, by_new.as_str(), by_old.as_str()), (Ok(()), "add a", "add a"));
}

#[tokio::test]
async fn pods_that_come_at_once_wait_for_a_slow_proxy_as_long_as_it_answers() {
    const PODS: usize = 600;
    let agent = Agent::start(Proxies::default());
    let mut session = Session::connect(&agent.path).await.unwrap();
    assert_eq!(hear(&mut session).await, "snapshot");
    let slow = async {
        for _ in 0..PODS {
            session.next().await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            session.acknowledge(Ok(())).await.unwrap();
        }
    };
    let names: Vec<String> = (0..PODS).map(|number| format!("pod-{number}")).collect();
    let all = futures::future::join_all(names.iter().map(|name| agent.add(name)));
    let (added, ()) = tokio::join!(all, slow);
    assert_eq!(added, vec![Ok(()); PODS]);
}

#[tokio::test]
async fn a_stuck_proxy_does_not_hold_up_the_removal_from_another() {
    let agent = Agent::start(Proxies::default());
    let mut stuck = Session::connect(&agent.path).await.unwrap();
    assert_eq!(hear(&mut stuck).await, "snapshot");
    let mut new = Session::connect(&agent.path).await.unwrap();
    assert_eq!(hear(&mut new).await, "snapshot");
    let uid = PodUid::from("a");
    let removal = agent.proxies.remove(&uid);
    let heard = timeout(Duration::from_secs(1), async {
        tokio::select! {
            () = removal => panic!("one has not answered"),
            heard = hear(&mut new) => heard,
        }
    });
    assert_eq!(heard.await.unwrap(), "del a");
}

#[tokio::test]
async fn a_refusal_is_passed_on_with_its_reason() {
    let agent = Agent::start(Proxies::default());
    let mut session = Session::connect(&agent.path).await.unwrap();
    assert_eq!(hear(&mut session).await, "snapshot");
    let refuse = async {
        session.next().await.unwrap();
        session.acknowledge(Err("port 15001 is in use".to_owned())).await.unwrap();
    };
    let (added, ()) = tokio::join!(agent.add("a"), refuse);
    assert_eq!(added, Err(HandOverError::Refused("port 15001 is in use".to_owned())));
}

#[tokio::test]
async fn a_proxy_that_goes_away_while_asked_is_no_success() {
    let agent = Agent::start(Proxies::default());
    let mut session = Session::connect(&agent.path).await.unwrap();
    assert_eq!(hear(&mut session).await, "snapshot");
    let leave = async {
        session.next().await.unwrap();
        drop(session);
    };
    let (added, ()) = tokio::join!(agent.add("a"), leave);
    assert_eq!(added, Err(HandOverError::NoAnswer));
    let mut connected = agent.proxies.connected();
    timeout(DEADLINE, connected.wait_for(|count| *count == 0)).await.unwrap().unwrap();

    // The pod stayed on the list: the next proxy hears of it.
    let mut next = Session::connect(&agent.path).await.unwrap();
    assert_eq!(hear(&mut next).await, "add a");
}

#[tokio::test]
async fn a_proxy_that_speaks_out_of_turn_is_dropped() {
    let agent = Agent::start(Proxies::default());
    let mut session = Session::connect(&agent.path).await.unwrap();
    assert_eq!(hear(&mut session).await, "snapshot");
    let mut connected = agent.proxies.connected();
    timeout(DEADLINE, connected.wait_for(|count| *count == 1)).await.unwrap().unwrap();
    session.acknowledge(Ok(())).await.unwrap();
    timeout(DEADLINE, connected.wait_for(|count| *count == 0)).await.unwrap().unwrap();
}
