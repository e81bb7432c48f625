//! Making sure that discovery has been asked, where it tells only what it is asked for.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use discovery::{Destination, GatewayAddress, LocalName, View, Workload};
use tokio::time::Instant;
use types::Authority;
use xds::demand::Demand;

use crate::error::ConnectionError;

/// How long a connection waits for discovery to answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// What is asked of discovery, if it has to be asked; otherwise everything is known that can be.
pub(crate) struct Knowledge {
    demand: Option<Demand>,
    view: View,
    cluster: String,
}

impl Knowledge {
    pub(crate) fn new(demand: Option<Demand>, view: View, cluster: &str) -> Self {
        Self { demand, view, cluster: cluster.to_owned() }
    }

    /// Whether anything has to be asked for.
    pub(crate) fn is_on_demand(&self) -> bool {
        self.demand.is_some()
    }

    /// Asks for a pod of the own cluster.
    pub(crate) async fn pod(&self, name: &LocalName) -> Result<(), ConnectionError> {
        self.ask(|| format!("{}//Pod/{}/{}", self.cluster, name.namespace, name.name)).await
    }

    /// Asks who is at an address, and whom a service there consists of.
    pub(crate) async fn address(&self, network: &Arc<str>, ip: IpAddr) -> Result<(), ConnectionError> {
        if ip.is_loopback() || !self.is_on_demand() {
            return Ok(());
        }
        self.ask(|| format!("{network}/{ip}")).await?;
        // By its address a service comes alone, by its name with its endpoints.
        match self.view.service_by_vip(network, ip, None) {
            Some(service) => self.ask(|| service.key().to_string()).await,
            None => Ok(()),
        }
    }

    /// Asks for a waypoint or a gateway.
    pub(crate) async fn reference(&self, reference: &GatewayAddress) -> Result<(), ConnectionError> {
        match &reference.destination {
            Destination::Hostname(key) => self.ask(|| key.to_string()).await,
            Destination::Address(at) => self.address(&at.network, at.address).await,
        }
    }

    /// Asks for what a tunnel's client wants of a local workload.
    pub(crate) async fn wanted(
        &self,
        local: &Workload,
        ip: IpAddr,
        authority: &Authority,
    ) -> Result<(), ConnectionError> {
        match authority {
            Authority::Address(asked) if asked.ip().to_canonical() == ip => Ok(()),
            Authority::Address(asked) => self.address(&local.network, asked.ip().to_canonical()).await,
            Authority::Name(hostname, _) => {
                let mut services = local.services.iter().map(|(key, _ports)| key);
                match services.find(|key| key.hostname == *hostname) {
                    Some(key) => self.ask(|| key.to_string()).await,
                    None => self.ask(|| format!("{}/{hostname}", local.namespace)).await,
                }
            }
        }
    }

    async fn ask(&self, name: impl FnOnce() -> String) -> Result<(), ConnectionError> {
        let Some(demand) = &self.demand else { return Ok(()) };
        Ok(Box::pin(demand.settled(&name(), Instant::now() + DEADLINE)).await?)
    }
}
