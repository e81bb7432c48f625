//! What is measured, and the table of numbers that come of it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One kind of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Measurement {
    /// Requests at a fixed rate.
    Rate,
    /// As many requests as the connections carry.
    Saturation,
    /// The same once more, with system calls counted, which slows them down.
    Syscalls,
    /// A new connection for each request.
    Connections,
    /// One stream of bytes.
    Bulk1,
    /// Four streams of bytes.
    Bulk4,
    /// Sixty-four streams of bytes.
    Bulk64,
    /// Requests at half of the fixed rate beside one stream of bytes of the same pods.
    Mixed,
    /// Connections that carry nothing.
    Idle,
}

/// No such measurement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no measurement {found:?}; there are: {}", Measurement::ALL.map(Measurement::name).join(", "))]
pub struct UnknownMeasurement {
    found: String,
}

impl Measurement {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Rate,
        Self::Saturation,
        Self::Syscalls,
        Self::Connections,
        Self::Bulk1,
        Self::Bulk4,
        Self::Bulk64,
        Self::Mixed,
        Self::Idle,
    ];

    /// Those of a run that asks for none in particular.
    pub const DEFAULT: [Self; 6] =
        [Self::Rate, Self::Saturation, Self::Syscalls, Self::Connections, Self::Bulk1, Self::Bulk4];

    /// As flags write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Saturation => "saturation",
            Self::Syscalls => "syscalls",
            Self::Connections => "connections",
            Self::Bulk1 => "bulk1",
            Self::Bulk4 => "bulk4",
            Self::Bulk64 => "bulk64",
            Self::Mixed => "mixed",
            Self::Idle => "idle",
        }
    }

    /// In how many rounds it is made. What a proxy calls does not change from round to round. Memory that idle connections
    /// took stays with a proxy that they have left: only before any load it grows by what they need.
    pub(crate) fn most_rounds(self) -> usize {
        if matches!(self, Self::Idle | Self::Syscalls) { 1 } else { usize::MAX }
    }

    /// Whether it says nothing about a mode without proxies.
    pub(crate) fn is_of_proxies(self) -> bool {
        self == Self::Syscalls
    }

    /// Whether it is the same for every protocol and number of connections.
    #[must_use]
    pub fn is_bulk(self) -> bool {
        matches!(self, Self::Bulk1 | Self::Bulk4 | Self::Bulk64)
    }
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Measurement {
    type Err = UnknownMeasurement;

    fn from_str(text: &str) -> Result<Self, UnknownMeasurement> {
        let found = Self::ALL.into_iter().find(|one| one.name() == text);
        found.ok_or_else(|| UnknownMeasurement { found: text.to_owned() })
    }
}

/// One number of a mode. What a proxy costs is summed over all proxies between client and server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    P50,
    P90,
    P99,
    MaxRps,
    Bulk,
    Bulk4,
    Bulk64,
    ConnsPerS,
    CpuPerRequest,
    CpuPerRequestAtRate,
    CpuPerThousand,
    CpuPerConnection,
    HandshakesPerConnection,
    CpuPerGbit,
    CpuPerGbyte,
    Rss,
    RssAtRate,
    RssIdle,
    KibPerIdleConnection,
    SwitchesPerRequest,
    SyscallsPerRequest,
    MixedP50,
    MixedP99,
    MixedGbps,
}

/// What a metric is.
struct Facts {
    /// The field of JSON, with its unit.
    key: &'static str,
    /// As budgets may also call it.
    alias: &'static str,
    of: Measurement,
    unit: Unit,
    is_of_proxies: bool,
}

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Microseconds,
    PerSecond,
    Gbps,
    Seconds,
    Kib,
    Count,
}

