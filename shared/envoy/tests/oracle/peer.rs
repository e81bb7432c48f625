//! A real Envoy in front of servers that say what they got.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use envoy_types::pb::envoy::config::bootstrap::v3::{Bootstrap, bootstrap::StaticResources};
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::{Address, Pipe, address};
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
};
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter::ConfigType};
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, http_filter,
};
use envoy_types::pb::google::protobuf::{Any, Duration as Span};
use prost::{Message, Name};
use tempfile::TempDir;

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// How often and in which steps to look whether Envoy listens: for half a minute.
const LOOKS: u32 = 1500;
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// The clusters that exist; each has a server that names it.
pub(crate) const CLUSTERS: [&str; 3] = ["a", "b", "c"];

/// A running Envoy with a listener for each connection manager that it was given; it ends with this.
#[derive(Debug)]
pub(crate) struct Envoy {
    process: Child,
    folder: TempDir,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

/// A connection manager with these routes and filters.
pub(crate) fn manager(table: &RouteConfiguration, http_filters: Vec<HttpFilter>) -> HttpConnectionManager {
    HttpConnectionManager {
        stat_prefix: "oracle".to_owned(),
        route_specifier: Some(RouteSpecifier::RouteConfig(table.clone())),
        http_filters,
        ..HttpConnectionManager::default()
    }
}

/// A filter for requests.
pub(crate) fn filter<M: Message + Name>(name: &str, message: &M) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(packed(message))),
        ..HttpFilter::default()
    }
}

/// A message packed as Envoy's extensions are.
pub(crate) fn packed<M: Message + Name>(message: &M) -> Any {
    Any { type_url: format!("type.googleapis.com/{}", M::full_name()), value: message.encode_to_vec() }
}

/// Starts a server that answers as those of the clusters do, with its address, which this returns, as its name.
pub(crate) fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            // Head and body are one write, for which nothing is worth waiting.
            stream.set_nodelay(true).unwrap();
            thread::spawn(move || answer_all(&address.to_string(), stream));
        }
    });
    address
}

impl Envoy {
    /// Starts it; `None`, with a line that says so, where there is none on the search path.
    pub(crate) fn start(managers: &[HttpConnectionManager]) -> Option<Self> {
        Self::start_with(managers, Vec::new())
    }

    /// Starts it with further clusters, whose endpoints may be [`server`]s.
    pub(crate) fn start_with(managers: &[HttpConnectionManager], clusters: Vec<Cluster>) -> Option<Self> {
        let Some(program) = find("envoy") else {
            println!("SKIPPED: not installed: envoy");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        for cluster in CLUSTERS {
            serve(cluster, &folder.path().join(cluster));
        }
        let file = folder.path().join("bootstrap.pb");
        fs::write(&file, bootstrap(folder.path(), managers, clusters).encode_to_vec()).unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let process = Command::new(program)
            .args(["--concurrency", "1", "--log-level", "warn", "--use-dynamic-base-id", "-c"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut envoy = Self { process, folder };
        for index in 0..managers.len() {
            envoy.wait_for(index);
        }
        Some(envoy)
    }

    /// A connection to the listener of a manager.
    pub(crate) fn connect(&self, manager: usize) -> Client {
        let stream = UnixStream::connect(self.listener(manager)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Client { reader: BufReader::new(stream) }
    }

    fn listener(&self, manager: usize) -> PathBuf {
        self.folder.path().join(format!("listener-{manager}"))
    }

    fn wait_for(&mut self, manager: usize) {
        for _ in 0..LOOKS {
            if UnixStream::connect(self.listener(manager)).is_ok() {
                return;
            }
            assert_eq!(self.process.try_wait().unwrap(), None, "{}", self.log());
            thread::park_timeout(BETWEEN_LOOKS);
        }
        panic!("Envoy does not listen: {}", self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A client's connection, with one request at a time.
#[derive(Debug)]
pub(crate) struct Client {
    reader: BufReader<UnixStream>,
}

impl Client {
    /// Sends a request without a body and takes the whole answer.
    pub(crate) fn ask(&mut self, method: &str, path: &str, host: &str, headers: &[(String, String)]) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.reader.get_mut().write_all(head.as_bytes()).unwrap();
        let (first, headers) = read_head(&mut self.reader).unwrap();
        let status = first.split(' ').nth(1).unwrap().parse().unwrap();
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let length = length.map_or(0, |(_, value)| value.parse().unwrap());
        let has_body = method != "HEAD" && status != 204 && status != 304;
        let mut body = vec![0; if has_body { length } else { 0 }];
        self.reader.read_exact(&mut body).unwrap();
        Answer { status, headers, body: String::from_utf8(body).unwrap() }
    }
}

impl Answer {
    /// The values of a header.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str()).collect()
    }
}

/// The first line of a message, and its headers with names in lower case; `None` at the end of the connection.
fn read_head(reader: &mut impl BufRead) -> Option<(String, Vec<(String, String)>)> {
    let mut line = || {
        let mut line = String::new();
        (reader.read_line(&mut line).unwrap_or(0) > 0).then(|| line.trim_end().to_owned())
    };
    let first = line()?;
    let headers = std::iter::from_fn(|| line().filter(|line| !line.is_empty()))
        .map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_ascii_lowercase(), value.trim().to_owned())
        })
        .collect();
    Some((first, headers))
}

/// Answers every request with its own head, each line as `name: value`, the first as it came.
fn serve(cluster: &'static str, path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            thread::spawn(move || answer_all(cluster, stream));
        }
    });
}

