//! Tests of retries.

use std::time::SystemTime;

use http::{HeaderMap, StatusCode};
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;
use crate::example::Asked;
use crate::{Loads, TextMatch};

type Headers<'a> = &'a [(&'static str, &'a str)];

fn map(headers: Headers<'_>) -> HeaderMap {
    headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

/// The retries of a request with these headers.
fn state(policy: RetryPolicy, headers: Headers<'_>) -> RetryState {
    Arc::new(policy).for_request(&Asked::new("shop", "/").with_all(headers).request())
}

fn on(tokens: &str) -> RetryPolicy {
    let (on, unknown) = RetryOn::parse(tokens);
    assert!(unknown.is_empty(), "{unknown:?}");
    RetryPolicy { on, ..RetryPolicy::default() }
}

fn decide(state: &mut RetryState, outcome: &Outcome<'_>) -> RetryDecision {
    state.after(outcome, || true, &mut SmallRng::seed_from_u64(1))
}

fn is_retried(state: &mut RetryState, outcome: &Outcome<'_>) -> bool {
    match decide(state, outcome) {
        RetryDecision::Retry { .. } => true,
        RetryDecision::GiveUp(GiveUp::NotRetriable) => false,
        other => panic!("{other:?}"),
    }
}

fn is_retried_response(state: &mut RetryState, status: u16, headers: Headers<'_>) -> bool {
    let (status, headers) = (StatusCode::from_u16(status).unwrap(), map(headers));
    is_retried(state, &Outcome::Response { status, headers: &headers, at: SystemTime::UNIX_EPOCH })
}

const fn reset(reason: Reset) -> Outcome<'static> {
    Outcome::Reset { reason, was_sent: true }
}

#[test]
fn each_name_means_some_statuses() {
    let statuses = [200, 404, 409, 425, 499, 500, 502, 503, 504, 505];
    let retried = |tokens: &str, codes: &[u16]| {
        let policy = RetryPolicy { status_codes: codes.to_vec(), ..on(tokens) };
        let is_retried = |status: &u16| is_retried_response(&mut state(policy.clone(), &[]), *status, &[]);
        statuses.into_iter().filter(is_retried).collect::<Vec<_>>()
    };
    assert_eq!(retried("5xx", &[]), [500, 502, 503, 504, 505]);
    assert_eq!(retried("gateway-error", &[]), [502, 503, 504]);
    assert_eq!(retried("retriable-4xx", &[]), [409]);
    assert_eq!(retried("retriable-status-codes", &[404, 425]), [404, 425]);
    assert_eq!(retried("connect-failure", &[404]), [0; 0]);
    assert_eq!(retried("retriable-4xx,gateway-error", &[]), [409, 502, 503, 504]);
    assert_eq!(retried("reset,connect-failure,refused-stream,retriable-headers,internal", &[503]), [0; 0]);
}

#[test]
fn each_name_means_some_resets() {
    let reasons = [Reset::ConnectFailure, Reset::RefusedStream, Reset::Overflow, Reset::Other];
    let retried = |tokens: &str, was_sent: bool| {
        reasons.map(|reason| is_retried(&mut state(on(tokens), &[]), &Outcome::Reset { reason, was_sent }))
    };
    assert_eq!(retried("connect-failure", true), [true, false, false, false]);
    assert_eq!(retried("refused-stream", true), [false, true, false, false]);
    assert_eq!(retried("reset", true), [true, true, false, true]);
    assert_eq!(retried("5xx", true), [true, true, false, true]);
    assert_eq!(retried("gateway-error", true), [true, true, false, true]);
    assert_eq!(retried("reset-before-request", false), [true, true, false, true]);
    assert_eq!(retried("reset-before-request", true), [false; 4]);
    assert_eq!(retried("retriable-4xx,unavailable,http3-post-connect-failure", true), [false; 4]);
}

#[test]
fn what_an_earlier_try_sent_counts() {
    let mut state = state(RetryPolicy { max_retries: 9, ..on("reset-before-request,connect-failure") }, &[]);
    assert!(is_retried(&mut state, &Outcome::Reset { reason: Reset::Other, was_sent: false }));
    assert!(is_retried(&mut state, &Outcome::Reset { reason: Reset::ConnectFailure, was_sent: true }));
    assert!(!is_retried(&mut state, &Outcome::Reset { reason: Reset::Other, was_sent: false }));
}

