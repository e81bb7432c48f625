//! The reader of formats.

use super::{BadFormat, Command, Piece};

/// Reads `%NAME%`, `%NAME(argument)%` and `%NAME(argument):length%` between texts.
pub(super) struct Parser<'a> {
    text: &'a str,
    position: usize,
}

/// What an operator is made of.
struct Parts<'a> {
    name: &'a str,
    argument: &'a str,
    length: Option<&'a str>,
    /// What is after it.
    rest: &'a str,
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, position: 0 }
    }

    pub(super) fn pieces(mut self) -> Result<Vec<Piece>, BadFormat> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        while let Some((before, after)) = self.rest().split_once('%') {
            plain.push_str(before);
            self.position += before.len();
            if after.starts_with('%') {
                plain.push('%');
                self.position += "%%".len();
                continue;
            }
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain).into()));
            }
            pieces.push(self.operator(after)?);
        }
        plain.push_str(self.rest());
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain.into()));
        }
        Ok(pieces)
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.position..).unwrap_or_default()
    }

    /// The operator of which `text` is what follows its percent sign.
    fn operator(&mut self, text: &str) -> Result<Piece, BadFormat> {
        let bad = |operator: &str, why| BadFormat { operator: operator.to_owned(), position: self.position, why };
        let parts = split(text).ok_or_else(|| bad(text, "is malformed"))?;
        let length =
            parts.length.map(str::parse).transpose().map_err(|_error| bad(parts.name, "has too great a length"))?;
        let command = Command::new(parts.name, parts.argument, length.is_some()).map_err(|why| bad(parts.name, why))?;
        self.position = self.text.len() - parts.rest.len();
        Ok(Piece::Operator { command, max_length: length })
    }
}

/// The argument ends at the first parenthesis with which the operator can end, so that it may have others.
fn split(text: &str) -> Option<Parts<'_>> {
    let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let (name, after) = text.split_at(text.find(|c| !is_name(c))?);
    if name.is_empty() {
        return None;
    }
    let Some(arguments) = after.strip_prefix('(') else {
        let (length, rest) = end(after)?;
        return Some(Parts { name, argument: "", length, rest });
    };
    // An argument is of one line.
    let line = arguments.split('\n').next().unwrap_or_default();
    line.match_indices(')').find_map(|(index, _)| {
        let (argument, after) = arguments.split_at_checked(index)?;
        let (length, rest) = end(after.strip_prefix(')')?)?;
        Some(Parts { name, argument, length, rest })
    })
}

/// The length, if there is one, and what is after the percent sign at the end.
fn end(text: &str) -> Option<(Option<&str>, &str)> {
    if let Some(rest) = text.strip_prefix('%') {
        return Some((None, rest));
    }
    let (length, rest) = text.strip_prefix(':')?.split_once('%')?;
    let is_number = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some((Some(length), rest))
}
