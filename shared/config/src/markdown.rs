//! The configuration reference, written from the table.

use std::fmt::Write as _;

use crate::Row;
use crate::table::{FAMILIES, NOT_HONOURED, TABLE, WITHOUT_EFFECT};

/// The text of docs/configuration.md.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::from(
        "# Configuration\n\n\
         Generated from the table in shared/config; do not edit.\n\n\
         Components are configured by environment variables, read once at start.\n\
         A value that is not understood stops the component with an error that names the variable.\n\
         Durations are written as in `24h`, `5m`, `1m30s`, `250ms`; booleans are `true` and `false`.\n",
    );
    let mut section = "";
    for row in TABLE.iter().chain(FAMILIES) {
        if row.section != section {
            section = row.section;
            let _ = write!(
                page,
                "\n## {section}\n\n| Variable | Kind | Default | Read by | Meaning |\n|---|---|---|---|---|\n"
            );
        }
        write_row(&mut page, row);
    }
    page.push_str("\n## Not honoured\n\nSet for another node proxy, these are named in a warning at start.\n\n");
    page.push_str("| Variable | Instead |\n|---|---|\n");
    for (name, instead) in NOT_HONOURED {
        let _ = writeln!(page, "| `{name}` | {instead} |");
    }
    page.push_str("\n## Without effect\n\nThese are accepted, and ask for nothing that is not so anyhow.\n\n");
    page.push_str("| Variable | Why |\n|---|---|\n");
    for (name, why) in WITHOUT_EFFECT {
        let _ = writeln!(page, "| {name} | {why} |");
    }
    page
}

fn write_row(page: &mut String, row: &Row) {
    let kind = if row.unit.is_empty() { row.kind.to_owned() } else { format!("{}, {}", row.kind, row.unit) };
    let default = if row.default.is_empty() { "–".to_owned() } else { format!("`{}`", row.default) };
    let components: Vec<&str> = row.components.iter().map(|component| component.name()).collect();
    let _ = writeln!(page, "| `{}` | {kind} | {default} | {} | {} |", row.name, components.join(", "), row.doc.trim());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_knob_is_documented_once() {
        let page = markdown();
        for row in TABLE {
            assert_eq!(page.matches(&format!("| `{}` |", row.name)).count(), 1, "{}", row.name);
            assert!(row.doc.trim().ends_with('.'), "{} has no sentence", row.name);
        }
    }

    #[test]
    fn the_reference_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        let current = std::fs::read_to_string(path).unwrap();
        assert!(current == markdown(), "run: cargo run -q -p config --example markdown > docs/configuration.md");
    }

    #[test]
    fn every_row_has_as_many_cells_as_its_head() {
        for line in markdown().lines().filter(|line| line.starts_with('|')) {
            assert!(matches!(line.matches('|').count(), 3 | 6), "{line}");
        }
    }
}
