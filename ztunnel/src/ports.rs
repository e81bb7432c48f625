//! The proxy's own ports: admin on loopback, metrics and readiness on all addresses.
//!
//! While one proxy replaces another in the same network namespace both may want them; then the one that came last
//! answers, and the other answers again when that one is gone.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use linux::socket::{ListenOptions, Listening, listening};
use telemetry::http::{self, Router};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::warn;

use crate::claim::{Claim, Place};
use crate::error::ZtunnelError;

/// How often to look whether somebody who came later answers.
const LOOK: Duration = Duration::from_millis(500);

/// What is answered where.
pub(crate) struct Routers {
    pub(crate) admin: Router,
    pub(crate) metrics: Router,
    pub(crate) readiness: Router,
}

/// Opens the ports; they answer until `close`, which is when the drain is over: that is when operators look.
///
/// # Errors
/// When a port is taken by somebody who does not share it.
pub(crate) fn serve(
    config: &config::Ztunnel,
    routers: Routers,
    close: &watch::Receiver<bool>,
) -> Result<JoinSet<()>, ZtunnelError> {
    let mut servers = JoinSet::new();
    let (sender, listeners) = watch::channel(Vec::new());
    let mut start = |address: SocketAddr, router: Router| -> Result<(), ZtunnelError> {
        let own = open(address, Claim::after_elders(&[Place::At(address)]))?;
        servers.spawn(answer(address, own, router, (close.clone(), listeners.clone())));
        Ok(())
    };
    let (ports, ipv6) = (config.ports, config.in_pod.ipv6);
    start(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), ports.admin), routers.admin.clone())?;
    if ipv6 && let Err(error) = start(SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), ports.admin), routers.admin) {
        warn!(error = &error as &dyn std::error::Error, "no admin port on ::1");
    }
    let any = |port| SocketAddr::new(any_address(ipv6), port);
    start(any(ports.stats), routers.metrics)?;
    start(any(ports.readiness), routers.readiness)?;
    servers.spawn(look(sender, close.clone()));
    Ok(servers)
}

/// Keeps up to date who listens here, on all of the ports at once, and says so when it has changed.
async fn look(listeners: watch::Sender<Vec<Listening>>, mut close: watch::Receiver<bool>) {
    let inodes = |all: &[Listening]| -> HashSet<u64> { all.iter().map(|one| one.inode).collect() };
    loop {
        // Where the kernel does not tell, both answer, each some of the requests.
        if let Ok(now) = listening() {
            listeners.send_if_modified(|before| {
                let is_new = inodes(before) != inodes(&now);
                *before = now;
                is_new
            });
        }
        tokio::select! {
            () = closed(&mut close) => return,
            () = sleep(LOOK) => {}
        }
    }
}

/// Answers whenever nobody who came later does.
async fn answer(
    address: SocketAddr,
    (mut listener, mut claim): (TcpListener, Claim),
    router: Router,
    (mut close, mut listeners): (watch::Receiver<bool>, watch::Receiver<Vec<Listening>>),
) {
    loop {
        let until = async {
            tokio::select! {
                () = closed(&mut close) => {}
                () = succession(&claim, &mut listeners, true) => {}
            }
        };
        http::serve(listener, router.clone(), until).await;
        (listener, claim) = tokio::select! {
            biased;
            () = closed(&mut close) => return,
            reopened = reopen(address, &claim, &mut listeners) => reopened,
        };
    }
}

/// Waits until nobody who came later answers any more, and takes the port back.
async fn reopen(
    address: SocketAddr,
    claim: &Claim,
    listeners: &mut watch::Receiver<Vec<Listening>>,
) -> (TcpListener, Claim) {
    loop {
        succession(claim, listeners, false).await;
        match open(address, Claim::of_the_last(&[Place::At(address)])) {
            Ok(own) => return own,
            Err(error) => warn!(error = &error as &dyn std::error::Error, "a port of our own was lost"),
        }
        sleep(LOOK).await;
    }
}

/// Waits until somebody who came later answers, or until nobody does.
async fn succession(claim: &Claim, listeners: &mut watch::Receiver<Vec<Listening>>, wanted: bool) {
    if listeners.wait_for(|all| claim.is_succeeded_among(all) == wanted).await.is_err() {
        // Nobody looks any more: everything closes.
        std::future::pending().await
    }
}

async fn closed(close: &mut watch::Receiver<bool>) {
    let _ = close.wait_for(|close| *close).await;
}

/// The wildcard address that works here: kernels without IPv6 refuse even to make the socket.
fn any_address(ipv6: bool) -> IpAddr {
    let any = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);
    if ipv6 && linux::socket::listen(any, &ListenOptions::default()).is_ok() {
        any.ip()
    } else {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    }
}

fn open(address: SocketAddr, mut claim: Claim) -> Result<(TcpListener, Claim), ZtunnelError> {
    let options = ListenOptions { reuse_port: true, ..ListenOptions::default() };
    let mut open = || {
        let listener = linux::socket::listen(address, &options)?;
        claim.add(&listener)?;
        TcpListener::from_std(listener)
    };
    match open() {
        Ok(listener) => Ok((listener, claim)),
        Err(source) => Err(ZtunnelError::Listen { address, source }),
    }
}
