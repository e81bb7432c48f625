//! The rounds: in each of them every mode takes its turn at every measurement, one right after the other, so that what
//! the machine does meanwhile falls on all of them alike.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use load::{Outcome, Plan};
use tokio::time::timeout;

use crate::load_plan::{Numbers, Port, Turn, numbers, plan, turn_time};
use crate::metric::{Measurement, Metric};
use crate::mode::Mode;
use crate::sampler::Sampler;
use crate::settings::{Case, Settings};
use crate::tunnels::{self, Opened};
use crate::usage::Process;

/// A mode that cannot be measured so many times in a row is left alone.
const MOST_FAILURES: usize = 3;

/// Where the modes are: clients, servers and what is between them.
pub trait Stage {
    /// Where the client of a mode reaches its server.
    fn target(&self, mode: Mode, port: Port) -> SocketAddr;

    /// The proxies between them; none for modes without.
    ///
    /// # Errors
    /// One of them cannot be found.
    fn proxies(&self, mode: Mode) -> io::Result<Vec<Process>>;

    /// The TCP connections of the client's pod so far; nothing where they cannot be seen.
    ///
    /// # Errors
    /// The kernel's, or the client has ended.
    fn opened(&self, mode: Mode) -> io::Result<Option<Opened>>;

    /// Carries out a plan in the client of a mode.
    fn run(&self, mode: Mode, plan: &Plan) -> impl Future<Output = Result<Outcome, String>>;
}

/// What came of one mode in one case.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The mode.
    pub mode: Mode,
    /// The case.
    pub case: Case,
    /// The numbers of each round; what was invalid is missing.
    pub rounds: Vec<Numbers>,
    /// What each proxy has to do with them, by its name.
    pub proxies: BTreeMap<String, Vec<Numbers>>,
    /// What gave no number, and why.
    pub invalid: Vec<Invalid>,
    /// Requests that failed, in all valid measurements.
    pub failed: u64,
}

/// A measurement that gave no number.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Invalid {
    /// Counted from 1.
    pub round: usize,
    /// What was measured.
    pub measurement: Measurement,
    /// Why there is no number.
    pub reason: String,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Turns that are over.
    pub done: usize,
    /// All turns.
    pub total: usize,
    /// Counted from 1.
    pub round: usize,
    /// Whose turn it is.
    pub mode: Mode,
    /// What is measured.
    pub measurement: Measurement,
}

/// What one turn gave.
struct Taken {
    proxies: BTreeMap<String, Numbers>,
    numbers: Numbers,
    failed: u64,
}

/// Why a turn gave nothing.
enum Lost {
    /// It could not be made at all.
    Refused(String),
    /// It was made, and its numbers mean nothing.
    Invalid(String),
}

/// Makes every turn of every round.
pub async fn run(stage: &impl Stage, settings: &Settings, progress: &mut dyn FnMut(Progress)) -> Vec<Record> {
    let mut records = empty(settings, stage);
    let mut failures: BTreeMap<Mode, (usize, String)> = BTreeMap::new();
    let order = order(settings);
    for (done, &(round, case, measurement, mode)) in order.iter().enumerate() {
        progress(Progress { done, total: order.len(), round, mode, measurement });
        let (failed, why) = failures.entry(mode).or_default();
        let taken = if *failed < MOST_FAILURES {
            turn(stage, mode, measurement, case, settings).await
        } else {
            Err(Lost::Invalid(format!("given up after {MOST_FAILURES} failures in a row: {why}")))
        };
        match &taken {
            Ok(_) => *failed = 0,
            Err(Lost::Refused(reason)) => {
                *failed += 1;
                why.clone_from(reason);
            }
            Err(Lost::Invalid(_)) => {}
        }
        if let Some(record) = records.iter_mut().find(|one| one.mode == mode && one.case == case) {
            record.take(round, measurement, taken);
        }
    }
    records
}

/// How many turns a run takes, and how long its load runs in all of them; setting up and ending come on top.
#[must_use]
pub fn planned(settings: &Settings) -> (usize, Duration) {
    let turns = order(settings).len();
    (turns, turn_time(settings) * u32::try_from(turns).unwrap_or(u32::MAX))
}

/// Who takes a turn when: the modes one after the other in each measurement of each case of each round.
fn order(settings: &Settings) -> Vec<(usize, Case, Measurement, Mode)> {
    let mut order = Vec::new();
    for round in 1..=settings.rounds {
        for case in settings.cases() {
            let measurements = settings.measurements_of(case).into_iter().filter(|one| round <= one.most_rounds());
            let modes = |one: Measurement| {
                settings.modes.iter().filter(move |mode| !one.is_of_proxies() || mode.baseline().is_some())
            };
            let turns = measurements.flat_map(|one| modes(one).map(move |mode| (round, case, one, *mode)));
            order.extend(turns);
        }
    }
    order
}

