//! The way to the Kubernetes API.

use anyhow::{Context, Result};
use config::Lookup;
use kube::{Client, Config};

/// A client of the cluster that this process runs in, or of the one that the user's kubeconfig names.
///
/// Inside a cluster the kubeconfig is never looked at: in the lab, pods see the file system of a host whose user may
/// have one that leads somewhere else.
pub(crate) async fn client(lookup: &Lookup) -> Result<Client> {
    let config = if lookup.variable("KUBERNETES_SERVICE_HOST").is_some() {
        Config::incluster().context("cannot use the pod's access to the Kubernetes API")?
    } else {
        Config::infer().await.context("found no way to a Kubernetes API")?
    };
    Ok(Client::try_from(config)?)
}
