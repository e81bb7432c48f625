//! A pod, a peer, and a relay on the proxy's ports, in network namespaces of their own.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use linux::netns::NetNs;
use linux::socket::{ListenOptions, StreamOptions, original_destination};
use linux::{Prefix, link, nft, route, socket, sysctl};
use node::eligibility::Capture;
use node::rules::{CONNECTION_MARK, FamilyRules, PROXY_MARK};
use node::{linger, redirect};

const PORT: u16 = 7777;
const DEADLINE: Duration = Duration::from_secs(10);

/// In which address family a world's connections are made; its rules are for both in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    V4,
    V6,
}

impl Over {
    fn pod(self) -> Prefix {
        if self == Self::V4 { "10.99.0.1/24" } else { "fd99::1/64" }.parse().unwrap()
    }

    fn peer(self) -> Prefix {
        if self == Self::V4 { "10.99.0.2/24" } else { "fd99::2/64" }.parse().unwrap()
    }

    fn any(self) -> Prefix {
        if self == Self::V4 { Prefix::ANY_V4 } else { Prefix::ANY_V6 }
    }
}

/// Whose marks the relay uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proxy {
    /// Our ztunnel's: connections to the application have one of their own.
    Ours,
    /// Another's, which knows one mark for all.
    Another,
}

pub(crate) struct World {
    over: Over,
    pod: NetNs,
    peer: NetNs,
    relayed: Arc<AtomicUsize>,
    last_caller: Arc<Mutex<Option<IpAddr>>>,
}

impl World {
    pub(crate) fn new(over: Over, proxy: Proxy) -> std::io::Result<Self> {
        let (pod, peer) = (NetNs::create()?, NetNs::create()?);
        pod.run(|| link::add_veth("eth0", "eth0", &peer))??;
        // Addresses need a link that is up at both ends.
        for namespace in [&pod, &peer] {
            namespace.run(|| link::set_up("eth0").and_then(|()| link::set_up("lo")))??;
        }
        for (namespace, address, other) in [(&pod, over.pod(), over.peer()), (&peer, over.peer(), over.pod())] {
            namespace.run(|| {
                link::add_address("eth0", address)?;
                route::add(&route::Route::via(over.any(), other.address()))
            })??;
        }
        let world = Self { over, pod, peer, relayed: Arc::default(), last_caller: Arc::default() };
        world.serve_echo();
        world.serve_relay(15001, None);
        world.serve_relay(15006, Some(proxy));
        Ok(world)
    }

    pub(crate) fn pod_ip(&self) -> IpAddr {
        self.over.pod().address()
    }

    pub(crate) fn peer_ip(&self) -> IpAddr {
        self.over.peer().address()
    }

    /// The pod's own loopback address.
    pub(crate) fn loopback(&self) -> IpAddr {
        if self.over == Over::V4 { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() }
    }

    /// The echo server outside the pod.
    pub(crate) fn echo(&self) -> SocketAddr {
        SocketAddr::new(self.peer_ip(), PORT)
    }

    /// The echo server inside the pod.
    fn app(&self) -> SocketAddr {
        SocketAddr::new(self.pod_ip(), PORT)
    }

    pub(crate) fn install(&self) {
        redirect::install(&self.pod, &families(), &Capture::default()).unwrap();
    }

    /// Installs the rules of a pod with virtual machines behind this interface.
    pub(crate) fn install_with(&self, interface: &str) {
        let capture = Capture { virtual_interfaces: vec![interface.to_owned()], ..Capture::default() };
        redirect::install(&self.pod, &families(), &capture).unwrap();
    }

    /// The same with name lookups.
    pub(crate) fn install_with_lookups(&self) {
        let capture = Capture { lookups: true, ..Capture::default() };
        redirect::install(&self.pod, &families(), &capture).unwrap();
    }

    /// A socket for datagrams inside the pod, or in the peer's place.
    pub(crate) fn datagrams(&self, is_pod: bool, address: SocketAddr) -> UdpSocket {
        let namespace = if is_pod { &self.pod } else { &self.peer };
        let socket = namespace.run(|| UdpSocket::bind(address)).unwrap().unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket
    }

    /// A listener inside the pod.
    pub(crate) fn listen(&self, address: SocketAddr) -> TcpListener {
        self.pod.run(|| TcpListener::bind(address)).unwrap().unwrap()
    }

    /// A socket that sends as the proxy does.
    pub(crate) fn marked(&self, to: SocketAddr) -> UdpSocket {
        let socket = self.pod.run(|| socket::datagram(to, Some(PROXY_MARK))).unwrap().unwrap();
        socket.set_nonblocking(false).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket
    }

    pub(crate) fn release(&self) {
        redirect::release(&self.pod).unwrap();
    }

    pub(crate) fn remove(&self) {
        redirect::remove(&self.pod, &families()).unwrap();
    }

    pub(crate) fn has_rules(&self) -> bool {
        redirect::is_present(&self.pod).unwrap()
    }

    pub(crate) fn connect_out(&self, to: SocketAddr) -> TcpStream {
        self.pod.run(|| connect(to)).unwrap()
    }

    pub(crate) fn connect_in(&self) -> TcpStream {
        self.peer.run(|| connect(self.app())).unwrap()
    }

    /// How many connections the relay has taken.
    pub(crate) fn relayed(&self) -> usize {
        self.relayed.load(Ordering::SeqCst)
    }

    /// From where the application was last called.
    pub(crate) fn last_caller(&self) -> Option<IpAddr> {
        *self.last_caller.lock().unwrap()
    }

