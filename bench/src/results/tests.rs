//! Results: the golden ones, and the rules that they follow.

use serde_json::Value;

use super::*;
use crate::fixture;

fn json() -> Value {
    serde_json::to_value(fixture::results()).unwrap()
}

#[test]
fn the_json_is_the_golden_one() {
    let text = serde_json::to_string_pretty(&fixture::results()).unwrap() + "\n";
    fixture::assert_golden("results.json", include_str!("../../golden/results.json"), &text);
}

#[test]
fn the_fields_are_those_that_readers_rely_on() {
    let json = json();
    assert!(json["command"].as_str().unwrap().starts_with("aquifer bench --modes none,ambient-l4,sidecar "));
    assert_eq!(json["machine"]["kernel"], "6.1.0");
    let modes = json["modes"].as_array().unwrap();
    assert_eq!(modes.len(), 3);
    for mode in modes {
        for field in [
            "mode",
            "valid",
            "reason",
            "p50_us",
            "p90_us",
            "p99_us",
            "max_rps",
            "bulk_gbps",
            "bulk4_gbps",
            "conns_per_s",
            "cpu_us_per_request",
            "cpu_s_per_gbit",
            "rss_kib",
            "kib_per_idle_connection",
        ] {
            assert!(mode.get(field).is_some(), "{field} of {}", mode["mode"]);
        }
    }
    let rate = &modes[0]["max_rps"];
    assert!(rate["low"].as_f64() < rate["median"].as_f64() && rate["median"].as_f64() < rate["high"].as_f64());
    assert_eq!(modes[0]["cpu_us_per_request"], Value::Null, "there is no proxy");
}

#[test]
fn a_measurement_that_was_mostly_invalid_has_a_reason_and_no_number() {
    let json = json();
    let sidecar = &json["modes"][2];
    assert_eq!((&sidecar["valid"], &sidecar["max_rps"]), (&Value::Bool(false), &Value::Null));
    assert_eq!(sidecar["reason"], "saturation: INVALID in 6 of 6 rounds: no answer in time");
    assert!(sidecar["p50_us"]["median"].as_f64().is_some(), "the others keep theirs");
    // One round of six is left out, and told.
    let ambient = &json["modes"][1];
    assert_eq!(ambient["valid"], Value::Bool(true));
    assert_eq!(ambient["invalid_rounds"][0]["round"], 3);
    assert_eq!(ambient["per_round"]["p50_us"][2], Value::Null);
}

#[test]
fn differences_have_both_numbers_and_a_verdict() {
    let results = fixture::results();
    let find = |mode, against, metric: Metric| {
        let is_it = |one: &&Comparison| (one.mode, one.against, one.metric) == (mode, against, metric.key());
        results.differences.iter().find(is_it).cloned()
    };
    let bulk = find(Mode::AmbientL4, Mode::None, Metric::Bulk).unwrap();
    assert!((bulk.ratio.median - 0.5).abs() < 1e-9 && bulk.difference.significant);
    // Five rounds are left, which is too few for 95 %.
    let p50 = find(Mode::AmbientL4, Mode::Sidecar, Metric::P50).unwrap();
    assert!(!p50.difference.significant);
    assert!(p50.sentence().contains("0.248ms against 0.543ms of sidecar"), "{}", p50.sentence());
    assert!(p50.sentence().contains("not significant"), "{}", p50.sentence());
    assert!((p50.share_of_added.unwrap().median - 146.0 / 440.0).abs() < 1e-9);
    assert_eq!(find(Mode::AmbientL4, Mode::Sidecar, Metric::MaxRps), None, "one of them is invalid");
}
