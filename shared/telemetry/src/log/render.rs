//! How an entry becomes a line, in either layout.

use std::fmt::{self, Write as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};
use tracing::Level;
use tracing::field::{Field, Visit};

use super::Layout;

/// The value of a field.
#[derive(Debug, Clone)]
pub(crate) enum FieldValue {
    /// Text that the plain layout puts in quotes.
    Quoted(String),
    /// Text as something displays itself.
    Bare(String),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
}

/// Names and values in the order in which they are shown.
pub(crate) type Fields = Vec<(&'static str, FieldValue)>;

/// Everything that one line says.
pub(crate) struct Entry<'a> {
    pub(crate) time: SystemTime,
    pub(crate) level: Level,
    pub(crate) target: &'a str,
    /// Names and fields of the spans around, outermost first.
    pub(crate) spans: &'a [(&'static str, Fields)],
    pub(crate) message: &'a str,
    pub(crate) fields: &'a [(&'static str, FieldValue)],
}

/// Collects the fields of an event or a span; the message stands apart.
#[derive(Default)]
pub(crate) struct Collector {
    pub(crate) message: String,
    pub(crate) fields: Fields,
}

impl Collector {
    fn push(&mut self, field: &Field, value: FieldValue) {
        match (field.name(), value) {
            ("message", FieldValue::Quoted(text) | FieldValue::Bare(text)) => self.message = text,
            (name, value) => self.fields.push((name, value)),
        }
    }
}

