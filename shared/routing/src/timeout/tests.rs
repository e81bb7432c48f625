//! Tests of timeouts.

use http::Method;

use super::*;
use crate::example::Asked;

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// The timeouts of a request with these headers, whose route also has timeouts of tries.
fn timeouts(policy: TimeoutPolicy, per_try: u64, headers: &[(&'static str, &str)]) -> Timeouts {
    let asked = Asked { method: Method::POST, ..Asked::new("shop", "/") }.with_all(headers);
    policy.for_request(
        &RetryPolicy { per_try_timeout: ms(per_try), per_try_idle_timeout: ms(5), ..RetryPolicy::default() },
        &asked.request(),
    )
}

fn route(count: u64) -> TimeoutPolicy {
    TimeoutPolicy { route: ms(count), ..TimeoutPolicy::default() }
}

fn expected(timeouts: Timeouts, elapsed: u64) -> Option<u64> {
    timeouts.headers(ms(elapsed)).expected_ms
}

#[test]
fn zero_is_no_limit() {
    let none = timeouts(route(0), 0, &[]);
    assert_eq!((none.global, none.per_try), (None, None));
    assert_eq!(none.headers(Duration::ZERO), TimeoutHeaders::default());
}

#[test]
fn headers_take_the_place_of_what_is_configured() {
    let headers = [("x-envoy-upstream-rq-timeout-ms", "200"), ("x-envoy-upstream-rq-per-try-timeout-ms", " 50 ")];
    let changed = timeouts(route(100), 20, &headers);
    assert_eq!((changed.global, changed.per_try), (Some(ms(200)), Some(ms(50))));
    let bad = [("x-envoy-upstream-rq-timeout-ms", "bad"), ("x-envoy-upstream-rq-per-try-timeout-ms", "-1")];
    let unchanged = timeouts(route(100), 20, &bad);
    assert_eq!((unchanged.global, unchanged.per_try), (Some(ms(100)), Some(ms(20))));
    let none = timeouts(route(100), 20, &[(TimeoutPolicy::HEADERS[0], "0")]);
    assert_eq!((none.global, none.per_try), (None, Some(ms(20))));
}

#[test]
fn a_try_has_no_limit_of_its_own_that_is_not_below_that_of_the_request() {
    assert_eq!(timeouts(route(100), 100, &[]).per_try, None);
    assert_eq!(timeouts(route(100), 99, &[]).per_try, Some(ms(99)));
    assert_eq!(timeouts(route(0), 100, &[]).per_try, Some(ms(100)));
}

#[test]
fn a_try_in_which_nothing_moves_has_a_limit_of_its_own() {
    assert_eq!(timeouts(route(100), 0, &[]).per_try_idle, Some(ms(5)));
}

#[test]
fn an_endpoint_learns_how_long_it_has() {
    assert_eq!(expected(timeouts(route(100), 0, &[]), 0), Some(100));
    assert_eq!(expected(timeouts(route(100), 30, &[]), 0), Some(30));
    assert_eq!(expected(timeouts(route(100), 30, &[]), 80), Some(20));
    assert_eq!(expected(timeouts(route(100), 30, &[]), 100), Some(1));
    assert_eq!(expected(timeouts(route(0), 30, &[]), 1000), Some(30));
    let hedged = timeouts(route(100), 30, &[("x-envoy-hedge-on-per-try-timeout", "true")]);
    assert_eq!(expected(hedged, 0), Some(100));
}

#[test]
fn a_grpc_request_asks_for_its_timeout() {
    let grpc = |policy, timeout: &str| {
        timeouts(policy, 0, &[("content-type", "application/grpc+proto"), ("grpc-timeout", timeout)])
    };
    let up_to = |max| TimeoutPolicy { max_grpc: Some(ms(max)), ..route(7) };
    assert_eq!(grpc(up_to(0), "1S").global, Some(ms(1000)));
    assert_eq!(grpc(up_to(0), "0S").global, None);
    assert_eq!(grpc(up_to(0), "bad").global, None);
    assert_eq!(grpc(up_to(500), "1S").global, Some(ms(500)));
    assert_eq!(grpc(up_to(500), "").global, Some(ms(500)));
    assert_eq!(grpc(up_to(500), "1m").global, Some(ms(1)));
    assert_eq!(grpc(route(7), "1S").global, Some(ms(7)));
    let offset = |offset| TimeoutPolicy { grpc_offset: ms(offset), ..up_to(0) };
    assert_eq!(grpc(offset(300), "1S").global, Some(ms(700)));
    assert_eq!(grpc(offset(1000), "1S").global, Some(ms(1000)));
    assert_eq!(grpc(TimeoutPolicy { is_replaced: true, ..up_to(0) }, "1S").global, None);
    let other = timeouts(up_to(0), 0, &[("content-type", "application/grpc-web"), ("grpc-timeout", "1S")]);
    assert_eq!(other.global, Some(ms(7)));
}

#[test]
fn a_grpc_timeout_is_rewritten_where_it_is_obeyed() {
    let headers = [("content-type", "application/grpc"), ("grpc-timeout", "1S")];
    let rewritten = timeouts(TimeoutPolicy { max_grpc: Some(ms(500)), ..route(0) }, 0, &headers);
    assert_eq!(
        rewritten.headers(ms(100)),
        TimeoutHeaders { expected_ms: Some(400), grpc_timeout: Some("400m".into()) }
    );
    let kept = timeouts(route(500), 0, &headers);
    assert_eq!(kept.headers(ms(100)), TimeoutHeaders { expected_ms: Some(400), grpc_timeout: None });
}

#[test]
fn a_grpc_timeout_has_six_units() {
    let read = |text: &str| read_grpc(text.as_bytes()).map(|timeout| timeout.as_millis());
    assert_eq!(read("1H"), Some(3_600_000));
    assert_eq!(read("2M"), Some(120_000));
    assert_eq!(read("3S"), Some(3000));
    assert_eq!(read("4m"), Some(4));
    assert_eq!(read("1001u"), Some(2));
    assert_eq!(read("1n"), Some(1));
    assert_eq!(read("99999999H"), Some(99_999_999 * 3_600_000));
    for bad in ["", "H", "1", "1F", "-1S", "100000000S"] {
        assert_eq!(read(bad), None, "{bad}");
    }
}

#[test]
fn a_grpc_timeout_has_eight_digits_at_most() {
    assert_eq!(write_grpc(1), "1m");
    assert_eq!(write_grpc(99_999_999), "99999999m");
    assert_eq!(write_grpc(100_000_000), "100000S");
    assert_eq!(write_grpc(99_999_999 * 1000 + 1), "99999999S");
    assert_eq!(write_grpc(100_000_000_000), "1666666M");
    assert_eq!(write_grpc(u64::MAX), "99999999H");
}
