//! The way to the Kubernetes API.

mod exec;

use std::path::Path;

use anyhow::{Context, Result};
use config::Lookup;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

pub(crate) use self::exec::{Ended, Program, exec};

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

/// A client of the cluster that a kubeconfig names: that of one of its contexts, or of the current one.
///
/// # Errors
/// The file cannot be read, or has no such context.
pub(crate) async fn client_of(kubeconfig: &Path, context: Option<&str>) -> Result<Client> {
    let unusable = || format!("cannot use kubeconfig {}", kubeconfig.display());
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let file = Kubeconfig::read_from(kubeconfig).with_context(unusable)?;
    let config = Config::from_custom_kubeconfig(file, &options).await.with_context(unusable)?;
    Client::try_from(config).with_context(unusable)
}
