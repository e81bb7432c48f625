//! Outcomes for people.

use ::load::{Kind, Outcome, Plan, Summary};

use crate::output::Table;

/// An aligned table of what the plan was about.
pub(super) fn text(plan: &Plan, outcome: &Outcome) -> String {
    let mut text = String::new();
    if !matches!(plan.kind, Kind::Bulk(_)) {
        text += &counts(plan, outcome).to_string();
    }
    if outcome.latency.is_some() {
        text += "\n";
        text += &times(outcome).to_string();
    }
    if let Some(bulk) = &outcome.bulk {
        let mut table = Table::new(["BULK", "BYTES", "GBIT/S", "BROKEN STREAMS"]);
        let rate = format!("{:.3}", bulk.bits_per_second / 1e9);
        table.row(["received".to_owned(), bulk.bytes.to_string(), rate, bulk.broken.to_string()]);
        if !text.is_empty() {
            text += "\n";
        }
        text += &table.to_string();
    }
    text
}

fn counts(plan: &Plan, outcome: &Outcome) -> Table {
    let failed: u64 = outcome.failed.values().sum();
    let reasons: Vec<String> = outcome.failed.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    let failed = if failed == 0 { "0".to_owned() } else { format!("{failed} ({})", reasons.join(", ")) };
    if matches!(plan.kind, Kind::Idle(_)) {
        let mut table = Table::new(["ASKED", "HELD", "LOST", "FAILED", "SECONDS"]);
        let seconds = format!("{:.1}", outcome.elapsed_s);
        table.row([outcome.sent.to_string(), outcome.held.to_string(), outcome.lost.to_string(), failed, seconds]);
        return table;
    }
    let mut table = Table::new(["SENT", "ANSWERED", "FAILED", "LATE", "PER SECOND", "GENERATOR CPU"]);
    let cpu = outcome.cpu.total().as_secs_f64() / outcome.elapsed_s.max(f64::MIN_POSITIVE);
    table.row([
        outcome.sent.to_string(),
        outcome.answered.to_string(),
        failed,
        format!("{} ({:.2} %)", outcome.late, outcome.late_share * 100.0),
        format!("{:.1}", outcome.rate),
        format!("{:.1} %", cpu * 100.0),
    ]);
    table
}

fn times(outcome: &Outcome) -> Table {
    let mut table = Table::new(["MICROSECONDS", "P50", "P90", "P99", "P99.9", "MAX", "MEAN"]);
    let mut row = |name: &str, summary: &Summary| {
        let [p50, p90, p99, p999, max, mean] =
            [summary.p50_us, summary.p90_us, summary.p99_us, summary.p999_us, summary.max_us, summary.mean_us]
                .map(|us| format!("{us:.1}"));
        table.row([name.to_owned(), p50, p90, p99, p999, max, mean]);
    };
    if let Some(latency) = &outcome.latency {
        row("latency", &latency.summary);
    }
    if let Some(service) = &outcome.service {
        row("from the send", service);
    }
    if let Some(lateness) = &outcome.lateness {
        row("sent late by", lateness);
    }
    table
}
