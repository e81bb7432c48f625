//! The kinds of values that a knob can have, and how each is read from text.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use types::{Cidr, TrustDomain};

/// A value that can be read from a variable.
pub trait Value: Sized {
    /// The kind, as the documentation calls it.
    const KIND: &'static str;

    /// Reads the text; the error completes the sentence "… is not".
    ///
    /// # Errors
    /// What was expected instead.
    fn parse(text: &str) -> Result<Self, String>;
}

impl<T: Value> Value for Option<T> {
    const KIND: &'static str = T::KIND;

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(None) } else { T::parse(text).map(Some) }
    }
}

impl Value for String {
    const KIND: &'static str = "text";

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

impl Value for PathBuf {
    const KIND: &'static str = "path";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("a path".to_owned()) } else { Ok(Self::from(text)) }
    }
}

impl Value for Vec<String> {
    const KIND: &'static str = "comma-separated list";

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect())
    }
}

impl Value for bool {
    const KIND: &'static str = "boolean";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("true or false".to_owned()),
        }
    }
}

impl Value for IpAddr {
    const KIND: &'static str = "IP address";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_error| "an IP address".to_owned())
    }
}

impl Value for Cidr {
    const KIND: &'static str = "IP range";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error: types::ParseError| error.expected.to_owned())
    }
}

impl Value for TrustDomain {
    const KIND: &'static str = "trust domain";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error: types::ParseError| error.expected.to_owned())
    }
}

macro_rules! integer_value {
    ($($kind:ty),+) => {
        $(impl Value for $kind {
            const KIND: &'static str = "integer";

            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_error| format!("an integer from {} to {}", Self::MIN, Self::MAX))
            }
        })+
    };
}
integer_value!(u16, u32, u64, usize);

impl Value for Duration {
    const KIND: &'static str = "duration";

    fn parse(text: &str) -> Result<Self, String> {
        parse_duration(text).ok_or_else(|| "a duration such as 24h, 5m, 1m30s or 250ms".to_owned())
    }
}

/// The units of a duration with their length in nanoseconds, longest spelling first where one begins another.
const UNITS: [(&str, u128); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a duration as Go writes it: decimal numbers with units, such as `1h30m`, `1.5s` or `250ms`; `0` needs no unit.
///
/// Negative durations, unknown units and anything over 100 years are refused.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    const LONGEST: u128 = 100 * 366 * 24 * 3_600_000_000_000;
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total: u128 = 0;
    while !rest.is_empty() || text.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, remainder) = after.split_at(unit_end);
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(scaled(number, *scale)?).filter(|nanos| *nanos <= LONGEST)?;
        rest = remainder;
    }
    let seconds = u64::try_from(total / 1_000_000_000).ok()?;
    let nanos = u32::try_from(total % 1_000_000_000).ok()?;
    Some(Duration::new(seconds, nanos))
}

/// `number` times `scale`; digits beyond a nanosecond are cut off.
fn scaled(number: &str, scale: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || number.len() > 24 {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let part = if fraction.is_empty() {
        0
    } else {
        let power = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        fraction.parse::<u128>().ok()?.checked_mul(scale)?.checked_div(power)?
    };
    whole.checked_mul(scale)?.checked_add(part)
}

/// Writes a duration so that [`parse_duration`] reads it back: `1h30m0s`, `5s`, `250ms`.
#[must_use]
pub fn duration_text(duration: Duration) -> String {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    if nanos != 0 {
        return match nanos % 1_000_000 {
            0 => format!("{}ms", duration.as_millis()),
            _ => format!("{}ns", duration.as_nanos()),
        };
    }
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// The layout of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Fields separated by tabs, for people.
    Plain,
    /// One JSON object per line.
    Json,
}

impl Value for LogFormat {
    const KIND: &'static str = "plain or json";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "plain" => Ok(Self::Plain),
            "json" => Ok(Self::Json),
            _ => Err("plain or json".to_owned()),
        }
    }
}

/// A policy that restricts cryptography.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CompliancePolicy {
    /// Post-quantum key exchange alone: X25519MLKEM768.
    Pqc,
}

