//! The traffic families as a scrape sees them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::Store;
use super::labels::{DESTINATION, Party, Reporter, SOURCE, shown};
use super::series::{Key, Sample};

/// A counter family: its name, its help and which number it shows.
type Family = (&'static str, &'static str, fn(&Sample) -> u64);

const FAMILIES: [Family; 5] = [
    ("istio_tcp_connections_opened_total", "Connections opened.", |sample| sample.opened),
    ("istio_tcp_connections_closed_total", "Connections closed.", |sample| sample.closed),
    ("istio_tcp_connections_failed_total", "Connections that ended with an error.", |sample| sample.failed),
    ("istio_tcp_received_bytes_total", "Bytes relayed from the client to the server.", |sample| sample.to_upstream),
    ("istio_tcp_sent_bytes_total", "Bytes relayed from the server to the client.", |sample| sample.to_downstream),
];

const SOCKETS: (&str, &str) = ("istio_tcp_sockets_open", "Connections that are open.");

/// Reads the store at each scrape.
#[derive(Clone)]
pub(super) struct TrafficCollector {
    store: Arc<Store>,
    descriptions: Arc<[Desc]>,
}

impl TrafficCollector {
    pub(super) fn new(store: Arc<Store>) -> prometheus::Result<Self> {
        let names = FAMILIES.iter().map(|(name, help, _)| (*name, *help)).chain([SOCKETS]);
        let descriptions = names
            .map(|(name, help)| {
                Desc::new(name.to_owned(), help.to_owned(), vec!["reporter".to_owned()], HashMap::new())
            })
            .collect::<prometheus::Result<Vec<_>>>()?;
        Ok(Self { store, descriptions: descriptions.into() })
    }

    fn sockets(&self) -> MetricFamily {
        let metric = |reporter: Reporter| {
            let mut gauge = Gauge::default();
            gauge.set_value(float(self.store.sockets(reporter).load(Ordering::Relaxed).unsigned_abs()));
            let mut metric = Metric::from_gauge(gauge);
            metric.set_label(vec![pair("reporter", reporter.text())]);
            metric
        };
        family(SOCKETS, MetricType::GAUGE, [Reporter::Source, Reporter::Destination].map(metric).to_vec())
    }
}

impl Collector for TrafficCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let series = self.store.lock().snapshot();
        let samples: Vec<(Vec<LabelPair>, Sample)> =
            series.iter().map(|(key, series)| (label_pairs(key), series.sample())).collect();
        drop(series);
        let counters = FAMILIES.iter().map(|(name, help, number)| {
            let metrics = samples.iter().filter(|(_, sample)| number(sample) > 0).map(|(labels, sample)| {
                let mut counter = Counter::default();
                counter.set_value(float(number(sample)));
                let mut metric = Metric::from_label(labels.clone());
                metric.set_counter(counter);
                metric
            });
            family((name, help), MetricType::COUNTER, metrics.collect())
        });
        counters.chain([self.sockets()]).collect()
    }
}

fn family((name, help): (&str, &str), kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

/// The labels in the order in which other meshes emit them.
fn label_pairs(key: &Key) -> Vec<LabelPair> {
    let (source, destination) = (key.source.labels(), key.destination.labels());
    let mut pairs = Vec::with_capacity(28);
    pairs.push(pair("reporter", key.reporter.text()));
    push_party(&mut pairs, &SOURCE, &key.source);
    pairs.push(pair("destination_service", &key.service.host));
    pairs.push(pair("destination_service_namespace", &key.service.namespace));
    pairs.push(pair("destination_service_name", &key.service.name));
    push_party(&mut pairs, &DESTINATION, &key.destination);
    pairs.push(pair("request_protocol", "tcp"));
    pairs.push(pair("response_flags", key.flag.text()));
    pairs.push(pair("connection_security_policy", key.security.text()));
    let is_known = |party: &Party| !party.labels().workload.is_empty();
    if is_known(&key.source) || is_known(&key.destination) {
        pairs.push(pair("source_region", &source.region));
        pairs.push(pair("source_zone", &source.zone));
        pairs.push(pair("destination_region", &destination.region));
        pairs.push(pair("destination_zone", &destination.zone));
    }
    pairs
}

fn push_party(pairs: &mut Vec<LabelPair>, names: &[&'static str; 8], party: &Party) {
    pairs.extend(names.iter().zip(party.labels().values()).map(|(name, value)| pair(name, &value)));
}

fn pair(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(shown(value).to_owned());
    pair
}

#[expect(clippy::cast_precision_loss, reason = "the format has no other numbers")]
fn float(value: u64) -> f64 {
    value as f64
}
