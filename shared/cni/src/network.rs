//! The networks of a node: files in a directory, of which the first valid one by name counts.
//!
//! A file describes one plugin (`.conf`, `.json`) or a list of plugins that are called in order (`.conflist`).

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

/// The extension of a list.
const LIST: &str = "conflist";

/// The extensions of single plugins.
const SINGLE: [&str; 2] = ["conf", "json"];

/// Name of a network whose description has none.
const DEFAULT_NAME: &str = "k8s-pod-network";

/// Version of the specification of a network whose description has none: the first with lists that is widely spoken.
const DEFAULT_VERSION: &str = "0.3.1";

/// The largest description that is read, in bytes.
const SIZE_LIMIT: u64 = 1 << 20;

/// A network: plugins that are called in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// The version of the specification that its plugins are called with.
    pub version: String,
    /// Their configurations; each has a `type`.
    pub plugins: Vec<Value>,
    /// The whole description.
    whole: Map<String, Value>,
}

/// A file that describes a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Described {
    /// Where.
    pub path: PathBuf,
    /// What.
    pub network: Network,
}

/// The first valid network of a directory by name of file, as runtimes choose it; files that are not valid are passed
/// over. `None` where there is none, or no directory.
///
/// # Errors
/// When the directory cannot be read.
pub fn first(directory: &Path) -> io::Result<Option<Described>> {
    Ok(all(directory)?.into_iter().next())
}

/// All valid networks of a directory in order of their files' names.
///
/// # Errors
/// When the directory cannot be read.
pub fn all(directory: &Path) -> io::Result<Vec<Described>> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    paths.retain(|path| is_list(path) || is_single(path));
    paths.sort();
    Ok(paths.into_iter().filter_map(|path| Some(Described { network: read(&path)?, path })).collect())
}

/// Reads one file; `None` when it is gone or does not describe a network.
#[must_use]
pub fn read(path: &Path) -> Option<Network> {
    let found = std::fs::metadata(path).ok()?;
    if !found.is_file() || found.len() > SIZE_LIMIT {
        return None;
    }
    let text = std::fs::read(path).ok()?;
    if is_list(path) { Network::list(&text) } else { Network::single(&text) }
}

/// Whether the file describes a list of plugins.
#[must_use]
pub fn is_list(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == LIST)
}

fn is_single(path: &Path) -> bool {
    SINGLE.iter().any(|single| path.extension().is_some_and(|extension| extension == *single))
}

impl Network {
    /// Reads a `.conflist`.
    fn list(text: &[u8]) -> Option<Self> {
        let whole: Map<String, Value> = serde_json::from_slice(text).ok()?;
        let plugins = whole.get("plugins")?.as_array()?.clone();
        if plugins.is_empty() || plugins.iter().any(|plugin| type_of(plugin).is_none()) {
            return None;
        }
        let text = |key: &str| whole.get(key).and_then(Value::as_str).map(str::to_owned);
        // Without a version the specification means 0.1.0, which knows no chains; runtimes refuse lists without a name.
        let version =
            text("cniVersion").filter(|version| !version.is_empty()).unwrap_or_else(|| DEFAULT_VERSION.into());
        Some(Self { name: text("name").filter(|name| !name.is_empty())?, version, plugins, whole })
    }

    /// Wraps a `.conf` into a list.
    ///
    /// It keeps its name, by which address managers know whose addresses are whose.
    fn single(text: &[u8]) -> Option<Self> {
        let mut plugin: Map<String, Value> = serde_json::from_slice(text).ok()?;
        type_of_map(&plugin)?;
        let text = |value: Option<Value>| value.and_then(|value| value.as_str().map(str::to_owned));
        let name = text(plugin.remove("name")).filter(|name| !name.is_empty()).unwrap_or_else(|| DEFAULT_NAME.into());
        let version = text(plugin.remove("cniVersion")).filter(|version| has_chains(version));
        let version = version.unwrap_or_else(|| DEFAULT_VERSION.to_owned());
        let plugins = vec![Value::Object(plugin)];
        let whole = Map::from_iter([
            ("cniVersion".to_owned(), json!(version)),
            ("name".to_owned(), json!(name)),
            ("plugins".to_owned(), json!(plugins)),
        ]);
        Some(Self { name, version, plugins, whole })
    }

    /// The same network with this plugin as the last, in place of every other of its type.
    #[must_use]
    pub fn with_last(&self, plugin: Value) -> Self {
        let mut network = self.without(type_of(&plugin).unwrap_or_default());
        network.plugins.push(plugin);
        network.sealed()
    }

    /// The same network without plugins of this type.
    #[must_use]
    pub fn without(&self, plugin: &str) -> Self {
        let mut network = self.clone();
        network.plugins.retain(|other| type_of(other) != Some(plugin));
        network.sealed()
    }

    /// Whether a plugin of this type is in it.
    #[must_use]
    pub fn has(&self, plugin: &str) -> bool {
        self.plugins.iter().any(|other| type_of(other) == Some(plugin))
    }

    /// The text of a `.conflist`.
    #[must_use]
    pub fn to_text(&self) -> String {
        // A map of texts and values always has a JSON form.
        let mut text = serde_json::to_string_pretty(&self.whole).unwrap_or_default();
        text.push('\n');
        text
    }

    fn sealed(mut self) -> Self {
        self.whole.insert("plugins".to_owned(), json!(self.plugins));
        self
    }
}

/// The type of a plugin, which is the name of its binary.
#[must_use]
pub fn type_of(plugin: &Value) -> Option<&str> {
    type_of_map(plugin.as_object()?)
}

fn type_of_map(plugin: &Map<String, Value>) -> Option<&str> {
    // A type with a slash would be looked for outside the directories of plugins.
    plugin.get("type")?.as_str().filter(|text| !text.is_empty() && !text.contains('/'))
}

/// Whether plugins of this version can be called in a chain.
fn has_chains(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(0), Some(minor)) => minor >= 3,
        (Some(_), Some(_)) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
