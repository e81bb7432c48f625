//! Watches the Kubernetes API and turns what it says into changes of [`Objects`].
//!
//! One task per kind. A lost connection, an expired watch or a restarted API server makes a task list again; what was
//! known stays in force until the new list is complete. A kind that the API server does not serve counts as empty.

use std::fmt::Debug;
use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::watcher;
use kube::runtime::watcher::Event;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use crate::checked::Checked;
use crate::objects::{Named, Objects, Store};
use crate::roots;

/// One step of the world: applied by its owner, in order.
pub(crate) type Change = Box<dyn FnOnce(&mut Objects) + Send>;

/// How many changes may wait; a watch that is ahead of its reader waits too.
const WAITING_CHANGES: usize = 1024;

/// Pauses between attempts to list or watch.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often to look whether a kind is served by now.
const ABSENT_PAUSE: Duration = Duration::from_secs(2);
/// How many answers in a row it takes to believe that a kind is gone.
const ABSENCES: u32 = 5;

/// Starts watching everything; the tasks end with the receiver or when the drain starts.
pub(crate) fn start(client: &Client, drain: &drain::Watch) -> mpsc::Receiver<Change> {
    let (sender, receiver) = mpsc::channel(WAITING_CHANGES);
    let everything = watcher::Config::default();
    let named = |name| watcher::Config::default().fields(&format!("metadata.name={name}"));
    let watch = Start { client, drain, sender: &sender };
    watch.core(|objects| &mut objects.namespaces, everything.clone());
    watch.core(|objects| &mut objects.nodes, everything.clone());
    watch.core(|objects| &mut objects.pods, everything.clone());
    watch.core(|objects| &mut objects.services, everything.clone());
    watch.core(|objects| &mut objects.endpoint_slices, everything);
    watch.core::<ConfigMap>(|objects| &mut objects.root_config_maps, named(roots::ROOTS.0));
    watch.core::<ConfigMap>(|objects| &mut objects.revocation_config_maps, named(roots::REVOCATIONS.0));
    watch.checked(|objects| &mut objects.peer_authentications);
    watch.checked(|objects| &mut objects.authorization_policies);
    watch.checked(|objects| &mut objects.service_entries);
    watch.checked(|objects| &mut objects.workload_entries);
    watch.gateways("Gateway", |objects| &mut objects.gateways);
    watch.gateways("GatewayClass", |objects| &mut objects.gateway_classes);
    receiver
}

struct Start<'a> {
    client: &'a Client,
    drain: &'a drain::Watch,
    sender: &'a mpsc::Sender<Change>,
}

impl Start<'_> {
    fn core<K>(&self, store: fn(&mut Objects) -> &mut Store<K>, config: watcher::Config)
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let kind = K::kind(&()).into_owned();
        self.spawn(Api::<K>::all(self.client.clone()), config, Sink { kind, store, read: |object: K| object });
    }

    /// Istio's objects are read as they are stored, so that one which does not fit its type cannot hide the others.
    fn checked<P>(&self, store: fn(&mut Objects) -> &mut Store<Checked<P>>)
    where
        P: crate::checked::Lenient + Send + Sync + 'static,
    {
        let api = Api::<DynamicObject>::all_with(self.client.clone(), &ApiResource::erase::<P>(&()));
        let read = |object: DynamicObject| Checked::read(&object);
        self.spawn(api, watcher::Config::default(), Sink { kind: P::kind(&()).into_owned(), store, read });
    }

    /// Read as they are stored: what is wanted of them is little, and they come in many versions.
    fn gateways(&self, kind: &str, store: fn(&mut Objects) -> &mut Store<DynamicObject>) {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(kinds::gateway::GROUP, "v1", kind));
        let api = Api::<DynamicObject>::all_with(self.client.clone(), &resource);
        let read = |object: DynamicObject| object;
        self.spawn(api, watcher::Config::default(), Sink { kind: kind.to_owned(), store, read });
    }

    fn spawn<O, K>(&self, api: Api<O>, config: watcher::Config, sink: Sink<O, K>)
    where
        O: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
        K: Named + Send + Sync + 'static,
    {
        let (drain, sender) = (self.drain.clone(), self.sender.clone());
        tokio::spawn(async move {
            // Without a reader there is nobody to watch for.
            let watching = async {
                tokio::select! {
                    () = sink.watch(api, config, &sender) => {}
                    () = sender.closed() => {}
                }
            };
            drain.unless_draining(watching).await;
        });
    }
}

