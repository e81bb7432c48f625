//! The fixture: nodes, pods, and sockets inside them.

mod redirect;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use discovery::{NetworkMode, Port, PortMap, Protocol, Service, Workload, Writer};
use identity::{CertificateStore, Clock, LocalSigner};
use linux::socket::{ListenOptions, StreamOptions};
use linux::{NetNs, Prefix, link, route};
use policy::{Authorization, PolicySet};
use telemetry::{AccessLog, Registry};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use types::{Hostname, Identity, NamespacedHostname, NamespacedName, NetworkAddress, PodUid};
use zds::agent::{Answer, Listener, Session};
use ztunnel::{Node, Parts};

use self::redirect::redirect;

/// The servers of names outside the mesh: the gateway of the pods, in both families.
const NAME_SERVERS: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 244, 0, 1)), 53),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)), 53),
];

/// How long anything in a test may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Two nodes and the network between pods.
pub(crate) struct World {
    pub(crate) fabric: NetNs,
    authority: tls::Authority,
    pub(crate) nodes: Vec<TestNode>,
    /// Proxies that were replaced.
    pub(crate) retired: Vec<TestNode>,
    /// The configuration of every proxy.
    variables: Vec<(String, String)>,
    next: AtomicU16,
}

/// One node proxy and everything that feeds it.
pub(crate) struct TestNode {
    pub(crate) node: Arc<Node>,
    pub(crate) agent: tokio::sync::Mutex<Option<Session>>,
    pub(crate) listener: Listener,
    pub(crate) writer: Mutex<Writer>,
    pub(crate) policies: watch::Sender<Arc<PolicySet>>,
    /// Whether the control plane has told all that there is.
    pub(crate) discovered: watch::Sender<bool>,
    pub(crate) drain: drain::Trigger,
    pub(crate) readiness: drain::Readiness,
    pub(crate) registry: Registry,
    pub(crate) following: JoinHandle<Result<(), String>>,
    lines: Mutex<(mpsc::Receiver<String>, Vec<String>)>,
    name: String,
    network: Arc<str>,
    _folder: TempDir,
}

/// A pod.
pub(crate) struct TestPod {
    pub(crate) name: String,
    pub(crate) ip: IpAddr,
    pub(crate) netns: NetNs,
    pub(crate) uid: PodUid,
}

/// Waits for a future with a deadline.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("in time")
}

/// Waits until something is the case.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(PATIENCE, waiting).await.is_ok(), "{what}");
}

impl World {
    /// Two nodes without pods; `None`, after saying so, without the privileges for it.
    pub(crate) async fn new() -> Option<Self> {
        Self::with_config(&[]).await
    }

    /// The same with further configuration.
    pub(crate) async fn with_config(variables: &[(&str, &str)]) -> Option<Self> {
        let fabric = match NetNs::create() {
            Ok(fabric) => fabric,
            Err(error) => {
                println!("SKIPPED: network namespaces cannot be made: {error}");
                return None;
            }
        };
        in_netns(&fabric, || {
            link::add_bridge("br0")?;
            link::add_address("br0", "10.244.0.1/16".parse().unwrap())?;
            link::add_address("br0", "fd00::1/64".parse().unwrap())?;
            link::set_up("lo")?;
            link::set_up("br0")
        });
        let authority =
            tls::Authority::self_signed(&"cluster.local".parse().unwrap(), Duration::from_secs(3600)).unwrap();
        let mut nodes = Vec::new();
        for name in ["node-1", "node-2"] {
            let node = TestNode::start(name, variables, &authority).await;
            node.discovered.send_replace(true);
            node.complete_snapshot().await;
            nodes.push(node);
        }
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Some(Self { fabric, authority, nodes, retired: Vec::new(), variables, next: AtomicU16::new(2) })
    }

    /// A second proxy for a node, fed with what the mesh is like now.
    pub(crate) async fn successor(&self, node: usize) -> TestNode {
        let second = self.beginner(node).await;
        second.discovered.send_replace(true);
        second.complete_snapshot().await;
        second
    }

    /// As [`World::successor`], as it is before its control plane has answered and the agent has sent its snapshot.
    pub(crate) async fn beginner(&self, node: usize) -> TestNode {
        let first = &self.nodes[node];
        let variables: Vec<_> = self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let second = TestNode::start(&first.name, &variables, &self.authority).await;
        let view = first.writer.lock().unwrap().view();
        let mut writer = second.writer.lock().unwrap();
        view.workloads().iter().for_each(|workload| writer.upsert_workload((**workload).clone()));
        drop(writer);
        second
    }