#[test]
fn a_status_of_grpc_is_one_of_the_headers() {
    let names = [
        ("cancelled", "1"),
        ("deadline-exceeded", "4"),
        ("resource-exhausted", "8"),
        ("internal", "13"),
        ("unavailable", "14"),
    ];
    for (name, own) in names {
        for status in 0..20 {
            let text = status.to_string();
            let is_retried = is_retried_response(&mut state(on(name), &[]), 200, &[("grpc-status", &text)]);
            assert_eq!(is_retried, text == own, "{name} after {text}");
        }
    }
    assert!(!is_retried_response(&mut state(on("unavailable"), &[]), 503, &[]));
}

#[test]
fn a_limited_rate_is_its_own_reason() {
    let limited = [("x-envoy-ratelimited", "true")];
    assert!(!is_retried_response(&mut state(on("5xx"), &[]), 503, &limited));
    assert!(is_retried_response(&mut state(on("envoy-ratelimited"), &[]), 429, &limited));
    assert!(!is_retried_response(&mut state(on("envoy-ratelimited"), &[]), 429, &[]));
    assert!(is_retried_response(&mut state(on("5xx"), &[]), 503, &[("x-envoy-overloaded", "true")]));
}

fn text(name: &str, value: &str) -> HeaderMatch {
    HeaderMatch {
        name: name.into(),
        kind: HeaderMatchKind::Text(TextMatch::exact(value)),
        inverts: false,
        treats_missing_as_empty: false,
    }
}

#[test]
fn headers_of_responses_are_compared() {
    let headers = vec![text("X-Again", "b"), text(":status", "418")];
    let policy = RetryPolicy { headers, ..on("retriable-headers") };
    let is_retried =
        |status, headers: Headers<'_>| is_retried_response(&mut state(policy.clone(), &[]), status, headers);
    assert!(is_retried(200, &[("x-again", "a"), ("x-again", "b")]));
    assert!(!is_retried(200, &[("x-again", "a")]));
    assert!(!is_retried(200, &[]));
    assert!(is_retried(418, &[]));
}

#[test]
fn a_request_must_have_one_of_the_headers() {
    let policy = RetryPolicy { request_headers: vec![text("a", "1"), text(":method", "POST")], ..on("5xx") };
    assert!(is_retried_response(&mut state(policy.clone(), &[("a", "1")]), 503, &[]));
    assert!(!is_retried_response(&mut state(policy.clone(), &[]), 503, &[]));
    assert!(!is_retried_response(&mut state(policy, &[("x-envoy-retry-on", "5xx")]), 503, &[]));
}

#[test]
fn a_request_adds_what_it_wants() {
    let is_retried = |headers: Headers<'_>, status, response: Headers<'_>| {
        is_retried_response(&mut state(on("retriable-4xx"), headers), status, response)
    };
    assert!(!is_retried(&[], 503, &[]));
    assert!(is_retried(&[("x-envoy-retry-on", "oops, 5xx")], 503, &[]));
    assert!(is_retried(&[("x-envoy-retry-on", "5xx")], 409, &[]));
    assert!(is_retried(&[("x-envoy-retry-grpc-on", "cancelled")], 200, &[("grpc-status", "1")]));
    assert!(!is_retried(&[("x-envoy-retry-on", "cancelled")], 200, &[("grpc-status", "1")]));
    assert!(!is_retried(&[("x-envoy-retry-grpc-on", "5xx")], 503, &[]));
    let codes =
        [("x-envoy-retry-on", "retriable-status-codes"), ("x-envoy-retriable-status-codes", "418, 419,x,,70000")];
    assert!(is_retried(&codes, 418, &[]) && is_retried(&codes, 419, &[]) && !is_retried(&codes, 420, &[]));
    let names = [("x-envoy-retry-on", "retriable-headers"), ("x-envoy-retriable-header-names", "x-a, x-b,")];
    assert!(is_retried(&names, 200, &[("x-b", "")]));
    assert!(!is_retried(&names, 200, &[("x-c", "")]));
}

