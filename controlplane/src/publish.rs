//! Owns the objects, and publishes what follows from them: changes are collected for a moment, then everything is
//! derived at once and handed on as immutable snapshots.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinError;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, info};
use xds::server::{Entry, Resources, Snapshot};

use crate::assign::{self, Assignment};
use crate::leaving::{self, Leaving};
use crate::objects::Objects;
use crate::pods::PodIndex;
use crate::report::{self, Report};
use crate::roots;
use crate::translate::{self, Options};
use crate::watch::Change;

/// How long changes wait for company.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Debounce {
    /// After the last change.
    pub(crate) quiet: Duration,
    /// After the first change, however many follow.
    pub(crate) longest: Duration,
}

/// What the rest of the control plane reads; each channel holds the newest value.
#[derive(Clone)]
pub(crate) struct Published {
    /// Whether the first derivation is out: nobody may be served before.
    pub(crate) is_ready: watch::Receiver<bool>,
    pub(crate) pods: watch::Receiver<Arc<PodIndex>>,
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(crate) leaving: watch::Receiver<Arc<Vec<Leaving>>>,
    pub(crate) reports: watch::Receiver<Arc<Vec<Report>>>,
    pub(crate) namespaces: watch::Receiver<Arc<Vec<roots::State>>>,
    pub(crate) assignments: watch::Receiver<Arc<Vec<Assignment>>>,
}

/// The writing side of [`Published`].
pub(crate) struct Publisher {
    options: Arc<Options>,
    debounce: Debounce,
    is_ready: watch::Sender<bool>,
    pods: watch::Sender<Arc<PodIndex>>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    leaving: watch::Sender<Arc<Vec<Leaving>>>,
    reports: watch::Sender<Arc<Vec<Report>>>,
    namespaces: watch::Sender<Arc<Vec<roots::State>>>,
    assignments: watch::Sender<Arc<Vec<Assignment>>>,
}

/// Everything that follows from the objects of one moment.
struct Derived {
    pods: PodIndex,
    types: BTreeMap<Arc<str>, Arc<Resources>>,
    leaving: Vec<Leaving>,
    reports: Vec<Report>,
    namespaces: Vec<roots::State>,
    assignments: Vec<Assignment>,
}

impl Publisher {
    pub(crate) fn new(options: Options, debounce: Debounce) -> (Self, Published) {
        let publisher = Self {
            options: Arc::new(options),
            debounce,
            is_ready: watch::Sender::new(false),
            pods: watch::Sender::default(),
            snapshots: watch::Sender::default(),
            leaving: watch::Sender::default(),
            reports: watch::Sender::default(),
            namespaces: watch::Sender::default(),
            assignments: watch::Sender::default(),
        };
        let published = Published {
            is_ready: publisher.is_ready.subscribe(),
            pods: publisher.pods.subscribe(),
            snapshots: publisher.snapshots.subscribe(),
            leaving: publisher.leaving.subscribe(),
            reports: publisher.reports.subscribe(),
            namespaces: publisher.namespaces.subscribe(),
            assignments: publisher.assignments.subscribe(),
        };
        (publisher, published)
    }

    /// Applies changes and publishes until the changes end.
    ///
    /// # Errors
    /// When deriving panicked: the objects are lost with it, and only a restart brings them back.
    pub(crate) async fn run(self, mut changes: mpsc::Receiver<Change>) -> Result<(), JoinError> {
        let mut objects = Objects::default();
        while let Some(first) = changes.recv().await {
            first(&mut objects);
            self.collect(&mut changes, &mut objects).await;
            let pending = objects.pending();
            if !pending.is_empty() {
                debug!(?pending, "waiting for the first list");
                continue;
            }
            let (options, previous) = (Arc::clone(&self.options), Arc::clone(&self.snapshots.borrow()));
            let derive = move || {
                let derived = derive(&objects, &options, &previous);
                (objects, derived)
            };
            // Ten thousand pods take long enough to keep others waiting, so it is done aside.
            let (owned, derived) = tokio::task::spawn_blocking(derive).await?;
            objects = owned;
            self.publish(derived);
        }
        Ok(())
    }

    /// Applies what follows closely upon a change.
    async fn collect(&self, changes: &mut mpsc::Receiver<Change>, objects: &mut Objects) {
        let end = Instant::now() + self.debounce.longest;
        while Instant::now() < end {
            let quiet = (Instant::now() + self.debounce.quiet).min(end);
            match timeout_at(quiet, changes.recv()).await {
                Ok(Some(change)) => change(objects),
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Pods first: a proxy asks for the certificate of a workload as soon as it hears of it.
    fn publish(&self, derived: Derived) {
        self.pods.send_replace(Arc::new(derived.pods));
        let mut version = 0;
        self.snapshots.send_if_modified(|snapshot| {
            let is_new = snapshot.version == 0 || snapshot.types != derived.types;
            version = snapshot.version + u64::from(is_new);
            if is_new {
                *snapshot = Arc::new(Snapshot { version, types: derived.types });
            }
            is_new
        });
        // A guard on the channel would block the write that follows.
        let before = Arc::clone(&self.leaving.borrow());
        send(&self.leaving, leaving::since(derived.leaving, &before, version));
        send(&self.reports, derived.reports);
        send(&self.namespaces, derived.namespaces);
        send(&self.assignments, derived.assignments);
        if !self.is_ready.send_replace(true) {
            info!("the first configuration is ready");
        }
    }
}

/// Publishes a list if it says anything new.
fn send<T: PartialEq>(channel: &watch::Sender<Arc<Vec<T>>>, new: Vec<T>) {
    channel.send_if_modified(|current| {
        let is_new = **current != new;
        if is_new {
            *current = Arc::new(new);
        }
        is_new
    });
}

fn derive(objects: &Objects, options: &Options, previous: &Snapshot) -> Derived {
    let resources = translate::resources(objects, options);
    let addresses = resources.addresses.iter().map(|(name, address)| {
        let aliases = translate::aliases(address);
        let entry = Entry::encode(ADDRESS_TYPE, address).with_aliases(aliases);
        (name.as_str(), entry.on_node(translate::node(address)))
    });
    let authorizations = resources
        .authorizations
        .iter()
        .map(|(name, authorization)| (name.as_str(), Entry::encode(AUTHORIZATION_TYPE, authorization)));
    Derived {
        pods: PodIndex::new(objects),
        types: BTreeMap::from([
            shared(ADDRESS_TYPE, addresses, previous),
            shared(AUTHORIZATION_TYPE, authorizations, previous),
        ]),
        leaving: leaving::find(objects, options),
        reports: report::derive(objects, options),
        namespaces: roots::derive(objects),
        assignments: assign::derive(objects, &options.ranges),
    }
}

/// The resources of one type, sharing with the previous snapshot what has not changed.
fn shared<'a>(
    type_url: &str,
    entries: impl Iterator<Item = (&'a str, Entry)>,
    previous: &Snapshot,
) -> (Arc<str>, Arc<Resources>) {
    let before = previous.types.get(type_url);
    let entries: Resources = entries
        .map(|(name, entry)| match before.and_then(|before| before.entries().get_key_value(name)) {
            Some((name, old)) if **old == entry => (Arc::clone(name), Arc::clone(old)),
            _ => (Arc::from(name), Arc::new(entry)),
        })
        .collect();
    let entries = match before {
        Some(before) if **before == entries => Arc::clone(before),
        _ => Arc::new(entries),
    };
    (Arc::from(type_url), entries)
}

#[cfg(test)]
mod tests;
