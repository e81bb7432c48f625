//! Names of endpoints outside the mesh, resolved on demand with the proxy's own resolver.

use std::net::IpAddr;

use hickory_resolver::TokioResolver;
use tokio::sync::OnceCell;
use types::Hostname;

use crate::error::ConnectionError;

/// Resolves names; the resolver is made at the first one, since most meshes need none.
#[derive(Default)]
pub(crate) struct Names {
    resolver: OnceCell<TokioResolver>,
}

impl Names {
    /// All addresses of a name.
    pub(crate) async fn resolve(&self, hostname: &Hostname) -> Result<Vec<IpAddr>, ConnectionError> {
        let failed = |reason: String| ConnectionError::Name { hostname: hostname.clone(), reason };
        let resolver = self.resolver.get_or_try_init(|| async { TokioResolver::builder_tokio()?.build() }).await;
        let resolver = resolver.map_err(|error| failed(error.to_string()))?;
        // Absolute: the search domains of the proxy's pod are not those of the application.
        let absolute = format!("{}.", hostname.as_str().trim_end_matches('.'));
        let answers = resolver.lookup_ip(absolute).await.map_err(|error| failed(error.to_string()))?;
        Ok(answers.iter().collect())
    }
}
