//! What the files of a volume hold: entries of ConfigMaps and Secrets, fields of the pod. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret};

use crate::api::Key;
use crate::kubelet::environment::{ConfigError, field};

/// Permissions of files that say nothing of their own.
pub(crate) const DEFAULT_MODE: u32 = 0o644;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) content: Vec<u8>,
    pub(crate) mode: u32,
}

/// The files of a volume by their relative path.
pub(crate) type Payload = BTreeMap<String, File>;

/// A ConfigMap or a Secret: something that holds named entries.
pub(crate) trait Entries: Key {
    /// As messages name the kind.
    const WORD: &'static str;

    /// The entries, text and binary.
    fn entries(&self) -> BTreeMap<String, Vec<u8>>;
}

impl Entries for ConfigMap {
    const WORD: &'static str = "configmap";

    fn entries(&self) -> BTreeMap<String, Vec<u8>> {
        let text = self.data.iter().flatten().map(|(key, value)| (key.clone(), value.clone().into_bytes()));
        let binary = self.binary_data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone()));
        text.chain(binary).collect()
    }
}

impl Entries for Secret {
    const WORD: &'static str = "secret";

    fn entries(&self) -> BTreeMap<String, Vec<u8>> {
        self.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect()
    }
}

/// Files for the chosen entries, or for all of them if none are chosen.
///
/// # Errors
/// When a chosen entry is not there and the volume is not optional, or a path leads out of the volume.
pub(crate) fn entries(
    mut found: BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    default_mode: Option<i32>,
    (what, is_optional): (&str, bool),
) -> Result<Payload, ConfigError> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        let files = found.into_iter().map(|(key, content)| (key, File { content, mode: mode(None, default_mode) }));
        return Ok(files.collect());
    };
    let mut payload = Payload::new();
    for item in items {
        match found.remove(&item.key) {
            Some(content) => {
                payload.insert(checked(&item.path)?, File { content, mode: mode(item.mode, default_mode) });
            }
            None if is_optional => {}
            None => return Err(ConfigError(format!("{what} has no key {:?}", item.key))),
        }
    }
    Ok(payload)
}

/// Files for fields of the pod.
///
/// # Errors
/// A field that pods do not have, a path that leads out of the volume.
pub(crate) fn downward(
    items: &[DownwardAPIVolumeFile],
    pod: &Pod,
    default_mode: Option<i32>,
) -> Result<Payload, ConfigError> {
    let mut payload = Payload::new();
    for item in items {
        let path = item.field_ref.as_ref().map(|field| field.field_path.as_str());
        let content = match path {
            Some(path) => field(pod, path).map_err(ConfigError)?,
            None => return Err(ConfigError(format!("downward API file {:?}: the lab knows fieldRef only", item.path))),
        };
        let file = File { content: content.into_bytes(), mode: mode(item.mode, default_mode) };
        payload.insert(checked(&item.path)?, file);
    }
    Ok(payload)
}

/// A path inside a volume: relative, and never upwards.
///
/// # Errors
/// Says what is wrong with the path.
pub(crate) fn checked(path: &str) -> Result<String, ConfigError> {
    let is_inside = !path.is_empty()
        && !path.starts_with('/')
        && path.split('/').all(|part| !part.is_empty() && part != "." && !part.starts_with(".."));
    if is_inside { Ok(path.to_owned()) } else { Err(ConfigError(format!("path {path:?} leads out of the volume"))) }
}

/// The file's own permissions, the volume's, or the default.
pub(crate) fn mode(own: Option<i32>, default: Option<i32>) -> u32 {
    own.or(default).and_then(|mode| u32::try_from(mode).ok()).map_or(DEFAULT_MODE, |mode| mode & 0o777)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found() -> BTreeMap<String, Vec<u8>> {
        BTreeMap::from([("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())])
    }

    fn items(value: serde_json::Value) -> Vec<KeyToPath> {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn all_entries_come_without_items() {
        let payload = entries(found(), None, Some(0o600), ("configmap \"x\"", false)).unwrap();
        assert_eq!(payload.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(payload["a"], File { content: b"1".to_vec(), mode: 0o600 });
    }

    #[test]
    fn items_choose_paths_and_modes() {
        let items = items(json!([{"key": "a", "path": "deep/er/file", "mode": 0o400}]));
        let payload = entries(found(), Some(&items), None, ("configmap \"x\"", false)).unwrap();
        assert_eq!(payload, Payload::from([("deep/er/file".to_owned(), File { content: b"1".to_vec(), mode: 0o400 })]));
    }

    #[test]
    fn a_missing_entry_is_named_unless_it_is_optional() {
        let items = items(json!([{"key": "c", "path": "c"}]));
        let error = entries(found(), Some(&items), None, ("configmap \"x\"", false)).unwrap_err();
        assert_eq!(error.to_string(), "configmap \"x\" has no key \"c\"");
        assert_eq!(entries(found(), Some(&items), None, ("configmap \"x\"", true)).unwrap(), Payload::new());
    }

    #[test]
    fn no_path_leads_out() {
        for path in ["", "/etc/passwd", "..", "../x", "a/../../x", "a//b", "..data", "a/."] {
            assert!(checked(path).is_err(), "{path}");
        }
        assert!(checked("a/b.c").is_ok());
    }

    #[test]
    fn fields_become_files() {
        let pod = serde_json::from_value(json!({"metadata": {"name": "p", "labels": {"app": "x"}}})).unwrap();
        let items: Vec<DownwardAPIVolumeFile> = serde_json::from_value(json!([
            {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
            {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}},
        ]))
        .unwrap();
        let payload = downward(&items, &pod, None).unwrap();
        assert_eq!(
            (payload["labels"].content.as_slice(), payload["name"].content.as_slice()),
            (&b"app=\"x\""[..], &b"p"[..])
        );
    }
}