impl Visit for Collector {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, FieldValue::Bare(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, FieldValue::Quoted(value.to_owned()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, FieldValue::Unsigned(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, FieldValue::Signed(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, FieldValue::Float(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, FieldValue::Bool(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        // The chain is the message: an operator needs the cause as much as the symptom.
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        self.push(field, FieldValue::Bare(text));
    }
}

impl Entry<'_> {
    /// Appends the line with its end to `out`.
    pub(crate) fn render(&self, layout: Layout, out: &mut String) {
        match layout {
            Layout::Plain => self.render_plain(out),
            Layout::Json => self.render_json(out),
        }
        out.push('\n');
    }

    fn render_plain(&self, out: &mut String) {
        write_time(out, self.time);
        let _ = write!(out, "\t{}\t{}", level_name(self.level), short_target(self.target));
        for (name, fields) in self.spans {
            let _ = write!(out, ":{name}");
            if !fields.is_empty() {
                out.push('{');
                write_fields(out, fields);
                out.push('}');
            }
        }
        out.push('\t');
        write_one_line(out, self.message);
        if !self.fields.is_empty() {
            out.push('\t');
            write_fields(out, self.fields);
        }
    }

    fn render_json(&self, out: &mut String) {
        let mut time = String::new();
        write_time(&mut time, self.time);
        let mut object = Map::new();
        object.insert("level".to_owned(), level_name(self.level).into());
        object.insert("time".to_owned(), time.into());
        object.insert("scope".to_owned(), short_target(self.target).into());
        object.insert("message".to_owned(), self.message.into());
        object.extend(self.fields.iter().map(|(name, value)| ((*name).to_owned(), value.to_json())));
        for (name, fields) in self.spans {
            let fields: Map<String, Value> =
                fields.iter().map(|(name, value)| ((*name).to_owned(), value.to_json())).collect();
            object.insert((*name).to_owned(), fields.into());
        }
        let _ = write!(out, "{}", Value::Object(object));
    }
}

impl FieldValue {
    fn to_json(&self) -> Value {
        match self {
            Self::Quoted(text) | Self::Bare(text) => text.as_str().into(),
            Self::Unsigned(number) => (*number).into(),
            Self::Signed(number) => (*number).into(),
            Self::Float(number) => (*number).into(),
            Self::Bool(value) => (*value).into(),
        }
    }

    fn write_plain(&self, out: &mut String) {
        let _ = match self {
            Self::Quoted(text) => write!(out, "{text:?}"),
            Self::Bare(text) => {
                write_one_line(out, text);
                Ok(())
            }
            Self::Unsigned(number) => write!(out, "{number}"),
            Self::Signed(number) => write!(out, "{number}"),
            Self::Float(number) => write!(out, "{number}"),
            Self::Bool(value) => write!(out, "{value}"),
        };
    }
}

fn write_fields(out: &mut String, fields: &[(&'static str, FieldValue)]) {
    for (index, (name, value)) in fields.iter().enumerate() {
        if index > 0 {
            out.push(' ');
        }
        let _ = write!(out, "{name}=");
        value.write_plain(out);
    }
}

/// Text that came from a peer must not be able to forge a line: control characters are escaped.
fn write_one_line(out: &mut String, text: &str) {
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// Scripts of other meshes know the node proxy's targets without the crate's name.
fn short_target(target: &str) -> &str {
    target.strip_prefix("ztunnel::").unwrap_or(target)
}

/// Writes RFC 3339 in UTC with microseconds.
fn write_time(out: &mut String, time: SystemTime) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let seconds = since.as_secs();
    let (year, month, day) = civil_date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let micros = since.subsec_micros();
    let _ = write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z");
}

/// The date of a day counted from 1970-01-01, for days not before it.
/// See <https://howardhinnant.github.io/date_algorithms.html#civil_from_days>.
fn civil_date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry<'a>(spans: &'a [(&'static str, Fields)], fields: &'a [(&'static str, FieldValue)]) -> Entry<'a> {
        Entry {
            time: UNIX_EPOCH + Duration::from_micros(1_709_208_000_000_123),
            level: Level::INFO,
            target: "ztunnel::outbound",
            spans,
            message: "ready",
            fields,
        }
    }

    fn rendered(entry: &Entry<'_>, layout: Layout) -> String {
        let mut line = String::new();
        entry.render(layout, &mut line);
        line
    }

    #[test]
    fn a_plain_line_has_tabs_between_its_parts() {
        let spans = [("pod", vec![("uid", FieldValue::Quoted("7f".to_owned()))]), ("probe", vec![])];
        let fields = [("port", FieldValue::Unsigned(15001)), ("addr", FieldValue::Bare("10.0.0.1:80".to_owned()))];
        assert_eq!(
            rendered(&entry(&spans, &fields), Layout::Plain),
            "2024-02-29T12:00:00.000123Z\tinfo\toutbound:pod{uid=\"7f\"}:probe\tready\tport=15001 addr=10.0.0.1:80\n"
        );
        assert_eq!(rendered(&entry(&[], &[]), Layout::Plain), "2024-02-29T12:00:00.000123Z\tinfo\toutbound\tready\n");
    }

    #[test]
    fn a_json_line_has_its_keys_in_order() {
        let spans = [("pod", vec![("uid", FieldValue::Quoted("7f".to_owned()))])];
        let fields = [("dst.addr", FieldValue::Bare("10.0.0.1:80".to_owned())), ("ok", FieldValue::Bool(true))];
        assert_eq!(
            rendered(&entry(&spans, &fields), Layout::Json),
            "{\"level\":\"info\",\"time\":\"2024-02-29T12:00:00.000123Z\",\"scope\":\"outbound\",\
             \"message\":\"ready\",\"dst.addr\":\"10.0.0.1:80\",\"ok\":true,\"pod\":{\"uid\":\"7f\"}}\n"
        );
    }

    #[test]
    fn no_value_can_forge_a_line() {
        let evil = "x\n2024-02-29T12:00:00Z\tinfo\taccess\tforged";
        let fields = [("a", FieldValue::Bare(evil.to_owned())), ("b", FieldValue::Quoted(evil.to_owned()))];
        for layout in [Layout::Plain, Layout::Json] {
            let mut entry = entry(&[], &fields);
            entry.message = evil;
            let line = rendered(&entry, layout);
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            assert!(line.matches('\t').count() <= 4, "{line}");
        }
    }

    #[test]
    fn dates_follow_the_calendar() {
        for (days, date) in [
            (0, (1970, 1, 1)),
            (58, (1970, 2, 28)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (19_722, (2023, 12, 31)),
        ] {
            assert_eq!(civil_date(days), date);
        }
    }
}
