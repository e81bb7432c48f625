//! The retries of one request.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, StatusCode};
use rand::Rng;

use super::priorities::PreviousPriorities;
use super::{RetryOn, RetryPolicy};
use crate::text::number;
use crate::{HeaderMatch, Loads};

/// What remains of the retries of one request.
#[derive(Debug, Clone)]
pub struct RetryState {
    policy: Arc<RetryPolicy>,
    overrides: Overrides,
    bound: u64,
    was_sent: bool,
    is_body_lost: bool,
    tried: Vec<Arc<str>>,
    priorities: PreviousPriorities,
}

/// What a request says in place of its policy, or beside it.
#[derive(Debug, Clone)]
pub(super) struct Overrides {
    pub(super) on: RetryOn,
    /// How many retries are left.
    pub(super) max: u64,
    pub(super) status_codes: Vec<u16>,
    pub(super) headers: Vec<HeaderMatch>,
    /// Whether somebody before this proxy received the request before its handshake was over.
    pub(super) is_early: bool,
    pub(super) hedges: bool,
}

/// What became of a try.
#[derive(Debug, Clone, Copy)]
pub enum Outcome<'a> {
    /// The headers of a response arrived, of which the client has seen nothing.
    Response {
        /// The status.
        status: StatusCode,
        /// The headers, with `grpc-status` where the response consists of trailers only.
        headers: &'a HeaderMap,
        /// When they arrived.
        at: SystemTime,
    },
    /// The try ended before that.
    Reset {
        /// Why.
        reason: Reset,
        /// Whether anything of the request was sent.
        was_sent: bool,
    },
    /// The try took too long, or nothing moved for too long.
    PerTryTimeout {
        /// Whether anything of the request was sent.
        was_sent: bool,
    },
}

/// Why a try ended before the headers of a response arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// No connection could be established, or not in time.
    ConnectFailure,
    /// The endpoint refused the stream without looking at it.
    RefusedStream,
    /// A limit of the cluster was reached.
    Overflow,
    /// The stream or its connection was ended in any other way, by either side.
    Other,
}

/// Whether a request is sent once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryDecision {
    /// It is.
    Retry {
        /// How long to wait before.
        after: Duration,
    },
    /// It is not: what became of the last try is for the client.
    GiveUp(GiveUp),
}

/// Why a request is not sent once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GiveUp {
    /// Nobody wants it after this outcome.
    NotRetriable,
    /// There is no longer all of the request.
    BodyLost,
    /// It was sent as often as it may be.
    Exhausted,
    /// Too many other requests are being tried again.
    Overflow,
}

/// How long to wait.
enum Wait {
    None,
    BackOff,
}

impl GiveUp {
    /// The [response flag] of access logs.
    ///
    /// [response flag]: https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage#command-operators
    #[must_use]
    pub const fn flag(self) -> Option<&'static str> {
        match self {
            Self::NotRetriable | Self::BodyLost => None,
            Self::Exhausted => Some("URX"),
            Self::Overflow => Some("UO"),
        }
    }
}

impl RetryState {
    pub(super) fn new(policy: Arc<RetryPolicy>, overrides: Overrides) -> Self {
        let bound = policy.back_off.first();
        Self {
            policy,
            overrides,
            bound,
            was_sent: false,
            is_body_lost: false,
            tried: Vec::new(),
            priorities: PreviousPriorities::default(),
        }
    }

    /// Decides after a try.
    ///
    /// Once the client has seen anything of a response, there is nothing to decide.
    /// `admit` is whether [limits](crate::Limits::admits_retry) let one more request be tried again, and is asked only if all
    /// else says so: it may count the retry, which lasts until the next decision or the end of the request.
    pub fn after(
        &mut self,
        outcome: &Outcome<'_>,
        admit: impl FnOnce() -> bool,
        random: &mut impl Rng,
    ) -> RetryDecision {
        let Some(wait) = self.wait_after(outcome) else {
            return RetryDecision::GiveUp(GiveUp::NotRetriable);
        };
        if self.is_body_lost {
            return RetryDecision::GiveUp(GiveUp::BodyLost);
        }
        let Some(left) = self.overrides.max.checked_sub(1) else {
            return RetryDecision::GiveUp(GiveUp::Exhausted);
        };
        self.overrides.max = left;
        if !admit() {
            return RetryDecision::GiveUp(GiveUp::Overflow);
        }
        let after = match wait {
            Wait::None => Duration::ZERO,
            Wait::BackOff => self.asked_wait(outcome, random).unwrap_or_else(|| self.next_wait(random)),
        };
        RetryDecision::Retry { after }
    }

    /// Says that more of the body was sent than is kept, so that the request cannot be sent once more.
    pub fn lose_body(&mut self) {
        self.is_body_lost = true;
    }

    /// Says where a try goes.
    pub fn add_try(&mut self, endpoint: Arc<str>, priority: usize) {
        self.tried.push(endpoint);
        self.priorities.add(priority);
    }

