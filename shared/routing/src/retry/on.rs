//! After which outcomes a request is sent once more.

/// A set of outcomes after which a request is sent once more, as [`retry_on`] says it.
///
/// [`retry_on`]: https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/router_filter#x-envoy-retry-on
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetryOn(u16);

const TOKENS: [(&str, RetryOn); 16] = [
    ("5xx", RetryOn::SERVER_ERROR),
    ("gateway-error", RetryOn::GATEWAY_ERROR),
    ("reset", RetryOn::RESET),
    ("reset-before-request", RetryOn::RESET_BEFORE_REQUEST),
    ("connect-failure", RetryOn::CONNECT_FAILURE),
    ("envoy-ratelimited", RetryOn::RATE_LIMITED),
    ("retriable-4xx", RetryOn::CONFLICT),
    ("refused-stream", RetryOn::REFUSED_STREAM),
    ("retriable-status-codes", RetryOn::STATUS_CODES),
    ("retriable-headers", RetryOn::HEADERS),
    ("http3-post-connect-failure", RetryOn::HTTP3_FAILURE),
    ("cancelled", RetryOn::CANCELLED),
    ("deadline-exceeded", RetryOn::DEADLINE_EXCEEDED),
    ("internal", RetryOn::INTERNAL),
    ("resource-exhausted", RetryOn::RESOURCE_EXHAUSTED),
    ("unavailable", RetryOn::UNAVAILABLE),
];

impl RetryOn {
    pub(super) const SERVER_ERROR: Self = Self(1);
    pub(super) const GATEWAY_ERROR: Self = Self(1 << 1);
    pub(super) const RESET: Self = Self(1 << 2);
    pub(super) const RESET_BEFORE_REQUEST: Self = Self(1 << 3);
    pub(super) const CONNECT_FAILURE: Self = Self(1 << 4);
    pub(super) const RATE_LIMITED: Self = Self(1 << 5);
    pub(super) const CONFLICT: Self = Self(1 << 6);
    pub(super) const REFUSED_STREAM: Self = Self(1 << 7);
    pub(super) const STATUS_CODES: Self = Self(1 << 8);
    pub(super) const HEADERS: Self = Self(1 << 9);
    // Never the case without HTTP/3.
    const HTTP3_FAILURE: Self = Self(1 << 10);
    pub(super) const CANCELLED: Self = Self(1 << 11);
    pub(super) const DEADLINE_EXCEEDED: Self = Self(1 << 12);
    pub(super) const INTERNAL: Self = Self(1 << 13);
    pub(super) const RESOURCE_EXHAUSTED: Self = Self(1 << 14);
    pub(super) const UNAVAILABLE: Self = Self(1 << 15);

    /// What `x-envoy-retry-on` may say.
    pub(super) const HTTP: Self = Self(Self::CANCELLED.0 - 1);
    /// What `x-envoy-retry-grpc-on` may say.
    pub(super) const GRPC: Self = Self(!Self::HTTP.0);

    /// Reads a list that is separated by commas, and returns what is no known outcome beside what is.
    ///
    /// ```
    /// let (on, unknown) = routing::RetryOn::parse("5xx, unavailable,oops");
    /// assert_eq!(on, routing::RetryOn::parse("unavailable,5xx").0);
    /// assert_eq!(unknown, ["oops"]);
    /// ```
    #[must_use]
    pub fn parse(text: &str) -> (Self, Vec<&str>) {
        let mut on = Self::default();
        let mut unknown = Vec::new();
        for token in text.split(',').map(str::trim_ascii).filter(|token| !token.is_empty()) {
            match TOKENS.iter().find(|(name, _)| *name == token) {
                Some((_, known)) => on = on.union(*known),
                None => unknown.push(token),
            }
        }
        (on, unknown)
    }

    /// What a header says, of what it may say.
    pub(super) fn of_header(value: Option<&[u8]>, allowed: Self) -> Self {
        let text = value.and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default();
        Self(Self::parse(text).0.0 & allowed.0)
    }

    pub(super) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether one of `others` is among these.
    pub(super) const fn has_any(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_a_name_and_a_bit() {
        let all = TOKENS.map(|(name, _)| name).join(" , ");
        let (on, unknown) = RetryOn::parse(&all);
        assert_eq!((on, unknown.len()), (RetryOn(u16::MAX), 0));
        assert_eq!(RetryOn::HTTP.union(RetryOn::GRPC), on);
    }

    #[test]
    fn what_is_unknown_is_returned() {
        let (on, unknown) = RetryOn::parse(" 503,reset ,,5XX, reset before request");
        assert_eq!(on, RetryOn::RESET);
        assert_eq!(unknown, ["503", "5XX", "reset before request"]);
        assert_eq!(RetryOn::parse(""), (RetryOn::default(), vec![]));
    }

    #[test]
    fn a_header_says_only_what_it_may() {
        let both = Some(b"5xx,unavailable,\xff".as_slice());
        assert_eq!(RetryOn::of_header(both, RetryOn::HTTP), RetryOn::default());
        let both = Some(b"5xx,unavailable,oops".as_slice());
        assert_eq!(RetryOn::of_header(both, RetryOn::HTTP), RetryOn::SERVER_ERROR);
        assert_eq!(RetryOn::of_header(both, RetryOn::GRPC), RetryOn::UNAVAILABLE);
        assert_eq!(RetryOn::of_header(None, RetryOn::GRPC), RetryOn::default());
    }
}