    pub(crate) fn authority(&self) -> &tls::Authority {
        &self.authority
    }

    /// A certificate of the mesh.
    pub(crate) fn certificate(&self, identity: &Identity) -> Arc<tls::WorkloadCertificate> {
        let request = tls::CertificateRequest::generate(identity).unwrap();
        let chain = self.authority.sign_csr(request.csr_pem(), identity, Duration::from_secs(60)).unwrap();
        Arc::new(request.complete(&chain).unwrap())
    }

    /// A pod on a node, captured and known to everybody.
    pub(crate) async fn pod(&self, node: usize, name: &str) -> TestPod {
        let pod = self.captured(name);
        let node = &self.nodes[node];
        self.publish(node.workload(&pod));
        assert_eq!(node.add(&pod).await, Answer::Acknowledged);
        pod
    }

    /// A pod with redirect rules that nobody serves or knows yet.
    pub(crate) fn captured(&self, name: &str) -> TestPod {
        let pod = self.stranger(name);
        in_netns(&pod.netns, || {
            redirect();
            Ok(())
        });
        pod
    }

    /// A pod that the mesh knows nothing about.
    pub(crate) fn stranger(&self, name: &str) -> TestPod {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let [high, low] = number.to_be_bytes();
        let ip = Ipv4Addr::new(10, 244, high, low);
        let netns = NetNs::create().unwrap();
        let veth = format!("veth{number}");
        in_netns(&self.fabric, || {
            link::add_veth(&veth, "eth0", &netns)?;
            link::set_controller(&veth, "br0")?;
            link::set_up(&veth)
        });
        in_netns(&netns, || {
            link::set_up("lo")?;
            link::set_up("eth0")?;
            link::add_address("eth0", Prefix::new(ip.into(), 16).unwrap())?;
            link::add_address("eth0", Prefix::new(ipv6(ip.into()), 64).unwrap())?;
            route::add(&route::Route::via(Prefix::ANY_V4, "10.244.0.1".parse().unwrap()))
        });
        TestPod { name: name.to_owned(), ip: ip.into(), netns, uid: PodUid::from(format!("uid-{number}")) }
    }

    /// Makes a workload known to both nodes.
    pub(crate) fn publish(&self, workload: Workload) {
        self.nodes.iter().for_each(|node| node.writer.lock().unwrap().upsert_workload(workload.clone()));
    }

    /// Makes a service known to both nodes.
    pub(crate) fn publish_service(&self, service: &Service) {
        self.nodes.iter().for_each(|node| node.writer.lock().unwrap().upsert_service(service.clone()));
    }

    /// Gives both nodes these policies beside those that they have.
    pub(crate) fn enforce(&self, policies: &[Authorization]) {
        for node in &self.nodes {
            node.policies.send_modify(|set| *set = Arc::new(set.with(policies.iter().cloned(), [])));
        }
    }

    /// Takes a policy away.
    pub(crate) fn revoke(&self, key: &str) {
        let key: NamespacedName = key.parse().unwrap();
        for node in &self.nodes {
            node.policies.send_modify(|set| *set = Arc::new(set.with([], [key.clone()])));
        }
    }
}

