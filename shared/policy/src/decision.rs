//! What becomes of a connection, and why.

use std::fmt;

use types::NamespacedName;

/// The outcome of an evaluation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluation {
    /// What to do.
    pub decision: Decision,
    /// What each applicable dry-run policy would have changed.
    pub dry_run: Vec<DryRun>,
}

/// What to do with a connection.
///
/// `Display` gives the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Let it pass.
    Allow {
        /// The policy that allowed it; `None` when no enforced ALLOW policy applies.
        by: Option<NamespacedName>,
    },
    /// Refuse it.
    Deny(Denial),
}

impl Decision {
    /// Whether the connection may pass.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow { .. })
    }

    /// Why the connection is refused, if it is.
    #[must_use]
    pub fn denial(&self) -> Option<&Denial> {
        match self {
            Self::Allow { .. } => None,
            Self::Deny(denial) => Some(denial),
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allow { by: Some(key) } => write!(f, "allowed by: {key}"),
            Self::Allow { by: None } => f.write_str("no allow policy applies"),
            Self::Deny(denial) => denial.fmt(f),
        }
    }
}

/// Why a connection is refused; `Display` gives the reason text of logs, which tools compare.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Denial {
    /// A DENY policy matched.
    ExplicitlyDenied(NamespacedName),
    /// ALLOW policies apply, and none matched.
    NoneAllowed {
        /// One of them.
        first: NamespacedName,
        /// How many more there are.
        others: usize,
    },
    /// The workload names a policy that this proxy has not received yet, so nobody can say what it denies.
    NotReceived(NamespacedName),
    /// A policy that applies, and does not merely allow, arrived in a form that this proxy cannot read, and there is no
    /// earlier version of it.
    Unreadable(NamespacedName),
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ExplicitlyDenied(key) => write!(f, "explicitly denied by: {key}"),
            Self::NoneAllowed { first, others: 0 } => write!(f, "allow policies exist, but none allowed: {first}"),
            Self::NoneAllowed { first, others } => {
                write!(f, "allow policies exist, but none allowed: {first} and {others} more")
            }
            Self::NotReceived(key) => write!(f, "policy not received yet: {key}"),
            Self::Unreadable(key) => write!(f, "policy cannot be read: {key}"),
        }
    }
}

impl std::error::Error for Denial {}

/// What a dry-run policy would have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DryRun {
    /// The policy.
    pub key: NamespacedName,
    /// The decision, had this policy been enforced together with those that are.
    pub decision: Decision,
}
