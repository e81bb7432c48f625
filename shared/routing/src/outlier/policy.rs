//! What counts as a failure of an endpoint, and how many are too many.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use rand::Rng;

use crate::text::number;

/// Which endpoints are ejected and for how long, as Envoy's [`OutlierDetection`] says it.
///
/// Endpoints are judged by failures in succession alone, never by rates.
///
/// [`OutlierDetection`]: https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/cluster/v3/outlier_detection.proto
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlierPolicy {
    /// Responses with a status of 500 or above, in succession; 5 unless told otherwise.
    pub server_errors: FailureLimit,
    /// Responses with 502, 503 or 504, in succession; 5 unless told otherwise, but never enforced.
    pub gateway_failures: FailureLimit,
    /// Failures of this proxy to get a response, in succession; 5 unless told otherwise, and only with
    /// `splits_local_failures`.
    pub local_failures: FailureLimit,
    /// Whether failures to get a response have a count of their own, instead of counting as 503 or 504.
    pub splits_local_failures: bool,
    /// The statuses that count as 500, unless they are above it, while all others count as success; `None` for the usual ones.
    pub error_statuses: Option<Vec<u16>>,
    /// How often endpoints are let come back; every 10 seconds unless told otherwise.
    pub interval: Duration,
    /// How long an endpoint is ejected for the first time, and how much longer each time after; 30 seconds unless told
    /// otherwise.
    pub base_ejection: Duration,
    /// How long an endpoint is ejected at most; 300 seconds unless told otherwise, and never less than the base.
    pub max_ejection: Duration,
    /// How much longer than that, at random; not at all unless told otherwise.
    pub max_jitter: Duration,
    /// How many percent of all endpoints may be ejected at once; 10 unless told otherwise.
    pub max_percent: u32,
    /// Whether one endpoint may be ejected in any case.
    pub always_ejects_one: bool,
}

/// How many failures in succession are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureLimit {
    /// How many; zero for no number.
    pub count: u32,
    /// In how many percent of the cases the endpoint is ejected then.
    pub enforced_percent: u32,
}

/// A kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// A response with a status of 500 or above.
    Server,
    /// A response with 502, 503 or 504.
    Gateway,
    /// No response at all.
    Local,
}

/// What became of a request to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// A response arrived.
    Response {
        /// Its status.
        status: u16,
        /// The status that its status of gRPC stands for, if it has one.
        of_grpc: Option<u16>,
    },
    /// There was a connection for it.
    Connected,
    /// There was a connection that carries no requests, so that nothing more will be known.
    ConnectedForGood,
    /// It could not be sent, or was reset before a response arrived; not for limits that were reached.
    Failed,
    /// No response arrived in time.
    TimedOut,
}

/// How a report counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    Nothing,
    Success,
    ServerError { is_gateway: bool },
    LocalSuccess,
    LocalFailure,
}

impl Default for OutlierPolicy {
    fn default() -> Self {
        let enforced = |enforced_percent| FailureLimit { count: 5, enforced_percent };
        Self {
            server_errors: enforced(100),
            gateway_failures: enforced(0),
            local_failures: enforced(100),
            splits_local_failures: false,
            error_statuses: None,
            interval: Duration::from_secs(10),
            base_ejection: Duration::from_secs(30),
            max_ejection: Duration::from_secs(300),
            max_jitter: Duration::ZERO,
            max_percent: 10,
            always_ejects_one: false,
        }
    }
}

impl OutlierPolicy {
    pub(super) fn judge(&self, report: Report) -> Count {
        match (report, self.splits_local_failures) {
            (Report::Response { status, of_grpc }, _) => self.judge_status(status, of_grpc),
            (Report::Connected, false) => Count::Nothing,
            (Report::ConnectedForGood, false) => Count::Success,
            (Report::Connected | Report::ConnectedForGood, true) => Count::LocalSuccess,
            (Report::Failed | Report::TimedOut, false) => Count::ServerError { is_gateway: true },
            (Report::Failed | Report::TimedOut, true) => Count::LocalFailure,
        }
    }

    fn judge_status(&self, status: u16, of_grpc: Option<u16>) -> Count {
        let judged = match &self.error_statuses {
            None => of_grpc.unwrap_or(status),
            Some(errors) if !errors.contains(&status) => 200,
            Some(_) => status.max(500),
        };
        match judged {
            502..=504 => Count::ServerError { is_gateway: true },
            500..=599 => Count::ServerError { is_gateway: false },
            _ => Count::Success,
        }
    }