impl Metric {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 24] = [
        Self::P50,
        Self::P90,
        Self::P99,
        Self::MaxRps,
        Self::Bulk,
        Self::Bulk4,
        Self::Bulk64,
        Self::ConnsPerS,
        Self::CpuPerRequest,
        Self::CpuPerRequestAtRate,
        Self::CpuPerThousand,
        Self::CpuPerConnection,
        Self::HandshakesPerConnection,
        Self::CpuPerGbit,
        Self::CpuPerGbyte,
        Self::Rss,
        Self::RssAtRate,
        Self::RssIdle,
        Self::KibPerIdleConnection,
        Self::SwitchesPerRequest,
        Self::SyscallsPerRequest,
        Self::MixedP50,
        Self::MixedP99,
        Self::MixedGbps,
    ];

    fn facts(self) -> Facts {
        use Measurement::{Bulk1, Bulk4, Bulk64, Connections, Idle, Mixed, Rate, Saturation, Syscalls};
        use Unit::{Count, Gbps, Kib, Microseconds, PerSecond, Seconds};
        let (key, alias, of, unit, is_of_proxies) = match self {
            Self::P50 => ("p50_us", "p50", Rate, Microseconds, false),
            Self::P90 => ("p90_us", "p90", Rate, Microseconds, false),
            Self::P99 => ("p99_us", "p99", Rate, Microseconds, false),
            Self::MaxRps => ("max_rps", "rps", Saturation, PerSecond, false),
            Self::Bulk => ("bulk_gbps", "bulk", Bulk1, Gbps, false),
            Self::Bulk4 => ("bulk4_gbps", "bulk4", Bulk4, Gbps, false),
            Self::Bulk64 => ("bulk64_gbps", "bulk64", Bulk64, Gbps, false),
            Self::ConnsPerS => ("conns_per_s", "conns", Connections, PerSecond, false),
            Self::CpuPerRequest => ("cpu_us_per_request", "cpu", Saturation, Microseconds, true),
            Self::CpuPerRequestAtRate => ("cpu_us_per_request_at_rate", "cpu-at-rate", Rate, Microseconds, true),
            Self::CpuPerThousand => ("cpu_s_per_1000_requests", "cpu-1000", Saturation, Seconds, true),
            Self::CpuPerConnection => ("cpu_us_per_connection", "cpu-conn", Connections, Microseconds, true),
            Self::HandshakesPerConnection => ("handshakes_per_connection", "handshakes", Connections, Count, false),
            Self::CpuPerGbit => ("cpu_s_per_gbit", "cpu-gbit", Bulk1, Seconds, true),
            Self::CpuPerGbyte => ("cpu_s_per_gb", "cpu-gb", Bulk1, Seconds, true),
            Self::Rss => ("rss_kib", "rss", Saturation, Kib, true),
            Self::RssAtRate => ("rss_at_rate_kib", "rss-at-rate", Rate, Kib, true),
            Self::RssIdle => ("rss_idle_kib", "rss-idle", Idle, Kib, true),
            Self::KibPerIdleConnection => ("kib_per_idle_connection", "idle-conn", Idle, Kib, true),
            Self::SwitchesPerRequest => ("context_switches_per_request", "switches", Saturation, Count, true),
            Self::SyscallsPerRequest => ("syscalls_per_request", "syscalls", Syscalls, Count, true),
            Self::MixedP50 => ("mixed_p50_us", "mixed-p50", Mixed, Microseconds, false),
            Self::MixedP99 => ("mixed_p99_us", "mixed-p99", Mixed, Microseconds, false),
            Self::MixedGbps => ("mixed_gbps", "mixed-bulk", Mixed, Gbps, false),
        };
        Facts { key, alias, of, unit, is_of_proxies }
    }

    /// Its field in JSON, which ends in its unit.
    #[must_use]
    pub fn key(self) -> &'static str {
        self.facts().key
    }

    /// Found by its field's name or by the short one.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.key() == name || metric.alias() == name)
    }

    /// As budgets may call it.
    #[must_use]
    pub fn alias(self) -> &'static str {
        self.facts().alias
    }

    /// The load that it is measured under.
    #[must_use]
    pub fn measurement(self) -> Measurement {
        self.facts().of
    }

    /// Its unit.
    #[must_use]
    pub fn unit(self) -> Unit {
        self.facts().unit
    }

    /// Whether each proxy has its part of it, so that there is none where there is no proxy.
    #[must_use]
    pub fn is_of_proxies(self) -> bool {
        self.facts().is_of_proxies
    }
}

impl Unit {
    /// A number with its unit, as people read it.
    #[must_use]
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Microseconds if value.abs() >= 1e6 => format!("{:.2}s", value / 1e6),
            Self::Microseconds if value.abs() >= 100.0 => format!("{:.3}ms", value / 1e3),
            Self::Microseconds => format!("{value:.1}µs"),
            Self::PerSecond => format!("{}/s", grouped(value)),
            Self::Gbps => format!("{value:.2} Gbit/s"),
            Self::Seconds => format!("{value:.3}s"),
            Self::Kib if value.abs() >= 1024.0 => format!("{:.1} MiB", value / 1024.0),
            Self::Kib => format!("{value:.1} KiB"),
            Self::Count if value.abs() < 2.0 => format!("{value:.2}"),
            Self::Count => format!("{value:.1}"),
        }
    }
}

/// A whole number in groups of three digits.
fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_find_what_they_name_and_no_two_are_alike() {
        let mut names = std::collections::BTreeSet::new();
        for metric in Metric::ALL {
            assert_eq!(Metric::find(metric.key()), Some(metric));
            assert_eq!(Metric::find(metric.alias()), Some(metric));
            assert!(names.insert(metric.key()) && names.insert(metric.alias()), "{metric:?}");
        }
        for measurement in Measurement::ALL {
            assert_eq!(measurement.name().parse(), Ok(measurement));
            assert!(
                Metric::ALL.iter().any(|metric| metric.measurement() == measurement),
                "{measurement} gives nothing"
            );
        }
    }

    #[test]
    fn numbers_are_shown_with_units_that_suit_them() {
        assert_eq!(Unit::Microseconds.show(98.26), "98.3µs");
        assert_eq!(Unit::Microseconds.show(246.0), "0.246ms");
        assert_eq!(Unit::Microseconds.show(2_500_000.0), "2.50s");
        assert_eq!(Unit::PerSecond.show(219_000.4), "219,000/s");
        assert_eq!(Unit::PerSecond.show(999.0), "999/s");
        assert_eq!(Unit::Kib.show(12.0 * 1024.0), "12.0 MiB");
        assert_eq!(Unit::Kib.show(2.5), "2.5 KiB");
        assert_eq!((Unit::Count.show(0.984), Unit::Count.show(6.46)), ("0.98".to_owned(), "6.5".to_owned()));
    }
}
