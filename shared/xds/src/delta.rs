//! The client's side of delta xDS as a pure state machine: messages in, messages out, no IO and no clock.
//!
//! Each subscribed type has a [`Feed`] that takes its resources. One bad resource is refused by name while the good
//! ones beside it are applied, and every response is answered exactly once. What was accepted survives the stream: a
//! new stream begins with the versions that are held, so that the server sends only differences.

mod held;
mod response;
mod version;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, Node};
use proto::google::rpc::Status;
use tracing::{debug, warn};

use held::Held;
use response::{Resource, Response};

pub use crate::wire::Undecodable;

/// How many refused resources a rejection spells out; a server has no use for more of one kind of mistake.
const NAMED_REJECTIONS: usize = 100;

/// What of a type a client wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Everything, always.
    Wildcard,
    /// What was asked for with [`Client::want`].
    OnDemand,
}

/// A resource that was refused, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The resource's name.
    pub name: String,
    /// What is wrong with it, naming the field.
    pub reason: String,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.reason)
    }
}

/// The changes of one response.
pub struct Update<'a> {
    /// New and changed resources, in the server's order; to be read to the end.
    pub resources: &'a mut dyn Iterator<Item = Opened<'a>>,
    /// Names that are gone; to be applied after the resources.
    pub removed: &'a [&'a str],
}

/// A resource out of its envelope: its name, and its encoded message.
///
/// The name is the very one that the client's books hold: whoever keeps it should keep a clone of it.
/// There is no message where the envelope is not of the right type; the resource is refused already.
pub type Opened<'a> = (Arc<str>, Option<&'a [u8]>);

/// Takes the resources of one type.
pub trait Feed: Send {
    /// Applies all that is good and returns what is not; for a refused resource the last good version stays.
    fn apply(&mut self, update: Update<'_>) -> Vec<Rejected>;

    /// Whether a refused resource leaves a trace even if it has no good version, so that its removal must be heard of.
    fn remembers_refused(&self) -> bool {
        false
    }
}

/// The state of a client across streams.
pub struct Client {
    node: Node,
    types: Vec<Subscribed>,
}

/// One type's state.
struct Subscribed {
    type_url: Arc<str>,
    mode: Mode,
    feed: Box<dyn Feed>,
    held: Held,
    /// Names that were asked for and not answered yet.
    wanted: BTreeSet<String>,
    /// Names that were asked for, and the resources that answered each.
    asked: BTreeMap<String, BTreeSet<String>>,
    is_acknowledged: bool,
}

/// What came of a response.
#[derive(Debug)]
pub struct Received {
    /// The one answer to it.
    pub answer: DeltaDiscoveryRequest,
    /// Resources that were refused; the answer says so too.
    pub rejected: Vec<Rejected>,
    /// On-demand names that this response settled.
    pub settled: Vec<String>,
    /// How large the resources of the response are, in bytes.
    pub resource_bytes: usize,
}

impl Client {
    /// A client that has subscribed to nothing yet.
    #[must_use]
    pub fn new(node: Node) -> Self {
        Self { node, types: Vec::new() }
    }

    /// Adds a type; types are requested in the order in which they were added.
    pub fn subscribe(&mut self, type_url: &str, mode: Mode, feed: impl Feed + 'static) {
        self.types.push(Subscribed {
            type_url: Arc::from(type_url),
            mode,
            feed: Box::new(feed),
            held: Held::default(),
            wanted: BTreeSet::new(),
            asked: BTreeMap::new(),
            is_acknowledged: false,
        });
    }

    /// The first requests of a new stream, to be sent at once and in this order.
    #[must_use]
    pub fn connect(&self) -> Vec<DeltaDiscoveryRequest> {
        self.types.iter().map(|subscribed| subscribed.first_request(self.node.clone())).collect()
    }

    /// Applies an encoded response and answers it.
    ///
    /// # Errors
    /// When it is no response; nothing of it is applied, and there is nothing that an answer could refer to.
    pub fn receive(&mut self, encoded: &[u8]) -> Result<Received, Undecodable> {
        let response = Response::decode(encoded)?;
        debug!(
            type_url = response.type_url,
            nonce = response.nonce,
            resources = response.resources.len(),
            removed = response.removed.len(),
            bytes = response.resource_bytes,
            "discovery response"
        );
        let mut received = Received {
            answer: DeltaDiscoveryRequest {
                type_url: response.type_url.to_owned(),
                response_nonce: response.nonce.to_owned(),
                ..DeltaDiscoveryRequest::default()
            },
            rejected: Vec::new(),
            settled: Vec::new(),
            resource_bytes: response.resource_bytes,
        };
        let Some(subscribed) = self.types.iter_mut().find(|known| *known.type_url == *response.type_url) else {
            // Refusing would make the server send it again; nothing of ours depends on it.
            warn!(type_url = response.type_url, "acknowledged resources of an unknown type");
            return Ok(received);
        };
        received.settled = subscribed.settle(&response);
        received.rejected = subscribed.apply(response);
        if received.rejected.is_empty() {
            subscribed.is_acknowledged = true;
        } else {
            received.answer.error_detail = Some(rejection(&received.rejected));
        }
        Ok(received)
    }

    /// Whether every wildcard type has been acknowledged once: the model is complete.
    ///
    /// A response of which something was refused does not count.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.types.iter().all(|subscribed| subscribed.mode == Mode::OnDemand || subscribed.is_acknowledged)
    }

