//! ProxyConfig: the part of the mesh configuration that the node proxy reads, from a file and from `PROXY_CONFIG`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{ConfigError, Lookup};

/// The fields of ProxyConfig that the node proxy uses; others are left to the components that know them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyConfig {
    /// Where discovery is served.
    pub discovery_address: Option<String>,
    /// The admin port.
    pub proxy_admin_port: Option<u16>,
    /// The metrics port.
    pub stats_port: Option<u16>,
    /// Worker threads; 0 means one per CPU.
    pub concurrency: Option<usize>,
    /// Node metadata.
    pub proxy_metadata: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct MeshConfig {
    default_config: Option<ProxyConfig>,
}

impl ProxyConfig {
    /// Merges the mesh file's `defaultConfig`, then `PROXY_CONFIG`; the last one wins, metadata is joined.
    ///
    /// # Errors
    /// When either is no YAML or a field has another type.
    pub fn read(lookup: &Lookup) -> Result<Self, ConfigError> {
        let file = match lookup.mesh_file() {
            Some(text) => yaml::<Option<MeshConfig>>("./etc/istio/config/mesh", text)?
                .and_then(|mesh| mesh.default_config)
                .unwrap_or_default(),
            None => Self::default(),
        };
        let variable = match lookup.variable("PROXY_CONFIG") {
            Some(text) => yaml::<Option<Self>>("PROXY_CONFIG", text)?.unwrap_or_default(),
            None => Self::default(),
        };
        Ok(file.overlaid_by(variable))
    }

    fn overlaid_by(mut self, over: Self) -> Self {
        self.proxy_metadata.extend(over.proxy_metadata);
        Self {
            discovery_address: over.discovery_address.or(self.discovery_address),
            proxy_admin_port: over.proxy_admin_port.or(self.proxy_admin_port),
            stats_port: over.stats_port.or(self.stats_port),
            concurrency: over.concurrency.or(self.concurrency),
            proxy_metadata: self.proxy_metadata,
        }
    }
}

/// Reads a YAML document; the error carries the reader's line and column.
pub(crate) fn yaml<T: serde::de::DeserializeOwned>(name: &str, text: &str) -> Result<T, ConfigError> {
    serde_saphyr::from_str(text)
        .map_err(|error| ConfigError::Document { name: name.to_owned(), reason: error.to_string() })
}
