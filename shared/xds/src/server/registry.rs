//! Who is connected, and how far each has come.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use super::{Caller, Observer, TypeStatus};

/// One connected client.
#[derive(Debug, Clone)]
pub struct ClientStatus {
    /// Who it is.
    pub caller: Caller,
    /// How it introduced itself; empty before its first request.
    pub node: String,
    /// Where it calls from, if the listener tells.
    pub remote: Option<SocketAddr>,
    /// Since when it has been connected.
    pub since: Instant,
    /// The newest snapshot that it has processed.
    pub told: u64,
    /// How far it has come in each type.
    pub types: Vec<TypeStatus>,
}

pub(crate) struct Registry {
    clients: Mutex<Clients>,
    told: watch::Sender<u64>,
    observer: Arc<dyn Observer>,
}

#[derive(Default)]
struct Clients {
    next: u64,
    by_id: BTreeMap<u64, ClientStatus>,
}

impl Registry {
    pub(crate) fn new(observer: Arc<dyn Observer>) -> Self {
        Self { clients: Mutex::default(), told: watch::Sender::new(u64::MAX), observer }
    }

    pub(crate) fn told(&self) -> watch::Receiver<u64> {
        self.told.subscribe()
    }

    pub(crate) fn clients(&self) -> Vec<ClientStatus> {
        self.lock().by_id.values().cloned().collect()
    }

    pub(crate) fn is_rejected(&self, type_url: &str, name: &str) -> bool {
        let clients = self.lock();
        let mut types = clients.by_id.values().flat_map(|client| &client.types);
        types.any(|kind| &*kind.type_url == type_url && kind.rejected.iter().any(|rejected| &**rejected == name))
    }

    /// Lists a client until the entry is dropped.
    pub(crate) fn enter(self: &Arc<Self>, caller: &Caller, remote: Option<SocketAddr>) -> Entered {
        let mut clients = self.lock();
        let id = clients.next;
        clients.next += 1;
        let status = ClientStatus {
            caller: caller.clone(),
            node: String::new(),
            remote,
            since: Instant::now(),
            told: 0,
            types: Vec::new(),
        };
        clients.by_id.insert(id, status);
        self.publish(&clients);
        self.observer.connected(clients.by_id.len());
        Entered { registry: Arc::clone(self), id }
    }

    /// Computes `told` while the list is locked, so that values are published in the order of the changes.
    fn publish(&self, clients: &Clients) {
        let told = clients.by_id.values().map(|client| client.told).min().unwrap_or(u64::MAX);
        self.told.send_if_modified(|current| std::mem::replace(current, told) != told);
    }

    fn lock(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client's place in the list.
pub(crate) struct Entered {
    registry: Arc<Registry>,
    id: u64,
}

impl Entered {
    pub(crate) fn introduce(&self, node: &str) {
        if let Some(client) = self.registry.lock().by_id.get_mut(&self.id) {
            node.clone_into(&mut client.node);
        }
    }

    pub(crate) fn report(&self, told: u64, types: Vec<TypeStatus>) {
        let mut clients = self.registry.lock();
        if let Some(client) = clients.by_id.get_mut(&self.id) {
            client.types = types;
            client.told = told;
        }
        self.registry.publish(&clients);
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut clients = self.registry.lock();
        clients.by_id.remove(&self.id);
        self.registry.publish(&clients);
        self.registry.observer.connected(clients.by_id.len());
    }
}
