//! The table: the golden one, and never a number that means nothing.

use super::*;
use crate::fixture;

#[test]
fn the_table_is_the_golden_one() {
    let mut results = fixture::results();
    let budgets = ["ambient-l4.p50<=3x", "sidecar.rps>=10000/s"].map(|text| text.parse().unwrap());
    results.budgets = crate::budget::judge(&budgets, &results);
    let text = render(&results, &fixture::settings());
    fixture::assert_golden("table.txt", include_str!("../../golden/table.txt"), &text);
}

#[test]
fn an_invalid_number_is_never_shown() {
    let mut results = fixture::results();
    let text = render(&results, &fixture::settings());
    let row = text.lines().filter(|line| line.starts_with("sidecar ")).nth(1).unwrap();
    assert!(row.split_whitespace().nth(1) == Some("INVALID"), "{row}");
    results.modes.retain(|mode| mode.mode == Mode::Sidecar);
    assert!(!render(&results, &fixture::settings()).contains("REQUESTS"));
}
