//! The flags of `aquifer load client`, and the plan that they make.

use std::time::Duration;

use ::load::{Bulk, Connections, Direction, Idle, Kind, Mixed, Pace, Plan, Protocol, Requests};
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::argument::duration;
use crate::output::Format;

/// What a plan says itself.
const PLANNED: [&str; 12] = [
    "kind",
    "protocol",
    "connections",
    "streams",
    "rate",
    "duration",
    "warm_up",
    "timeout",
    "request_bytes",
    "response_bytes",
    "no_keep_alive",
    "direction",
];

/// Put load on a server and print what came of it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  aquifer load client --rate 1000 http://10.0.0.1:8080                  latency at a fixed rate
  aquifer load client --protocol grpc --connections 4 10.0.0.1:8080     as much as goes, one after the other
  aquifer load client --kind connections --rate 500 10.0.0.1:8080       a new connection for each request
  aquifer load client --kind bulk --streams 4 10.0.0.1:8080             bytes per second
  aquifer load client --kind idle --duration 60s 10.0.0.1:8080          holds connections for a minute
  aquifer load client --kind mixed --rate 500 --streams 1 10.0.0.1:8080 latency beside a bulk stream
  aquifer load client --plan < plan.json                                a plan as the agent takes it

Bulk, idle, mixed and tcp need `aquifer load server` at the other end.
The exit code is 1 when the outcome is invalid: more than 1 % of the sends late, or of the requests failed.")]
pub(crate) struct ClientArgs {
    /// What to do.
    #[arg(long, value_enum, default_value_t = What::Requests)]
    kind: What,
    /// What to speak.
    #[arg(long, value_enum, default_value_t = Spoken::Http1)]
    protocol: Spoken,
    /// Connections; how many may be open at a time for `--kind connections`.
    #[arg(long, value_name = "N", default_value_t = 16)]
    connections: u32,
    /// Bulk streams; for requests over HTTP/2 and gRPC, requests at a time on a connection.
    #[arg(long, value_name = "N", default_value_t = 1)]
    streams: u16,
    /// Requests or connections per second, on a schedule that waits for nobody. As many as go without it, one after
    /// the other.
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// How long to measure, or at most to hold idle connections.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    duration: Duration,
    /// How long the load runs before that.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    warm_up: Duration,
    /// How long connecting and an answer may take.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    timeout: Duration,
    /// Bytes of a request's body.
    #[arg(long, value_name = "N", default_value_t = 0)]
    request_bytes: u32,
    /// Bytes of an answer's body.
    #[arg(long, value_name = "N", default_value_t = 0)]
    response_bytes: u32,
    /// Make a new connection for each request.
    #[arg(long)]
    no_keep_alive: bool,
    /// Which way bulk bytes go.
    #[arg(long, value_enum, default_value_t = Way::Download)]
    direction: Way,
    /// Read the plan as JSON from standard input instead.
    #[arg(long, conflicts_with_all = PLANNED)]
    pub(crate) plan: bool,
    /// How to print the outcome.
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
    /// Where to: http://host:port/path, or host:port.
    #[arg(required_unless_present = "plan", conflicts_with = "plan")]
    target: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Requests,
    Connections,
    Bulk,
    Idle,
    Mixed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Spoken {
    Http1,
    Http2,
    Grpc,
    Tcp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    Upload,
    Download,
}

impl ClientArgs {
    /// The plan that the flags make; the target's name is looked up.
    pub(super) async fn to_plan(&self) -> Result<Plan> {
        let (host, path) = split(self.target.as_deref().unwrap_or_default())?;
        let found =
            tokio::net::lookup_host(&host).await.with_context(|| format!("cannot find an address of {host}"))?;
        let target = found.into_iter().next().with_context(|| format!("{host} has no address"))?;
        let plan = Plan {
            target,
            kind: self.kind(path)?,
            warm_up_ms: millis(self.warm_up),
            duration_ms: millis(self.duration),
            timeout_ms: millis(self.timeout),
        };
        plan.check()?;
        Ok(plan)
    }

    fn kind(&self, path: String) -> Result<Kind> {
        let bulk = Bulk {
            streams: self.streams,
            direction: match self.direction {
                Way::Upload => Direction::Upload,
                Way::Download => Direction::Download,
            },
        };
        Ok(match self.kind {
            What::Requests => Kind::Requests(self.requests(path, self.streams)?),
            What::Connections => Kind::Connections(Connections {
                protocol: self.protocol(),
                in_flight: self.few_connections()?,
                pace: self.pace(),
            }),
            What::Bulk => Kind::Bulk(bulk),
            What::Idle => Kind::Idle(Idle { connections: self.connections }),
            What::Mixed => Kind::Mixed(Mixed { requests: self.requests(path, 1)?, bulk }),
        })
    }

    fn requests(&self, path: String, streams: u16) -> Result<Requests> {
        Ok(Requests {
            protocol: self.protocol(),
            connections: self.few_connections()?,
            streams,
            pace: self.pace(),
            request_bytes: self.request_bytes,
            response_bytes: self.response_bytes,
            keep_alive: !self.no_keep_alive,
            path,
        })
    }

    fn few_connections(&self) -> Result<u16> {
        u16::try_from(self.connections).with_context(|| format!("--connections {} are too many", self.connections))
    }

    fn pace(&self) -> Pace {
        self.rate.map_or(Pace::Saturation, |rate| Pace::Fixed { rate })
    }

    fn protocol(&self) -> Protocol {
        match self.protocol {
            Spoken::Http1 => Protocol::Http1,
            Spoken::Http2 => Protocol::Http2,
            Spoken::Grpc => Protocol::Grpc,
            Spoken::Tcp => Protocol::Tcp,
        }
    }
}

/// Host with port, and path.
fn split(target: &str) -> Result<(String, String)> {
    if target.starts_with("https://") {
        bail!("{target}: TLS is not spoken; use http://");
    }
    let rest = target.strip_prefix("http://").unwrap_or(target);
    let (host, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
    // A port follows the last colon that is not inside the brackets of an IPv6 address.
    let has_port = host.rsplit_once(':').is_some_and(|(name, port)| !name.is_empty() && !port.ends_with(']'));
    let host = match (has_port, target.starts_with("http://")) {
        (true, _) => host.to_owned(),
        (false, true) => format!("{host}:80"),
        (false, false) => bail!("{target:?} has no port; expected host:port or http://host/path"),
    };
    Ok((host, path.to_owned()))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_urls_or_addresses() {
        let pair = |host: &str, path: &str| (host.to_owned(), path.to_owned());
        assert_eq!(split("http://a:1/b?c").unwrap(), pair("a:1", "/b?c"));
        assert_eq!(split("http://a").unwrap(), pair("a:80", "/"));
        assert_eq!(split("http://[::1]/x").unwrap(), pair("[::1]:80", "/x"));
        assert_eq!(split("[::1]:8080").unwrap(), pair("[::1]:8080", "/"));
        assert_eq!(split("10.0.0.1:9").unwrap(), pair("10.0.0.1:9", "/"));
        assert!(split("10.0.0.1").is_err());
        assert!(split("https://a").is_err());
    }
}
