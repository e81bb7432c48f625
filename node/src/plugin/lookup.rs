//! Asking the Kubernetes API about a pod, for when the agent does not answer. Only then is there a runtime.

use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tokio::time::timeout;

use super::Entry;

/// The file in the agent's directory by which the plugin reaches the API.
pub const KUBECONFIG: &str = "aquifer-cni-kubeconfig";

/// How long the API may take.
const DEADLINE: Duration = Duration::from_secs(3);

/// Why the API did not say what a pod is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookupError {
    /// There is no such pod.
    #[error("the pod does not exist")]
    Gone,
    /// There is no way to the API, or it refuses.
    #[error("the Kubernetes API: {0}")]
    Api(String),
    /// It does not answer.
    #[error("the Kubernetes API does not answer within {} s", DEADLINE.as_secs())]
    Late,
}

/// Whether a pod is to be captured, as the API has it.
pub(super) fn belongs_to_mesh(entry: &Entry, namespace: &str, name: &str) -> Result<bool, LookupError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let kubeconfig = entry.cni_agent_run_dir.join(KUBECONFIG);
    runtime.block_on(async {
        timeout(DEADLINE, ask(&kubeconfig, entry, namespace, name)).await.unwrap_or(Err(LookupError::Late))
    })
}

async fn ask(kubeconfig: &Path, entry: &Entry, namespace: &str, name: &str) -> Result<bool, LookupError> {
    let client = connect(kubeconfig).await?;
    let (pods, namespaces) = (Api::<Pod>::namespaced(client.clone(), namespace), Api::<Namespace>::all(client));
    let (pod, namespace) = tokio::join!(pods.get_opt(name), namespaces.get(namespace));
    let pod = pod.map_err(refused)?.ok_or(LookupError::Gone)?;
    Ok(entry.eligibility().decide(&pod, &namespace.map_err(refused)?).is_ok())
}

/// The API as a kubeconfig says.
///
/// # Errors
/// [`LookupError::Api`] where it cannot be used; nothing is asked yet.
pub(crate) async fn connect(kubeconfig: &Path) -> Result<Client, LookupError> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)
        .map_err(|error| LookupError::Api(format!("{}: {error}", kubeconfig.display())))?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(failed)?;
    Client::try_from(config).map_err(failed)
}

/// The error with its causes, of which libraries keep the useful part at the end.
fn failed(error: impl std::error::Error) -> LookupError {
    LookupError::Api(crate::events::with_causes(&error))
}

/// What the API server said, without the rest of its status.
fn refused(error: kube::Error) -> LookupError {
    match error {
        kube::Error::Api(status) => LookupError::Api(format!("{} ({})", status.message, status.code)),
        error => failed(error),
    }
}
