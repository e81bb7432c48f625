//! The text formats: Prometheus 0.0.4, and OpenMetrics 1.0 for whoever asks for it.
//!
//! See <https://prometheus.io/docs/specs/om/open_metrics_spec/>.

use std::fmt::Write as _;

use prometheus::TextEncoder;
use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

/// The format of an exposition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The format that an `Accept` header asks for.
    #[must_use]
    pub fn accepted(accept: Option<&str>) -> Self {
        let wants_open_metrics = |accept: &str| {
            accept.split(',').any(|range| {
                let mut parts = range.split(';').map(str::trim);
                let is_open_metrics =
                    parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/openmetrics-text"));
                // A weight of zero means "not this one" (RFC 9110, section 12.4.2).
                is_open_metrics && !parts.any(|parameter| matches!(parameter, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
            })
        };
        if accept.is_some_and(wants_open_metrics) { Self::OpenMetrics } else { Self::Text }
    }

    /// The value of `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

pub(crate) fn encode(families: &[MetricFamily], format: Format) -> String {
    let mut text = String::new();
    match format {
        Format::Text => {
            // The encoder refuses only families without metrics, and `gather` leaves those out.
            let _ = TextEncoder::new().encode_utf8(families, &mut text);
        }
        Format::OpenMetrics => {
            families.iter().for_each(|family| write_family(&mut text, family));
            text.push_str("# EOF\n");
        }
    }
    text
}

fn write_family(text: &mut String, family: &MetricFamily) {
    let (name, kind) = match family.get_field_type() {
        MetricType::COUNTER => (family.name().strip_suffix("_total").unwrap_or_else(|| family.name()), "counter"),
        MetricType::GAUGE => (family.name(), "gauge"),
        MetricType::HISTOGRAM => (family.name(), "histogram"),
        MetricType::SUMMARY => (family.name(), "summary"),
        MetricType::UNTYPED => (family.name(), "unknown"),
    };
    let _ = writeln!(text, "# TYPE {name} {kind}\n# HELP {name} {}", escaped(family.help()));
    for metric in family.get_metric() {
        write_metric(text, name, family.get_field_type(), metric);
    }
}

fn write_metric(text: &mut String, name: &str, kind: MetricType, metric: &Metric) {
    let labels = metric.get_label();
    match kind {
        MetricType::COUNTER => write_sample(text, name, "_total", (labels, None), metric.get_counter().get_value()),
        MetricType::GAUGE => write_sample(text, name, "", (labels, None), metric.get_gauge().get_value()),
        MetricType::HISTOGRAM => {
            let histogram = metric.get_histogram();
            let count = count(histogram.get_sample_count());
            for bucket in histogram.get_bucket().iter().filter(|bucket| bucket.upper_bound().is_finite()) {
                let bound = canonical(bucket.upper_bound());
                let value = self::count(bucket.cumulative_count());
                write_sample(text, name, "_bucket", (labels, Some(&bound)), value);
            }
            write_sample(text, name, "_bucket", (labels, Some("+Inf")), count);
            write_sample(text, name, "_sum", (labels, None), histogram.get_sample_sum());
            write_sample(text, name, "_count", (labels, None), count);
        }
        // No family of ours has these kinds.
        MetricType::SUMMARY | MetricType::UNTYPED => {}
    }
}

/// OpenMetrics wants bounds as floating-point numbers: `1.0`, not `1`.
fn canonical(bound: f64) -> String {
    let text = bound.to_string();
    if text.contains(['.', 'e']) { text } else { format!("{text}.0") }
}

#[expect(clippy::cast_precision_loss, reason = "the format has no other numbers")]
fn count(value: u64) -> f64 {
    value as f64
}

fn write_sample(text: &mut String, name: &str, suffix: &str, labels: (&[LabelPair], Option<&str>), value: f64) {
    let (pairs, bound) = labels;
    text.push_str(name);
    text.push_str(suffix);
    let pairs = pairs.iter().map(|pair| (pair.name(), pair.value()));
    let mut separator = '{';
    for (label, value) in pairs.chain(bound.map(|bound| ("le", bound))) {
        let _ = write!(text, "{separator}{label}=\"{}\"", escaped(value));
        separator = ',';
    }
    if separator == ',' {
        text.push('}');
    }
    let _ = writeln!(text, " {value}");
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Registry;

    fn registry() -> Registry {
        let registry = Registry::new();
        registry.counters("a_total", "Things.", &["kind"]).with(&["x\"\\\ny"]).add(3);
        registry.gauge("b", "Level.").set(-2);
        let seconds = registry.histogram("c_seconds", "Time.", &[0.5, 1.0]);
        seconds.observe(Duration::from_millis(250));
        seconds.observe(Duration::from_secs(3));
        registry
    }

    #[test]
    fn text_is_the_default() {
        for accept in [None, Some("*/*"), Some("text/plain;version=0.0.4"), Some("application/openmetrics-text;q=0")] {
            assert_eq!(Format::accepted(accept), Format::Text, "{accept:?}");
        }
        let text = registry().text();
        assert!(text.contains("# TYPE a_total counter\na_total{kind=\"x\\\"\\\\\\ny\"} 3\n"), "{text}");
        assert!(text.contains("b -2\n") && text.contains("c_seconds_bucket{le=\"+Inf\"} 2\n"), "{text}");
    }

    #[test]
    fn open_metrics_is_written_for_those_who_ask() {
        let accept = "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5";
        let format = Format::accepted(Some(accept));
        assert_eq!(
            registry().exposed(format),
            "# TYPE a counter\n# HELP a Things.\na_total{kind=\"x\\\"\\\\\\ny\"} 3\n\
             # TYPE b gauge\n# HELP b Level.\nb -2\n\
             # TYPE c_seconds histogram\n# HELP c_seconds Time.\n\
             c_seconds_bucket{le=\"0.5\"} 1\nc_seconds_bucket{le=\"1.0\"} 1\nc_seconds_bucket{le=\"+Inf\"} 2\n\
             c_seconds_sum 3.25\nc_seconds_count 2\n# EOF\n"
        );
    }
}
