//! Faults that are injected on purpose.

use std::str::FromStr;
use std::time::Duration;

use http::StatusCode;
use rand::Rng;

use crate::{Fraction, HeaderMatch, Request, text};

/// What goes wrong, as Envoy's [`HTTPFault`] says it.
///
/// [`HTTPFault`]: https://www.envoyproxy.io/docs/envoy/latest/api-v3/extensions/filters/http/fault/v3/fault.proto
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fault {
    /// How long requests wait, and which share of them.
    pub delay: Option<(Delay, Fraction)>,
    /// How requests end, and which share of them.
    pub abort: Option<(Abort, Fraction)>,
    /// What requests have to be like.
    pub headers: Vec<HeaderMatch>,
    /// How many faults there may be at once; unlimited unless told.
    pub max_active: Option<u32>,
}

/// How long a request waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delay {
    /// So long, in whole milliseconds.
    Fixed(Duration),
    /// As many milliseconds as `x-envoy-fault-delay-request` says, for at most the share that
    /// `x-envoy-fault-delay-request-percentage` says.
    FromHeader,
}

/// How a request ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abort {
    /// With this.
    With(AbortWith),
    /// With the status that `x-envoy-fault-abort-request` or `x-envoy-fault-abort-grpc-request` says, for at most the share
    /// that `x-envoy-fault-abort-request-percentage` says.
    FromHeader,
}

/// What a request ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbortWith {
    /// A status of HTTP.
    Http(StatusCode),
    /// A status of gRPC, and the one of HTTP that says that all went well; who does not speak gRPC is told only that.
    Grpc(u32),
}

/// What happens to a request: it waits first, then it ends; or only one of them, or none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FaultDecision {
    /// How long it waits.
    pub delay: Option<Duration>,
    /// What it ends with.
    pub abort: Option<AbortWith>,
}

/// The body of a response that ends a request.
pub const FAULT_BODY: &str = "fault filter abort";

impl Fault {
    /// What happens to a request, when there are `active` faults already.
    pub fn decide(&self, request: &Request<'_>, active: u64, random: &mut impl Rng) -> FaultDecision {
        let is_meant = self.headers.iter().all(|header| header.matches(request))
            && self.max_active.is_none_or(|max| active < u64::from(max));
        if !is_meant {
            return FaultDecision::default();
        }
        let delay = self.delay.filter(|(delay, share)| delay.share(request, *share).hits(random));
        let abort = self.abort.filter(|(abort, share)| abort.share(request, *share).hits(random));
        FaultDecision {
            delay: delay.and_then(|(delay, _)| delay.duration(request)),
            abort: abort.and_then(|(abort, _)| abort.with(request)),
        }
    }
}

impl Delay {
    fn share(self, request: &Request<'_>, share: Fraction) -> Fraction {
        match self {
            Self::Fixed(_) => share,
            Self::FromHeader => at_most(share, request, "x-envoy-fault-delay-request-percentage"),
        }
    }

    fn duration(self, request: &Request<'_>) -> Option<Duration> {
        let milliseconds = match self {
            Self::Fixed(delay) => u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
            Self::FromHeader => number(request, "x-envoy-fault-delay-request")?,
        };
        (milliseconds > 0).then(|| Duration::from_millis(milliseconds))
    }
}

impl Abort {
    fn share(self, request: &Request<'_>, share: Fraction) -> Fraction {
        match self {
            Self::With(_) => share,
            Self::FromHeader => at_most(share, request, "x-envoy-fault-abort-request-percentage"),
        }
    }

    fn with(self, request: &Request<'_>) -> Option<AbortWith> {
        if let Self::With(with) = self {
            return Some(with);
        }
        let http = number(request, "x-envoy-fault-abort-request")
            .filter(|status| (200..600).contains(status))
            .and_then(|status| StatusCode::from_u16(status).ok());
        let grpc = || number(request, "x-envoy-fault-abort-grpc-request");
        http.map(AbortWith::Http).or_else(|| grpc().map(AbortWith::Grpc))
    }
}

/// The share that a header asks for, but no more than `share`.
fn at_most(share: Fraction, request: &Request<'_>, name: &str) -> Fraction {
    let asked = number(request, name);
    Fraction { numerator: asked.unwrap_or(share.numerator).min(share.numerator), ..share }
}

