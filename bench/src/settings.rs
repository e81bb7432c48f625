//! What the user asks for, and the command line that asks for the same again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::metric::Measurement;
use crate::mode::Mode;

/// What the requests are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1, one request after the other on a connection that is kept.
    Http1,
    /// HTTP/2 without TLS of its own.
    H2,
    /// Unary gRPC calls.
    Grpc,
    /// Messages of fixed size over TCP.
    Tcp,
}

/// No such protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no protocol {found:?}; there are: http1, h2, grpc, tcp")]
pub struct UnknownProtocol {
    found: String,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Http1, Self::H2, Self::Grpc, Self::Tcp];

    /// As flags and reports write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::H2 => "h2",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
        }
    }
}

impl std::str::FromStr for Protocol {
    type Err = UnknownProtocol;

    fn from_str(text: &str) -> Result<Self, UnknownProtocol> {
        let found = Self::ALL.into_iter().find(|one| one.name() == text);
        found.ok_or_else(|| UnknownProtocol { found: text.to_owned() })
    }
}

/// Everything that decides what is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// In the order in which they take turns.
    pub modes: Vec<Mode>,
    /// In the order in which they are made.
    pub measurements: Vec<Measurement>,
    /// Each with each number of connections.
    pub protocols: Vec<Protocol>,
    /// Connections at a time.
    pub connections: Vec<u16>,
    /// Bytes of a request's body; with none it is a GET.
    pub request: u32,
    /// Bytes of an answer's body.
    pub payload: u32,
    /// Requests per second of the fixed rate.
    pub rate: u32,
    /// How often all modes take their turn.
    pub rounds: usize,
    /// How long one measurement lasts.
    pub duration: Duration,
    /// Connections that carry nothing, in the measurement of their memory.
    pub idle_connections: u32,
}

/// One kind of load, in one form: what a turn of a mode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Case {
    /// What the requests are.
    pub protocol: Protocol,
    /// Connections at a time.
    pub connections: u16,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} with {} connections", self.protocol.name(), self.connections)
    }
}

/// Whether a measurement is made in a case: bulk streams and idle connections know neither protocol nor number of
/// connections, and belong to the first case; new connections are those of HTTP/1.1 and TCP.
pub(crate) fn is_meant(measurement: Measurement, case: Case, is_first: bool) -> bool {
    match measurement {
        Measurement::Rate | Measurement::Saturation | Measurement::Syscalls | Measurement::Mixed => true,
        // HTTP/2 is made to keep connections.
        Measurement::Connections => matches!(case.protocol, Protocol::Http1 | Protocol::Tcp),
        Measurement::Bulk1 | Measurement::Bulk4 | Measurement::Bulk64 | Measurement::Idle => is_first,
    }
}

impl Settings {
    /// Every combination of protocol and number of connections.
    #[must_use]
    pub fn cases(&self) -> Vec<Case> {
        let of = |protocol: &Protocol| {
            let protocol = *protocol;
            self.connections.iter().map(move |connections| Case { protocol, connections: *connections })
        };
        self.protocols.iter().flat_map(of).collect()
    }

    /// The measurements of one case. Idle connections come before all load.
    #[must_use]
    pub fn measurements_of(&self, case: Case) -> Vec<Measurement> {
        let is_first = self.cases().first() == Some(&case);
        let meant = self.measurements.iter().filter(|one| is_meant(**one, case, is_first));
        let mut meant: Vec<Measurement> = meant.copied().collect();
        meant.sort_by_key(|one| *one != Measurement::Idle);
        meant
    }

    /// The modes with their baselines, each once, in the order of reports.
    #[must_use]
    pub fn with_baselines(modes: &[Mode]) -> Vec<Mode> {
        let is_needed = |mode: &Mode| modes.contains(mode) || modes.iter().any(|one| one.baseline() == Some(*mode));
        Mode::ALL.into_iter().filter(is_needed).collect()
    }

    /// The flags that ask for exactly this, word by word.
    #[must_use]
    pub fn flags(&self) -> Vec<String> {
        fn list<T: ToString>(items: &[T]) -> String {
            items.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        }
        let flags = [
            ("--modes", list(&self.modes)),
            ("--measurements", list(&self.measurements)),
            ("--protocols", list(&self.protocols.iter().map(|protocol| protocol.name()).collect::<Vec<_>>())),
            ("--conns", list(&self.connections)),
            ("--payload", self.payload.to_string()),
            ("--request", self.request.to_string()),
            ("--qps", self.rate.to_string()),
            ("--rounds", self.rounds.to_string()),
            ("--duration", format!("{}ms", self.duration.as_millis())),
            ("--idle-conns", self.idle_connections.to_string()),
        ];
        flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn settings() -> Settings {
        Settings {
            modes: vec![Mode::None, Mode::AmbientL4],
            measurements: Measurement::DEFAULT.to_vec(),
            protocols: vec![Protocol::Http1],
            connections: vec![16, 64],
            request: 0,
            payload: 1024,
            rate: 1000,
            rounds: 6,
            duration: Duration::from_millis(1200),
            idle_connections: 1000,
        }
    }

    #[test]
    fn bulk_is_measured_once_for_all_cases() {
        let settings = settings();
        let cases = settings.cases();
        assert_eq!(cases.len(), 2);
        assert_eq!(settings.measurements_of(cases[0]), Measurement::DEFAULT);
        let [rate, saturation, syscalls, connections, ..] = Measurement::DEFAULT;
        assert_eq!(settings.measurements_of(cases[1]), [rate, saturation, syscalls, connections]);
    }

    #[test]
    fn a_mode_brings_its_baseline() {
        let modes = Settings::with_baselines(&[Mode::Sidecar, Mode::AmbientL4SameNode]);
        assert_eq!(modes, [Mode::None, Mode::NoneSameNode, Mode::AmbientL4SameNode, Mode::Sidecar]);
    }

    #[test]
    fn the_flags_say_everything() {
        assert_eq!(
            settings().flags().join(" "),
            "--modes none,ambient-l4 --measurements rate,saturation,syscalls,connections,bulk1,bulk4 --protocols http1 \
             --conns 16,64 --payload 1024 --request 0 --qps 1000 --rounds 6 --duration 1200ms \
             --idle-conns 1000"
        );
    }
}
