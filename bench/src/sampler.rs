//! What proxies use while load runs.
//!
//! They are looked at again and again, and what counts is the middle of the counted time: neither the making of
//! connections nor the start and the end of the generator fall into it.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use load::Outcome;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use crate::load_plan::{Numbers, work};
use crate::metric::{Measurement, Metric};
use crate::settings::Settings;
use crate::usage::{Process, Reading, Used};

/// How often the proxies are looked at in the counted time.
const LOOKS: u32 = 20;

/// What is left out at either end of the counted time, as a part of it.
const MARGIN: f64 = 0.08;

/// Readings of some processes over time.
pub(crate) struct Sampler {
    processes: Vec<Process>,
    samples: Vec<(Instant, Vec<Reading>)>,
    interval: Interval,
}

impl Sampler {
    /// Reads once.
    ///
    /// # Errors
    /// A process has ended.
    pub(crate) fn new(processes: Vec<Process>, duration: Duration) -> io::Result<Self> {
        let mut interval = interval((duration / LOOKS).max(Duration::from_millis(5)));
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sampler = Self { processes, samples: Vec::new(), interval };
        sampler.look()?;
        Ok(sampler)
    }

    /// Waits until it is time, and reads. Cancel safe.
    ///
    /// # Errors
    /// A process has ended.
    pub(crate) async fn next(&mut self) -> io::Result<()> {
        self.interval.tick().await;
        self.look()
    }

    /// What each process has to do with the numbers of a measurement that ended just now.
    pub(crate) fn finish(
        self,
        measurement: Measurement,
        outcome: &Outcome,
        settings: &Settings,
    ) -> BTreeMap<String, Numbers> {
        if measurement == Measurement::Idle {
            return self.per_idle_connection(settings);
        }
        let used = self.used(settings.duration, Duration::try_from_secs_f64(outcome.overtime_s).unwrap_or_default());
        let numbers = |(used, elapsed): (Used, Duration)| {
            let work = work(measurement, outcome) * elapsed.as_secs_f64();
            (used.process.clone(), per_work(measurement, &used, work))
        };
        used.into_iter().map(numbers).collect()
    }

    fn look(&mut self) -> io::Result<()> {
        if !self.processes.is_empty() {
            let readings = self.processes.iter().map(Process::read).collect::<io::Result<_>>()?;
            self.samples.push((Instant::now(), readings));
        }
        Ok(())
    }

    /// What each process used in the middle of a counted time that ended so long ago, and how long that is.
    fn used(&self, counted: Duration, ago: Duration) -> Vec<(Used, Duration)> {
        let now = Instant::now();
        let age = |(at, _): &&(Instant, Vec<Reading>)| now.duration_since(*at).saturating_sub(ago);
        let first = self.samples.iter().find(|sample| age(sample) <= counted.mul_f64(1.0 - MARGIN));
        let last = self.samples.iter().rev().find(|sample| age(sample) >= counted.mul_f64(MARGIN));
        let (Some((begin, before)), Some((end, after))) = (first, last) else { return Vec::new() };
        let elapsed = end.saturating_duration_since(*begin);
        if elapsed < counted / 4 {
            return Vec::new();
        }
        let each = self.processes.iter().zip(before.iter().zip(after));
        each.map(|(process, (before, after))| (after.since(before, &process.name), elapsed)).collect()
    }

    /// The most memory that each process had, beyond what it had before.
    #[expect(clippy::cast_precision_loss, reason = "a process has far less than 2^52 KiB")]
    fn per_idle_connection(&self, settings: &Settings) -> BTreeMap<String, Numbers> {
        let sides = self.processes.len().max(1) as f64;
        let growth = |index: usize| {
            let memory = |(_, readings): &(Instant, Vec<Reading>)| readings.get(index).map(|one| one.rss_kib);
            let before = self.samples.first().and_then(memory)?;
            let most = self.samples.iter().filter_map(memory).max()?;
            Some(most.saturating_sub(before) as f64)
        };
        let each = self.processes.iter().enumerate().filter_map(|(index, process)| {
            // Per connection and side: what is summed over the proxies is divided by their number.
            let kib = growth(index)? / f64::from(settings.idle_connections) / sides;
            Some((process.name.clone(), [(Metric::KibPerIdleConnection, kib)].into()))
        });
        each.collect()
    }
}

