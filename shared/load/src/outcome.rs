//! What came of a plan.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::histogram::{Histogram, Summary};

/// What came of a plan, as JSON.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Why no number of this outcome may be used; absent when it is valid.
    ///
    /// More than 1 % of the sends were late, more than 1 % of what was due was not answered, nothing was answered, or
    /// connections were lost or streams broke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invalid: Option<String>,
    /// Requests (or connections) of the counted time that were sent. For a fixed pace, these are the ones that were
    /// due in it; in a closed loop the ones that were answered or failed in it.
    pub sent: u64,
    /// How many of them were answered.
    pub answered: u64,
    /// How many were not, by reason.
    pub failed: BTreeMap<Failure, u64>,
    /// How many were sent more than a millisecond after their intended time although their connection was free: the
    /// generator was too slow. A connection that still waits for an answer makes nothing late; that is latency.
    pub late: u64,
    /// The part of `sent` that was late, 0 to 1.
    pub late_share: f64,
    /// Seconds that were counted.
    pub elapsed_s: f64,
    /// Seconds from the end of the counted time to that of the run: what was under way then was still waited for.
    #[serde(default)]
    pub overtime_s: f64,
    /// Answers per second.
    pub rate: f64,
    /// From the intended send time (fixed pace) or the send time (saturation) to the last byte of the answer. Absent
    /// without an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latencies>,
    /// From when a request was in fact sent to the last byte of its answer, whatever its latency is; absent at saturation,
    /// where the latency is this. It says what the server took, and nothing about what waited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Summary>,
    /// How long after its intended time a request was sent whose connection was free; absent at saturation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lateness: Option<Summary>,
    /// What bulk streams carried; absent without any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bulk: Option<Bulk>,
    /// Idle connections that stood when all were asked for.
    #[serde(default)]
    pub held: u32,
    /// Idle connections that ended before they were told to.
    #[serde(default)]
    pub lost: u32,
    /// What the generator itself used in the counted time.
    pub cpu: Cpu,
}

/// Latencies of the answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Latencies {
    /// The usual percentiles.
    #[serde(flatten)]
    pub summary: Summary,
    /// All of them, for adding rounds up and for charts.
    pub histogram: Histogram,
}

/// Why something was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// The connection was refused.
    Refused,
    /// The connection could not be made for another reason.
    Connect,
    /// Connecting or the answer took longer than the plan allows.
    Timeout,
    /// The peer ended the connection in an orderly way before the whole answer was here.
    Closed,
    /// The peer reset the connection or the stream.
    Reset,
    /// The answer says that the request failed: not 2xx, or a gRPC status other than 0.
    Status,
    /// The answer cannot be understood, or is longer than 16 MiB.
    Garbage,
    /// It was due, and its connection was still busy with earlier ones when the time was over.
    Unsent,
}

/// What bulk streams carried in the counted time.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Bulk {
    /// Bytes, as the receivers counted them.
    pub bytes: u64,
    /// Bits per second, as the receivers counted them.
    pub bits_per_second: f64,
    /// Streams that broke before the end.
    pub broken: u32,
}

/// What the generator's thread used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cpu {
    /// Microseconds in user mode.
    pub user_us: u64,
    /// Microseconds in the kernel.
    pub system_us: u64,
    /// Context switches because it waited.
    pub voluntary_switches: u64,
    /// Context switches because somebody else was to run.
    pub involuntary_switches: u64,
}

impl Cpu {
    /// Time in both modes.
    pub fn total(self) -> Duration {
        Duration::from_micros(self.user_us + self.system_us)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Refused => "refused",
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Status => "status",
            Self::Garbage => "garbage",
            Self::Unsent => "unsent",
        })
    }
}
