//! Tests of ejections.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

const fn response(status: u16) -> Report {
    Report::Response { status, of_grpc: None }
}

/// The endpoints from 0 on.
fn outliers(policy: OutlierPolicy, count: u32) -> Outliers<u32> {
    let mut outliers = Outliers::new(policy);
    outliers.set_endpoints(0..count);
    outliers
}

fn all_may_go() -> OutlierPolicy {
    OutlierPolicy { max_percent: 100, ..OutlierPolicy::default() }
}

fn record(outliers: &mut Outliers<u32>, key: u32, report: Report, now: u64) -> Option<Ejection> {
    outliers.record(&key, report, secs(now), &mut SmallRng::seed_from_u64(1))
}

/// What the last of so many reports does.
fn last(outliers: &mut Outliers<u32>, key: u32, reports: &[Report], now: u64) -> Option<Ejection> {
    reports.iter().map(|report| record(outliers, key, *report, now)).last().flatten()
}

#[test]
fn an_endpoint_is_ejected_for_failures_in_succession() {
    let mut outliers = outliers(all_may_go(), 2);
    assert_eq!(last(&mut outliers, 0, &[response(500); 4], 0), None);
    assert_eq!(record(&mut outliers, 0, response(404), 0), None);
    assert_eq!(last(&mut outliers, 0, &[response(500); 4], 0), None);
    assert!(!outliers.is_ejected(&0));
    let ejection = record(&mut outliers, 0, response(503), 0);
    assert_eq!(ejection, Some(Ejection { failure: Failure::Server, lasts: secs(30) }));
    assert!(outliers.is_ejected(&0) && !outliers.is_ejected(&1));
    assert_eq!(last(&mut outliers, 0, &[response(500); 20], 0), None);
    assert_eq!(record(&mut outliers, 7, response(500), 0), None);
}

#[test]
fn each_failure_has_its_limit() {
    let limit = |count| FailureLimit { count, enforced_percent: 100 };
    let policy = OutlierPolicy { gateway_failures: limit(2), server_errors: limit(3), ..all_may_go() };
    let failure = |policy: &OutlierPolicy, reports: &[Report]| {
        last(&mut outliers(policy.clone(), 1), 0, reports, 0).map(|ejection| ejection.failure)
    };
    assert_eq!(failure(&policy, &[response(502), Report::TimedOut]), Some(Failure::Gateway));
    assert_eq!(failure(&policy, &[response(502), response(500), Report::Failed]), Some(Failure::Server));
    assert_eq!(failure(&policy, &[response(503), Report::Connected, response(503)]), Some(Failure::Gateway));
    let never = OutlierPolicy { gateway_failures: limit(0), server_errors: limit(0), ..all_may_go() };
    assert_eq!(failure(&never, &[response(503); 100]), None);
    // Where both are reached at once, one of them ejects.
    let same = OutlierPolicy { gateway_failures: limit(2), server_errors: limit(2), ..all_may_go() };
    assert_eq!(failure(&same, &[response(503); 2]), Some(Failure::Gateway));
}

#[test]
fn failures_without_a_response_have_a_limit_of_their_own() {
    let policy = OutlierPolicy { splits_local_failures: true, ..all_may_go() };
    let mut split = outliers(policy, 1);
    assert_eq!(last(&mut split, 0, &[Report::Failed; 4], 0), None);
    assert_eq!(record(&mut split, 0, Report::Connected, 0), None);
    assert_eq!(last(&mut split, 0, &[response(500); 4], 0), None);
    assert_eq!(last(&mut split, 0, &[Report::TimedOut; 4], 0), None);
    assert_eq!(record(&mut split, 0, Report::Failed, 0).map(|ejection| ejection.failure), Some(Failure::Local));
}

#[test]
fn a_limit_that_is_not_enforced_only_begins_again() {
    let limit = FailureLimit { count: 2, enforced_percent: 0 };
    let mut watched = outliers(OutlierPolicy { server_errors: limit, ..all_may_go() }, 1);
    assert_eq!(last(&mut watched, 0, &[response(500); 20], 0), None);
    let half = FailureLimit { count: 1, enforced_percent: 50 };
    let mut random = SmallRng::seed_from_u64(1);
    let ejected = (0..1000).filter(|_| {
        let mut outliers = outliers(OutlierPolicy { server_errors: half, ..all_may_go() }, 1);
        outliers.record(&0, response(500), secs(0), &mut random).is_some()
    });
    assert!((400..600).contains(&ejected.count()));
}