    /// Connects, echoes and closes in both directions, without a pause, while `meanwhile` runs; says how many connections
    /// there were. Each must work.
    pub(crate) fn under_load(&self, meanwhile: impl FnOnce(&AtomicUsize)) -> usize {
        let (made, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let client = &|is_outgoing: bool| {
            while !stop.load(Ordering::SeqCst) {
                let mut stream = if is_outgoing { self.connect_out(self.echo()) } else { self.connect_in() };
                echo_works(&mut stream);
                made.fetch_add(1, Ordering::SeqCst);
            }
        };
        thread::scope(|scope| {
            let clients = [true, true, false].map(|is_outgoing| scope.spawn(move || client(is_outgoing)));
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| meanwhile(&made)));
            stop.store(true, Ordering::SeqCst);
            for ended in clients {
                ended.join().expect("no connection of the load fails");
            }
            outcome.unwrap();
        });
        made.load(Ordering::SeqCst)
    }

    /// Leaves one port to connections from the pod, and to those from the peer.
    pub(crate) fn leave_one_port(&self) {
        for namespace in [&self.pod, &self.peer] {
            namespace.run(|| sysctl::write("net/ipv4/ip_local_port_range", "40000 40000")).unwrap().unwrap();
        }
    }

    /// Runs something inside the pod.
    pub(crate) fn in_pod<T>(&self, run: impl FnOnce() -> T) -> T {
        self.pod.run(run).unwrap()
    }

    pub(crate) fn lingering(&self) -> usize {
        linger::proxied_connections(&self.pod).unwrap()
    }

    pub(crate) fn tables(&self) -> Vec<String> {
        let tables = self.pod.run(nft::tables).unwrap().unwrap();
        tables.into_iter().map(|(_, name)| name).collect()
    }

    #[expect(clippy::disallowed_methods, reason = "threads of the kernel's time, without a runtime")]
    pub(crate) fn wait_until(&self, condition: impl Fn(&Self) -> bool) {
        let end = Instant::now() + DEADLINE;
        while !condition(self) {
            assert!(Instant::now() < end, "the condition did not come true in time");
            thread::yield_now();
        }
    }

    /// Echo servers at both ends; the pod's notes who called.
    fn serve_echo(&self) {
        for (namespace, address) in [(&self.pod, self.app()), (&self.peer, self.echo())] {
            let listener = namespace.run(|| TcpListener::bind(address)).unwrap().unwrap();
            let last_caller = (address == self.app()).then(|| Arc::clone(&self.last_caller));
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let stream = stream.unwrap();
                    if let Some(last_caller) = &last_caller {
                        *last_caller.lock().unwrap() = Some(stream.peer_addr().unwrap().ip());
                    }
                    thread::spawn(move || pump(&stream, &stream));
                }
            });
        }
    }

    /// Accepts as ztunnel does and connects on: to the application, which is to see the caller's address, as that proxy does.
    fn serve_relay(&self, port: u16, to_application: Option<Proxy>) {
        let options =
            ListenOptions { mark: Some(PROXY_MARK), backlog: 128, transparent: true, ..ListenOptions::default() };
        let any = SocketAddr::new(self.over.any().address(), port);
        let listener = self.pod.run(|| socket::listen(any, &options)).unwrap().unwrap();
        listener.set_nonblocking(false).unwrap();
        let (pod, relayed) = (self.pod.clone(), Arc::clone(&self.relayed));
        thread::spawn(move || {
            for downstream in listener.incoming() {
                let downstream = downstream.unwrap();
                relayed.fetch_add(1, Ordering::SeqCst);
                let pod = pod.clone();
                thread::spawn(move || relay(&pod, &downstream, to_application));
            }
        });
    }
}

fn families() -> Vec<FamilyRules> {
    let probes = "fd16:9254:7127:1337:ffff:ffff:ffff:ffff".parse().unwrap();
    vec![FamilyRules::v4(Ipv4Addr::new(169, 254, 7, 127)), FamilyRules::v6(probes)]
}

fn relay(pod: &NetNs, downstream: &TcpStream, to_application: Option<Proxy>) {
    downstream.set_nonblocking(false).unwrap();
    let target = original_destination(downstream).unwrap();
    let source = to_application.map(|_| downstream.peer_addr().unwrap().ip());
    let mark = if to_application == Some(Proxy::Ours) { CONNECTION_MARK } else { PROXY_MARK };
    let options = StreamOptions { mark: Some(mark), source, ..StreamOptions::default() };
    let upstream = pod.run(|| socket::stream(target, &options)).unwrap().unwrap();
    let upstream = finish_connect(upstream, target);
    thread::scope(|scope| {
        scope.spawn(|| pump(downstream, &upstream));
        pump(&upstream, downstream);
    });
}

/// Connects a prepared socket and waits for it, without a runtime.
fn finish_connect(socket: TcpStream, target: SocketAddr) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpSocket::from_std_stream(socket).connect(target).await.unwrap();
        let stream = stream.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        stream
    })
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&to, DEADLINE).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Copies until the end, and passes the end on.
fn pump(mut from: &TcpStream, mut to: &TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(length) = from.read(&mut buffer) {
        if length == 0 || to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // The peer may be gone already.
    let _ = to.shutdown(Shutdown::Write);
}

/// Sends something and reads it back.
pub(crate) fn echo_works(stream: &mut TcpStream) {
    let sent = *b"anybody there?";
    stream.write_all(&sent).unwrap();
    let mut received = [0; 14];
    stream.read_exact(&mut received).unwrap();
    assert_eq!(received, sent);
}
