//! A lab that a command brings up for itself.

use std::time::Duration;

use anyhow::{Context, Result};
use lab::launch::Lab;
use lab::mesh::SYSTEM_NAMESPACE;
use lab::state::Record;

use crate::demo::cluster;
use crate::kubernetes;

/// The mesh's components are ready within this time.
pub(crate) const MESH_DEADLINE: Duration = Duration::from_secs(30);

/// What is known of a lab that is up.
pub(crate) struct Up {
    /// What other commands know of it.
    pub(crate) record: Record,
    /// Its Kubernetes API.
    pub(crate) client: kube::Client,
}

/// Waits until a lab is up, with the mesh in it if it `has_mesh`; ends it when it does not come up.
///
/// # Errors
/// Why it does not.
pub(crate) async fn ready(lab: &mut Lab, has_mesh: bool, progress: &mut (dyn FnMut(&str) + Send)) -> Result<Up> {
    let came_up = async {
        let record = lab.ready(progress).await?;
        let client = kubernetes::client_of(&lab.directory().kubeconfig(), None).await?;
        if has_mesh {
            progress("the mesh's components");
            let ready = cluster::wait_for_pods(&client, SYSTEM_NAMESPACE, MESH_DEADLINE, cluster::is_ready).await;
            ready.context("the mesh's components are not ready")?;
        }
        Ok(Up { record, client })
    };
    let came_up = came_up.await;
    if came_up.is_err() {
        // What it was that failed is worth telling, not that ending it did too.
        let _ = lab.stop().await;
    }
    came_up
}