#[test]
fn only_so_many_are_ejected_at_once() {
    let ejected = |policy: OutlierPolicy, count| {
        let mut outliers = outliers(policy, count);
        (0..count).filter(|key| last(&mut outliers, *key, &[response(500); 5], 0).is_some()).count()
    };
    let percent = |max_percent| OutlierPolicy { max_percent, ..OutlierPolicy::default() };
    assert_eq!(ejected(percent(10), 9), 0);
    assert_eq!(ejected(percent(10), 10), 1);
    assert_eq!(ejected(percent(10), 29), 2);
    assert_eq!(ejected(percent(50), 3), 1);
    assert_eq!(ejected(percent(100), 3), 3);
    assert_eq!(ejected(percent(0), 3), 0);
    assert_eq!(ejected(OutlierPolicy { always_ejects_one: true, ..percent(10) }, 3), 1);
}

#[test]
fn an_endpoint_comes_back_with_the_first_sweep_after_its_time() {
    let mut outliers = outliers(all_may_go(), 2);
    last(&mut outliers, 0, &[response(500); 5], 3);
    assert_eq!(outliers.sweep(secs(32)), [0; 0]);
    assert!(outliers.is_ejected(&0));
    assert_eq!(outliers.sweep(secs(33)), [0]);
    assert!(!outliers.is_ejected(&0));
    assert_eq!(outliers.sweep(secs(34)), [0; 0]);
}

#[test]
fn an_endpoint_is_ejected_longer_each_time_and_forgiven_bit_by_bit() {
    let mut outliers = outliers(OutlierPolicy { max_ejection: secs(80), ..all_may_go() }, 1);
    let mut eject = |now| last(&mut outliers, 0, &[response(500); 5], now).map(|ejection| ejection.lasts.as_secs());
    let mut lasts = vec![eject(0)];
    for now in [100, 200, 300, 400] {
        assert_eq!(outliers.sweep(secs(now)), [0]);
        lasts.push(last(&mut outliers, 0, &[response(500); 5], now).map(|ejection| ejection.lasts.as_secs()));
    }
    assert_eq!(lasts, [30, 60, 80, 80, 80].map(Some));
    assert_eq!(outliers.sweep(secs(500)), [0]);
    // Of four times, two are forgiven.
    for now in [505, 510, 520] {
        assert_eq!(outliers.sweep(secs(now)), [0; 0]);
    }
    assert_eq!(last(&mut outliers, 0, &[response(500); 5], 521).map(|ejection| ejection.lasts), Some(secs(80)));
    outliers.sweep(secs(700));
    for now in (710..=800).step_by(10) {
        outliers.sweep(secs(now));
    }
    assert_eq!(last(&mut outliers, 0, &[response(500); 5], 801).map(|ejection| ejection.lasts), Some(secs(30)));
}

#[test]
fn an_endpoint_is_never_ejected_for_less_than_the_base() {
    let mut outliers = outliers(OutlierPolicy { base_ejection: secs(400), ..all_may_go() }, 1);
    let ejection = last(&mut outliers, 0, &[response(500); 5], 0);
    assert_eq!(ejection.map(|ejection| ejection.lasts), Some(secs(400)));
}

#[test]
fn ejections_may_last_a_little_longer() {
    let mut outliers = outliers(OutlierPolicy { max_jitter: secs(5), ..all_may_go() }, 100);
    let mut random = SmallRng::seed_from_u64(1);
    let lasts: Vec<_> = (0..100)
        .filter_map(|key| {
            let reports = [response(500); 5].map(|report| outliers.record(&key, report, secs(0), &mut random));
            reports[4].map(|ejection| ejection.lasts)
        })
        .collect();
    assert!(lasts.iter().all(|lasts| (secs(30)..=secs(35)).contains(lasts)));
    assert!(lasts.iter().any(|lasts| *lasts < secs(32)) && lasts.iter().any(|lasts| *lasts > secs(33)));
}

