//! Publishing what is known.

mod indexer;

use std::sync::Arc;

use types::WorkloadUid;

use crate::intern::Interner;
use crate::model::{Instance, Locality, Service, Workload};
use crate::view::View;

use indexer::Indexer;

/// The only one who changes what [`View`]s show.
///
/// A workload is an endpoint of every service that it names, in whatever order the two become known;
/// it stays one when the service is removed and comes back.
/// Each method publishes at once; [`Writer::batch`] publishes the endpoints of many changes together.
pub struct Writer {
    interner: Interner,
    indexer: Indexer,
}

/// What workloads of one kind, the pods of one deployment for instance, have in common.
///
/// Looking it up once for all of them is what makes a first load of a large mesh quick; see [`Maker::kind`].
#[derive(Debug)]
pub struct Kind(Arc<Workload>);

/// Changes whose endpoints are published together, when the batch is dropped.
///
/// A service with many endpoints is then rebuilt once, not once per endpoint.
/// Everything else is visible as soon as it is written.
pub struct Batch<'a> {
    writer: &'a mut Writer,
}

/// The half of a [`Batch`] that makes records, in which what is equal in many of them is shared.
pub struct Maker<'a> {
    interner: &'a mut Interner,
}

/// The half of a [`Batch`] that puts records where readers find them.
pub struct Keeper<'a> {
    indexer: &'a mut Indexer,
}

/// A workload or a service as it is going to be found, made by a [`Maker`].
#[derive(Debug)]
pub struct Record(Content);

#[derive(Debug)]
enum Content {
    Workload(Arc<Workload>),
    Instance(Arc<Workload>, Instance),
    Service(Arc<Service>),
}

impl Writer {
    /// A writer that knows nothing yet, for a proxy in `network` (empty for the default one) that serves `node`,
    /// or workloads of any node when that is not said.
    #[must_use]
    pub fn new(network: impl Into<Arc<str>>, node: Option<Arc<str>>) -> Self {
        Self { interner: Interner::default(), indexer: Indexer::new(network.into(), node) }
    }

    /// A handle for readers.
    #[must_use]
    pub fn view(&self) -> View {
        View { index: Arc::clone(&self.indexer.index) }
    }

    /// Starts changes whose endpoints are published together.
    #[must_use = "the batch is published when it is dropped"]
    pub fn batch(&mut self) -> Batch<'_> {
        Batch { writer: self }
    }

    /// Adds a workload or replaces the one with the same uid.
    pub fn upsert_workload(&mut self, workload: Workload) {
        self.batch().upsert_workload(workload);
    }

    /// Adds a service or replaces the one with the same key; its endpoints stay.
    pub fn upsert_service(&mut self, service: Service) {
        self.batch().upsert_service(service);
    }

    /// Removes what has this resource name; see [`Batch::remove`].
    pub fn remove(&mut self, name: &str) {
        self.batch().remove(name);
    }
}

impl Batch<'_> {
    /// Says how many workloads and services there are going to be in it: room for them is made once.
    pub fn reserve(&mut self, resources: usize) {
        self.writer.indexer.reserve(resources);
    }

    /// Its halves, which may work on two threads: one makes records, the other puts them where readers find them.
    pub fn halves(&mut self) -> (Maker<'_>, Keeper<'_>) {
        let Writer { interner, indexer } = &mut *self.writer;
        (Maker { interner }, Keeper { indexer })
    }

    /// Adds a workload or replaces the one with the same uid.
    pub fn upsert_workload(&mut self, workload: Workload) {
        let (mut maker, mut keeper) = self.halves();
        keeper.keep(maker.workload(workload));
    }

    /// Adds a service or replaces the one with the same key; its endpoints stay.
    pub fn upsert_service(&mut self, service: Service) {
        let (mut maker, mut keeper) = self.halves();
        keeper.keep(maker.service(service));
    }

    /// Removes what has this resource name.
    ///
    /// The name is first tried as the uid of a workload, then as `namespace/hostname` of a service.
    /// One that has further slashes is the uid of a workload that is gone already.
    pub fn remove(&mut self, name: &str) {
        let was_workload = self.writer.indexer.remove_workload(&WorkloadUid::from(name));
        if !was_workload && let Ok(key) = name.parse() {
            self.writer.indexer.replace_service(&key, None);
        }
    }
}

impl Maker<'_> {
    /// A record of a workload.
    pub fn workload(&mut self, mut workload: Workload) -> Record {
        self.interner.workload(&mut workload);
        Record(Content::Workload(Arc::new(workload)))
    }

    /// A record of a service.
    pub fn service(&mut self, mut service: Service) -> Record {
        self.interner.service(&mut service);
        Record(Content::Service(Arc::new(service)))
    }

    /// A record of a workload of that kind.
    pub fn instance(&self, kind: &Kind, instance: Instance) -> Record {
        Record(Content::Instance(Arc::clone(&kind.0), instance))
    }

    /// Prepares what workloads of one kind have in common; what of this one [`Instance`] has too does not matter.
    pub fn kind(&mut self, mut workload: Workload) -> Kind {
        self.interner.kind(&mut workload);
        Kind(Arc::new(workload))
    }

    /// The shared copy of a text, for an [`Instance`].
    pub fn text(&mut self, text: &str) -> Arc<str> {
        self.interner.shared_text(text)
    }

    /// The shared copy of a locality, for an [`Instance`].
    pub fn locality(&mut self, locality: Locality) -> Arc<Locality> {
        let mut shared = Arc::new(locality);
        self.interner.locality(&mut shared);
        shared
    }
}

impl Keeper<'_> {
    /// Adds a record or replaces the one with the same uid or key; a service's endpoints stay.
    pub fn keep(&mut self, record: Record) {
        match record.0 {
            Content::Workload(workload) => self.indexer.put_workload(&workload),
            Content::Instance(kind, instance) => self.indexer.put_workload(&Arc::new(kind.with(instance))),
            Content::Service(service) => self.indexer.replace_service(&service.key(), Some(service)),
        }
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.writer.indexer.publish();
    }
}

#[cfg(test)]
mod tests;
