//! Metric families: counters, gauges and histograms that a component registers once and increments cheaply.

mod exposition;
mod families;
mod handshakes;
mod lookups;
mod names;
mod revocation;

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts};

pub use exposition::Format;
pub use families::{ManagerMetrics, XdsMetrics, register_process, register_runtime, set_build};
pub use handshakes::HandshakeMetrics;
pub use lookups::{LookupLabels, LookupMetrics};
pub use names::NameMetrics;
pub use revocation::RevocationMetrics;

/// The families of one component.
///
/// Names and labels are literals of the program: a name that is malformed or taken is a bug, and panics at start.
///
/// ```
/// let registry = telemetry::Registry::new();
/// let pushes = registry.counters("pilot_xds_pushes", "Pushes by type.", &["type"]);
/// pushes.with(&["wds"]).increment();
/// assert!(registry.text().contains("pilot_xds_pushes{type=\"wds\"} 1"));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Registry {
    registry: prometheus::Registry,
}

impl Registry {
    /// No families yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A counter without labels.
    ///
    /// # Panics
    /// When the name is malformed or taken.
    #[must_use]
    pub fn counter(&self, name: &str, help: &str) -> Counter {
        Counter(self.registered(IntCounter::new(name, help)))
    }

    /// A counter for each combination of label values; keep their number bounded.
    ///
    /// # Panics
    /// When the name is malformed or taken.
    #[must_use]
    pub fn counters(&self, name: &str, help: &str, labels: &[&'static str]) -> Counters {
        Counters(self.registered(IntCounterVec::new(Opts::new(name, help), labels)))
    }

    /// A gauge without labels.
    ///
    /// # Panics
    /// When the name is malformed or taken.
    #[must_use]
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        Gauge(self.registered(IntGauge::new(name, help)))
    }

    /// A gauge for each combination of label values; keep their number bounded.
    ///
    /// # Panics
    /// When the name is malformed or taken.
    #[must_use]
    pub fn gauges(&self, name: &str, help: &str, labels: &[&'static str]) -> Gauges {
        Gauges(self.registered(IntGaugeVec::new(Opts::new(name, help), labels)))
    }

    /// A histogram of durations; `buckets` are upper bounds in seconds, ascending.
    ///
    /// # Panics
    /// When the name is malformed or taken, or the buckets do not ascend.
    #[must_use]
    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Durations {
        Durations(self.registered(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))))
    }

    /// A histogram of durations for each combination of label values; keep their number bounded.
    ///
    /// # Panics
    /// When the name is malformed or taken, or the buckets do not ascend.
    #[must_use]
    pub fn histograms(&self, name: &str, help: &str, buckets: &[f64], labels: &[&'static str]) -> DurationFamilies {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        DurationFamilies(self.registered(HistogramVec::new(options, labels)))
    }

    pub(crate) fn registered<C: Collector + Clone + 'static>(&self, family: prometheus::Result<C>) -> C {
        let family = family.expect("the name, the labels and the buckets are literals that a test has seen");
        self.registry.register(Box::new(family.clone())).expect("each family is registered once");
        family
    }

    /// All families in the text format 0.0.4.
    #[must_use]
    pub fn text(&self) -> String {
        self.exposed(Format::Text)
    }

    /// All families in the format that was asked for.
    #[must_use]
    pub fn exposed(&self, format: Format) -> String {
        exposition::encode(&self.registry.gather(), format)
    }
}

/// A number that only grows.
#[derive(Debug, Clone)]
pub struct Counter(IntCounter);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.0.inc();
    }

    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.0.inc_by(amount);
    }

    /// The number.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.get()
    }
}

/// Counters by label values.
#[derive(Debug, Clone)]
pub struct Counters(IntCounterVec);

impl Counters {
    /// The counter with these values, in the order of the labels.
    ///
    /// # Panics
    /// When their number is another than that of the labels.
    #[must_use]
    pub fn with(&self, values: &[&str]) -> Counter {
        Counter(self.0.with_label_values(values))
    }

    /// Forgets the counter with these values, if there is one.
    pub(crate) fn remove(&self, values: &[&str]) {
        // An error means that there is none.
        let _ = self.0.remove_label_values(values);
    }
}

/// A number that goes up and down.
#[derive(Debug, Clone)]
pub struct Gauge(IntGauge);

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: i64) {
        self.0.set(value);
    }

    /// Adds `amount`, which may be negative.
    pub fn add(&self, amount: i64) {
        self.0.add(amount);
    }

    /// The number.
    #[must_use]
    pub fn value(&self) -> i64 {
        self.0.get()
    }
}

/// Gauges by label values.
#[derive(Debug, Clone)]
pub struct Gauges(IntGaugeVec);

impl Gauges {
    /// The gauge with these values, in the order of the labels.
    ///
    /// # Panics
    /// When their number is another than that of the labels.
    #[must_use]
    pub fn with(&self, values: &[&str]) -> Gauge {
        Gauge(self.0.with_label_values(values))
    }
}

/// A distribution of durations.
#[derive(Debug, Clone)]
pub struct Durations(Histogram);

impl Durations {
    /// Counts one, in seconds.
    pub fn observe(&self, duration: Duration) {
        self.0.observe(duration.as_secs_f64());
    }
}

/// Distributions by label values.
#[derive(Debug, Clone)]
pub struct DurationFamilies(HistogramVec);

impl DurationFamilies {
    /// The distribution with these values, in the order of the labels.
    ///
    /// # Panics
    /// When their number is another than that of the labels.
    #[must_use]
    pub fn with(&self, values: &[&str]) -> Durations {
        Durations(self.0.with_label_values(values))
    }

    /// Forgets the distribution with these values, if there is one.
    pub(crate) fn remove(&self, values: &[&str]) {
        // An error means that there is none.
        let _ = self.0.remove_label_values(values);
    }
}
