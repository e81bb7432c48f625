//! Names of endpoints outside the mesh, resolved on demand with the proxy's own resolver.

use std::collections::HashSet;
use std::net::IpAddr;

use discovery::{View, Workload};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use telemetry::Registry;
use telemetry::metrics::NameMetrics;
use tokio::sync::OnceCell;
use types::Hostname;

use crate::error::ConnectionError;
use crate::labels::labels;

/// Resolves names; the resolver is made at the first one, since most meshes need none.
pub(crate) struct Names {
    resolver: OnceCell<TokioResolver>,
    strategy: LookupIpStrategy,
    metrics: NameMetrics,
}

/// How many answers are kept, each for as long as it says itself.
const CACHE: u64 = 4096;

impl Names {
    /// Asks for addresses of both families, or of IPv4 alone.
    pub(crate) fn new(ipv6: bool, registry: &Registry) -> Self {
        let strategy = if ipv6 { LookupIpStrategy::Ipv4AndIpv6 } else { LookupIpStrategy::Ipv4Only };
        Self { resolver: OnceCell::new(), strategy, metrics: NameMetrics::new(registry) }
    }

    /// Lets go of what metrics remember of workloads that have left.
    pub(crate) fn sweep(&self, view: &View) {
        let workloads = view.workloads();
        let live: HashSet<(&str, &str)> =
            workloads.iter().map(|workload| (&*workload.workload_name, &*workload.namespace)).collect();
        self.metrics.sweep(|workload, namespace| live.contains(&(workload, namespace)));
    }

    /// All addresses of a name, for a connection of this workload.
    pub(crate) async fn resolve(&self, source: &Workload, hostname: &Hostname) -> Result<Vec<IpAddr>, ConnectionError> {
        let failed = |reason: String| ConnectionError::Name { hostname: hostname.clone(), reason };
        self.metrics.resolved(&labels(source, Some(&source.identity())), hostname.as_str());
        let resolver = self.resolver.get_or_try_init(|| async { self.build() }).await;
        let resolver = resolver.map_err(|error| failed(error.to_string()))?;
        // Absolute: the search domains of the proxy's pod are not those of the application.
        let absolute = format!("{}.", hostname.as_str().trim_end_matches('.'));
        let answers = resolver.lookup_ip(absolute).await.map_err(|error| failed(error.to_string()))?;
        Ok(answers.iter().collect())
    }

    fn build(&self) -> Result<TokioResolver, hickory_resolver::net::NetError> {
        let mut builder = TokioResolver::builder_tokio()?;
        let options = builder.options_mut();
        (options.cache_size, options.ip_strategy) = (CACHE, self.strategy);
        builder.build()
    }
}