/// Where the objects of one watch go.
struct Sink<O, K> {
    kind: String,
    store: fn(&mut Objects) -> &mut Store<K>,
    read: fn(O) -> K,
}

impl<O, K> Sink<O, K>
where
    O: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    K: Named + Send + Sync + 'static,
{
    async fn watch(&self, api: Api<O>, config: watcher::Config, changes: &mpsc::Sender<Change>) {
        let mut events = std::pin::pin!(watcher(api, config));
        let mut list = Vec::new();
        let mut trouble = Trouble::default();
        loop {
            let change = match events.try_next().await {
                Ok(Some(event)) => {
                    // The start of an attempt to list says nothing about its success.
                    if !matches!(event, Event::Init) {
                        trouble.is_over(&self.kind);
                        trouble.is_served = true;
                    }
                    self.take(event, &mut list)
                }
                Ok(None) => return,
                Err(error) if is_not_served(&error) => {
                    let (is_certain, pause) = trouble.absent(&self.kind);
                    tokio::time::sleep(pause).await;
                    is_certain.then(|| self.replace(Vec::new()))
                }
                Err(error) => {
                    let pause = trouble.next(&self.kind, &error);
                    tokio::time::sleep(pause).await;
                    None
                }
            };
            if let Some(change) = change
                && changes.send(change).await.is_err()
            {
                return;
            }
        }
    }

    /// A list is collected and then takes effect as a whole.
    fn take(&self, event: Event<O>, list: &mut Vec<K>) -> Option<Change> {
        let store = self.store;
        match event {
            Event::Init => {
                list.clear();
                None
            }
            Event::InitApply(object) => {
                list.push(self.read(object));
                None
            }
            Event::InitDone => Some(self.replace(std::mem::take(list))),
            Event::Apply(object) => {
                let object = self.read(object);
                Some(Box::new(move |objects| store(objects).apply(object)))
            }
            Event::Delete(object) => {
                let key = self.read(object).key();
                Some(Box::new(move |objects| store(objects).remove(&key)))
            }
        }
    }

    fn replace(&self, list: Vec<K>) -> Change {
        let store = self.store;
        Box::new(move |objects| store(objects).replace(list))
    }

    fn read(&self, mut object: O) -> K {
        // Bookkeeping of writers is half of many objects and nobody here reads it.
        object.managed_fields_mut().clear();
        (self.read)(object)
    }
}

/// 404 for a whole kind: its CustomResourceDefinition is not installed.
fn is_not_served(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(cause) | watcher::Error::WatchStartFailed(cause)) = error else {
        return false;
    };
    matches!(cause, kube::Error::Api(status) if status.code == 404)
}

/// Consecutive failures of one watch.
#[derive(Default)]
struct Trouble {
    failures: u32,
    absences: u32,
    /// Whether the kind has ever been there.
    is_served: bool,
}

impl Trouble {
    fn is_over(&mut self, kind: &str) {
        if std::mem::take(&mut self.failures) > 0 {
            info!(kind, "watching again");
        }
        self.absences = 0;
    }

    fn next(&mut self, kind: &str, error: &watcher::Error) -> Duration {
        // An expired watch is part of the protocol, and a single break heals at once.
        match self.failures {
            1 => warn!(kind, %error, "the watch keeps failing; what is known stays in force"),
            _ => debug!(kind, %error, "the watch failed"),
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(6)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        pause
    }

    /// Whether it is certain that there is no such kind, and when to look again.
    ///
    /// At the start one answer is enough, and others wait for it.
    /// Later, policies in force are not given up because an API server that is starting does not know them yet.
    fn absent(&mut self, kind: &str) -> (bool, Duration) {
        self.failures = 0;
        self.absences = self.absences.saturating_add(1);
        if self.is_served && self.absences < ABSENCES {
            return (false, ABSENT_PAUSE);
        }
        if std::mem::take(&mut self.is_served) {
            warn!(kind, "the API server does not serve this kind any more; its objects are gone");
        }
        debug!(kind, "the API server does not serve this kind");
        (true, if self.absences == 1 { Duration::ZERO } else { ABSENT_PAUSE })
    }
}
