//! Budgets: kept, violated, and refused.

use super::*;
use crate::fixture;
use crate::metric::Measurement;

fn verdict(text: &str) -> Verdict {
    let mut verdicts = judge(&[text.parse().unwrap()], &fixture::results());
    assert_eq!(verdicts.len(), 1);
    verdicts.remove(0)
}

#[test]
fn a_budget_is_kept_or_violated() {
    for (text, kept) in [
        ("ambient-l4.p99<=2.5x", true),
        ("ambient-l4.p99<=2x", false),
        ("ambient-l4.p99 <= 0.5ms", true),
        ("ambient-l4.p99<=400us", false),
        ("ambient-l4.rps>=50000/s", true),
        ("ambient-l4.rps>=60k/s", false),
        ("ambient-l4.max_rps>0.25x", true),
        ("ambient-l4.bulk>=0.5x", true),
        ("ambient-l4.bulk<8Gbit/s", false),
        ("ambient-l4.rss<=25MiB", true),
        ("ambient-l4.rss<=12MB", false),
        ("none.p50<=1ms", true),
    ] {
        let found = verdict(text);
        assert_eq!(found.kept, kept, "{found:?}");
        assert_eq!(found.budget, text);
    }
}

#[test]
fn what_has_no_number_is_not_kept() {
    for (text, why) in [
        ("sidecar.rps>=1/s", "no number: INVALID: no answer in time"),
        ("sidecar.rps>=0.01x", "no number: INVALID: no answer in time"),
        ("ambient-l7.p50<=1s", "ambient-l7 was not measured: there is no Envoy on PATH"),
        ("sidecar-l4.p50<=1s", "sidecar-l4 was not measured: it was not asked for"),
        ("ambient-l4.idle-conn<=2.5KiB", "no number: it was not measured"),
        ("ambient-l4.rss<=2x", "none has no such number"),
        ("none.p50<=1x", "it is relative to itself"),
    ] {
        let found = verdict(text);
        assert_eq!((found.kept, found.found.as_str()), (false, why), "{text}");
    }
}

#[test]
fn a_budget_is_judged_in_the_cases_that_its_measurement_is_made_in() {
    use crate::settings::{Case, Protocol};
    let mut records = fixture::records();
    let first = records[1].clone();
    // As the rounds leave it: what belongs to the first case alone is in no other.
    records[1].rounds[0].insert(Metric::KibPerIdleConnection, 2.0);
    for protocol in [Protocol::H2, Protocol::Tcp] {
        let mut record = first.clone();
        record.case = Case { protocol, connections: 16 };
        let is_missing = |metric: Metric| {
            let measurement = metric.measurement();
            measurement.is_bulk() || (measurement == Measurement::Connections && protocol == Protocol::H2)
        };
        record.rounds.iter_mut().for_each(|numbers| numbers.retain(|metric, _| !is_missing(*metric)));
        records.push(record);
    }
    let results = fixture::results_of(&records);
    for (text, cases) in [
        ("ambient-l4.idle-conn<=2.5KiB", vec!["http1"]),
        ("ambient-l4.bulk>=0.1Gbit/s", vec!["http1"]),
        ("ambient-l4.conns>=1/s", vec!["http1", "tcp"]),
        ("ambient-l4.rps>=1/s", vec!["http1", "h2", "tcp"]),
    ] {
        let verdicts = judge(&[text.parse().unwrap()], &results);
        assert!(verdicts.iter().all(|verdict| verdict.kept), "{verdicts:?}");
        let found: Vec<_> =
            verdicts.iter().filter_map(|one| one.found.rsplit_once("; ")?.1.split(' ').next()).collect();
        assert_eq!(found, cases, "{text}");
    }
}

#[test]
fn what_no_case_has_is_not_kept() {
    let mut results = fixture::results();
    results.modes.iter_mut().for_each(|mode| mode.protocol = crate::settings::Protocol::H2);
    let verdicts = judge(&["ambient-l4.conns>=1/s".parse().unwrap()], &results);
    let [verdict] = verdicts.as_slice() else { panic!("{verdicts:?}") };
    assert_eq!((verdict.kept, verdict.found.as_str()), (false, "connections is not measured with h2"));
}

#[test]
fn what_is_no_budget_is_refused_with_what_would_be_one() {
    for (text, part) in [
        ("ambient-l4.p99", "not of the form"),
        ("p99<=1.5x", "not of the form"),
        ("ambient.p99<=1.5x", "budget"),
        ("ambient-l4.p98<=1.5x", "no metric \"p98\"; there are: p50, p90, p99, rps,"),
        ("ambient-l4.p99<=1.5", "neither a factor as 1.5x nor a number with a unit (us, ms, s)"),
        ("ambient-l4.p99<=fast", "neither a factor"),
        ("ambient-l4.rss<=-3MB", "neither a factor"),
    ] {
        let error = text.parse::<Budget>().unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}
