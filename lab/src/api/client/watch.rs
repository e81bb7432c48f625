//! A typed watch that heals itself when its reader was too slow.

use std::collections::{BTreeMap, VecDeque};
use std::marker::PhantomData;
use std::sync::Arc;

use super::{Key, typed};
use crate::api::core::Core;
use crate::api::feed::{Feed, From, Step};
use crate::api::kind::Kind;
use crate::api::selector::Selector;
use crate::api::store::{self, Object};

/// What a [`Watch`] reports.
#[derive(Clone, Debug, PartialEq)]
pub enum Event<K> {
    /// The object exists, is new to the selection, or has changed.
    Applied(K),
    /// The object is gone or has left the selection; its last state.
    Deleted(K),
    /// Everything that existed at the start has been reported. Once per watch.
    Synced,
}

/// A selection being followed.
pub struct Watch<K> {
    core: Arc<Core>,
    kind: &'static Kind,
    selector: Selector,
    feed: Feed,
    /// What was reported as existing, to tell what has gone while the reader was too slow.
    known: BTreeMap<store::Key, Object>,
    missed: VecDeque<Step>,
    is_synced: bool,
    of: PhantomData<fn() -> K>,
}

impl<K: Key> Watch<K> {
    pub(super) fn new(core: Arc<Core>, kind: &'static Kind, selector: Selector, feed: Feed) -> Self {
        let (known, missed) = (BTreeMap::new(), VecDeque::new());
        Self { core, kind, selector, feed, known, missed, is_synced: false, of: PhantomData }
    }

    /// The next event; `None` once the server has stopped. Cancel safe.
    pub async fn next(&mut self) -> Option<Event<K>> {
        loop {
            if !self.is_synced && self.feed.reached().is_some() {
                self.is_synced = true;
                return Some(Event::Synced);
            }
            let step = match self.missed.pop_front() {
                Some(step) => step,
                None => match self.feed.next().await {
                    Ok(step) => step?,
                    Err(expired) => {
                        tracing::debug!(%expired, kind = self.kind.kind, "a watch was too slow and lists again");
                        self.restart();
                        continue;
                    }
                },
            };
            if let Some(event) = self.report(step) {
                return Some(event);
            }
        }
    }

    fn report(&mut self, step: Step) -> Option<Event<K>> {
        match step {
            Step::Added(object) | Step::Modified(object) => {
                let previous = self.known.insert(store::key(&object), Arc::clone(&object));
                // After a restart everything comes again, changed or not.
                (previous.as_ref() != Some(&object)).then(|| typed(&object).ok().map(Event::Applied)).flatten()
            }
            Step::Deleted(object) => {
                self.known.remove(&store::key(&object));
                typed(&object).ok().map(Event::Deleted)
            }
        }
    }

    /// Lists again and puts what has gone meanwhile before what exists.
    fn restart(&mut self) {
        let from = Feed::new(Arc::clone(&self.core), self.kind, self.selector.clone(), From::Everything);
        // Starting from everything never fails; if it did, the next call would come here again.
        let Ok(feed) = from else { return };
        self.feed = feed;
        let existing: BTreeMap<_, _> = self
            .core
            .list(self.kind, &self.selector)
            .0
            .into_iter()
            .map(|object| (store::key(&object), store::text(&object, "/metadata/uid").to_owned()))
            .collect();
        let is_gone = |(key, object): &(&store::Key, &Object)| {
            existing.get(*key).is_none_or(|uid| uid != store::text(object, "/metadata/uid"))
        };
        self.missed = self.known.iter().filter(is_gone).map(|(_, object)| Step::Deleted(Arc::clone(object))).collect();
    }
}