#[test]
fn a_request_says_how_often() {
    for (header, retries) in [(None, 1), (Some("3"), 3), (Some("0"), 0), (Some("many"), 1)] {
        let headers: Vec<_> = header.map(|value| (RetryPolicy::HEADERS[2], value)).into_iter().collect();
        let mut state = state(on("5xx"), &headers);
        for _ in 0..retries {
            assert!(is_retried(&mut state, &reset(Reset::Other)), "{header:?}");
        }
        assert_eq!(decide(&mut state, &reset(Reset::Other)), RetryDecision::GiveUp(GiveUp::Exhausted), "{header:?}");
    }
}

#[test]
fn each_end_has_its_reason_and_flag() {
    let mut random = SmallRng::seed_from_u64(1);
    let end = |decision| match decision {
        RetryDecision::GiveUp(reason) => (reason, reason.flag()),
        RetryDecision::Retry { .. } => panic!("retried"),
    };
    let mut refused = state(on("5xx"), &[]);
    let overflow = refused.after(&reset(Reset::Other), || false, &mut random);
    assert_eq!(end(overflow), (GiveUp::Overflow, Some("UO")));
    // A retry that was refused counts.
    assert_eq!(end(decide(&mut refused, &reset(Reset::Other))), (GiveUp::Exhausted, Some("URX")));
    assert_eq!(end(decide(&mut refused, &reset(Reset::Overflow))), (GiveUp::NotRetriable, None));
    let mut lost = state(on("5xx"), &[]);
    lost.lose_body();
    let decision = lost.after(&reset(Reset::Other), || panic!("asked in vain"), &mut random);
    assert_eq!(end(decision), (GiveUp::BodyLost, None));
}

#[test]
fn a_try_that_takes_too_long_is_reset_unless_requests_are_hedged() {
    let late = Outcome::PerTryTimeout { was_sent: true };
    assert!(is_retried(&mut state(on("5xx"), &[]), &late));
    assert!(is_retried(&mut state(on("reset"), &[]), &late));
    assert!(!is_retried(&mut state(on("connect-failure,unavailable"), &[]), &late));
    let hedged = RetryPolicy { hedges_on_per_try_timeout: true, ..on("connect-failure") };
    assert!(is_retried(&mut state(hedged.clone(), &[]), &late));
    assert!(!is_retried(&mut state(hedged, &[("x-envoy-hedge-on-per-try-timeout", "false")]), &late));
    assert!(is_retried(&mut state(on("connect-failure"), &[("x-envoy-hedge-on-per-try-timeout", "true")]), &late));
}

#[test]
fn a_hedged_request_needs_something_to_retry_after() {
    let late = Outcome::PerTryTimeout { was_sent: true };
    let hedged = || RetryPolicy { hedges_on_per_try_timeout: true, ..on("") };
    assert!(!is_retried(&mut state(hedged(), &[]), &late));
    assert!(is_retried(&mut state(hedged(), &[("x-envoy-retry-on", "oops")]), &late));
}

#[test]
fn a_response_that_came_too_early_is_tried_again_at_once() {
    let policy = RetryPolicy { status_codes: vec![425], ..on("retriable-status-codes") };
    let headers = HeaderMap::new();
    let outcome = Outcome::Response { status: StatusCode::TOO_EARLY, headers: &headers, at: SystemTime::UNIX_EPOCH };
    assert_eq!(decide(&mut state(policy.clone(), &[]), &outcome), RetryDecision::Retry { after: Duration::ZERO });
    assert!(!is_retried(&mut state(policy, &[("early-data", "1")]), &outcome));
}

