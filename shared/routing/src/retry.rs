//! Which requests are sent once more, and when.

mod backoff;
mod on;
mod priorities;
mod state;

use std::sync::Arc;
use std::time::Duration;

pub use self::backoff::{BackOff, RateLimitedBackOff, ResetFormat};
pub use self::on::RetryOn;
pub use self::state::{GiveUp, Outcome, Reset, RetryDecision, RetryState};
use crate::text::number;
use crate::{HeaderMatch, HeaderMatchKind, Request};

/// Which requests are sent once more, as Envoy's [`RetryPolicy`] says it.
///
/// [`RetryPolicy`]: https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/route/v3/route_components.proto#config-route-v3-retrypolicy
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// After which outcomes; after none unless told otherwise.
    pub on: RetryOn,
    /// How often at most; once unless told otherwise.
    pub max_retries: u32,
    /// How long each try may take; zero for no limit.
    pub per_try_timeout: Duration,
    /// How long nothing may move in a try; zero for no limit.
    pub per_try_idle_timeout: Duration,
    /// The statuses that `retriable-status-codes` means.
    pub status_codes: Vec<u16>,
    /// The headers of responses, `:status` among them, any of which `retriable-headers` means.
    pub headers: Vec<HeaderMatch>,
    /// The headers of requests any of which a request must have to be sent once more; none for all requests.
    pub request_headers: Vec<HeaderMatch>,
    /// How long to wait before.
    pub back_off: BackOff,
    /// How long to wait before, where the response says it.
    pub rate_limited_back_off: Option<RateLimitedBackOff>,
    /// Whether endpoints that were tried already are to be avoided.
    pub avoids_previous_hosts: bool,
    /// How often at most another endpoint is chosen in place of one that is to be avoided; once unless told otherwise.
    pub host_selection_attempts: u32,
    /// After how many tries the priorities that were tried are avoided, and again each time after as many; never with
    /// `None`.
    pub avoids_previous_priorities: Option<std::num::NonZeroU32>,
    /// Whether a try that takes too long goes on beside the next one.
    pub hedges_on_per_try_timeout: bool,
}

impl RetryPolicy {
    /// What [a trusted client's request] changes; it is not to be sent on.
    ///
    /// [a trusted client's request]: https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/router_filter#http-headers-consumed
    pub const HEADERS: [&str; 6] = [
        "x-envoy-retry-on",
        "x-envoy-retry-grpc-on",
        "x-envoy-max-retries",
        "x-envoy-retriable-status-codes",
        "x-envoy-retriable-header-names",
        "x-envoy-hedge-on-per-try-timeout",
    ];

    /// What a mesh does where nobody says anything: two more tries, where it is certain or likely that no application has
    /// seen the request.
    #[must_use]
    pub fn of_mesh() -> Self {
        let (on, _) = RetryOn::parse("connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes");
        Self { on, max_retries: 2, avoids_previous_hosts: true, host_selection_attempts: 5, ..Self::default() }
    }

    /// The retries of a request, before its first try.
    #[must_use]
    pub fn for_request(self: &Arc<Self>, request: &Request<'_>) -> RetryState {
        let [on, grpc_on, max, codes, names, _] = Self::HEADERS.map(|name| request.header(name));
        let asked = RetryOn::of_header(on.as_deref(), RetryOn::HTTP)
            .union(RetryOn::of_header(grpc_on.as_deref(), RetryOn::GRPC));
        let has_reason = self.on != RetryOn::default() || on.is_some() || grpc_on.is_some();
        let is_retriable =
            self.request_headers.is_empty() || self.request_headers.iter().any(|header| header.matches(request));
        let on = if is_retriable { self.on.union(asked) } else { RetryOn::default() };
        let max = max.and_then(|max| number(&max)).unwrap_or_else(|| u64::from(self.max_retries));
        let parts = |list: &[u8]| list.split(|byte| *byte == b',').map(<[u8]>::to_vec).collect::<Vec<_>>();
        let codes = codes.map(|codes| parts(&codes)).unwrap_or_default();
        let codes = codes.iter().filter_map(|code| number(code));
        let names = names.map(|names| parts(&names)).unwrap_or_default();
        let names = names.iter().filter_map(|name| present(name));
        RetryState::new(
            self.clone(),
            state::Overrides {
                on,
                max,
                status_codes: codes.collect(),
                headers: names.collect(),
                is_early: request.header("early-data").is_some(),
                // Where there is nothing to retry after, there are no retries at all.
                hedges: has_reason && self.hedges(request),
            },
        )
    }

    /// Whether a try of this request that takes too long goes on beside the next one.
    pub(crate) fn hedges(&self, request: &Request<'_>) -> bool {
        match request.header("x-envoy-hedge-on-per-try-timeout").as_deref() {
            Some(b"true") => true,
            Some(b"false") => false,
            _ => self.hedges_on_per_try_timeout,
        }
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            on: RetryOn::default(),
            max_retries: 1,
            per_try_timeout: Duration::ZERO,
            per_try_idle_timeout: Duration::ZERO,
            status_codes: Vec::new(),
            headers: Vec::new(),
            request_headers: Vec::new(),
            back_off: BackOff::default(),
            rate_limited_back_off: None,
            avoids_previous_hosts: false,
            host_selection_attempts: 1,
            avoids_previous_priorities: None,
            hedges_on_per_try_timeout: false,
        }
    }
}

/// A header that is there, whatever its value.
fn present(name: &[u8]) -> Option<HeaderMatch> {
    let name = std::str::from_utf8(name).ok()?.trim_ascii();
    let kind = HeaderMatchKind::Present(true);
    (!name.is_empty()).then(|| HeaderMatch { name: name.into(), kind, inverts: false, treats_missing_as_empty: false })
}

#[cfg(test)]
mod tests;
