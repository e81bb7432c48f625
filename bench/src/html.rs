//! The report as one file for a browser: charts, tables and everything needed to judge them; nothing is loaded from
//! elsewhere.

use std::fmt::Write as _;

use crate::charts::{Bar, Group, chart, escaped};
use crate::metric::Metric;
use crate::results::{ModeResult, Results};
use crate::settings::Settings;
use crate::statistics::Estimate;
use crate::table::{self, row_name, title};

const STYLE: &str = include_str!("html/style.css");

/// The charts of one number for each mode.
const CHARTS: [(Metric, &str); 11] = [
    (Metric::MaxRps, "Requests per second at saturation (more is better)"),
    (Metric::ConnsPerS, "New connections per second (more is better)"),
    (Metric::Bulk, "One stream, Gbit/s (more is better)"),
    (Metric::Bulk4, "Four streams, Gbit/s (more is better)"),
    (Metric::Bulk64, "Sixty-four streams, Gbit/s (more is better)"),
    (Metric::CpuPerRequest, "Processor time of all proxies per request at saturation (less is better)"),
    (Metric::CpuPerConnection, "Processor time of all proxies per new connection (less is better)"),
    (Metric::CpuPerGbit, "Processor time of all proxies per Gbit, one stream (less is better)"),
    (Metric::Rss, "Resident memory of all proxies after saturation (less is better)"),
    (Metric::KibPerIdleConnection, "Memory per idle connection and side (less is better)"),
    (Metric::MixedP50, "Median latency beside a bulk stream of the same pods (less is better)"),
];

/// The whole report.
#[must_use]
pub fn render(results: &Results, settings: &Settings) -> String {
    let date = escaped(results.date.split('.').next().unwrap_or_default());
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>aquifer bench {date}</title>\
         <style>\n{STYLE}</style></head><body>\n<h1>What the mesh costs</h1>\n\
         <p class=\"lead\">aquifer bench {}, {date}. {}</p>\n",
        escaped(&results.version),
        escaped(&results.ground.to_string()),
    );
    page.push_str(&budgets(results));
    page.push_str(&verdicts(results));
    page.push_str("<h2>Latency</h2>\n<div class=\"charts\">\n");
    page.push_str(&latency_chart(results, settings));
    page.push_str(&overhead_chart(results));
    page.push_str("</div>\n<h2>Throughput, processor and memory</h2>\n<div class=\"charts\">\n");
    for (metric, title) in CHARTS {
        page.push_str(&chart(title, &one_each(results, metric), None));
    }
    page.push_str("</div>\n");
    page.push_str(&numbers(results));
    page.push_str(&circumstances(results));
    page.push_str("</body></html>\n");
    page
}

fn latency_chart(results: &Results, settings: &Settings) -> String {
    let percentiles = [(Metric::P50, 1.0), (Metric::P90, 0.7), (Metric::P99, 0.45)];
    let group = |mode: &ModeResult| -> Group {
        let bars = percentiles.iter().filter_map(|(metric, opacity)| {
            let estimate = mode.metrics.find(*metric)?;
            let whose = if *metric == Metric::P50 { row_name(results, mode) } else { String::new() };
            let label = format!("{whose} {}", metric.alias());
            Some(bar(mode, label, *opacity, estimate, metric.unit().show(estimate.median)))
        });
        bars.collect()
    };
    let groups: Vec<Group> = results.modes.iter().map(group).collect();
    let title = format!("Latency at {} requests per second: p50, p90, p99 (less is better)", settings.rate);
    chart(&title, &groups, None)
}

fn overhead_chart(results: &Results) -> String {
    let metrics = [(Metric::P50, 1.0), (Metric::P99, 0.45)];
    let group = |mode: &ModeResult| -> Group {
        let bars = metrics.iter().filter_map(|(metric, opacity)| {
            let compared = results.against_baseline(mode, *metric)?;
            let whose = if *metric == Metric::P50 { row_name(results, mode) } else { String::new() };
            let text = format!("{:.2}x of {}", compared.ratio.median, compared.against);
            Some(bar(mode, format!("{whose} {}", metric.alias()), *opacity, compared.ratio, text))
        });
        bars.collect()
    };
    let groups: Vec<Group> = results.modes.iter().map(group).collect();
    chart("Latency relative to the same nodes without proxy (the line is no overhead)", &groups, Some(1.0))
}

fn one_each(results: &Results, metric: Metric) -> Vec<Group> {
    let bars = results.modes.iter().filter_map(|mode| {
        let estimate = mode.metrics.find(metric)?;
        Some(bar(mode, row_name(results, mode), 1.0, estimate, metric.unit().show(estimate.median)))
    });
    vec![bars.collect()]
}

fn bar(mode: &ModeResult, label: String, opacity: f64, estimate: Estimate, text: String) -> Bar {
    Bar { label, class: mode.mode.name().to_owned(), opacity, estimate, text }
}

fn budgets(results: &Results) -> String {
    let lines = results.budgets.iter().map(|verdict| {
        let (class, word) = if verdict.kept { ("good", "kept") } else { ("bad", "violated") };
        let (budget, found) = (escaped(&verdict.budget), escaped(&verdict.found));
        format!("<li><span class=\"{class}\">{word}</span> <code>{budget}</code>: {found}</li>\n")
    });
    let lines: String = lines.collect();
    if lines.is_empty() { lines } else { format!("<h2>Budgets</h2>\n<ul>\n{lines}</ul>\n") }
}

