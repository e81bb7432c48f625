//! Listeners inside a pod, and the loop that accepts on each.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use linux::NetNs;
use linux::socket::{ListenOptions, Tuning};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::claim::{Claim, Place};
use crate::connect::TUNNEL_UNSENT;
use crate::lane::{Lane, Lanes};
use crate::outbound::Entrance;
use crate::shared::Settings;
use crate::workers::{Carried, Load, least};
use crate::{inbound, outbound, plaintext, socks};

/// How many connections may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: u32 = 4096;

/// How long the listeners of a pod that leaves the mesh go on: a client may not have heard yet, and a first segment that
/// got lost before comes again after one second and after three, redirected as the lost one was.
const LINGER: Duration = Duration::from_millis(3500);

/// The same where a successor for the same pod could not listen meanwhile.
const LINGER_ALONE: Duration = Duration::from_millis(250);

/// How often a listener looks for connections that nobody was woken for: kernels that move a predecessor's queue to its
/// successor did not always wake it.
const SWEEP: Duration = Duration::from_millis(500);

/// For how long after its start a successor expects connections from its predecessor: far more than a drain takes.
const HEIR: Duration = Duration::from_secs(600);

/// How long a process that listens before discovery is complete may let connections wait for that: then it refuses them,
/// so that whoever has another endpoint tries that one.
pub(crate) const EARLY: Duration = Duration::from_secs(5);

/// How long to wait after a failed accept: no more files can be opened, and connections must end first.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// What a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Outbound,
    Plaintext,
    Hbone,
    Socks,
}

impl Role {
    const ALWAYS: [Self; 3] = [Self::Outbound, Self::Plaintext, Self::Hbone];

    /// The port that redirection rules and other proxies know.
    fn port(self) -> u16 {
        match self {
            Self::Outbound => 15001,
            Self::Plaintext => 15006,
            Self::Hbone => discovery::HBONE_PORT,
            Self::Socks => socks::PORT,
        }
    }
}

/// How a process comes to listen in a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Beside whoever was there before, who makes way later.
    Beside,
    /// Where nobody else does: whoever is there serves better than we could.
    Alone,
    /// About to end: it makes way for whoever else listens, whichever of the two was first.
    Yielding,
}

/// The listeners of a pod.
pub(crate) struct Listeners {
    /// Who else listens there.
    pub(crate) claim: Claim,
    pub(crate) by_worker: Vec<Vec<(Role, std::net::TcpListener)>>,
    /// The mark of connections to the pod's application.
    pub(crate) application_mark: u32,
}

/// The mark that is routed to the loopback interface in a captured pod, whoever captured it (Istio's node agent, too).
const ANSWERS_MARK: u32 = 0x111;

/// Opens the listeners for each of `workers` workers inside the namespace: all, or none.
///
/// Without SO_REUSEPORT only the first worker has any.
pub(crate) fn listen(netns: &NetNs, settings: &Settings, workers: usize, manner: Manner) -> io::Result<Listeners> {
    let options = ListenOptions {
        reuse_port: settings.reuse_port,
        mark: Some(settings.mark),
        backlog: BACKLOG,
        transparent: settings.keeps_source,
        ..ListenOptions::default()
    };
    let workers = if settings.reuse_port { workers } else { 1 };
    let places = Role::ALWAYS.map(|role| Place::Port(role.port()));
    netns.run(|| {
        // A proxy that ends leaves its queue and handshakes to the successor on the same port, where the kernel can do
        // that.
        if let Err(error) = linux::sysctl::write("net/ipv4/tcp_migrate_req", "1") {
            tracing::debug!(%error, "handshakes will not move to a successor");
        }
        let mut claim = match manner {
            Manner::Yielding => Claim::of_the_last(&places),
            Manner::Beside | Manner::Alone => Claim::after_elders(&places),
        };
        if manner == Manner::Alone && claim.has_elders() {
            return Err(io::Error::other("another proxy serves the pod until discovery is complete"));
        }
        let mut one = |role: Role| {
            let listener = open_role(role, settings, &options)?;
            // Pods are handed over by what everybody listens on.
            if role != Role::Socks {
                claim.add(&listener)?;
            }
            Ok((role, listener))
        };
        let roles = || Role::ALWAYS.into_iter().chain(settings.socks.then_some(Role::Socks));
        let by_worker = (0..workers).map(|_worker| roles().map(&mut one).collect());
        let by_worker = by_worker.collect::<io::Result<_>>()?;
        // Where the node agent has seen to it that answers carry the mark of the question, one that leads them back;
        // elsewhere it tracks connections with the proxy's own, and marks the answers.
        let application_mark = if linux::marks::are_copied_to_answers() { ANSWERS_MARK } else { settings.mark };
        Ok(Listeners { claim, by_worker, application_mark })
    })?
}

fn open_role(role: Role, settings: &Settings, options: &ListenOptions) -> io::Result<std::net::TcpListener> {
    let accepted = Tuning {
        keepalive: settings.keepalive.filter(|_| role != Role::Hbone),
        no_delay: true,
        is_local: matches!(role, Role::Outbound | Role::Socks),
        unsent: (role == Role::Hbone).then_some(TUNNEL_UNSENT),
    };
    let options = &ListenOptions { accepted, ..options.clone() };
    match role {
        Role::Socks => {
            // Nobody but the pod itself; and what comes from there is not redirected.
            let options = ListenOptions { transparent: false, ..options.clone() };
            linux::socket::listen(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), role.port()), &options)
        }
        _ => open(role.port(), settings.ipv6, options),
    }
}