/// The number in the first of the headers called `name`.
fn number<N: FromStr>(request: &Request<'_>, name: &str) -> Option<N> {
    text::number(request.headers.get(name)?.as_bytes())
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::HeaderMatchKind;
    use crate::example::Asked;

    fn decide_often(fault: &Fault, headers: &[(&'static str, &'static str)], active: u64) -> Vec<FaultDecision> {
        let asked = Asked::new("a", "/").with_all(headers);
        let mut random = StdRng::seed_from_u64(1);
        (0..1000).map(|_| fault.decide(&asked.request(), active, &mut random)).collect()
    }

    fn decide(fault: &Fault, headers: &[(&'static str, &'static str)]) -> FaultDecision {
        decide_often(fault, headers, 0)[0]
    }

    fn both() -> Fault {
        Fault {
            delay: Some((Delay::Fixed(Duration::from_micros(5500)), Fraction::ALL)),
            abort: Some((Abort::With(AbortWith::Http(StatusCode::IM_A_TEAPOT)), Fraction::ALL)),
            ..Fault::default()
        }
    }

    const NOTHING: FaultDecision = FaultDecision { delay: None, abort: None };

    #[test]
    fn a_request_may_wait_and_then_end() {
        let delay = Some(Duration::from_millis(5));
        let abort = Some(AbortWith::Http(StatusCode::IM_A_TEAPOT));
        assert_eq!(decide(&both(), &[]), FaultDecision { delay, abort });
        assert_eq!(decide(&Fault { abort: None, ..both() }, &[]), FaultDecision { delay, abort: None });
        assert_eq!(decide(&Fault { delay: None, ..both() }, &[]), FaultDecision { delay: None, abort });
        assert_eq!(decide(&Fault::default(), &[]), NOTHING);
        assert_eq!(FAULT_BODY, "fault filter abort");
    }

    #[test]
    fn less_than_a_millisecond_is_no_delay() {
        let short = Delay::Fixed(Duration::from_micros(999));
        assert_eq!(decide(&Fault { delay: Some((short, Fraction::ALL)), ..Fault::default() }, &[]), NOTHING);
    }

    #[test]
    fn shares_are_of_their_own() {
        let half = Fraction { numerator: 50, ..Fraction::default() };
        let grpc = AbortWith::Grpc(14);
        let fault = Fault {
            delay: Some((Delay::Fixed(Duration::from_secs(1)), half)),
            abort: Some((Abort::With(grpc), half)),
            ..Fault::default()
        };
        let decisions = decide_often(&fault, &[], 0);
        for (has_delay, abort) in [(false, None), (true, None), (false, Some(grpc)), (true, Some(grpc))] {
            let like_this =
                |decision: &&FaultDecision| decision.delay.is_some() == has_delay && decision.abort == abort;
            assert!((150..350).contains(&decisions.iter().filter(like_this).count()));
        }
    }

    #[test]
    fn only_some_requests_are_meant() {
        let kind = HeaderMatchKind::Present(true);
        let header = HeaderMatch { name: "user".into(), kind, inverts: false, treats_missing_as_empty: false };
        let fault = Fault { headers: vec![header], ..both() };
        assert_eq!(decide(&fault, &[]), NOTHING);
        assert_ne!(decide(&fault, &[("user", "a")]), NOTHING);
    }

    #[test]
    fn there_are_no_more_faults_than_allowed() {
        let fault = Fault { max_active: Some(2), ..both() };
        assert_ne!(decide_often(&fault, &[], 1)[0], NOTHING);
        assert_eq!(decide_often(&fault, &[], 2)[0], NOTHING);
    }

    #[test]
    fn headers_say_how_long_and_with_what() {
        let fault = Fault {
            delay: Some((Delay::FromHeader, Fraction::ALL)),
            abort: Some((Abort::FromHeader, Fraction::ALL)),
            ..Fault::default()
        };
        let delay = |value| decide(&fault, &[("x-envoy-fault-delay-request", value)]).delay;
        assert_eq!(delay(" 20"), Some(Duration::from_millis(20)));
        assert_eq!([delay("0"), delay("x"), delay("-1")], [None; 3]);
        let abort = |headers: &[_]| decide(&fault, headers).abort;
        let http = |value| ("x-envoy-fault-abort-request", value);
        let grpc = ("x-envoy-fault-abort-grpc-request", "5");
        assert_eq!(abort(&[http("429"), http("500"), grpc]), Some(AbortWith::Http(StatusCode::TOO_MANY_REQUESTS)));
        assert_eq!(abort(&[http("199"), grpc]), Some(AbortWith::Grpc(5)));
        assert_eq!(abort(&[http("600")]), None);
        assert_eq!(abort(&[]), None);
    }

    #[test]
    fn headers_make_shares_only_smaller() {
        let share = Fraction { numerator: 50, ..Fraction::default() };
        let fault = Fault {
            delay: Some((Delay::FromHeader, share)),
            abort: Some((Abort::FromHeader, share)),
            ..Fault::default()
        };
        let counts = |percentage| {
            let headers = [
                ("x-envoy-fault-delay-request", "1"),
                ("x-envoy-fault-abort-request", "503"),
                ("x-envoy-fault-delay-request-percentage", percentage),
                ("x-envoy-fault-abort-request-percentage", percentage),
            ];
            let decisions = decide_often(&fault, &headers, 0);
            [
                decisions.iter().filter(|decision| decision.delay.is_some()).count() / 100,
                decisions.iter().filter(|decision| decision.abort.is_some()).count() / 100,
            ]
        };
        assert_eq!(counts("0"), [0, 0]);
        for share in ["90", "x"] {
            assert!(counts(share).iter().all(|count| (4..6).contains(count)), "{share}");
        }
    }
}
