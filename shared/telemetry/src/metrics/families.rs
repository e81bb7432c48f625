//! Families that several components have.

use std::fs;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGauge, Opts};
use tokio::runtime::Handle;

use super::{Counter, Counters, Gauge, Registry};

/// Registers `istio_build`, constant 1.
///
/// # Panics
/// When called twice.
pub fn set_build(registry: &Registry, component: &str, tag: &str) {
    let build = registry.gauges("istio_build", "The component and its version.", &["component", "tag"]);
    build.with(&[component, tag]).set(1);
}

/// What the discovery client counts.
#[derive(Debug, Clone)]
pub struct XdsMetrics {
    terminations: Counters,
    messages: Counters,
    bytes: Counters,
}

impl XdsMetrics {
    /// Registers the families.
    ///
    /// # Panics
    /// When called twice.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        Self {
            terminations: registry.counters(
                "istio_xds_connection_terminations_total",
                "Ends of discovery streams by reason.",
                &["reason"],
            ),
            messages: registry.counters("istio_xds_message_total", "Discovery responses by type.", &["url"]),
            bytes: registry.counters(
                "istio_xds_message_bytes_total",
                "Bytes of resources in discovery responses by type.",
                &["url"],
            ),
        }
    }

    /// A stream ended; `reason` is one of `ConnectionError`, `Error`, `Reconnect` and `Complete`.
    pub fn terminated(&self, reason: &'static str) {
        self.terminations.with(&[reason]).increment();
    }

    /// A response of a known type came, with resources of `bytes` encoded bytes.
    pub fn received(&self, type_url: &'static str, bytes: u64) {
        self.messages.with(&[type_url]).increment();
        self.bytes.with(&[type_url]).add(bytes);
    }
}

/// What the node proxy counts about the pods it serves.
#[derive(Debug, Clone)]
pub struct ManagerMetrics {
    /// Pods with running listeners.
    pub active: Gauge,
    /// Pods whose start is being retried.
    pub pending: Gauge,
    /// Proxies started.
    pub started: Counter,
    /// Proxies stopped.
    pub stopped: Counter,
}

impl ManagerMetrics {
    /// Registers the families.
    ///
    /// # Panics
    /// When called twice.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        Self {
            active: registry.gauge("workload_manager_active_proxy_count", "Pods with running listeners."),
            pending: registry.gauge("workload_manager_pending_proxy_count", "Pods whose start is being retried."),
            started: registry.counter("workload_manager_proxies_started_total", "Pods whose listeners were started."),
            stopped: registry.counter("workload_manager_proxies_stopped_total", "Pods whose listeners were stopped."),
        }
    }
}

/// Registers `process_open_fds` and `process_max_fds`, read at each scrape.
///
/// # Panics
/// When called twice.
pub fn register_process(registry: &Registry) {
    let gauge = |name, help| IntGauge::with_opts(Opts::new(name, help));
    let _ = registry.registered(Sampled::new([
        (gauge("process_open_fds", "Open file descriptors."), open_files as Sample),
        (gauge("process_max_fds", "Limit of open file descriptors."), max_files as Sample),
    ]));
}

/// Registers `tokio_num_workers`, `tokio_num_alive_tasks` and `tokio_global_queue_depth` of the runtimes together.
///
/// # Panics
/// When called twice.
pub fn register_runtime(registry: &Registry, runtimes: Vec<Handle>) {
    let gauge = |name, help| IntGauge::with_opts(Opts::new(name, help));
    let sum = |runtimes: &[Handle], of: fn(&Handle) -> usize| {
        runtimes.iter().map(of).sum::<usize>().try_into().unwrap_or(i64::MAX)
    };
    let (workers, tasks, depth) = (runtimes.clone(), runtimes.clone(), runtimes);
    let _ = registry.registered(Sampled::new([
        (
            gauge("tokio_num_workers", "Worker threads."),
            Box::new(move || Some(sum(&workers, |handle| handle.metrics().num_workers()))) as BoxedSample,
        ),
        (
            gauge("tokio_num_alive_tasks", "Live tasks."),
            Box::new(move || Some(sum(&tasks, |handle| handle.metrics().num_alive_tasks()))) as BoxedSample,
        ),
        (
            gauge("tokio_global_queue_depth", "Tasks that wait in the global queue."),
            Box::new(move || Some(sum(&depth, |handle| handle.metrics().global_queue_depth()))) as BoxedSample,
        ),
    ]));
}

type Sample = fn() -> Option<i64>;
type BoxedSample = Box<dyn Fn() -> Option<i64> + Send + Sync>;

/// Gauges that are read when they are scraped.
struct Sampled<F> {
    gauges: std::sync::Arc<Vec<(IntGauge, F)>>,
}

impl<F> Sampled<F> {
    fn new<const N: usize>(gauges: [(prometheus::Result<IntGauge>, F); N]) -> prometheus::Result<Self> {
        let gauges = gauges.into_iter().map(|(gauge, sample)| Ok((gauge?, sample)));
        Ok(Self { gauges: std::sync::Arc::new(gauges.collect::<prometheus::Result<_>>()?) })
    }
}

impl<F> Clone for Sampled<F> {
    fn clone(&self) -> Self {
        Self { gauges: std::sync::Arc::clone(&self.gauges) }
    }
}

impl<F: Fn() -> Option<i64> + Send + Sync> Collector for Sampled<F> {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges.iter().flat_map(|(gauge, _)| gauge.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let sampled = self.gauges.iter().filter_map(|(gauge, sample)| {
            gauge.set(sample()?);
            Some(gauge.collect())
        });
        sampled.flatten().collect()
    }
}

fn open_files() -> Option<i64> {
    // Reading the folder opens one more, which is gone by the time anybody reads the number.
    let entries = fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    i64::try_from(entries).ok()
}

fn max_files() -> Option<i64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_families_have_their_names() {
        let registry = Registry::new();
        set_build(&registry, "ztunnel", "1.0");
        let xds = XdsMetrics::new(&registry);
        xds.terminated("Reconnect");
        xds.received("type.googleapis.com/istio.workload.Address", 12);
        let manager = ManagerMetrics::new(&registry);
        manager.active.add(2);
        manager.started.increment();
        register_process(&registry);
        let text = registry.text();
        for sample in [
            "istio_build{component=\"ztunnel\",tag=\"1.0\"} 1",
            "istio_xds_connection_terminations_total{reason=\"Reconnect\"} 1",
            "istio_xds_message_total{url=\"type.googleapis.com/istio.workload.Address\"} 1",
            "istio_xds_message_bytes_total{url=\"type.googleapis.com/istio.workload.Address\"} 12",
            "workload_manager_active_proxy_count 2",
            "workload_manager_pending_proxy_count 0",
            "workload_manager_proxies_started_total 1",
            "workload_manager_proxies_stopped_total 0",
        ] {
            assert!(text.lines().any(|line| line == sample), "{sample} is not in\n{text}");
        }
        assert!(text.contains("process_open_fds ") && text.contains("process_max_fds "), "{text}");
    }

    #[tokio::test]
    async fn runtimes_are_sampled() {
        let registry = Registry::new();
        register_runtime(&registry, vec![Handle::current(), Handle::current()]);
        assert!(registry.text().contains("tokio_num_workers 2"), "{}", registry.text());
    }
}