/// What a process used, by request, connection or bit; nothing when nothing was done.
#[expect(clippy::cast_precision_loss, reason = "counts of a few seconds are far below 2^52")]
fn per_work(measurement: Measurement, used: &Used, work: f64) -> Numbers {
    if work <= 0.0 {
        return Numbers::new();
    }
    let rss = (Metric::Rss, used.rss_kib as f64);
    let micros = used.cpu_s * 1e6 / work;
    match measurement {
        Measurement::Rate => [(Metric::CpuPerRequestAtRate, micros), (Metric::RssAtRate, rss.1)].into(),
        Measurement::Saturation => [
            (Metric::CpuPerRequest, micros),
            (Metric::CpuPerThousand, used.cpu_s * 1e3 / work),
            (Metric::SwitchesPerRequest, used.context_switches as f64 / work),
            rss,
        ]
        .into(),
        Measurement::Syscalls => {
            used.system_calls.map(|calls| (Metric::SyscallsPerRequest, calls as f64 / work)).into_iter().collect()
        }
        Measurement::Connections => [(Metric::CpuPerConnection, micros)].into(),
        Measurement::Bulk1 => {
            [(Metric::CpuPerGbit, used.cpu_s * 1e9 / work), (Metric::CpuPerGbyte, used.cpu_s * 8e9 / work)].into()
        }
        Measurement::Bulk4 | Measurement::Bulk64 | Measurement::Mixed | Measurement::Idle => Numbers::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used() -> Used {
        Used {
            process: "ztunnel".to_owned(),
            cpu_s: 0.5,
            context_switches: 30_000,
            system_calls: Some(45_000),
            rss_kib: 12_288,
        }
    }

    #[test]
    fn what_is_used_is_told_by_request_and_by_bit() {
        let found = per_work(Measurement::Saturation, &used(), 10_000.0);
        assert_eq!(found[&Metric::CpuPerRequest], 50.0);
        assert_eq!(found[&Metric::CpuPerThousand], 0.05);
        assert_eq!(found[&Metric::SwitchesPerRequest], 3.0);
        assert_eq!(found[&Metric::Rss], 12_288.0);
        let found = per_work(Measurement::Syscalls, &used(), 10_000.0);
        assert_eq!(found, [(Metric::SyscallsPerRequest, 4.5)].into());
        let uncounted = Used { system_calls: None, ..used() };
        assert_eq!(per_work(Measurement::Syscalls, &uncounted, 10_000.0), Numbers::new());
        let found = per_work(Measurement::Bulk1, &used(), 4e9);
        assert_eq!((found[&Metric::CpuPerGbit], found[&Metric::CpuPerGbyte]), (0.125, 1.0));
        assert_eq!(per_work(Measurement::Bulk1, &used(), 0.0), Numbers::new());
    }

    #[tokio::test]
    async fn a_busy_process_is_seen_to_be_busy_while_it_is() {
        let counted = Duration::from_millis(200);
        let own = Process::open("own", std::process::id()).unwrap();
        let mut sampler = Sampler::new(vec![own], counted).unwrap();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let busy = std::thread::spawn(move || {
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                std::hint::spin_loop();
            }
        });
        for _ in 0..=LOOKS * 2 {
            sampler.next().await.unwrap();
        }
        let found = sampler.used(counted, Duration::ZERO);
        drop(stop);
        busy.join().unwrap();
        let [(used, elapsed)] = found.as_slice() else { panic!("{found:?}") };
        assert!(*elapsed >= counted / 2 && *elapsed <= counted, "{elapsed:?}");
        assert!(used.cpu_s > 0.01, "{used:?}");
    }

    #[tokio::test]
    async fn what_counts_is_the_middle_of_the_counted_time_however_long_the_run_went_on() {
        let counted = Duration::from_secs(1);
        for overtime in [0, 2000].map(Duration::from_millis) {
            let mut sampler = Sampler::new(vec![Process::open("self", std::process::id()).unwrap()], counted).unwrap();
            let end = Instant::now() - overtime;
            // One every tenth of the counted time, from its start to the end of the run; memory tells which it is.
            let looks = 0..=10 + u32::try_from(overtime.as_millis() / 100).unwrap();
            sampler.samples = looks
                .map(|look| {
                    let mut reading = Reading::default();
                    reading.rss_kib = look.into();
                    (end - counted + counted * look / 10, vec![reading])
                })
                .collect();
            let [(used, elapsed)] = sampler.used(counted, overtime).try_into().unwrap();
            assert_eq!((used.rss_kib, elapsed), (9, Duration::from_millis(800)), "{overtime:?}");
        }
    }
}
