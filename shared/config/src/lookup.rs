//! Where values come from: the process environment and the mesh configuration file, captured once.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZero;
use std::path::Path;

use crate::ConfigError;

/// The mesh configuration file, relative to the working directory (`/` in an image).
const MESH_FILE: &str = "./etc/istio/config/mesh";

/// Variables by name and the surroundings that defaults depend on.
///
/// Tests make one from pairs; only [`environment`] looks at the process.
#[derive(Debug, Clone)]
pub struct Lookup {
    variables: BTreeMap<String, String>,
    mesh_file: Option<String>,
    cpus: NonZero<usize>,
}

impl Lookup {
    /// The text of a variable; a variable set to nothing is `Some("")`.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// The variables whose names begin with `prefix`, prefix removed, in order of name.
    pub fn family<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.variables.iter().filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value.as_str())))
    }

    /// The text of the mesh configuration file, if there is one.
    #[must_use]
    pub fn mesh_file(&self) -> Option<&str> {
        self.mesh_file.as_deref()
    }

    /// The number of processors that this process may use.
    #[must_use]
    pub fn cpus(&self) -> NonZero<usize> {
        self.cpus
    }

    /// The same lookup with another mesh configuration file.
    #[must_use]
    pub fn with_mesh_file(mut self, text: impl Into<String>) -> Self {
        self.mesh_file = Some(text.into());
        self
    }

    /// The same lookup on a machine with `cpus` processors.
    #[must_use]
    pub fn with_cpus(mut self, cpus: NonZero<usize>) -> Self {
        self.cpus = cpus;
        self
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Lookup {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let variables = pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { variables, mesh_file: None, cpus: NonZero::<usize>::MIN }
    }
}

/// The process environment, the mesh configuration file and the processor count: the one place that reads them.
///
/// Variables that are not UTF-8 are treated as absent; no knob has such a value.
///
/// # Errors
/// When the mesh configuration file exists and cannot be read.
pub fn environment() -> Result<Lookup, ConfigError> {
    let mut lookup: Lookup = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    lookup.mesh_file = read_if_present(Path::new(MESH_FILE))?;
    lookup.cpus = std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    Ok(lookup)
}

fn read_if_present(path: &Path) -> Result<Option<String>, ConfigError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ConfigError::Unreadable { path: path.display().to_string(), source }),
    }
}
