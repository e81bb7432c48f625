//! What verbs print: tables, JSON and YAML on standard output, everything else on standard error; colour only where a
//! person looks.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
}

/// Standard output cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the output")]
pub(crate) struct WriteError(#[source] io::Error);

/// Rows under a heading.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<const N: usize>(heading: [&str; N]) -> Self {
        Self { rows: vec![heading.map(str::to_owned).to_vec()] }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }
}

impl std::fmt::Display for Table {
    /// Columns as wide as their widest cell, three spaces apart, as kubectl prints them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                write!(line, "{cell:<width$}   ")?;
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Prints `value`; `table` makes the form for people.
pub(crate) fn print<T: Serialize>(format: Format, value: &T, table: impl FnOnce(&T) -> String) -> Result<()> {
    let text = match format {
        Format::Table => table(value),
        Format::Json => serde_json::to_string_pretty(value)? + "\n",
        Format::Yaml => serde_saphyr::to_string(value)?,
    };
    Ok(write(&text)?)
}

/// Prints `value` as one line of JSON.
pub(crate) fn print_line(value: &impl Serialize) -> Result<()> {
    Ok(write(&(serde_json::to_string(value)? + "\n"))?)
}

/// Writes to standard output.
pub(crate) fn write(text: &str) -> Result<(), WriteError> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes()).and_then(|()| output.flush()).map_err(WriteError)
}

/// Writes a line for people to standard error. Nobody can be told when that fails.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// `text` in the colour of what went well, for standard error.
pub(crate) fn good(text: &str) -> String {
    coloured(text, "32")
}

/// `text` in the colour of what went wrong, for standard error.
pub(crate) fn bad(text: &str) -> String {
    coloured(text, "31")
}

/// Colours only what a person sees.
fn coloured(text: &str, colour: &str) -> String {
    // https://no-color.org
    let is_wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if is_wanted && io::stderr().is_terminal() { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_need_to_be() {
        let mut table = Table::new(["NAME", "IP"]);
        table.row(["cart".to_owned(), "10.244.1.2".to_owned()]);
        table.row(["größe".to_owned(), String::new()]);
        assert_eq!(table.to_string(), "NAME    IP\ncart    10.244.1.2\ngröße\n");
    }
}