#[test]
fn what_is_known_about_endpoints_that_stay_is_kept() {
    let mut outliers = outliers(OutlierPolicy { max_percent: 50, ..all_may_go() }, 4);
    last(&mut outliers, 0, &[response(500); 5], 0);
    last(&mut outliers, 1, &[response(500); 5], 0);
    last(&mut outliers, 2, &[response(500); 4], 0);
    outliers.set_endpoints([1, 2, 3, 4]);
    assert_eq!([0, 1, 2].map(|key| outliers.is_ejected(&key)), [false, true, false]);
    // The place of the one that is gone is free.
    assert!(record(&mut outliers, 2, response(500), 0).is_some());
    outliers.set_endpoints([1, 1]);
    assert!(outliers.is_ejected(&1));
    outliers.set_endpoints([0]);
    assert!(!outliers.is_ejected(&0));
}

/// What happens to one of three endpoints, or to time.
#[derive(Debug, Clone, Copy)]
enum Event {
    Report(u32, Report),
    Sweep,
}

fn event() -> impl Strategy<Value = Event> {
    let reports =
        vec![response(200), response(500), response(503), Report::Failed, Report::TimedOut, Report::Connected];
    prop_oneof![
        6 => (0u32..3, prop::sample::select(reports)).prop_map(|(key, report)| Event::Report(key, report)),
        1 => Just(Event::Sweep),
    ]
}

/// All that was reported since an endpoint last came back or was last judged, instead of counts.
#[derive(Debug, Default)]
struct Naive {
    history: Vec<u16>,
    times: u32,
    ejected_at: Option<u64>,
    back_at: Option<u64>,
}

impl Naive {
    fn is_failing(&self, limit: usize) -> bool {
        let failures = self.history.iter().rev().take_while(|status| **status >= 500).count();
        failures == limit
    }
}

proptest! {
    #[test]
    fn endpoints_are_ejected_as_their_history_says(events in prop::collection::vec(event(), 0..200)) {
        let server_errors = FailureLimit { count: 3, enforced_percent: 100 };
        let policy = OutlierPolicy { server_errors, max_percent: 67, max_ejection: secs(60), ..OutlierPolicy::default() };
        let mut outliers = outliers(policy, 3);
        let mut naive: BTreeMap<u32, Naive> = (0..3).map(|key| (key, Naive::default())).collect();
        let mut now = 0;
        for event in events {
            match event {
                Event::Report(key, report) => {
                    let ejection = record(&mut outliers, key, report, now);
                    let status = match report {
                        Report::Response { status, .. } => status,
                        Report::Connected => continue,
                        Report::ConnectedForGood => 200,
                        Report::Failed | Report::TimedOut => 503,
                    };
                    let ejected = naive.values().filter(|naive| naive.ejected_at.is_some()).count();
                    let endpoint = naive.get_mut(&key).unwrap();
                    endpoint.history.push(status);
                    let is_due = endpoint.ejected_at.is_none() && endpoint.is_failing(3);
                    if is_due {
                        endpoint.history.clear();
                    }
                    prop_assert_eq!(ejection.is_some(), is_due && ejected < 2);
                    if ejection.is_some() {
                        endpoint.times = (endpoint.times + 1).min(3);
                        endpoint.ejected_at = Some(now);
                    }
                }
                Event::Sweep => {
                    now += 10;
                    let mut back = outliers.sweep(secs(now));
                    back.sort_unstable();
                    let mut expected = vec![];
                    for (key, endpoint) in &mut naive {
                        match endpoint.ejected_at {
                            Some(at) if at + u64::from(30 * endpoint.times).min(60) <= now => {
                                expected.push(*key);
                                *endpoint = Naive { times: endpoint.times, back_at: Some(now), ..Naive::default() };
                            }
                            None if endpoint.back_at.is_some_and(|at| at + 10 <= now) => {
                                endpoint.times = endpoint.times.saturating_sub(1);
                            }
                            _ => {}
                        }
                    }
                    prop_assert_eq!(back, expected);
                }
            }
            for (key, endpoint) in &naive {
                prop_assert_eq!(outliers.is_ejected(key), endpoint.ejected_at.is_some());
            }
        }
    }
}
