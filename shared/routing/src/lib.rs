//! Layer-7 decisions: which route a request takes, what is changed about it, who may send it, and where it goes.
//!
//! The words and the rules are those of Envoy's configuration, which control planes of this field send; the types are plain
//! data that is well formed once it exists.
//! The crate is pure: it refuses to know sockets, async, protobuf and clocks; randomness and the time are arguments.
//! Its main type is [`Request`], a request as decisions see it.
#![warn(missing_docs)]

mod balance;
mod change;
mod circuit;
mod cors;
#[cfg(test)]
mod example;
mod fault;
mod format;
mod fraction;
mod hash;
mod header;
mod normal;
mod outlier;
mod pattern;
pub mod rbac;
mod request;
mod retry;
mod route;
mod text;
mod timeout;
mod value;

pub use balance::{
    BalancePolicy, Balancer, Balancing, Chosen, Endpoint, Endpoints, Health, Loads, Locality, Priority, RingSizes,
    SlowStart, TableSize, Wanted,
};
pub use change::{AppendAction, Changes, FixedHeader, HeaderAddition, HeaderChanges, Side};
pub use circuit::{Limits, OVERLOADED, RetryBudget, Usage};
pub use cors::{CorsDecision, CorsPolicy};
pub use fault::{Abort, AbortWith, Delay, FAULT_BODY, Fault, FaultDecision};
pub use format::{BadFormat, Command, FilterStateForm, Format, HeaderNames, JsonFormat, MetadataPath, Values};
pub use fraction::{Denominator, Fraction};
pub use hash::{CookieSource, HashPolicy, HashSource, Hashed, hash_of};
pub use header::{HeaderMatch, HeaderMatchKind};
pub use normal::{EscapedSlashes, Normalisation, PathRefused};
pub use outlier::{Ejection, Failure, FailureLimit, OutlierPolicy, Outliers, Report};
pub use pattern::{BadPattern, Pattern};
pub use request::{Connection, Metadata, Request};
pub use retry::{
    BackOff, GiveUp, Outcome, RateLimitedBackOff, Reset, ResetFormat, RetryDecision, RetryOn, RetryPolicy, RetryState,
};
pub use route::{
    Action, BadWeights, Choice, ClusterChoice, Decision, DuplicateDomain, Forward, Found, HostRewrite, Mirror,
    MissingCluster, Options, Outgoing, PathMatch, PathRewrite, QueryMatch, QueryMatchKind, Redirect, RedirectPath,
    RedirectStatus, Route, RouteMatch, RouteTable, Upgrade, VirtualHost, WeightedCluster, WeightedClusters,
};
pub use text::TextMatch;
pub use timeout::{TimeoutHeaders, TimeoutPolicy, Timeouts};
pub use value::{MetadataMatch, ValueMatch};
