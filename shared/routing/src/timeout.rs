//! How long a request may take.

use std::time::Duration;

use crate::text::number;
use crate::{Request, RetryPolicy};

/// The most that `grpc-timeout` may count: eight digits.
const MAX_GRPC_COUNT: u64 = 99_999_999;

/// The timeouts of a route, as Envoy's [`RouteAction`] says them.
///
/// [`RouteAction`]: https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/route/v3/route_components.proto#config-route-v3-routeaction
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeoutPolicy {
    /// How long the response may take, counted from the end of the request and with all tries; zero for no limit.
    pub route: Duration,
    /// The most that `grpc-timeout` is obeyed for, zero for no limit; with `None` it is not obeyed, and `route` counts.
    pub max_grpc: Option<Duration>,
    /// What is taken off `grpc-timeout`, where that leaves anything.
    pub grpc_offset: Duration,
    /// Whether the route limits the duration of streams instead, so that neither of the others counts.
    pub is_replaced: bool,
}

/// The timeouts of a request; `None` for no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// From the end of the request to the end of the response, with all tries and waits.
    pub global: Option<Duration>,
    /// Of each try.
    pub per_try: Option<Duration>,
    /// Of a try in which nothing moves.
    pub per_try_idle: Option<Duration>,
    hedges: bool,
    rewrites_grpc: bool,
}

/// Headers by which an endpoint learns how long it has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TimeoutHeaders {
    /// The value of `x-envoy-expected-rq-timeout-ms`, if it is to be set.
    pub expected_ms: Option<u64>,
    /// The value of `grpc-timeout`, if it is to be set.
    pub grpc_timeout: Option<String>,
}

impl TimeoutPolicy {
    /// What [a trusted client's request] changes; it is not to be sent on.
    ///
    /// [a trusted client's request]: https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/router_filter#http-headers-consumed
    pub const HEADERS: [&str; 2] = ["x-envoy-upstream-rq-timeout-ms", "x-envoy-upstream-rq-per-try-timeout-ms"];

    /// The timeouts of a request whose route has these and retries as `retry` says.
    #[must_use]
    pub fn for_request(&self, retry: &RetryPolicy, request: &Request<'_>) -> Timeouts {
        let is_grpc = request.is_grpc();
        let [global_header, per_try_header] = Self::HEADERS.map(|name| milliseconds(request, name));
        let configured = if self.is_replaced { Duration::ZERO } else { self.of_route(is_grpc, request) };
        let global = global_header.unwrap_or(configured);
        let per_try = per_try_header.unwrap_or(retry.per_try_timeout);
        let is_shorter = global.is_zero() || per_try < global;
        Timeouts {
            global: limit(global),
            per_try: limit(per_try).filter(|_| is_shorter),
            per_try_idle: limit(retry.per_try_idle_timeout),
            hedges: retry.hedges(request),
            rewrites_grpc: is_grpc && self.max_grpc.is_some() && !self.is_replaced,
        }
    }

    fn of_route(&self, is_grpc: bool, request: &Request<'_>) -> Duration {
        let Some(max) = self.max_grpc.filter(|_| is_grpc) else {
            return self.route;
        };
        let asked = request.header("grpc-timeout").and_then(|value| read_grpc(&value)).unwrap_or_default();
        // Nothing left would mean no limit at all.
        let asked = if self.grpc_offset < asked { asked - self.grpc_offset } else { asked };
        if !max.is_zero() && (asked.is_zero() || asked > max) { max } else { asked }
    }
}

impl Timeouts {
    /// The headers of a try that begins `elapsed` after the end of the request.
    #[must_use]
    pub fn headers(&self, elapsed: Duration) -> TimeoutHeaders {
        // While one try may go on beside another, each has all of the time.
        let one = self.per_try.filter(|_| !self.hedges).or(self.global);
        let Some(expected) = one.map(in_milliseconds).filter(|expected| *expected > 0) else {
            return TimeoutHeaders::default();
        };
        let left = self.global.map(|global| in_milliseconds(global).saturating_sub(in_milliseconds(elapsed)));
        // Zero would mean no limit; the timer that ends the request is about to fire.
        let expected = left.map_or(expected, |left| expected.min(left).max(1));
        TimeoutHeaders { expected_ms: Some(expected), grpc_timeout: self.rewrites_grpc.then(|| write_grpc(expected)) }
    }
}

/// Whether a request is one of gRPC, by its content type.
fn limit(timeout: Duration) -> Option<Duration> {
    Some(timeout).filter(|timeout| !timeout.is_zero())
}

fn in_milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn milliseconds(request: &Request<'_>, name: &str) -> Option<Duration> {
    request.header(name).and_then(|value| number(&value)).map(Duration::from_millis)
}

/// Reads a [`grpc-timeout`], rounded up to milliseconds.
///
/// [`grpc-timeout`]: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#requests
fn read_grpc(value: &[u8]) -> Option<Duration> {
    let (unit, count) = value.split_last()?;
    let count: u64 = number(count).filter(|count| *count <= MAX_GRPC_COUNT)?;
    let milliseconds = match unit {
        b'H' => count * 3_600_000,
        b'M' => count * 60_000,
        b'S' => count * 1000,
        b'm' => count,
        b'u' => count.div_ceil(1000),
        b'n' => count.div_ceil(1_000_000),
        _ => return None,
    };
    Some(Duration::from_millis(milliseconds))
}

/// Writes a `grpc-timeout` in the smallest unit in which it has eight digits at most, rounded down.
fn write_grpc(milliseconds: u64) -> String {
    let mut count = milliseconds;
    let mut unit = 'm';
    for (larger, factor) in [('S', 1000), ('M', 60), ('H', 60)] {
        if count <= MAX_GRPC_COUNT {
            break;
        }
        (count, unit) = (count / factor, larger);
    }
    format!("{}{unit}", count.min(MAX_GRPC_COUNT))
}

#[cfg(test)]
mod tests;
