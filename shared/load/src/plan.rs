//! What to do: plans, as they travel to the agent in the client's pod.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One measurement, as JSON: `{"target": "10.0.0.1:8080", "kind": {"type": "requests", …}, "duration_ms": 10000}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Where the server is ([`crate::server`], or any server that speaks the protocol).
    pub target: SocketAddr,
    /// What is sent.
    pub kind: Kind,
    /// Time in which the load runs and nothing is counted, in milliseconds. Default 0.
    #[serde(default)]
    pub warm_up_ms: u64,
    /// Time that is counted, in milliseconds; for [`Kind::Idle`] the longest time for which connections are held.
    pub duration_ms: u64,
    /// How long an answer may take, with connecting where that is needed, in milliseconds. Default 10,000.
    #[serde(default = "default_timeout")]
    pub timeout_ms: u64,
}

/// The kinds of load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Kind {
    /// Requests and answers on connections.
    Requests(Requests),
    /// A new connection for each tiny request.
    Connections(Connections),
    /// As many bytes as the path carries.
    Bulk(Bulk),
    /// Connections that are held open.
    Idle(Idle),
    /// Requests beside bulk streams, to the same target.
    Mixed(Mixed),
}

/// Requests and answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requests {
    /// What is spoken.
    pub protocol: Protocol,
    /// Connections, 1 to 1,000.
    pub connections: u16,
    /// Requests that may be outstanding on one connection, 1 to 1,000 and at most 4,000 over all connections; more than 1
    /// for HTTP/2 and gRPC only. Default 1.
    #[serde(default = "one")]
    pub streams: u16,
    /// When requests are sent.
    pub pace: Pace,
    /// Bytes of a request's body; none makes it a GET for HTTP. At most 16 MiB. TCP sends at least one.
    #[serde(default)]
    pub request_bytes: u32,
    /// Bytes of an answer's body. At most 16 MiB. TCP answers at least one.
    ///
    /// The project's own server answers so many; with 0, HTTP sends [`Requests::path`] as it is, and any answer counts.
    #[serde(default)]
    pub response_bytes: u32,
    /// Whether connections are kept (default), or made anew for each request.
    #[serde(default = "yes")]
    pub keep_alive: bool,
    /// Path and query of HTTP requests. Default `/`.
    #[serde(default = "root")]
    pub path: String,
}

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 without TLS, prior knowledge.
    Http2,
    /// gRPC: unary calls.
    Grpc,
    /// Fixed numbers of bytes to and fro; needs the project's own server.
    Tcp,
}

/// When something is sent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pace {
    /// Open loop: so many per second over all connections, on a schedule that waits for nobody.
    Fixed {
        /// Per second, 0.1 to 1,000,000.
        rate: f64,
    },
    /// Closed loop: the next one as soon as the last one is answered. Latencies do not see what waits.
    Saturation,
}

/// A new connection for each tiny request; the server closes it after the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connections {
    /// HTTP/1.1, or TCP with 16 bytes there and one back.
    pub protocol: Protocol,
    /// Connections that may be open at a time, 1 to 1,000.
    pub in_flight: u16,
    /// When connections are made.
    pub pace: Pace,
}

/// As many bytes as the path carries, over plain TCP; needs the project's own server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bulk {
    /// Connections, 1 to 1,000.
    pub streams: u16,
    /// Which way the bytes go.
    pub direction: Direction,
}

/// Which way bulk bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// From the generator to the server, which counts them.
    Upload,
    /// From the server to the generator, which counts them.
    Download,
}

/// Connections that exchange a byte each way and are then held; needs the project's own server.
///
/// All of them stand once [`crate::Progress::phase`] is [`crate::Phase::Holding`];
/// they are closed at [`crate::Run::stop`] (the agent's `POST /stop`) or after [`Plan::duration_ms`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Idle {
    /// Connections, 1 to 25,000.
    pub connections: u32,
}

/// Requests beside bulk streams.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mixed {
    /// The requests whose latency is of interest.
    pub requests: Requests,
    /// What runs beside them.
    pub bulk: Bulk,
}