    /// Whether another endpoint is to be chosen in place of this one.
    #[must_use]
    pub fn avoids(&self, endpoint: &str) -> bool {
        self.policy.avoids_previous_hosts && self.tried.iter().any(|tried| **tried == *endpoint)
    }

    /// How often at most another endpoint is chosen.
    #[must_use]
    pub fn host_selection_attempts(&self) -> u32 {
        self.policy.host_selection_attempts
    }

    /// The loads of priorities for the next try; `None` for those that are configured.
    pub fn loads(&mut self, configured: &Loads) -> Option<Loads> {
        self.priorities.loads(configured, self.policy.avoids_previous_priorities?)
    }

    fn wait_after(&mut self, outcome: &Outcome<'_>) -> Option<Wait> {
        match *outcome {
            Outcome::Response { status, headers, .. } => self.wait_after_response(status, headers),
            Outcome::Reset { reason, was_sent } => self.is_retried_after(reason, was_sent).then_some(Wait::BackOff),
            // The try goes on, and nothing was reset that a policy might name.
            Outcome::PerTryTimeout { .. } if self.overrides.hedges => Some(Wait::BackOff),
            Outcome::PerTryTimeout { was_sent } => {
                self.is_retried_after(Reset::Other, was_sent).then_some(Wait::BackOff)
            }
        }
    }

    fn wait_after_response(&self, status: StatusCode, headers: &HeaderMap) -> Option<Wait> {
        let on = self.overrides.on;
        if headers.contains_key("x-envoy-ratelimited") {
            return on.has_any(RetryOn::RATE_LIMITED).then_some(Wait::BackOff);
        }
        let is_wanted = on.has_any(RetryOn::SERVER_ERROR) && status.is_server_error()
            || on.has_any(RetryOn::GATEWAY_ERROR) && matches!(status.as_u16(), 502..=504)
            || on.has_any(RetryOn::CONFLICT) && status == StatusCode::CONFLICT;
        if is_wanted {
            return Some(Wait::BackOff);
        }
        if on.has_any(RetryOn::STATUS_CODES) && self.has_code(status) {
            if status != StatusCode::TOO_EARLY {
                return Some(Wait::BackOff);
            }
            // It was too early for this proxy, whose handshakes are over by now.
            if !self.overrides.is_early {
                return Some(Wait::None);
            }
        }
        let is_wanted = on.has_any(RetryOn::HEADERS) && self.has_header(status, headers)
            || grpc_status(headers).is_some_and(|grpc| on.has_any(grpc));
        is_wanted.then_some(Wait::BackOff)
    }

    fn has_code(&self, status: StatusCode) -> bool {
        self.policy.status_codes.iter().chain(&self.overrides.status_codes).any(|code| *code == status.as_u16())
    }

    fn has_header(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        self.policy.headers.iter().chain(&self.overrides.headers).any(|wanted| {
            if &*wanted.name == ":status" {
                return wanted.matches_values([status.as_str().as_bytes()]);
            }
            wanted.matches_values(headers.get_all(&*wanted.name).iter().map(HeaderValue::as_bytes))
        })
    }

    fn is_retried_after(&mut self, reason: Reset, was_sent: bool) -> bool {
        // What an earlier try sent counts as well.
        self.was_sent |= was_sent;
        let on = self.overrides.on;
        let any_reset = RetryOn::RESET.union(RetryOn::SERVER_ERROR).union(RetryOn::GATEWAY_ERROR);
        match reason {
            Reset::Overflow => false,
            Reset::ConnectFailure if on.has_any(RetryOn::CONNECT_FAILURE) => true,
            Reset::RefusedStream if on.has_any(RetryOn::REFUSED_STREAM) => true,
            _ => on.has_any(any_reset) || on.has_any(RetryOn::RESET_BEFORE_REQUEST) && !self.was_sent,
        }
    }

    fn asked_wait(&self, outcome: &Outcome<'_>, random: &mut impl Rng) -> Option<Duration> {
        let Outcome::Response { headers, at, .. } = outcome else { return None };
        self.policy.rate_limited_back_off.as_ref()?.wait(headers, *at, random)
    }

    fn next_wait(&mut self, random: &mut impl Rng) -> Duration {
        let bound = self.bound;
        self.bound = self.policy.back_off.next(bound);
        Duration::from_millis(random.next_u64().checked_rem(bound).unwrap_or_default())
    }
}

/// What the status of gRPC is called in policies, if it is called anything.
fn grpc_status(headers: &HeaderMap) -> Option<RetryOn> {
    match number(headers.get("grpc-status")?.as_bytes())? {
        1 => Some(RetryOn::CANCELLED),
        4 => Some(RetryOn::DEADLINE_EXCEEDED),
        8 => Some(RetryOn::RESOURCE_EXHAUSTED),
        13 => Some(RetryOn::INTERNAL),
        14 => Some(RetryOn::UNAVAILABLE),
        _ => None,
    }
}
