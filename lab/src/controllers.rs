//! The control loops of the lab's cluster: Deployments make ReplicaSets and Pods, EndpointSlices follow Services and
//! ready Pods, Pods are bound to Nodes.

use crate::api::Client;

/// Runs every controller until the API server behind `client` stops.
pub async fn run(client: Client) {
    
    client.stopped().await;
}