/// Comparisons with sidecars, and what could not be measured.
fn verdicts(results: &Results) -> String {
    let mut lines = String::new();
    for one in results.differences.iter().filter(|one| Some(one.against) != one.mode.baseline()) {
        let class = if one.difference.significant { "sure" } else { "unsure" };
        let _ = writeln!(lines, "<li class=\"{class}\">{}</li>", escaped(&one.sentence()));
    }
    let mut text = String::new();
    if !lines.is_empty() {
        let _ = write!(text, "<h2>Compared with sidecars</h2>\n<ul>\n{lines}</ul>\n");
    }
    let mut troubles = String::new();
    for mode in &results.modes {
        if let Some(reason) = &mode.reason {
            let _ = writeln!(troubles, "<li><b>{}</b>: {}</li>", row_name(results, mode), escaped(reason));
        }
    }
    if let Some(why) = &results.proxies_unseen {
        let _ = writeln!(troubles, "<li>processor time and memory of proxies: {}</li>", escaped(why));
    }
    for one in &results.left_out {
        let (reason, advice) = (escaped(&one.reason), escaped(&one.advice));
        let _ = writeln!(troubles, "<li><b>{}</b> was left out: {reason}; {advice}</li>", one.mode);
    }
    if !troubles.is_empty() {
        let _ = write!(text, "<h2>Not measured</h2>\n<ul>\n{troubles}</ul>\n");
    }
    text
}

/// Every number with its interval.
fn numbers(results: &Results) -> String {
    let is_there = |metric: &Metric| results.modes.iter().any(|mode| mode.metrics.find(*metric).is_some());
    let heading: String =
        results.modes.iter().map(|mode| format!("<th>{}</th>", escaped(&row_name(results, mode)))).collect();
    let mut rows = String::new();
    for metric in Metric::ALL.into_iter().filter(is_there) {
        let cell = |mode: &ModeResult| match mode.metrics.find(metric) {
            Some(Estimate { median, low, high }) => {
                let [median, low, high] = [median, low, high].map(|value| metric.unit().show(value));
                format!("<td>{median}<small>{low} … {high}</small></td>")
            }
            None => "<td>–</td>".to_owned(),
        };
        let cells: String = results.modes.iter().map(cell).collect();
        let _ = writeln!(rows, "<tr><th>{}<small>{}</small></th>{cells}</tr>", title(metric), metric.key());
    }
    let percent = results.confidence * 100.0;
    format!(
        "<h2>Every number</h2>\n<p>Medians of {} rounds; below each the interval in which the true median lies with \
         {percent:.1} % confidence.</p>\n<div class=\"wide\"><table><thead><tr><th></th>{heading}</tr></thead>\
         <tbody>\n{rows}</tbody></table></div>\n{}",
        results.rounds,
        proxies(results),
    )
}

/// What each proxy uses.
fn proxies(results: &Results) -> String {
    let shown = [Metric::CpuPerRequest, Metric::CpuPerRequestAtRate, Metric::CpuPerConnection, Metric::CpuPerGbit];
    let shown: Vec<Metric> =
        shown.into_iter().chain([Metric::SwitchesPerRequest, Metric::SyscallsPerRequest, Metric::Rss]).collect();
    let mut rows = String::new();
    for mode in &results.modes {
        for proxy in &mode.proxies {
            let cell = |metric: &Metric| {
                let found = proxy.metrics.find(*metric).map(|found| metric.unit().show(found.median));
                format!("<td>{}</td>", found.unwrap_or_else(|| "–".to_owned()))
            };
            let cells: String = shown.iter().map(cell).collect();
            let (mode, name) = (escaped(&row_name(results, mode)), escaped(&proxy.name));
            let _ = writeln!(rows, "<tr><th>{mode}<small>{name}</small></th>{cells}</tr>");
        }
    }
    if rows.is_empty() {
        return rows;
    }
    let heading: String = shown.iter().map(|metric| format!("<th>{}</th>", title(*metric))).collect();
    format!(
        "<h2>Each proxy</h2>\n<div class=\"wide\"><table><thead><tr><th></th>{heading}</tr></thead><tbody>\n{rows}\
         </tbody></table></div>\n"
    )
}

/// What one needs to judge the numbers, and to make them again.
fn circumstances(results: &Results) -> String {
    let tls = table::each_tls(results).map(|(mode, tls)| format!("TLS of {mode}: {tls}"));
    let lines = results.conditions.iter().cloned().chain(tls);
    let conditions: String = lines.map(|line| format!("<li>{}</li>\n", escaped(&line))).collect();
    let mut text = format!(
        "<h2>Conditions</h2>\n<ul>\n{conditions}</ul>\n<h2>Again</h2>\n<pre>{}</pre>\n\
         <h2>Not measured here</h2>\n<p>{}</p>\n",
        escaped(&results.command),
        escaped(&table::context(results)),
    );
    for file in &results.envoy {
        let pretty = serde_json::to_string_pretty(&file.configuration).unwrap_or_default();
        let _ = writeln!(
            text,
            "<details><summary>Envoy, {}</summary><pre>{}\n\n{}</pre></details>",
            escaped(&file.role),
            escaped(&file.command),
            escaped(&pretty),
        );
    }
    text
}

#[cfg(test)]
mod tests;
