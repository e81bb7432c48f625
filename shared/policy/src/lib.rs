//! Layer-4 authorization: which policies apply to a connection, whether they match it, and what follows.
//!
//! The crate is pure: it refuses to know sockets, clocks, async and protobuf.
//! Whoever builds an [`Authorization`] has parsed it completely; what is malformed is rejected there.
//! Its main type is [`PolicySet`], an immutable snapshot that decides with [`PolicySet::evaluate`].
//!
//! ```
//! use policy::{Action, Authorization, Connection, Decision, PolicySet, Scope};
//! use types::NamespacedName;
//!
//! let deny_all = Authorization {
//!     key: NamespacedName::new("shop", "deny-all"),
//!     scope: Scope::Namespace,
//!     action: Action::Allow,
//!     dry_run: false,
//!     rules: vec![],
//! };
//! let policies = PolicySet::default().with([deny_all], []);
//! let connection = Connection {
//!     source_ip: "10.244.1.5".parse().unwrap(),
//!     identity: None,
//!     destination: "10.244.2.7:8080".parse().unwrap(),
//! };
//! let evaluation = policies.evaluate("shop", &[], &connection);
//! assert_eq!(evaluation.decision.to_string(), "allow policies exist, but none allowed: shop/deny-all");
//! assert_eq!(policies.evaluate("elsewhere", &[], &connection).decision, Decision::Allow { by: None });
//! ```
#![warn(missing_docs)]

mod decision;
mod matching;
mod model;
mod set;

#[cfg(test)]
mod oracle;

pub use decision::{Decision, Denial, DryRun, Evaluation};
pub use matching::Connection;
pub use model::{Action, Authorization, Clause, Match, Rule, Scope, ServiceAccountMatch, StringMatch, Unreadable};
pub use set::PolicySet;