impl TestNode {
    /// A proxy that knows nothing yet, and that the agent is about to send its snapshot to.
    async fn start(name: &str, variables: &[(&str, &str)], authority: &tls::Authority) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("ztunnel.sock");
        let mut all = vec![("NODE_NAME", name), ("ZTUNNEL_WORKER_THREADS", "2")];
        all.extend_from_slice(variables);
        let config = config::Ztunnel::from(&all.into_iter().collect()).unwrap();
        let network: Arc<str> = Arc::from(config.own.network.as_str());
        let writer = Writer::new(Arc::clone(&network), Some(Arc::from(name)));
        let (policies, policies_seen) = watch::channel(Arc::new(PolicySet::default()));
        let (discovered, is_discovered) = watch::channel(false);
        let pem = authority.to_pem();
        let authority = tls::Authority::from_pem(&pem.certificate, &pem.key).unwrap();
        let registry = Registry::new();
        let (access, lines) = AccessLog::lines(4096);
        let (trigger, watch) = drain::new();
        let node = Node::new(Parts {
            config: Arc::new(config),
            view: writer.view(),
            discovered: is_discovered,
            demand: None,
            policies: policies_seen,
            certificates: CertificateStore::new(LocalSigner::new(authority, Duration::from_secs(600)), Clock::system()),
            name_servers: NAME_SERVERS.to_vec(),
            registry: registry.clone(),
            access,
            drain: watch,
        })
        .unwrap();
        let node = Arc::new(node);
        let listener = Listener::bind(&socket).unwrap();
        let readiness = drain::Readiness::new();
        let following = tokio::spawn(follow(Arc::clone(&node), socket, readiness.task("workload proxy manager")));
        let started = Self {
            node,
            agent: tokio::sync::Mutex::new(None),
            listener,
            writer: Mutex::new(writer),
            policies,
            discovered,
            drain: trigger,
            readiness,
            registry,
            following,
            lines: Mutex::new((lines, Vec::new())),
            name: name.to_owned(),
            network,
            _folder: folder,
        };
        *started.agent.lock().await = Some(started.accept_proxy().await);
        started
    }

    /// Ends the agent's snapshot.
    pub(crate) async fn complete_snapshot(&self) {
        let mut agent = self.agent.lock().await;
        assert_eq!(within(agent.as_mut().unwrap().snapshot_sent()).await.unwrap(), Answer::Acknowledged);
    }

    /// Ends the proxy at once, as a killed process does.
    pub(crate) async fn kill(self) {
        self.following.abort();
        assert!(self.following.await.is_err());
        drop(self.node);
    }

    /// Waits for the proxy to connect.
    pub(crate) async fn accept_proxy(&self) -> Session {
        let connection = within(self.listener.accept()).await.unwrap();
        let session = within(Session::start(connection)).await.unwrap();
        assert!(session.hello().drains_on_del());
        session
    }

    pub(crate) async fn add(&self, pod: &TestPod) -> Answer {
        let mut agent = self.agent.lock().await;
        within(agent.as_mut().unwrap().add(&pod.uid, &pod.info(), &pod.netns)).await.unwrap()
    }

    pub(crate) async fn del(&self, pod: &TestPod) {
        let mut agent = self.agent.lock().await;
        assert_eq!(within(agent.as_mut().unwrap().del(&pod.uid)).await.unwrap(), Answer::Acknowledged);
    }

    /// How discovery describes a pod of this node.
    pub(crate) fn workload(&self, pod: &TestPod) -> Workload {
        let text = |text: &str| Arc::<str>::from(text);
        Workload {
            uid: format!("Kubernetes//Pod/shop/{}", pod.name).into(),
            name: text(&pod.name),
            namespace: text("shop"),
            service_account: text(&pod.name),
            addresses: vec![pod.ip, ipv6(pod.ip)].into(),
            network: Arc::clone(&self.network),
            protocol: Protocol::Hbone,
            network_mode: NetworkMode::Standard,
            node: text(&self.name),
            workload_name: text(&format!("{}-deployment", pod.name)),
            canonical_name: text(&pod.name),
            canonical_revision: text("v1"),
            services: if pod.name.starts_with("cart") {
                [(service_key("cart"), PortMap::default())].into()
            } else {
                [].into()
            },
            ..Workload::default()
        }
    }

    /// Waits for an access-log line that holds all of these texts.
    pub(crate) async fn line(&self, texts: &[&str]) -> String {
        let find = || self.lines().into_iter().find(|line| texts.iter().all(|text| line.contains(text)));
        let waiting = async {
            loop {
                match find() {
                    Some(line) => return line,
                    None => sleep(Duration::from_millis(5)).await,
                }
            }
        };
        match timeout(PATIENCE, waiting).await {
            Ok(line) => line,
            Err(_elapsed) => panic!("no line with {texts:?} among {:#?}", self.lines()),
        }
    }

    /// All access-log lines so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = self.lines.lock().unwrap();
        let (receiver, seen) = &mut *lines;
        seen.extend(receiver.try_iter());
        seen.clone()
    }

    /// The sum of a metric's samples that hold all of these texts.
    pub(crate) fn metric(&self, name: &str, texts: &[&str]) -> u64 {
        let text = self.registry.text();
        let samples =
            text.lines().filter(|line| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} ")));
        let matching = samples.filter(|line| texts.iter().all(|text| line.contains(text)));
        matching.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
    }
}

async fn follow(node: Arc<Node>, socket: PathBuf, task: drain::Task) -> Result<(), String> {
    node.follow_agent(&socket, task).await.map_err(|error| error.to_string())
}