    /// Whether one more may be ejected where so many of all are.
    pub(super) fn admits(&self, ejected: usize, all: usize) -> bool {
        let is_allowed = 100.0 * (ejected + 1) as f64 / all as f64 <= f64::from(self.max_percent.min(100));
        is_allowed || self.always_ejects_one && ejected == 0
    }

    pub(super) fn enforces(&self, failure: Failure, random: &mut impl Rng) -> bool {
        let limit = match failure {
            Failure::Server => self.server_errors,
            Failure::Gateway => self.gateway_failures,
            Failure::Local => self.local_failures,
        };
        random.next_u64() % 100 < u64::from(limit.enforced_percent)
    }

    pub(super) fn jitter(&self, random: &mut impl Rng) -> Duration {
        let bound = u64::try_from(self.max_jitter.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        Duration::from_millis(random.next_u64().checked_rem(bound).unwrap_or_default())
    }
}

impl Report {
    /// The report of a response to a request, which may be one of gRPC.
    #[must_use]
    pub fn of_response(status: StatusCode, headers: &HeaderMap, is_grpc: bool) -> Self {
        let grpc_status = headers.get("grpc-status").filter(|value| is_grpc && !value.is_empty());
        let of_grpc = grpc_status.map(|value| http_status(number(value.as_bytes())));
        Self::Response { status: status.as_u16(), of_grpc }
    }
}

/// The status of HTTP that stands for [one of gRPC].
///
/// [one of gRPC]: https://cloud.google.com/apis/design/errors#generating_errors
fn http_status(grpc_status: Option<u64>) -> u16 {
    match grpc_status {
        Some(0) => 200,
        Some(1) => 499,
        Some(3 | 9 | 11) => 400,
        Some(4) => 504,
        Some(5) => 404,
        Some(6 | 10) => 409,
        Some(7) => 403,
        Some(8) => 429,
        Some(12) => 501,
        Some(14) => 503,
        Some(16) => 401,
        _ => 500,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: Count = Count::Success;
    const ERROR: Count = Count::ServerError { is_gateway: false };
    const GATEWAY: Count = Count::ServerError { is_gateway: true };

    #[test]
    fn statuses_count_as_they_are_unless_some_are_named() {
        let judged = |policy: &OutlierPolicy| {
            [200, 404, 429, 500, 503, 599, 600].map(|status| policy.judge(Report::Response { status, of_grpc: None }))
        };
        let usual = OutlierPolicy::default();
        assert_eq!(judged(&usual), [OK, OK, OK, ERROR, GATEWAY, ERROR, OK]);
        let named = OutlierPolicy { error_statuses: Some(vec![429, 503]), ..usual };
        assert_eq!(judged(&named), [OK, OK, ERROR, OK, GATEWAY, OK, OK]);
    }

    #[test]
    fn failures_without_a_response_count_apart_where_that_is_wanted() {
        let judged = |policy: &OutlierPolicy| {
            [Report::Connected, Report::ConnectedForGood, Report::Failed, Report::TimedOut]
                .map(|report| policy.judge(report))
        };
        let joint = OutlierPolicy::default();
        assert_eq!(judged(&joint), [Count::Nothing, OK, GATEWAY, GATEWAY]);
        let split = OutlierPolicy { splits_local_failures: true, ..joint };
        assert_eq!(
            judged(&split),
            [Count::LocalSuccess, Count::LocalSuccess, Count::LocalFailure, Count::LocalFailure]
        );
    }

    #[test]
    fn a_status_of_grpc_stands_for_one_of_http() {
        let of = |value: &str, is_grpc| {
            let headers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), value.parse().unwrap())]);
            Report::of_response(StatusCode::OK, &headers, is_grpc)
        };
        let response = |of_grpc| Report::Response { status: 200, of_grpc };
        assert_eq!(of("14", false), response(None));
        assert_eq!(of("", true), response(None));
        let statuses: Vec<_> = (0..18).map(|status| of(&status.to_string(), true)).collect();
        let expected = [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401, 500];
        assert_eq!(statuses, expected.map(|status| response(Some(status))));
        assert_eq!(of("x", true), response(Some(500)));
        assert_eq!(OutlierPolicy::default().judge(of("14", true)), GATEWAY);
    }
}
