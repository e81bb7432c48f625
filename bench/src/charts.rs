//! Bars in SVG: one row for each number, its interval drawn over it.

use std::fmt::Write as _;

use crate::statistics::Estimate;

/// Width of a chart, in its own units.
const WIDTH: f64 = 600.0;

/// Where bars begin: what is left of it is for labels.
const LEFT: f64 = 175.0;

/// What is right of the longest bar is for its number.
const RIGHT: f64 = 110.0;

const ROW: f64 = 22.0;
const BAR: f64 = 14.0;
const GAP: f64 = 10.0;
const TOP: f64 = 6.0;

/// One number.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bar {
    /// What it is; the first of a group also says whose.
    pub(crate) label: String,
    /// Its colour.
    pub(crate) class: String,
    /// Fainter than the first of its group: 1 is full.
    pub(crate) opacity: f64,
    /// How long it is.
    pub(crate) estimate: Estimate,
    /// What stands beside it.
    pub(crate) text: String,
}

/// Numbers that belong together, drawn together.
pub(crate) type Group = Vec<Bar>;

/// A chart; empty without bars. `mark` is a value that deserves a line: what everything is relative to.
pub(crate) fn chart(title: &str, groups: &[Group], mark: Option<f64>) -> String {
    let bars = || groups.iter().flatten();
    let longest = bars().map(|bar| bar.estimate.high).fold(0.0_f64, f64::max);
    if longest <= 0.0 {
        return String::new();
    }
    let longest = longest.max(mark.unwrap_or_default());
    let scale = (WIDTH - LEFT - RIGHT) / longest;
    let mut body = String::new();
    let mut y = TOP;
    for group in groups.iter().filter(|group| !group.is_empty()) {
        for bar in group {
            row(&mut body, bar, y, scale);
            y += ROW;
        }
        y += GAP;
    }
    let height = y;
    if let Some(mark) = mark {
        let x = LEFT + mark * scale;
        let _ = write!(body, r#"<line class="mark" x1="{x:.1}" y1="0" x2="{x:.1}" y2="{height:.1}"/>"#);
    }
    let title = escaped(title);
    format!(
        "<figure><figcaption>{title}</figcaption>\
         <svg viewBox=\"0 0 {WIDTH:.0} {height:.0}\" role=\"img\" aria-label=\"{title}\">\
         <line class=\"axis\" x1=\"{LEFT}\" y1=\"0\" x2=\"{LEFT}\" y2=\"{height:.1}\"/>{body}</svg></figure>\n"
    )
}

fn row(body: &mut String, bar: &Bar, y: f64, scale: f64) {
    let Estimate { median, low, high } = bar.estimate;
    let middle = y + ROW / 2.0;
    let (top, length) = (y + (ROW - BAR) / 2.0, (median * scale).max(1.0));
    let [low, high] = [low, high].map(|value| LEFT + value.max(0.0) * scale);
    let label_x = LEFT - 8.0;
    let (label, text) = (escaped(&bar.label), escaped(&bar.text));
    let _ = write!(body, r#"<text class="label" x="{label_x:.1}" y="{middle:.1}">{label}</text>"#);
    let (class, opacity) = (&bar.class, bar.opacity);
    let _ = write!(
        body,
        r#"<rect class="{class}" x="{LEFT}" y="{top:.1}" width="{length:.1}" height="{BAR}" opacity="{opacity}"/>"#
    );
    let (cap_top, cap_bottom) = (middle - 4.0, middle + 4.0);
    let _ = write!(
        body,
        r#"<path class="whisker" d="M{low:.1} {middle:.1}H{high:.1}M{low:.1} {cap_top:.1}V{cap_bottom:.1}M{high:.1} {cap_top:.1}V{cap_bottom:.1}"/>"#
    );
    let text_x = high.max(LEFT + length) + 8.0;
    let _ = write!(body, r#"<text class="value" x="{text_x:.1}" y="{middle:.1}">{text}</text>"#);
}

/// Text as HTML and SVG take it.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(median: f64, low: f64, high: f64) -> Bar {
        let estimate = Estimate { median, low, high };
        Bar { label: "a<b".to_owned(), class: "none".to_owned(), opacity: 1.0, estimate, text: "x".to_owned() }
    }

    #[test]
    fn the_longest_interval_fits_and_bars_are_in_proportion() {
        let svg = chart("Latency", &[vec![bar(50.0, 40.0, 100.0), bar(25.0, 25.0, 25.0)]], None);
        assert!(svg.contains(r#"width="157.5""#) && svg.contains(r#"width="78.8""#), "{svg}");
        assert!(svg.contains("H490.0"), "the whisker ends where bars may end: {svg}");
        assert!(svg.contains("a&lt;b") && !svg.contains("a<b"));
    }

    #[test]
    fn what_was_not_measured_is_not_drawn() {
        assert_eq!(chart("Latency", &[], None), "");
        assert_eq!(chart("Latency", &[vec![]], None), "");
        assert_eq!(chart("Latency", &[vec![]], Some(1.0)), "", "nor is a line without bars");
    }
}
