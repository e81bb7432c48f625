//! What one client was sent and has acknowledged: pure, without IO or clock.

mod subscription;

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};

use super::snapshot::{Resources, Snapshot};
use subscription::Subscription;

pub(crate) use subscription::Rejection;

/// How many types a client may subscribe to; a waypoint needs about ten.
const MAX_TYPES: usize = 32;

/// How far one type of one client has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeStatus {
    /// The type.
    pub type_url: Arc<str>,
    /// How many resources the client has been sent and not been told to remove.
    pub resources: usize,
    /// The snapshot of the last response, and whether the client has answered it.
    pub sent: Option<(u64, bool)>,
    /// The newest snapshot that the client is known to have processed.
    pub told: Option<u64>,
    /// Resources that the client refused, as long as they have not changed since.
    pub rejected: Vec<Arc<str>>,
    /// What the client said when it last refused something.
    pub last_error: Option<String>,
}

/// The client did something that ends its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    #[error("more than {MAX_TYPES} types")]
    TooManyTypes,
    #[error("a request without a type")]
    NoType,
    #[error("more than {0} names of one type")]
    TooManyNames(usize),
}

/// One client's stream.
#[derive(Debug)]
pub(crate) struct Session {
    snapshot: Arc<Snapshot>,
    /// The node that the client serves, if it says so.
    node: Option<Arc<str>>,
    types: BTreeMap<Arc<str>, Subscription>,
    max_names: usize,
    responses: u64,
}

impl Session {
    pub(crate) fn new(snapshot: Arc<Snapshot>, max_names: usize) -> Self {
        Self { snapshot, node: None, types: BTreeMap::new(), max_names, responses: 0 }
    }

    /// Says which node the client serves; to be called before the first request is received.
    pub(crate) fn serve_node(&mut self, node: Option<&str>) {
        self.node = node.map(Arc::from);
    }

    /// Takes a newer snapshot; what differs is sent by [`Session::push`].
    pub(crate) fn update(&mut self, snapshot: Arc<Snapshot>) {
        self.snapshot = snapshot;
    }

    /// Takes a request: a subscription, an acknowledgement, or both.
    pub(crate) fn receive(&mut self, request: DeltaDiscoveryRequest) -> Result<Option<Rejection>, Violation> {
        if request.type_url.is_empty() {
            return Err(Violation::NoType);
        }
        if !self.types.contains_key(&*request.type_url) && self.types.len() >= MAX_TYPES {
            return Err(Violation::TooManyTypes);
        }
        let new = || Subscription::of_node(self.node.clone());
        let subscription = self.types.entry(Arc::from(&*request.type_url)).or_insert_with(new);
        let rejection = subscription.acknowledge(&request);
        subscription.subscribe(request);
        if subscription.names() > self.max_names {
            return Err(Violation::TooManyNames(self.max_names));
        }
        Ok(rejection)
    }

    /// The next response that is due; to be called until there is none.
    ///
    /// A type whose last response is unanswered has none due: when the answer comes, it gets the difference to the
    /// snapshot of that moment, and the ones in between are never sent.
    pub(crate) fn push(&mut self) -> Option<DeltaDiscoveryResponse> {
        let Self { snapshot, types, responses, .. } = self;
        let nothing = Arc::new(Resources::default());
        types.iter_mut().find_map(|(type_url, subscription)| {
            let current = snapshot.types.get(type_url).unwrap_or(&nothing);
            let nonce = format!("{}-{responses}", snapshot.version);
            let mut response = subscription.push(current, snapshot.version, nonce)?;
            *responses += 1;
            response.type_url = type_url.to_string();
            Some(response)
        })
    }

    /// The newest snapshot that the client has processed in all its types; 0 before it subscribed to any.
    pub(crate) fn told(&self) -> u64 {
        self.types.values().map(|subscription| subscription.told().unwrap_or(0)).min().unwrap_or(0)
    }

    pub(crate) fn status(&self) -> Vec<TypeStatus> {
        self.types.iter().map(|(type_url, subscription)| subscription.status(Arc::clone(type_url))).collect()
    }
}

#[cfg(test)]
mod tests;
