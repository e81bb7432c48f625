//! What the user sees meanwhile, and what stays.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use bench::results::Results;
use bench::session;
use bench::{Settings, html};
use tokio::time::Instant;

use crate::output;

/// How often it is said where no terminal shows it.
const SELDOM: Duration = Duration::from_secs(10);

/// One line on a terminal that is written again and again; elsewhere a line now and then.
pub(crate) struct Progress {
    begun: Instant,
    said: Option<Instant>,
    is_terminal: bool,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { begun: Instant::now(), said: None, is_terminal: std::io::stderr().is_terminal() }
    }

    /// A step of the setting up.
    pub(crate) fn step(&mut self, step: &str) {
        self.write(step);
        if !self.is_terminal {
            output::complain(step);
        }
    }

    /// A turn of a mode.
    pub(crate) fn turn(&mut self, at: session::Progress) {
        let session::Progress { done, total, round, mode, measurement } = at;
        let elapsed = self.begun.elapsed();
        let text = format!("{done}/{total} after {:.0} s: round {round}, {measurement}, {mode}", elapsed.as_secs_f64());
        self.write(&text);
        let is_due = self.said.is_none_or(|said| said.elapsed() >= SELDOM);
        if !self.is_terminal && is_due {
            self.said = Some(Instant::now());
            output::complain(&text);
        }
    }

    /// Leaves the line empty for what comes next.
    pub(crate) fn end(&mut self) {
        self.write("");
    }

    fn write(&self, text: &str) {
        if self.is_terminal {
            // Nobody can be told when that fails.
            let _ = write!(std::io::stderr(), "\r\x1b[K{text}");
        }
    }
}

/// The files that stay.
pub(crate) struct Report;

impl Report {
    /// Writes them into the working directory; their paths.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn write(results: &Results, settings: &Settings) -> Result<[PathBuf; 2]> {
        let date: String = results.date.chars().filter(char::is_ascii_digit).take(14).collect();
        let [html, json] = ["html", "json"].map(|ending| PathBuf::from(format!("./bench-{date}.{ending}")));
        let written = |path: &PathBuf, text: String| {
            std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        written(&html, html::render(results, settings))?;
        written(&json, serde_json::to_string_pretty(results)? + "\n")?;
        Ok([html, json])
    }
}
