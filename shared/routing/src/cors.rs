//! Requests of pages that another origin served.

use http::Method;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use rand::Rng;

use crate::{Fraction, Request, TextMatch};

/// Who may ask from where, as Envoy's [`CorsPolicy`] says it.
///
/// Values are those of the response's headers; what is absent is not told.
///
/// [`CorsPolicy`]: https://www.envoyproxy.io/docs/envoy/latest/api-v3/extensions/filters/http/cors/v3/cors.proto
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorsPolicy {
    /// The origins that may ask; one that is for `*` is for all.
    pub origins: Vec<TextMatch>,
    /// The methods that they may use; `*` for the one that is asked for.
    pub methods: Option<HeaderValue>,
    /// The headers that they may send; `*` for those that are asked for.
    pub headers: Option<HeaderValue>,
    /// The headers of the response that they may see.
    pub exposed: Option<HeaderValue>,
    /// For how many seconds the answer to a preflight holds.
    pub max_age: Option<HeaderValue>,
    /// Whether they may send cookies and the like.
    pub allows_credentials: bool,
    /// Whether a preflight of an origin that may not ask is left to the destination.
    pub forwards_unmatched_preflights: bool,
    /// Whether pages of public networks may ask.
    pub allows_private_network: bool,
    /// The share of requests for which all this holds.
    pub enabled: Fraction,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorsDecision {
    /// It is answered here, with status 200, these headers, no body, and the details `cors_response`.
    Answer(HeaderMap),
    /// It goes on; these headers take the place of those of the same names in its response.
    Pass(HeaderMap),
}

const REQUEST_PRIVATE_NETWORK: &str = "access-control-request-private-network";
const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");
const TRUE: HeaderValue = HeaderValue::from_static("true");

impl Default for CorsPolicy {
    fn default() -> Self {
        Self {
            origins: Vec::new(),
            methods: None,
            headers: None,
            exposed: None,
            max_age: None,
            allows_credentials: false,
            forwards_unmatched_preflights: true,
            allows_private_network: false,
            enabled: Fraction::ALL,
        }
    }
}

impl CorsPolicy {
    /// What becomes of a request.
    pub fn decide(&self, request: &Request<'_>, random: &mut impl Rng) -> CorsDecision {
        let origin = value(request, &header::ORIGIN).filter(|origin| !origin.is_empty());
        let Some(origin) = origin.filter(|_| self.enabled.hits(random)) else {
            return CorsDecision::Pass(HeaderMap::new());
        };
        let is_allowed = self.origins.iter().any(|wanted| wanted.matches(b"*") || wanted.matches(origin.as_bytes()));
        let method = value(request, &header::ACCESS_CONTROL_REQUEST_METHOD).filter(|method| !method.is_empty());
        match method.filter(|_| *request.method == Method::OPTIONS) {
            Some(method) if is_allowed || !self.forwards_unmatched_preflights => {
                CorsDecision::Answer(self.answer(request, is_allowed.then_some(origin), method))
            }
            _ => CorsDecision::Pass(if is_allowed { self.response_headers(origin) } else { HeaderMap::new() }),
        }
    }

    /// The headers that answer a preflight about `method`.
    fn answer(&self, request: &Request<'_>, origin: Option<HeaderValue>, method: HeaderValue) -> HeaderMap {
        let asked = || value(request, &header::ACCESS_CONTROL_REQUEST_HEADERS).unwrap_or(HeaderValue::from_static(""));
        let is_private =
            self.allows_private_network && request.header(REQUEST_PRIVATE_NETWORK).as_deref() == Some(TRUE.as_bytes());
        // Envoy tells it as to every other request of an origin that may ask.
        let exposed = self.exposed.clone().filter(|_| origin.is_some());
        let all = [
            (header::ACCESS_CONTROL_ALLOW_ORIGIN, origin),
            (header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed),
            (header::ACCESS_CONTROL_ALLOW_CREDENTIALS, self.allows_credentials.then_some(TRUE)),
            (header::ACCESS_CONTROL_ALLOW_METHODS, unless_star(self.methods.as_ref(), || method)),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, unless_star(self.headers.as_ref(), asked)),
            (header::ACCESS_CONTROL_MAX_AGE, self.max_age.clone()),
            (ALLOW_PRIVATE_NETWORK, is_private.then_some(TRUE)),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// The headers of the response to a request that goes on.
    fn response_headers(&self, origin: HeaderValue) -> HeaderMap {
        let all = [
            (header::ACCESS_CONTROL_ALLOW_ORIGIN, Some(origin)),
            (header::ACCESS_CONTROL_ALLOW_CREDENTIALS, self.allows_credentials.then_some(TRUE)),
            (header::ACCESS_CONTROL_EXPOSE_HEADERS, self.exposed.clone()),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// The allowed value, or `asked` for `*`.
fn unless_star(allowed: Option<&HeaderValue>, asked: impl FnOnce() -> HeaderValue) -> Option<HeaderValue> {
    allowed.map(|allowed| if allowed == "*" { asked() } else { allowed.clone() })
}

fn value(request: &Request<'_>, name: &HeaderName) -> Option<HeaderValue> {
    HeaderValue::from_bytes(&request.header(name.as_str())?).ok()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::example::Asked;

    fn decide(policy: &CorsPolicy, method: &Method, headers: &[(&'static str, &'static str)]) -> CorsDecision {
        let asked = Asked { method: method.clone(), ..Asked::new("a", "/") }.with_all(headers);
        policy.decide(&asked.request(), &mut StdRng::seed_from_u64(1))
    }

    fn pass(headers: &[(&'static str, &'static str)]) -> CorsDecision {
        CorsDecision::Pass(map(headers))
    }

    fn answer(headers: &[(&'static str, &'static str)]) -> CorsDecision {
        CorsDecision::Answer(map(headers))
    }

    fn map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        let parse = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        headers.iter().map(parse).collect()
    }

    fn policy() -> CorsPolicy {
        let text = |text: &'static str| Some(HeaderValue::from_static(text));
        CorsPolicy {
            origins: vec![TextMatch::exact("http://a"), TextMatch::prefix("http://b.")],
            methods: text("GET,POST"),
            headers: text("x-a"),
            exposed: text("x-b"),
            max_age: text("60"),
            allows_credentials: true,
            allows_private_network: true,
            ..CorsPolicy::default()
        }
    }

    const PREFLIGHT: [(&str, &str); 2] = [("origin", "http://a"), ("access-control-request-method", "PUT")];

    #[test]
    fn a_request_of_the_same_origin_is_left_alone() {
        assert_eq!(decide(&policy(), &Method::GET, &[]), pass(&[]));
        assert_eq!(decide(&policy(), &Method::GET, &[("origin", "")]), pass(&[]));
        assert_eq!(decide(&policy(), &Method::OPTIONS, &PREFLIGHT[1..]), pass(&[]));
    }

    #[test]
    fn a_response_tells_who_may_see_it() {
        let allowed = [
            ("access-control-allow-origin", "http://b.c"),
            ("access-control-allow-credentials", "true"),
            ("access-control-expose-headers", "x-b"),
        ];
        assert_eq!(decide(&policy(), &Method::GET, &[("origin", "http://b.c")]), pass(&allowed));
        assert_eq!(decide(&policy(), &Method::OPTIONS, &[("origin", "http://b.c")]), pass(&allowed));
        let plain = CorsPolicy { allows_credentials: false, exposed: None, ..policy() };
        assert_eq!(decide(&plain, &Method::GET, &[("origin", "http://b.c")]), pass(&allowed[..1]));
        assert_eq!(decide(&policy(), &Method::GET, &[("origin", "http://c")]), pass(&[]));
    }

    #[test]
    fn a_preflight_is_answered() {
        let allowed = [
            ("access-control-allow-origin", "http://a"),
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-methods", "GET,POST"),
            ("access-control-allow-headers", "x-a"),
            ("access-control-max-age", "60"),
            ("access-control-expose-headers", "x-b"),
        ];
        assert_eq!(decide(&policy(), &Method::OPTIONS, &PREFLIGHT), answer(&allowed));
        // Only the method makes it a preflight.
        assert_eq!(decide(&policy(), &Method::PUT, &PREFLIGHT), pass(&[allowed[0], allowed[1], allowed[5]]));
        let little = CorsPolicy { origins: policy().origins, ..CorsPolicy::default() };
        assert_eq!(decide(&little, &Method::OPTIONS, &PREFLIGHT), answer(&allowed[..1]));
    }

    #[test]
    fn a_star_is_for_what_is_asked_for() {
        let star = Some(HeaderValue::from_static("*"));
        let policy = CorsPolicy {
            origins: vec![TextMatch::exact("*")],
            methods: star.clone(),
            headers: star,
            ..CorsPolicy::default()
        };
        let mut allowed = vec![
            ("access-control-allow-origin", "http://a"),
            ("access-control-allow-methods", "PUT"),
            ("access-control-allow-headers", ""),
        ];
        assert_eq!(decide(&policy, &Method::OPTIONS, &PREFLIGHT), answer(&allowed));
        let with_headers = [PREFLIGHT[0], PREFLIGHT[1], ("access-control-request-headers", "x-c, x-d")];
        allowed[2].1 = "x-c, x-d";
        assert_eq!(decide(&policy, &Method::OPTIONS, &with_headers), answer(&allowed));
    }

    #[test]
    fn a_preflight_of_another_origin_is_forwarded_or_answered_without_it() {
        let other = [("origin", "http://c"), PREFLIGHT[1]];
        assert_eq!(decide(&policy(), &Method::OPTIONS, &other), pass(&[]));
        let ignores = CorsPolicy { forwards_unmatched_preflights: false, ..policy() };
        let told = [
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-methods", "GET,POST"),
            ("access-control-allow-headers", "x-a"),
            ("access-control-max-age", "60"),
        ];
        assert_eq!(decide(&ignores, &Method::OPTIONS, &other), answer(&told));
    }

    #[test]
    fn pages_of_public_networks_are_told_that_they_may_ask() {
        let asks = [PREFLIGHT[0], PREFLIGHT[1], (REQUEST_PRIVATE_NETWORK, "true")];
        let is_told = |policy: &CorsPolicy| match decide(policy, &Method::OPTIONS, &asks) {
            CorsDecision::Answer(headers) => headers.contains_key(ALLOW_PRIVATE_NETWORK),
            CorsDecision::Pass(_) => false,
        };
        assert!(is_told(&policy()));
        assert!(!is_told(&CorsPolicy { allows_private_network: false, ..policy() }));
    }

    #[test]
    fn a_policy_may_be_off() {
        let off = CorsPolicy { enabled: Fraction::default(), ..policy() };
        assert_eq!(decide(&off, &Method::OPTIONS, &PREFLIGHT), pass(&[]));
    }
}
