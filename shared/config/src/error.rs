//! What can be wrong with the configuration.

/// A configuration that the component refuses to start with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value is there and cannot be understood.
    #[error("{name}: {found:?} is not {expected}")]
    Malformed {
        /// The variable or field.
        name: String,
        /// What it holds.
        found: String,
        /// What would have been accepted.
        expected: String,
    },
    /// A value without which the component cannot work is absent.
    #[error("{name} is not set; expected {expected}")]
    Missing {
        /// The variable.
        name: &'static str,
        /// What would have been accepted.
        expected: &'static str,
    },
    /// A value asks for something that this release does not do, and leaving it out would be less secure than asked.
    #[error("{name}={found:?} is not supported: {reason}")]
    Unsupported {
        /// The variable.
        name: &'static str,
        /// What it holds.
        found: String,
        /// Why the component does not start without it.
        reason: &'static str,
    },
    /// A YAML document is malformed; the message says where.
    #[error("{name} is not a valid document: {reason}")]
    Document {
        /// The variable or file.
        name: String,
        /// The reader's own words, with line and column.
        reason: String,
    },
    /// A file exists and cannot be read.
    #[error("{path} cannot be read")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl ConfigError {
    /// A malformed value of the variable `name`.
    pub fn malformed(name: impl Into<String>, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Malformed { name: name.into(), found: found.into(), expected: expected.into() }
    }
}