    /// Asks for a resource by name or alias; `None` if the type is not on demand or the name was asked for before.
    pub fn want(&mut self, type_url: &str, name: &str) -> Option<DeltaDiscoveryRequest> {
        let subscribed = self.types.iter_mut().find(|known| &*known.type_url == type_url)?;
        // What came along with something else is held, but not subscribed to.
        let is_new = subscribed.mode == Mode::OnDemand && !subscribed.asked.contains_key(name);
        is_new.then(|| {
            subscribed.asked.insert(name.to_owned(), BTreeSet::new());
            subscribed.wanted.insert(name.to_owned());
            DeltaDiscoveryRequest {
                type_url: type_url.to_owned(),
                resource_names_subscribe: vec![name.to_owned()],
                ..DeltaDiscoveryRequest::default()
            }
        })
    }

    /// No longer wants what was asked for; the resources that answered nothing else are gone from the feed.
    ///
    /// `None` if none of the names was asked for.
    pub fn release(&mut self, type_url: &str, names: &[String]) -> Option<DeltaDiscoveryRequest> {
        let subscribed = self.types.iter_mut().find(|known| &*known.type_url == type_url)?;
        let mut unsubscribe = BTreeSet::new();
        let mut released = BTreeSet::new();
        for name in names {
            let Some((name, answers)) = subscribed.asked.remove_entry(name) else { continue };
            subscribed.wanted.remove(&name);
            unsubscribe.insert(name);
            released.extend(answers);
        }
        if unsubscribe.is_empty() {
            return None;
        }
        for kept in subscribed.asked.values().flatten() {
            released.remove(kept);
        }
        for resource in &released {
            subscribed.held.remove(resource);
        }
        if !released.is_empty() {
            let removed: Vec<&str> = released.iter().map(|name| &**name).collect();
            // There is nothing in it that could be refused.
            drop(subscribed.feed.apply(Update { resources: &mut std::iter::empty(), removed: &removed }));
        }
        unsubscribe.extend(released);
        Some(DeltaDiscoveryRequest {
            type_url: type_url.to_owned(),
            resource_names_unsubscribe: unsubscribe.into_iter().collect(),
            ..DeltaDiscoveryRequest::default()
        })
    }
}

impl Subscribed {
    fn first_request(&self, node: Node) -> DeltaDiscoveryRequest {
        let mut versions: HashMap<_, _> = self.held.iter().collect();
        // Asked for and unanswered, or unknown so far: without a version the server sends whatever it has.
        let open = self.asked.iter().filter(|(_name, answers)| answers.is_empty());
        versions.extend(open.map(|(name, _answers)| (name.clone(), String::new())));
        let star = match self.mode {
            Mode::Wildcard => Vec::new(),
            // Subscribing to everything and taking it back is how "to nothing yet" is said; an empty list means all.
            Mode::OnDemand => vec!["*".to_owned()],
        };
        DeltaDiscoveryRequest {
            node: Some(node),
            type_url: self.type_url.to_string(),
            resource_names_subscribe: star.clone(),
            resource_names_unsubscribe: star,
            initial_resource_versions: versions,
            ..DeltaDiscoveryRequest::default()
        }
    }

    /// Strikes out the names and aliases that the response answers.
    fn settle(&mut self, response: &Response<'_>) -> Vec<String> {
        if self.asked.is_empty() {
            return Vec::new();
        }
        for resource in &response.resources {
            for name in resource.names() {
                if let Some(answers) = self.asked.get_mut(name) {
                    answers.insert(resource.name.to_owned());
                }
            }
        }
        let names = response.resources.iter().flat_map(Resource::names).chain(response.removed.iter().copied());
        names.filter_map(|name| self.wanted.take(name)).collect()
    }

    /// Hands the response to the feed and keeps books of what is held.
    fn apply(&mut self, response: Response<'_>) -> Vec<Rejected> {
        let Self { type_url, feed, held, .. } = self;
        let mut rejected = Vec::new();
        held.reserve(response.resources.len());
        let mut resources = response.resources.iter().map(|resource| match open(type_url, resource) {
            Ok(encoded) => (held.enter(resource.name, resource.version), Some(encoded)),
            Err(refused) => {
                rejected.push(refused);
                (Arc::from(resource.name), None)
            }
        });
        let refused = feed.apply(Update { resources: &mut resources, removed: &response.removed });
        held.settle(refused.iter().map(|refused| &*refused.name));
        rejected.extend(refused);
        if feed.remembers_refused() {
            rejected.iter().for_each(|refused| held.remember(&refused.name));
        }
        for name in response.removed {
            held.remove(name);
        }
        rejected
    }
}

/// Takes a resource's encoding out of its envelope.
fn open<'a>(type_url: &str, resource: &Resource<'a>) -> Result<&'a [u8], Rejected> {
    let reason = match resource.content {
        Some((found, encoded)) if found == type_url => return Ok(encoded),
        Some((found, _)) => format!("resource: type {found:?} in a response of {type_url:?}"),
        None => "resource: not set".to_owned(),
    };
    Err(Rejected { name: resource.name.to_owned(), reason })
}

/// `name: reason; name: reason`, cut short when there is no end to it.
fn rejection(rejected: &[Rejected]) -> Status {
    let mut parts: Vec<String> = rejected.iter().take(NAMED_REJECTIONS).map(Rejected::to_string).collect();
    if rejected.len() > NAMED_REJECTIONS {
        parts.push(format!("and {} more", rejected.len() - NAMED_REJECTIONS));
    }
    Status { code: 0, message: parts.join("; "), details: Vec::new() }
}

#[cfg(test)]
mod tests;