impl TestPod {
    pub(crate) fn info(&self) -> zds::WorkloadInfo {
        zds::WorkloadInfo { name: self.name.clone(), namespace: "shop".to_owned(), service_account: self.name.clone() }
    }

    pub(crate) fn identity(&self) -> Identity {
        format!("spiffe://cluster.local/ns/shop/sa/{}", self.name).parse().unwrap()
    }

    /// The other end of the pod's interface.
    pub(crate) fn veth(&self) -> String {
        format!("veth{}", number(self.ip))
    }

    pub(crate) fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip, port)
    }

    pub(crate) fn at_ipv6(&self, port: u16) -> SocketAddr {
        SocketAddr::new(ipv6(self.ip), port)
    }

    /// A listener inside the pod, for both families.
    pub(crate) fn listen(&self, port: u16) -> TcpListener {
        let address = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
        let listener = self.netns.run(|| linux::socket::listen(address, &ListenOptions::default())).unwrap().unwrap();
        TcpListener::from_std(listener).unwrap()
    }

    /// A connection from inside the pod.
    pub(crate) async fn connect(&self, target: SocketAddr) -> io::Result<TcpStream> {
        let socket = self.netns.run(|| linux::socket::stream(target, &StreamOptions::default())).unwrap()?;
        within(TcpSocket::from_std_stream(socket).connect(target)).await
    }

    /// Serves every connection with `serve`; tells who connected.
    pub(crate) fn serve<F, A>(&self, port: u16, serve: F) -> mpsc::Receiver<SocketAddr>
    where
        F: Fn(TcpStream) -> A + Send + 'static,
        A: Future<Output = ()> + Send + 'static,
    {
        let listener = self.listen(port);
        let (peers, seen) = mpsc::channel();
        tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                let _ = peers.send(SocketAddr::new(peer.ip().to_canonical(), peer.port()));
                tokio::spawn(serve(stream));
            }
        });
        seen
    }

    /// Sends back whatever comes, until the client ends, then ends as well.
    pub(crate) fn echo(&self, port: u16) -> mpsc::Receiver<SocketAddr> {
        self.serve(port, |mut stream| async move {
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
            let _ = write.shutdown().await;
        })
    }
}

/// Sends a text and reads as many bytes back.
pub(crate) async fn ping(stream: &mut TcpStream, text: &str) -> io::Result<String> {
    stream.write_all(text.as_bytes()).await?;
    let mut answer = vec![0; text.len()];
    within(stream.read_exact(&mut answer)).await?;
    Ok(String::from_utf8(answer).unwrap())
}

/// Reads to the end; an error when the connection was cut.
pub(crate) async fn rest(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    within(stream.read_to_end(&mut bytes)).await?;
    Ok(bytes)
}

/// Connects and expects the connection to be cut, then or while it is made.
pub(crate) async fn is_cut(from: &TestPod, target: SocketAddr) -> bool {
    match from.connect(target).await {
        Ok(mut stream) => rest(&mut stream).await.is_err(),
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

/// The service `shop/cart…` at an address, port 80 to `target`.
pub(crate) fn cart(vip: &str, target: u16) -> Service {
    let NamespacedHostname { namespace, hostname } = service_key("cart");
    let port = Port { service_port: 80, target_port: target, app_protocol: discovery::AppProtocol::Unknown };
    Service {
        name: Arc::from("cart"),
        namespace,
        hostname,
        vips: vec![NetworkAddress { network: Arc::from(""), address: vip.parse().unwrap() }],
        ports: [port].into_iter().collect(),
        is_canonical: true,
        ..Service::default()
    }
}

pub(crate) fn service_key(name: &str) -> NamespacedHostname {
    let hostname = Hostname::from(format!("{name}.shop.svc.cluster.local"));
    NamespacedHostname { namespace: Arc::from("shop"), hostname }
}

/// The IPv6 address of whoever has this IPv4 address.
pub(crate) fn ipv6(ip: IpAddr) -> IpAddr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number(ip)).into()
}

/// The number of the pod that has this address.
fn number(ip: IpAddr) -> u16 {
    let IpAddr::V4(ip) = ip else { panic!("pods are named by their IPv4 addresses") };
    let [_, _, high, low] = ip.octets();
    u16::from_be_bytes([high, low])
}

fn in_netns(netns: &NetNs, set_up: impl FnOnce() -> io::Result<()>) {
    netns.run(set_up).unwrap().unwrap();
}