#[test]
fn a_response_may_say_when_to_come_again() {
    let asked = RateLimitedBackOff {
        headers: vec![("retry-after".into(), ResetFormat::Seconds)],
        max: Duration::from_secs(300),
    };
    let mut state = state(RetryPolicy { rate_limited_back_off: Some(asked), max_retries: 2, ..on("5xx") }, &[]);
    let mut wait = |headers: Headers<'_>| {
        let headers = map(headers);
        let outcome =
            Outcome::Response { status: StatusCode::BAD_GATEWAY, headers: &headers, at: SystemTime::UNIX_EPOCH };
        match decide(&mut state, &outcome) {
            RetryDecision::Retry { after } => after,
            RetryDecision::GiveUp(reason) => panic!("{reason:?}"),
        }
    };
    assert!(wait(&[("retry-after", "7")]) >= Duration::from_secs(7));
    assert!(wait(&[]) < Duration::from_millis(25));
}

#[test]
fn endpoints_that_were_tried_are_avoided_where_that_is_wanted() {
    for avoids_previous_hosts in [false, true] {
        let mut state = state(RetryPolicy { avoids_previous_hosts, ..RetryPolicy::of_mesh() }, &[]);
        assert!(!state.avoids("10.0.0.1:80"));
        state.add_try("10.0.0.1:80".into(), 0);
        assert_eq!(state.avoids("10.0.0.1:80"), avoids_previous_hosts);
        assert!(!state.avoids("10.0.0.2:80"));
        assert_eq!(state.host_selection_attempts(), 5);
    }
}

#[test]
fn priorities_that_were_tried_are_avoided_where_that_is_wanted() {
    let endpoints = || vec![crate::Endpoint::new("10.0.0.1:80")];
    let priority =
        || crate::Priority { localities: vec![crate::Locality { endpoints: endpoints(), ..Default::default() }] };
    let loads = Loads::new(&crate::Endpoints { priorities: vec![priority(), priority()], ..Default::default() }, 0);
    for every in [None, std::num::NonZeroU32::new(1)] {
        let mut state = state(RetryPolicy { avoids_previous_priorities: every, ..RetryPolicy::default() }, &[]);
        assert_eq!(state.loads(&loads), None);
        state.add_try("10.0.0.1:80".into(), 0);
        assert_eq!(state.loads(&loads).map(|loads| loads.healthy().to_vec()), every.map(|_| vec![0, 100]));
    }
}

#[test]
fn a_mesh_retries_what_no_application_has_seen() {
    let retried = |outcome: &Outcome<'_>| is_retried(&mut state(RetryPolicy::of_mesh(), &[]), outcome);
    assert!(retried(&reset(Reset::ConnectFailure)) && retried(&reset(Reset::RefusedStream)));
    assert!(!retried(&reset(Reset::Other)));
    let response =
        |status, headers: Headers<'_>| is_retried_response(&mut state(RetryPolicy::of_mesh(), &[]), status, headers);
    assert!(!response(503, &[]));
    assert!(response(200, &[("grpc-status", "14")]));
}

proptest! {
    #[test]
    fn a_request_is_never_sent_more_often_than_it_may(
        max_retries in 0u32..6,
        statuses in prop::collection::vec(prop::sample::select(vec![200u16, 409, 500, 503]), 0..12),
        seed in any::<u64>(),
    ) {
        let mut state = state(RetryPolicy { max_retries, ..on("5xx") }, &[]);
        let mut random = SmallRng::seed_from_u64(seed);
        let headers = HeaderMap::new();
        let (mut retries, mut bound) = (0, 25);
        for status in statuses {
            let status = StatusCode::from_u16(status).unwrap();
            let outcome = Outcome::Response { status, headers: &headers, at: SystemTime::UNIX_EPOCH };
            let expected = match (status.is_server_error(), retries < max_retries) {
                (false, _) => Some(GiveUp::NotRetriable),
                (true, false) => Some(GiveUp::Exhausted),
                (true, true) => None,
            };
            match (state.after(&outcome, || true, &mut random), expected) {
                (RetryDecision::GiveUp(reason), Some(expected)) => prop_assert_eq!(reason, expected),
                (RetryDecision::Retry { after }, None) => {
                    prop_assert!(after < Duration::from_millis(bound));
                    retries += 1;
                    bound = (bound * 2).min(250);
                }
                (decision, expected) => prop_assert!(false, "{:?} instead of {:?}", decision, expected),
            }
        }
    }
}