impl Value for CompliancePolicy {
    const KIND: &'static str = "pqc";

    fn parse(text: &str) -> Result<Self, String> {
        if text == "pqc" { Ok(Self::Pqc) } else { Err("pqc".to_owned()) }
    }
}

/// A whole number of processors, from a Kubernetes quantity such as `2`, `1.5` or `500m`, rounded up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cpus(pub usize);

impl Value for Cpus {
    const KIND: &'static str = "quantity";

    fn parse(text: &str) -> Result<Self, String> {
        cpu_quantity(text).ok_or_else(|| "a number of CPUs such as 2, 1.5 or 500m".to_owned())
    }
}

fn cpu_quantity(text: &str) -> Option<Cpus> {
    // Milli-CPUs are the smallest unit that Kubernetes has.
    let (number, unit) = match text.strip_suffix('m') {
        Some(number) if !number.contains('.') => (number, 1),
        Some(_) => return None,
        None => (text, 1000),
    };
    let plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let milli = plain.then(|| scaled(number, unit)).flatten()?;
    usize::try_from(milli.div_ceil(1000)).ok().map(Cpus)
}

/// How many worker threads to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// One per processor.
    All,
    /// Exactly this many.
    Count(usize),
    /// This share of the processors in percent, 1 to 100, rounded up.
    Percent(usize),
}

impl Value for Threads {
    const KIND: &'static str = "integer or percentage";

    fn parse(text: &str) -> Result<Self, String> {
        let expected = || "an integer (0 for one per CPU) or a percentage from 1% to 100%".to_owned();
        match text.strip_suffix('%') {
            Some(percent) => match percent.parse() {
                Ok(percent @ 1..=100) => Ok(Self::Percent(percent)),
                _ => Err(expected()),
            },
            None => match text.parse() {
                Ok(0) => Ok(Self::All),
                // More threads than this is a slip of the keyboard.
                Ok(count @ 1..=1024) => Ok(Self::Count(count)),
                _ => Err(expected()),
            },
        }
    }
}

impl fmt::Display for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("0"),
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_read_as_go_writes_them() {
        let cases = [
            ("24h", 86_400_000),
            ("5m", 300_000),
            ("180s", 180_000),
            ("1m30s", 90_000),
            ("250ms", 250),
            ("1.5s", 1_500),
            ("0", 0),
            ("0s", 0),
            (".5s", 500),
            ("1h0m1s", 3_601_000),
        ];
        for (text, millis) in cases {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse_duration("3us2ns"), Some(Duration::from_nanos(3002)));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "5", "h", "-5s", "5 s", "5d", "1..5s", ".s", "5s5", "s5", "999999999h", "1e3s", "5S"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn quantities_round_up_to_whole_processors() {
        for (text, cpus) in [("2", 2), ("1.5", 2), ("500m", 1), ("1500m", 2), ("0", 0), ("1000m", 1)] {
            assert_eq!(Cpus::parse(text), Ok(Cpus(cpus)), "{text}");
        }
        for text in ["", "m", "-1", "2Ki", "1.5m", "two", "1e3"] {
            assert!(Cpus::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn threads_are_a_count_or_a_share() {
        assert_eq!(Threads::parse("0"), Ok(Threads::All));
        assert_eq!(Threads::parse("3"), Ok(Threads::Count(3)));
        assert_eq!(Threads::parse("25%"), Ok(Threads::Percent(25)));
        for text in ["", "0%", "101%", "-1", "1.5", "%", "100000"] {
            assert!(Threads::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_written_duration_reads_back(seconds in 0u64..10_000_000, nanos in 0u32..1_000_000_000) {
            let duration = Duration::new(seconds, nanos);
            prop_assert_eq!(parse_duration(&duration_text(duration)), Some(duration));
        }

        #[test]
        fn no_text_makes_the_readers_panic(text in "\\PC{0,24}") {
            let _ = (parse_duration(&text), Cpus::parse(&text), Threads::parse(&text));
        }
    }
}