/// A plan that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {found}; expected {expected}")]
pub struct PlanError {
    /// The field.
    pub field: &'static str,
    /// What it says.
    pub found: String,
    /// What it may say.
    pub expected: &'static str,
}

impl Plan {
    /// Time in which nothing is counted.
    pub fn warm_up(&self) -> Duration {
        Duration::from_millis(self.warm_up_ms)
    }

    /// Time that is counted.
    pub fn duration(&self) -> Duration {
        Duration::from_millis(self.duration_ms)
    }

    /// How long an answer may take, with connecting where that is needed.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// The longest time that carrying it out can take: whoever waits for an agent waits so long.
    pub fn longest(&self) -> Duration {
        // Connecting beforehand, and what is outstanding at the end.
        self.warm_up() + self.duration() + 2 * self.timeout() + Duration::from_secs(5)
    }

    /// Checks every bound.
    ///
    /// # Errors
    ///
    /// The first field that is out of its bounds.
    pub fn check(&self) -> Result<(), PlanError> {
        const HOUR: u64 = 3_600_000;
        within("target port", self.target.port(), 1, u16::MAX, "1 to 65535")?;
        within("warm_up_ms", self.warm_up_ms, 0, HOUR, "at most an hour")?;
        within("duration_ms", self.duration_ms, 1, HOUR, "1 ms to an hour")?;
        within("timeout_ms", self.timeout_ms, 1, HOUR, "1 ms to an hour")?;
        match &self.kind {
            Kind::Requests(requests) => requests.check(),
            Kind::Connections(connections) => connections.check(),
            Kind::Bulk(bulk) => bulk.check(),
            Kind::Idle(idle) => within("connections", idle.connections, 1, 25_000, "1 to 25000"),
            Kind::Mixed(mixed) => mixed.requests.check().and_then(|()| mixed.bulk.check()),
        }
    }
}

impl Requests {
    /// The smallest requests that the protocol has, one at a time on connections that are kept.
    pub fn new(protocol: Protocol, connections: u16, pace: Pace) -> Self {
        Self {
            protocol,
            connections,
            streams: one(),
            pace,
            request_bytes: 0,
            response_bytes: 0,
            keep_alive: yes(),
            path: root(),
        }
    }

    pub(crate) fn method(&self) -> &'static str {
        if self.request_bytes > 0 { "POST" } else { "GET" }
    }

    /// The path, with the wish for an answer of a size.
    pub(crate) fn path_and_query(&self) -> String {
        let separator = if self.path.contains('?') { '&' } else { '?' };
        match self.response_bytes {
            0 => self.path.clone(),
            size => format!("{}{separator}size={size}", self.path),
        }
    }

    fn check(&self) -> Result<(), PlanError> {
        const MOST_BYTES: u32 = 16 << 20;
        within("connections", self.connections, 1, 1_000, "1 to 1000")?;
        let most = if matches!(self.protocol, Protocol::Http2 | Protocol::Grpc) { 1_000 } else { 1 };
        within("streams", self.streams, 1, most, "1, or up to 1000 for http2 and grpc")?;
        if !self.keep_alive {
            within("streams", self.streams, 1, 1, "1 without keep_alive")?;
        }
        let lanes = u32::from(self.connections) * u32::from(self.streams);
        within("connections times streams", lanes, 1, 4_000, "at most 4000")?;
        within("request_bytes", self.request_bytes, 0, MOST_BYTES, "at most 16 MiB")?;
        within("response_bytes", self.response_bytes, 0, MOST_BYTES, "at most 16 MiB")?;
        let is_printable = self.path.bytes().all(|byte| byte.is_ascii_graphic());
        if !self.path.starts_with('/') || !is_printable || self.path.len() > 4096 {
            return Err(PlanError {
                field: "path",
                found: format!("{:?}", self.path),
                expected: "a path without spaces that begins with /",
            });
        }
        self.pace.check()
    }
}

impl Connections {
    /// The same as requests of HTTP.
    pub(crate) fn requests(&self) -> Requests {
        let kept = Requests::new(self.protocol, self.in_flight, self.pace);
        Requests { response_bytes: 1, keep_alive: false, ..kept }
    }