/// Both families in one socket; IPv4 alone where the kernel has no IPv6.
pub(crate) fn open(port: u16, ipv6: bool, options: &ListenOptions) -> io::Result<std::net::TcpListener> {
    let any_v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
    if !ipv6 {
        return linux::socket::listen(any_v4, options);
    }
    let any_v6 = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
    match linux::socket::listen(any_v6, options) {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => linux::socket::listen(any_v4, options),
        outcome => outcome,
    }
}

/// Waits until the sockets inside a pod take nothing more: the pod has left the mesh some time ago, a successor listens
/// or the process ends.
pub(crate) async fn retired(lane: &Lane) {
    lane.drain.draining().await;
    if lane.is_left_to_others() {
        return;
    }
    let linger = if lane.shared.settings.reuse_port { LINGER } else { LINGER_ALONE };
    tokio::select! {
        () = lane.node.draining() => {}
        () = sleep(linger) => {}
    }
}

/// Waits until discovery is complete; `false` when what waits for it is to end before.
///
/// Connections that come meanwhile wait in the kernel's queue, and end with the listener if nothing comes of it.
pub(crate) async fn may_serve(lane: &Lane) -> bool {
    tokio::select! {
        biased;
        () = lane.shared.discovered() => true,
        () = lane.drain.draining() => false,
    }
}

/// Accepts until the pod leaves, a successor listens or the process ends; whoever was in the queue by then is still
/// served.
pub(crate) async fn accept_loop(lane: Arc<Lane>, lanes: Lanes, role: Role, listener: std::net::TcpListener) {
    let _guard = lane.drain.guard();
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(pod = %lane.pod.uid, ?role, %error, "cannot watch a listener");
            return;
        }
    };
    if !may_serve(&lane).await {
        return;
    }
    let placer = Placer { own: &lane, lanes: &lanes, role };
    accept_until(&placer, &listener, retired(&lane)).await;
    // What is in the queue was promised a listener; the kernel resets it, or gives it to others, when the listener closes.
    accept_waiting(&placer, &listener);
}

async fn accept_until(placer: &Placer<'_>, listener: &TcpListener, end: impl Future<Output = ()>) {
    let Placer { own: lane, role, .. } = *placer;
    let mut end = pin!(end);
    let mut sweep = interval(SWEEP);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let started = Instant::now();
    loop {
        let is_heir = lane.pod.has_predecessor && started.elapsed() < HEIR;
        tokio::select! {
            biased;
            () = &mut end => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => placer.serve(stream, peer),
                Err(error) => {
                    tracing::debug!(pod = %lane.pod.uid, ?role, %error, "accept failed");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            _ = sweep.tick(), if is_heir => accept_waiting(placer, listener),
        }
    }
}

/// Accepts whoever waits, whether or not the kernel has woken anybody for it.
fn accept_waiting(placer: &Placer<'_>, listener: &TcpListener) {
    while let Ok((stream, peer)) = linux::socket::accept(listener) {
        match TcpStream::from_std(stream) {
            Ok(stream) => placer.serve(stream, peer),
            Err(error) => {
                tracing::debug!(pod = %placer.own.pod.uid, role = ?placer.role, %error, "cannot watch a connection")
            }
        }
    }
}

/// Finds the worker for what a listener accepts.
struct Placer<'a> {
    own: &'a Arc<Lane>,
    lanes: &'a Lanes,
    role: Role,
}

impl Placer<'_> {
    /// Serves a connection on the worker that accepted it, or on another that carries clearly less.
    fn serve(&self, stream: TcpStream, peer: SocketAddr) {
        let lane = least(self.own, self.lanes, |lane| self.load(lane).count());
        let carried = self.load(lane).carry();
        if Arc::ptr_eq(lane, self.own) {
            return serve(lane, self.role, stream, peer, carried);
        }
        let _there = lane.desk.runtime.enter();
        match stream.into_std().and_then(TcpStream::from_std) {
            Ok(stream) => serve(lane, self.role, stream, peer, carried),
            Err(error) => tracing::debug!(pod = %lane.pod.uid, role = ?self.role, %error, "cannot move a connection"),
        }
    }

    /// What the worker carries of this kind: tunnels are few, and hold many connections each.
    fn load<'a>(&self, lane: &'a Lane) -> &'a Load {
        match self.role {
            Role::Hbone => &lane.desk.tunnels,
            Role::Outbound | Role::Plaintext | Role::Socks => &lane.desk.connections,
        }
    }
}

fn serve(lane: &Arc<Lane>, role: Role, stream: TcpStream, peer: SocketAddr, carried: Carried) {
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    // Taken here: a task that has not begun yet is work too.
    let (lane, held) = (Arc::clone(lane), (lane.drain.guard(), carried));
    match role {
        Role::Outbound => drop(tokio::spawn(outbound::serve(lane, stream, peer, (held, Entrance::Captured)))),
        Role::Socks => drop(tokio::spawn(outbound::serve(lane, stream, peer, (held, Entrance::Socks)))),
        Role::Plaintext => drop(tokio::spawn(plaintext::serve(lane, stream, peer, held))),
        Role::Hbone => drop(tokio::spawn(inbound::serve(lane, stream, peer, held))),
    }
}
