//! Texts with parts that are filled in: values of headers, and lines of access logs.

use std::borrow::Cow;
use std::fmt;

pub use self::command::{Command, FilterStateForm, HeaderNames, MetadataPath};
pub use self::json::JsonFormat;
use self::parse::Parser;

mod command;
mod json;
mod parse;

/// A text with Envoy's [command operators].
///
/// `Display` gives it back, with the names of headers in lower case.
///
/// [command operators]: https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage#command-operators
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format(Vec<Piece>);

/// A part of a format.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// What is written as it is.
    Text(Box<str>),
    /// What is filled in.
    Operator { command: Command, max_length: Option<usize> },
}

/// What is known about a request and its response.
pub trait Values {
    /// What an operator stands for, as Envoy would write it; `None` where there is no such thing.
    ///
    /// Formats cut what is too long and replace spaces themselves where Envoy does.
    /// Envoy writes counts that it does not know as 0, and `-` where a response has no flags.
    fn value(&self, command: &Command) -> Option<Cow<'_, str>>;

    /// The same for a field of a JSON log; by default numbers are those that Envoy's operators have.
    ///
    /// Values of metadata have the types that filters gave them; who knows those says so here.
    fn typed(&self, command: &Command) -> Option<serde_json::Value> {
        let text = self.value(command)?;
        let number = if command.is_number() { text.parse::<u64>().ok() } else { None };
        Some(number.map_or_else(|| text.into_owned().into(), Into::into))
    }
}

/// Why a text is no format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operator:?} at byte {position} of a format {why}")]
pub struct BadFormat {
    /// The operator, or what is in its place.
    pub operator: String,
    /// Where it begins.
    pub position: usize,
    why: &'static str,
}

impl Format {
    /// Reads a format.
    ///
    /// # Errors
    /// If an operator is malformed or unknown.
    ///
    /// ```
    /// let format = routing::Format::parse("%REQ(X-Request-ID?:PATH):8% 100%%").unwrap();
    /// assert_eq!(format.to_string(), "%REQ(x-request-id?:path):8% 100%%");
    /// assert!(routing::Format::parse("%REQ%").is_err());
    /// ```
    pub fn parse(text: &str) -> Result<Self, BadFormat> {
        Parser::new(text).pieces().map(Self)
    }

    /// The text with what `values` say; what is missing is empty.
    ///
    /// This is how values of headers are made.
    #[must_use]
    pub fn write(&self, values: &impl Values) -> String {
        self.write_with(values, "")
    }

    /// The text with what `values` say; what is missing is `-`.
    ///
    /// This is how lines of access logs are made.
    #[must_use]
    pub fn write_log(&self, values: &impl Values) -> String {
        self.write_with(values, "-")
    }

    fn write_with(&self, values: &impl Values, missing: &str) -> String {
        let mut written = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => written.push_str(text),
                Piece::Operator { command, max_length } => match values.value(command) {
                    Some(value) => written.push_str(&command.tidy(value, *max_length)),
                    None => written.push_str(missing),
                },
            }
        }
        written
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => f.write_str(&text.replace('%', "%%"))?,
                Piece::Operator { command, max_length: None } => write!(f, "%{command}%")?,
                Piece::Operator { command, max_length: Some(length) } => write!(f, "%{command}:{length}%")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