    fn check(&self) -> Result<(), PlanError> {
        within("in_flight", self.in_flight, 1, 1_000, "1 to 1000")?;
        if !matches!(self.protocol, Protocol::Http1 | Protocol::Tcp) {
            return Err(PlanError {
                field: "protocol",
                found: format!("{:?}", self.protocol),
                expected: "http1 or tcp",
            });
        }
        self.pace.check()
    }
}

impl Bulk {
    fn check(&self) -> Result<(), PlanError> {
        within("streams", self.streams, 1, 1_000, "1 to 1000")
    }
}

impl Pace {
    fn check(self) -> Result<(), PlanError> {
        match self {
            Self::Fixed { rate } => within("rate", rate, 0.1, 1_000_000.0, "0.1 to 1000000 per second"),
            Self::Saturation => Ok(()),
        }
    }
}

fn within<T: PartialOrd + ToString>(
    field: &'static str,
    found: T,
    least: T,
    most: T,
    expected: &'static str,
) -> Result<(), PlanError> {
    // Not-a-number is within no bounds.
    if found >= least && found <= most { Ok(()) } else { Err(PlanError { field, found: found.to_string(), expected }) }
}

fn default_timeout() -> u64 {
    10_000
}

fn one() -> u16 {
    1
}

fn yes() -> bool {
    true
}

fn root() -> String {
    "/".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(kind: &str) -> Plan {
        let text = format!(r#"{{"target": "10.0.0.1:80", "duration_ms": 1000, "kind": {kind}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    fn refusal(kind: &str) -> &'static str {
        plan(kind).check().unwrap_err().field
    }

    #[test]
    fn a_plan_says_no_more_than_it_must() {
        let plan =
            plan(r#"{"type": "requests", "protocol": "http1", "connections": 16, "pace": {"fixed": {"rate": 1000}}}"#);
        plan.check().unwrap();
        assert_eq!((plan.timeout_ms, plan.warm_up_ms), (10_000, 0));
        let Kind::Requests(requests) = &plan.kind else { panic!("{plan:?}") };
        assert_eq!((requests.streams, requests.keep_alive, requests.path.as_str()), (1, true, "/"));
        let again: Plan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
        assert_eq!(again, plan);
    }

    #[test]
    fn plans_out_of_bounds_name_the_field() {
        let requests = |rest: &str| {
            refusal(&format!(
                r#"{{"type": "requests", "protocol": "http1", "connections": 1, "pace": "saturation", {rest}}}"#
            ))
        };
        assert_eq!(requests(r#""streams": 2"#), "streams");
        assert_eq!(requests(r#""path": "x""#), "path");
        assert_eq!(requests(r#""path": "/a b""#), "path");
        assert_eq!(requests(r#""response_bytes": 99999999"#), "response_bytes");
        let connections = |protocol: &str, in_flight: u16, rate: f64| {
            refusal(&format!(
                r#"{{"type": "connections", "protocol": "{protocol}", "in_flight": {in_flight}, "pace": {{"fixed": {{"rate": {rate}}}}}}}"#
            ))
        };
        assert_eq!(connections("grpc", 1, 1.0), "protocol");
        assert_eq!(connections("tcp", 0, 1.0), "in_flight");
        assert_eq!(connections("tcp", 1, 0.0), "rate");
        assert_eq!(refusal(r#"{"type": "idle", "connections": 0}"#), "connections");
        assert_eq!(refusal(r#"{"type": "bulk", "streams": 0, "direction": "upload"}"#), "streams");
    }

    #[test]
    fn sizes_are_asked_for_in_the_query() {
        let mut requests = Connections { protocol: Protocol::Http1, in_flight: 1, pace: Pace::Saturation }.requests();
        assert_eq!(requests.path_and_query(), "/?size=1");
        requests.path = "/a?b=c".to_owned();
        assert_eq!(requests.path_and_query(), "/a?b=c&size=1");
        requests.response_bytes = 0;
        assert_eq!(requests.path_and_query(), "/a?b=c");
    }
}
