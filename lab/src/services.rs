//! Follows Services and EndpointSlices, and tells DNS and the nodes' translation rules about them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::Metadata;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use linux::nft::Table;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::api::{Client, Event, Key, Selection, Status, Watch};
use crate::dns::Zone;
use crate::fabric::Node;
use crate::families::Families;
use crate::service_proxy;

/// Changes that come together are passed on together; an address may be wrong for that much longer.
const SETTLE: Duration = Duration::from_millis(10);

/// How long to wait before rules that the kernel refused are tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Objects of one kind by namespace and name.
type Objects<K> = BTreeMap<(String, String), K>;

/// What is derived from Services and their endpoints.
pub(crate) struct Published {
    pub(crate) zone: watch::Sender<Arc<Zone>>,
    pub(crate) rules: watch::Sender<Arc<Vec<Table>>>,
    families: Families,
}

impl Published {
    /// Nothing yet.
    pub(crate) fn new(families: Families) -> Self {
        let rules = Arc::new(service_proxy::tables(families, &[]));
        Self { zone: watch::Sender::default(), rules: watch::Sender::new(rules), families }
    }
}

/// Keeps `published` current until the API server stops.
///
/// # Errors
/// When the objects cannot be watched.
pub(crate) async fn follow(client: &Client, published: &Published) -> Result<(), Status> {
    let everything = Selection::default();
    let mut services = client.watch::<Service>(&everything)?;
    let mut slices = client.watch::<EndpointSlice>(&everything)?;
    let (mut known, mut endpoints) = (Objects::new(), Objects::new());
    let (mut services_synced, mut slices_synced) = (false, false);
    let mut due: Option<Instant> = None;
    loop {
        let is_complete = services_synced && slices_synced;
        let settled = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = step(&mut services, &mut known) => match changed {
                Some(is_synced) => {
                    services_synced |= is_synced;
                    due.get_or_insert_with(|| Instant::now() + SETTLE);
                }
                None => return Ok(()),
            },
            changed = step(&mut slices, &mut endpoints) => match changed {
                Some(is_synced) => {
                    slices_synced |= is_synced;
                    due.get_or_insert_with(|| Instant::now() + SETTLE);
                }
                None => return Ok(()),
            },
            () = settled, if is_complete => {
                due = None;
                publish(&known, &endpoints, published);
            }
        }
    }
}

fn publish(known: &Objects<Service>, endpoints: &Objects<EndpointSlice>, published: &Published) {
    published.zone.send_replace(Arc::new(Zone::new(known.values(), endpoints.values())));
    let services: Vec<Service> = known.values().cloned().collect();
    let slices: Vec<EndpointSlice> = endpoints.values().cloned().collect();
    let tables = service_proxy::tables(published.families, &service_proxy::frontends(&services, &slices));
    published.rules.send_if_modified(|current| {
        let is_new = **current != tables;
        if is_new {
            *current = Arc::new(tables);
        }
        is_new
    });
}

/// Takes the next event into `objects`. Says whether all that existed at first has come; `None` at the end.
async fn step<K: Key + Metadata<Ty = ObjectMeta>>(watch: &mut Watch<K>, objects: &mut Objects<K>) -> Option<bool> {
    let key = |object: &K| {
        let metadata = object.metadata();
        (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
    };
    match watch.next().await? {
        Event::Applied(object) => {
            objects.insert(key(&object), object);
            Some(false)
        }
        Event::Deleted(object) => {
            objects.remove(&key(&object));
            Some(false)
        }
        Event::Synced => Some(true),
    }
}

/// Keeps the rules in a node's network namespace those that were published, until nothing is published any more.
pub(crate) async fn enforce(node: Node, mut rules: watch::Receiver<Arc<Vec<Table>>>) {
    rules.mark_changed();
    while rules.changed().await.is_ok() {
        loop {
            let tables = Arc::clone(&rules.borrow_and_update());
            let network = node.network.clone();
            let installed = tokio::task::spawn_blocking(move || network.run(|| service_proxy::install(&tables))).await;
            match installed.map_err(std::io::Error::other).and_then(|outer| outer).and_then(|inner| inner) {
                Ok(()) => break,
                Err(error) => {
                    tracing::warn!(%error, node = node.plan.name, "service rules were refused; trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

/// Counts the changes of ConfigMaps and Secrets, for whoever shows their content in files.
///
/// # Errors
/// When the objects cannot be watched.
pub(crate) async fn count_config(client: &Client, changes: &watch::Sender<u64>) -> Result<(), Status> {
    let everything = Selection::default();
    let mut maps = client.watch::<ConfigMap>(&everything)?;
    let mut secrets = client.watch::<Secret>(&everything)?;
    loop {
        let event = tokio::select! {
            event = maps.next() => event.map(drop),
            event = secrets.next() => event.map(drop),
        };
        if event.is_none() {
            return Ok(());
        }
        changes.send_modify(|count| *count += 1);
    }
}
