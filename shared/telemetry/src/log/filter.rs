//! The filter expression: a default level and levels per target.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use tracing_subscriber::filter::{LevelFilter, Targets};

/// What is logged: a default level, and levels for targets that begin with a text.
///
/// ```
/// let mut filter: telemetry::log::Filter = "info,xds=debug".parse().unwrap();
/// filter.append("warning,access:off").unwrap();
/// assert_eq!(filter.to_string(), "warn,access=off,xds=debug");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    default: LevelFilter,
    targets: BTreeMap<String, LevelFilter>,
}

/// A clause that is neither a level nor `target=level`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not off, error, warn, info, debug, trace or target=level")]
pub struct FilterError(pub(crate) String);

impl Filter {
    /// Puts clauses on top: a bare level replaces the default, `target=level` (or `target:level`) that target's.
    ///
    /// # Errors
    /// When a clause is malformed; nothing has changed then.
    pub fn append(&mut self, clauses: &str) -> Result<(), FilterError> {
        let mut next = self.clone();
        for clause in clauses.split(',').map(str::trim).filter(|clause| !clause.is_empty()) {
            next.set(clause)?;
        }
        *self = next;
        Ok(())
    }

    fn set(&mut self, clause: &str) -> Result<(), FilterError> {
        let malformed = || FilterError(clause.to_owned());
        if let Some(level) = level(clause) {
            self.default = level;
            return Ok(());
        }
        // A target may hold `::`, and so may be followed by a single colon: the separator is the last one.
        let (target, text) = clause.rsplit_once('=').or_else(|| clause.rsplit_once(':')).ok_or_else(malformed)?;
        let is_target = !target.is_empty()
            && !target.ends_with(':')
            && target.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:-.".contains(&byte));
        match level(text) {
            Some(level) if is_target => {
                self.targets.insert(target.to_owned(), level);
                Ok(())
            }
            _ => Err(malformed()),
        }
    }

    pub(crate) fn targets(&self) -> Targets {
        Targets::new().with_default(self.default).with_targets(self.targets.iter().map(|(t, l)| (t.clone(), *l)))
    }
}

fn level(text: &str) -> Option<LevelFilter> {
    Some(match text {
        "off" => LevelFilter::OFF,
        "error" => LevelFilter::ERROR,
        "warn" | "warning" => LevelFilter::WARN,
        "info" => LevelFilter::INFO,
        "debug" => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        _ => return None,
    })
}

impl Default for Filter {
    fn default() -> Self {
        Self { default: LevelFilter::INFO, targets: BTreeMap::new() }
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let mut filter = Self::default();
        filter.append(text)?;
        Ok(filter)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.default)?;
        self.targets.iter().try_for_each(|(target, level)| write!(f, ",{target}={level}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn appended(start: &str, clauses: &str) -> Option<String> {
        let mut filter: Filter = start.parse().unwrap();
        filter.append(clauses).ok().map(|()| filter.to_string())
    }

    #[test]
    fn clauses_replace_only_what_they_name() {
        assert_eq!(appended("info", "").unwrap(), "info");
        assert_eq!(appended("info,a=debug", "warn").unwrap(), "warn,a=debug");
        assert_eq!(appended("info,a=debug", "a=error,b::c=trace").unwrap(), "info,a=error,b::c=trace");
        assert_eq!(appended("info", "b::c:off,warning").unwrap(), "warn,b::c=off");
    }

    #[test]
    fn malformed_clauses_change_nothing() {
        for clauses in ["verbose", "a", "a=loud", "=info", "debug,a", "a[b]=info", "a::", "a b=info"] {
            assert_eq!(appended("info", clauses), None, "{clauses}");
        }
        let mut filter = Filter::default();
        filter.append("debug,loud").unwrap_err();
        assert_eq!(filter, Filter::default());
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(clauses in "((off|warn|debug|a|b::c|x-y)[=:](error|info),?){0,4}") {
            if let Ok(filter) = clauses.parse::<Filter>() {
                prop_assert_eq!(filter.to_string().parse::<Filter>().unwrap(), filter);
            }
        }
    }
}
