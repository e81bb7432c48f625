//! Workloads and services as logs and metrics name them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use discovery::{Service, View, Workload};
use hbone::Baggage;
use telemetry::traffic::{Party, ServiceLabels, WorkloadLabels};
use telemetry::{Party as LogParty, TrafficMetrics};
use types::{Identity, WorkloadUid};

/// Label values by workload, so that a connection need not build them.
///
/// A workload has two: with its identity, for mutual TLS, and without.
pub(crate) struct Labels {
    traffic: TrafficMetrics,
    known: Mutex<HashMap<(WorkloadUid, bool), Known>>,
}

struct Known {
    /// The version of the workload that the values are of.
    workload: Arc<Workload>,
    party: Party,
}

impl Labels {
    pub(crate) fn new(traffic: TrafficMetrics) -> Self {
        Self { traffic, known: Mutex::default() }
    }

    pub(crate) fn traffic(&self) -> &TrafficMetrics {
        &self.traffic
    }

    /// The values of a workload whose identity was proven, or not.
    pub(crate) fn workload(&self, workload: &Arc<Workload>, identity: Option<&Identity>) -> Party {
        // A peer may prove another identity than discovery expects of it; that is rare, and not worth keeping.
        if identity.is_some_and(|identity| *identity != workload.identity()) {
            return self.traffic.party(labels(workload, identity));
        }
        let key = (workload.uid.clone(), identity.is_some());
        let mut all = self.lock();
        if let Some(known) = all.get(&key).filter(|known| Arc::ptr_eq(&known.workload, workload)) {
            return known.party.clone();
        }
        let party = self.traffic.party(labels(workload, identity));
        all.insert(key, Known { workload: Arc::clone(workload), party: party.clone() });
        party
    }

    /// The values of a client that discovery does not know, as it describes itself.
    pub(crate) fn described(&self, baggage: &Baggage, identity: Option<&Identity>) -> Party {
        let text = |text: &str| Arc::<str>::from(text);
        self.traffic.party(WorkloadLabels {
            workload: text(&baggage.workload_name),
            canonical_service: text(&baggage.service_name),
            canonical_revision: text(&baggage.service_version),
            namespace: text(&baggage.namespace),
            principal: identity.cloned(),
            app: text(&baggage.workload_name),
            version: text(&baggage.service_version),
            cluster: text(&baggage.cluster),
            region: text(&baggage.region),
            zone: text(&baggage.zone),
        })
    }

    /// The values of nobody in particular.
    pub(crate) fn unknown(&self) -> Party {
        self.traffic.party(WorkloadLabels::default())
    }

    /// Forgets workloads that have left, and with them their label sets.
    pub(crate) fn sweep(&self, view: &View) {
        let mut all = self.lock();
        all.retain(|(uid, _), known| view.workload(uid).is_some_and(|current| Arc::ptr_eq(&current, &known.workload)));
        let live: HashSet<Party> = all.values().map(|known| known.party.clone()).collect();
        drop(all);
        self.traffic.sweep(|party| live.contains(party));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(WorkloadUid, bool), Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A workload as metrics name it.
pub(crate) fn labels(workload: &Workload, identity: Option<&Identity>) -> WorkloadLabels {
    WorkloadLabels {
        workload: Arc::clone(&workload.workload_name),
        canonical_service: Arc::clone(&workload.canonical_name),
        canonical_revision: Arc::clone(&workload.canonical_revision),
        namespace: Arc::clone(&workload.namespace),
        principal: identity.cloned(),
        app: Arc::clone(&workload.canonical_name),
        version: Arc::clone(&workload.canonical_revision),
        cluster: Arc::clone(&workload.cluster_id),
        region: Arc::clone(&workload.locality.region),
        zone: Arc::clone(&workload.locality.zone),
    }
}

/// A service as metrics name it.
pub(crate) fn service_labels(service: &Service) -> ServiceLabels {
    ServiceLabels {
        host: Arc::from(service.hostname.as_str()),
        name: Arc::clone(&service.name),
        namespace: Arc::clone(&service.namespace),
    }
}

/// Whom the access log names; put into words when the line is written, because most connections live long.
#[derive(Debug, Clone, Default)]
pub(crate) enum Named {
    #[default]
    Nobody,
    /// Its identity is not proven.
    Resident(Arc<Workload>),
    /// It has proven the identity that discovery expects of it.
    Proven(Arc<Workload>),
    /// Whoever has proven another one, or describes itself.
    Other(Box<LogParty>),
}

impl Named {
    /// A workload, and the identity that was proven.
    pub(crate) fn workload(workload: &Arc<Workload>, identity: Option<&Identity>) -> Self {
        let workload = Arc::clone(workload);
        match identity {
            None => Self::Resident(workload),
            Some(identity) if *identity == workload.identity() => Self::Proven(workload),
            Some(identity) => Self::Other(Box::new(log_party(&workload, Some(identity.clone())))),
        }
    }

    /// A client that discovery does not know.
    pub(crate) fn identity(identity: Identity) -> Self {
        Self::Other(Box::new(LogParty { identity: Some(identity), ..LogParty::default() }))
    }

    /// A workload as it describes itself.
    pub(crate) fn described(baggage: &Baggage, identity: Identity) -> Self {
        let text = |text: &str| Some(text).filter(|text| !text.is_empty()).map(Arc::from);
        Self::Other(Box::new(LogParty {
            workload: text(&baggage.workload_name),
            namespace: text(&baggage.namespace),
            identity: Some(identity),
            cluster: text(&baggage.cluster),
        }))
    }
}

impl From<Named> for LogParty {
    fn from(named: Named) -> Self {
        match named {
            Named::Nobody => Self::default(),
            Named::Resident(workload) => log_party(&workload, None),
            Named::Proven(workload) => log_party(&workload, Some(workload.identity())),
            Named::Other(party) => *party,
        }
    }
}

fn log_party(workload: &Workload, identity: Option<Identity>) -> LogParty {
    LogParty {
        workload: Some(Arc::clone(&workload.name)),
        namespace: Some(Arc::clone(&workload.namespace)),
        identity,
        cluster: Some(Arc::clone(&workload.cluster_id)),
    }
}

/// A workload as its proxy describes it to others.
pub(crate) fn baggage(workload: &Workload) -> Baggage {
    Baggage {
        cluster: workload.cluster_id.to_string(),
        namespace: workload.namespace.to_string(),
        workload_kind: workload.workload_type.as_str().to_owned(),
        workload_name: workload.workload_name.to_string(),
        service_name: workload.canonical_name.to_string(),
        service_version: workload.canonical_revision.to_string(),
        region: workload.locality.region.to_string(),
        zone: workload.locality.zone.to_string(),
    }
}

/// The service that an inbound connection was probably made to: the one that the client named, otherwise one of the
/// workload's own services whose endpoint port was reached.
pub(crate) fn inbound_service(
    view: &View,
    workload: &Workload,
    host: Option<&types::Hostname>,
    port: u16,
) -> Option<Arc<Service>> {
    let services = || workload.services.iter().filter_map(|(key, ports)| Some((view.service(key)?, ports)));
    if let Some(host) = host
        && let Some((service, _)) = services().find(|(service, _)| service.hostname == *host)
    {
        return Some(service);
    }
    let reaches = |service: &Service, ports: &discovery::PortMap| {
        service.ports.iter().any(|listed| {
            ports.target(listed.service_port).or_else(|| service.ports.target(listed.service_port)) == Some(port)
        })
    };
    services().find(|(service, ports)| reaches(service, ports)).map(|(service, _)| service)
}
