//! Values of command lines that several verbs take.

use std::time::Duration;

/// A time as people write it.
///
/// # Errors
/// What is expected instead.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    config::parse_duration(text).ok_or_else(|| "a time like 300ms, 3s or 1m30s is expected".to_owned())
}
