//! What the demo prints: sections, progress, and one line with a tick or a cross for each thing checked.

use std::io::{IsTerminal, Write};

use tokio::time::Instant;

const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";
/// Back to the start of the line, and clear it.
const ERASE: &str = "\r\x1b[K";

/// How wide lines get on a terminal, which may be 80 columns wide; elsewhere they stay whole, for grep.
const WIDTH: usize = 79;

/// Prints and counts.
pub(super) struct Report {
    start: Instant,
    is_terminal: bool,
    has_colour: bool,
    passed: usize,
    failed: usize,
}

impl Report {
    /// Colour and moving lines only where somebody looks.
    pub(super) fn new() -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        let has_colour = is_terminal && std::env::var_os("NO_COLOR").is_none();
        Self { start: Instant::now(), is_terminal, has_colour, passed: 0, failed: 0 }
    }

    /// A new part of the story.
    pub(super) fn section(&self, title: &str) {
        let (bold, reset) = self.style(BOLD);
        self.line(&format!("\n{bold}{title}{reset}"));
    }

    /// What is being done just now; the next line takes its place on a terminal.
    pub(super) fn progress(&self, text: &str) {
        let (dim, reset) = self.style(DIM);
        let seconds = self.start.elapsed().as_secs();
        let text = format!("  {dim}· {text} ({seconds} s){reset}");
        if self.is_terminal {
            let mut out = std::io::stdout().lock();
            // A closed pipe ends the demo at the next real line; progress is not worth an error.
            let _ = write!(out, "{ERASE}{text}");
            let _ = out.flush();
        } else {
            self.line(&text);
        }
    }

    /// Something worth knowing that is not checked.
    pub(super) fn note(&self, text: &str) {
        self.line(&self.folded("    ", text));
    }

    /// One thing that must be so; the text says what was observed.
    pub(super) fn check(&mut self, holds: bool, observed: &str) {
        let (colour, mark) = if holds { (GREEN, "✔") } else { (RED, "✘") };
        let (colour, reset) = self.style(colour);
        if holds {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
        self.line(&format!("  {colour}{mark}{reset} {}", self.folded("    ", observed).trim_start()));
    }

    /// A step that could not be carried out.
    pub(super) fn failure(&mut self, error: &anyhow::Error) {
        self.check(false, &format!("{error:#}"));
    }

    /// The last line; `true` when everything held and something was checked.
    pub(super) fn close(&self) -> bool {
        self.line(&format!("\ndemo: {} checks passed, {} failed", self.passed, self.failed));
        self.failed == 0 && self.passed > 0
    }

    /// Indented text, on a terminal with line breaks between words.
    fn folded(&self, indent: &str, text: &str) -> String {
        if self.is_terminal { fold(indent, text, WIDTH) } else { format!("{indent}{text}") }
    }

    fn style(&self, code: &'static str) -> (&'static str, &'static str) {
        if self.has_colour { (code, RESET) } else { ("", "") }
    }

    fn line(&self, text: &str) {
        let erase = if self.is_terminal { ERASE } else { "" };
        let mut out = std::io::stdout().lock();
        // Whoever closed the pipe does not want to read on; the exit code still tells.
        let _ = writeln!(out, "{erase}{text}");
    }
}

/// Breaks text between words, each line indented; a word that is longer than a line stays whole.
fn fold(indent: &str, text: &str, width: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("{indent}{word}")),
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::fold;

    #[test]
    fn text_is_broken_between_words() {
        assert_eq!(fold("  ", "one two three", 10), "  one two\n  three");
        assert_eq!(fold("  ", "a-very-long-word → x", 10), "  a-very-long-word\n  → x");
        assert_eq!(fold("  ", "", 10), "");
    }
}