/// Records without numbers but for what the proxies use before any load.
fn empty(settings: &Settings, stage: &impl Stage) -> Vec<Record> {
    let mut records = Vec::new();
    for case in settings.cases() {
        for &mode in &settings.modes {
            let mut record = Record {
                mode,
                case,
                rounds: vec![Numbers::new(); settings.rounds],
                proxies: BTreeMap::new(),
                invalid: Vec::new(),
                failed: 0,
            };
            for proxy in stage.proxies(mode).unwrap_or_default() {
                let Ok(reading) = proxy.read() else { continue };
                #[expect(clippy::cast_precision_loss, reason = "a process has far less than 2^52 KiB")]
                let idle: Numbers = [(Metric::RssIdle, reading.rss_kib as f64)].into();
                record.add_proxy(0, &proxy.name, &idle);
                record.add(0, &idle);
            }
            records.push(record);
        }
    }
    records
}

impl Record {
    fn take(&mut self, round: usize, measurement: Measurement, taken: Result<Taken, Lost>) {
        match taken {
            Ok(taken) => {
                self.failed += taken.failed;
                self.add(round - 1, &taken.numbers);
                for (name, numbers) in &taken.proxies {
                    self.add_proxy(round - 1, name, numbers);
                    self.add(round - 1, numbers);
                }
            }
            Err(Lost::Refused(reason) | Lost::Invalid(reason)) => {
                self.invalid.push(Invalid { round, measurement, reason });
            }
        }
    }

    /// What proxies use is the sum over them.
    fn add(&mut self, round: usize, numbers: &Numbers) {
        if let Some(all) = self.rounds.get_mut(round) {
            for (metric, number) in numbers {
                *all.entry(*metric).or_default() += number;
            }
        }
    }

    fn add_proxy(&mut self, round: usize, name: &str, numbers: &Numbers) {
        let rounds = self.rounds.len();
        let own = self.proxies.entry(name.to_owned()).or_insert_with(|| vec![Numbers::new(); rounds]);
        if let Some(all) = own.get_mut(round) {
            all.extend(numbers);
        }
    }

    /// A metric's number of each round.
    #[must_use]
    pub fn series(&self, metric: Metric) -> Vec<Option<f64>> {
        self.rounds.iter().map(|numbers| numbers.get(&metric).copied()).collect()
    }
}

/// One mode's turn at one measurement.
async fn turn(
    stage: &impl Stage,
    mode: Mode,
    measurement: Measurement,
    case: Case,
    settings: &Settings,
) -> Result<Taken, Lost> {
    let refused = |error: io::Error| Lost::Refused(error.to_string());
    let mut proxies = stage.proxies(mode).map_err(refused)?;
    if measurement == Measurement::Syscalls {
        proxies.iter_mut().try_for_each(Process::count_system_calls).map_err(refused)?;
    }
    let opened = stage.opened(mode).map_err(refused)?;
    let mut sampler = Sampler::new(proxies, settings.duration).map_err(refused)?;
    let Turn { main: (port, kind), beside } = Turn::of(measurement, case, settings);
    let main = run_one(stage, mode, plan(kind, stage.target(mode, port), settings));
    let beside = async {
        match beside {
            Some((port, kind)) => Some(run_one(stage, mode, plan(kind, stage.target(mode, port), settings)).await),
            None => None,
        }
    };
    let mut load = pin!(async { tokio::join!(main, beside) });
    let (outcome, beside) = loop {
        tokio::select! {
            outcomes = &mut load => break outcomes,
            sampled = sampler.next() => sampled.map_err(refused)?,
        }
    };
    let outcome = outcome.map_err(Lost::Refused)?;
    let beside = beside.transpose().map_err(Lost::Refused)?;
    let mut numbers = numbers(measurement, &outcome, beside.as_ref()).map_err(Lost::Invalid)?;
    let opened = (opened, stage.opened(mode).map_err(refused)?);
    numbers.extend(tunnels::numbers(measurement, mode, opened).map_err(Lost::Invalid)?);
    let proxies = sampler.finish(measurement, &outcome, settings);
    Ok(Taken { proxies, numbers, failed: outcome.failed.values().sum() })
}

async fn run_one(stage: &impl Stage, mode: Mode, plan: Plan) -> Result<Outcome, String> {
    let longest = plan.longest();
    let late = |_| Err(format!("the load generator did not end within {} s", longest.as_secs()));
    timeout(longest, stage.run(mode, &plan)).await.unwrap_or_else(late)
}

#[cfg(test)]
mod tests;
