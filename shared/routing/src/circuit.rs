//! How much may go on at once towards a cluster.

/// The limits of a cluster, as Envoy's [`CircuitBreakers`] say them.
///
/// [`CircuitBreakers`]: https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/cluster/v3/circuit_breaker.proto
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Connections; 1024 unless told otherwise.
    pub max_connections: u32,
    /// Requests that wait for a connection; 1024 unless told otherwise.
    pub max_pending_requests: u32,
    /// Requests that a connection was found for; 1024 unless told otherwise.
    pub max_requests: u32,
    /// Requests that wait to be tried again or are being tried again; 3 unless told otherwise.
    pub max_retries: u32,
    /// What takes the place of `max_retries`.
    pub retry_budget: Option<RetryBudget>,
}

/// How many of the requests may be retries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryBudget {
    /// The part of all requests, waiting ones included, in percent; 20 unless told otherwise.
    pub percent: f64,
    /// How many there may always be; 3 unless told otherwise.
    pub min_concurrency: u32,
}

/// What goes on towards a cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Connections.
    pub connections: u64,
    /// Requests that wait for a connection.
    pub pending_requests: u64,
    /// Requests that a connection was found for.
    pub requests: u64,
    /// Requests that wait to be tried again or are being tried again.
    pub retries: u64,
}

/// The header of a response that tells that a limit was reached, and its value.
pub const OVERLOADED: (&str, &str) = ("x-envoy-overloaded", "true");

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_pending_requests: 1024,
            max_requests: 1024,
            max_retries: 3,
            retry_budget: None,
        }
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: 20.0, min_concurrency: 3 }
    }
}

impl Limits {
    /// Whether one more connection may be opened to an endpoint; where it may not, the request waits for one of the others.
    ///
    /// The first connection to an endpoint always may: without it nothing that waits for the endpoint would ever end.
    #[must_use]
    pub fn admits_connection(&self, usage: &Usage, connections_of_endpoint: u64) -> bool {
        connections_of_endpoint == 0 || usage.connections < u64::from(self.max_connections)
    }

    /// Whether one more request may wait for a connection.
    #[must_use]
    pub fn admits_pending_request(&self, usage: &Usage) -> bool {
        usage.pending_requests < u64::from(self.max_pending_requests)
    }

    /// Whether one more request may be sent on a connection.
    #[must_use]
    pub fn admits_request(&self, usage: &Usage) -> bool {
        usage.requests < u64::from(self.max_requests)
    }

    /// Whether one more request may be tried again.
    #[must_use]
    pub fn admits_retry(&self, usage: &Usage) -> bool {
        let Some(budget) = self.retry_budget else {
            return usage.retries < u64::from(self.max_retries);
        };
        // Counts are far from where a float is no longer exact.
        let allowed = budget.percent / 100.0 * (usage.requests + usage.pending_requests) as f64;
        usage.retries < u64::from(budget.min_concurrency) || (usage.retries + 1) as f64 <= allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_how_many_there_may_be() {
        let limits = Limits {
            max_connections: 1,
            max_pending_requests: 2,
            max_requests: 3,
            max_retries: 4,
            ..Limits::default()
        };
        let admitted = |count: u64| {
            let usage = Usage { connections: count, pending_requests: count, requests: count, retries: count };
            [
                limits.admits_connection(&usage, 1),
                limits.admits_pending_request(&usage),
                limits.admits_request(&usage),
                limits.admits_retry(&usage),
            ]
        };
        assert_eq!(admitted(0), [true, true, true, true]);
        assert_eq!(admitted(1), [false, true, true, true]);
        assert_eq!(admitted(3), [false, false, false, true]);
        assert_eq!(admitted(4), [false; 4]);
        assert!(limits.admits_connection(&Usage { connections: 9, ..Usage::default() }, 0));
    }

    #[test]
    fn a_cluster_without_limits_has_the_usual_ones() {
        let limits = Limits::default();
        let busy = Usage { connections: 1024, pending_requests: 1024, requests: 1024, retries: 3 };
        assert!(!limits.admits_connection(&busy, 1) && !limits.admits_pending_request(&busy));
        assert!(!limits.admits_request(&busy) && !limits.admits_retry(&busy));
        assert_eq!(OVERLOADED, ("x-envoy-overloaded", "true"));
    }

    #[test]
    fn a_budget_admits_a_part_of_the_requests_and_always_some() {
        let limits = Limits { max_retries: 0, retry_budget: Some(RetryBudget::default()), ..Limits::default() };
        let admits = |requests, pending_requests, retries| {
            limits.admits_retry(&Usage { requests, pending_requests, retries, ..Usage::default() })
        };
        assert!(admits(0, 0, 2));
        assert!(!admits(0, 0, 3));
        assert!(admits(20, 0, 3));
        assert!(!admits(19, 0, 3));
        assert!(admits(40, 10, 9));
        assert!(!admits(40, 10, 10));
    }
}