fn answer_all(cluster: &str, stream: impl Read + Write) {
    let mut reader = BufReader::new(stream);
    while let Some((first, headers)) = read_head(&mut reader) {
        let lines = headers.iter().map(|(name, value)| format!("{name}: {value}\n"));
        let body = format!("{first}\n{}", lines.collect::<String>());
        let head = format!("HTTP/1.1 200 OK\r\nx-cluster: {cluster}\r\ncontent-length: {}\r\n\r\n", body.len());
        let has_body = !first.starts_with("HEAD ");
        let answer = if has_body { head + &body } else { head };
        if reader.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn bootstrap(folder: &Path, managers: &[HttpConnectionManager], mut clusters: Vec<Cluster>) -> Bootstrap {
    let listeners = managers.iter().enumerate().map(|(index, manager)| Listener {
        name: format!("listener-{index}"),
        address: Some(pipe(&folder.join(format!("listener-{index}")))),
        filter_chains: vec![FilterChain {
            filters: vec![Filter {
                name: "envoy.filters.network.http_connection_manager".to_owned(),
                config_type: Some(ConfigType::TypedConfig(packed(manager))),
            }],
            ..FilterChain::default()
        }],
        ..Listener::default()
    });
    clusters.extend(CLUSTERS.map(|name| cluster(name, &folder.join(name))));
    let resources = StaticResources { listeners: listeners.collect(), clusters, ..StaticResources::default() };
    Bootstrap { static_resources: Some(resources), ..Bootstrap::default() }
}

fn cluster(name: &str, path: &Path) -> Cluster {
    let endpoint = Endpoint { address: Some(pipe(path)), ..Endpoint::default() };
    let endpoint = LbEndpoint { host_identifier: Some(HostIdentifier::Endpoint(endpoint)), ..LbEndpoint::default() };
    let locality = LocalityLbEndpoints { lb_endpoints: vec![endpoint], ..LocalityLbEndpoints::default() };
    Cluster {
        name: name.to_owned(),
        connect_timeout: Some(Span { seconds: 5, nanos: 0 }),
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: name.to_owned(),
            endpoints: vec![locality],
            ..ClusterLoadAssignment::default()
        }),
        ..Cluster::default()
    }
}

fn pipe(path: &Path) -> Address {
    let path = path.to_str().unwrap().to_owned();
    Address { address: Some(address::Address::Pipe(Pipe { path, mode: 0 })) }
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}
