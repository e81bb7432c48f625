//! The agent's view of the Kubernetes API: the pods of its node, and all namespaces.

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Api;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::debug;

/// Starts both watches; they go on, with growing pauses, when the API is away.
pub(crate) fn start(
    client: &kube::Client,
    node_name: &str,
    tasks: &mut JoinSet<()>,
) -> (Store<Pod>, Store<Namespace>, watch::Receiver<u64>) {
    let (changed, changes) = watch::channel(0);
    let own_pods = watcher::Config::default().fields(&format!("spec.nodeName={node_name}"));
    let pods = reflect::<Pod>(Api::all(client.clone()), own_pods, changed.clone(), tasks);
    let namespaces = reflect::<Namespace>(Api::all(client.clone()), watcher::Config::default(), changed, tasks);
    (pods, namespaces, changes)
}

fn reflect<K>(api: Api<K>, config: watcher::Config, changed: watch::Sender<u64>, tasks: &mut JoinSet<()>) -> Store<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    tasks.spawn(async move {
        let events = watcher(api, config).default_backoff().reflect(writer);
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            if let Err(error) = event {
                debug!(%error, "a watch was interrupted");
            }
            changed.send_modify(|count| *count += 1);
        }
    });
    store
}
