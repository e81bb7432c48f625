//! What `kubectl get` prints: rows and columns made by the server
//! ([Table](https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables)).

mod columns;

use serde_json::{Value, json};

use super::kind::Kind;
use super::store::{Object, text};

/// How much of each object goes along with its row (`includeObject`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Include {
    /// Nothing.
    None,
    /// Its metadata.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

/// A table of objects, which are in the version that was asked for.
pub(crate) fn table(kind: &Kind, objects: &[Object], include: Include, metadata: &Value) -> Value {
    let columns = columns::of(kind);
    let definitions: Vec<_> = columns
        .iter()
        .map(|column| {
            let (name, priority) = (column.title, i32::from(column.is_wide));
            let format = if name == "Name" { "name" } else { "" };
            json!({"name": name, "type": "string", "format": format, "description": "", "priority": priority})
        })
        .collect();
    let row = |object: &Object| {
        let cells: Vec<_> = columns.iter().map(|column| column.cell(object)).collect();
        let object = match include {
            Include::None => Value::Null,
            Include::Metadata => partial(object),
            Include::Object => (**object).clone(),
        };
        json!({"cells": cells, "object": object})
    };
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": definitions, "rows": objects.iter().map(row).collect::<Vec<_>>(),
    })
}

/// An object without anything but its metadata.
pub(crate) fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object.get("metadata")})
}

/// How long ago a time was, as kubectl writes it (`k8s.io/apimachinery/pkg/util/duration.HumanDuration`).
fn since(time: &str) -> String {
    let Ok(time) = time.parse::<jiff::Timestamp>() else { return "<unknown>".into() };
    human(jiff::Timestamp::now().as_second() - time.as_second())
}

fn human(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let pair = |large: i64, unit: char, small: i64, rest: char| match small {
        0 => format!("{large}{unit}"),
        _ => format!("{large}{unit}{small}{rest}"),
    };
    match seconds {
        ..0 => "0s".into(),
        0..120 => format!("{seconds}s"),
        120..600 => pair(minutes, 'm', seconds % 60, 's'),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => pair(hours, 'h', minutes % 60, 'm'),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => pair(days, 'd', hours % 24, 'h'),
        691_200..63_072_000 => format!("{days}d"),
        _ => pair(days / 365, 'y', days % 365, 'd'),
    }
}

fn age(object: &Value) -> Value {
    since(text(object, "/metadata/creationTimestamp")).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kind;

    #[test]
    fn ages_are_written_as_kubectl_writes_them() {
        let expected = [(-5, "0s"), (119, "119s"), (125, "2m5s"), (180, "3m"), (3600, "60m"), (11_100, "3h5m")];
        for (seconds, text) in expected {
            assert_eq!(human(seconds), text);
        }
        assert_eq!(human(3 * 86_400 + 7200), "3d2h");
        assert_eq!(human(800 * 86_400), "2y70d");
    }

    #[test]
    fn every_kind_has_columns_that_bear_an_empty_object() {
        for kind in kind::all() {
            let table = table(kind, &[std::sync::Arc::new(json!({}))], Include::None, &Value::Null);
            let (columns, cells) = (&table["columnDefinitions"], &table["rows"][0]["cells"]);
            assert_eq!(columns.as_array().unwrap().len(), cells.as_array().unwrap().len(), "{}", kind.kind);
        }
    }
}
