//! What the pool knows of each key; plain data behind the pool's lock.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio::time::Instant;

use crate::HboneError;
use crate::client::member::{Member, Slot};

/// How soon a connection is looked at again that is not to be kept, while it has streams or has not had its first.
const PATIENCE: Duration = Duration::from_secs(1);

/// The connections and the dial of every key.
pub(crate) struct Entries<K> {
    by_key: HashMap<K, Entry>,
}

#[derive(Default)]
struct Entry {
    members: Vec<Arc<Member>>,
    /// Runs until the peer's SETTINGS say how many streams it allows.
    dial: Option<Arc<Dial>>,
    /// Wakes all who wait for a place.
    changed: Arc<Notify>,
}

/// One attempt to get a connection, shared by all who wait for it.
#[derive(Debug, Default)]
pub(crate) struct Dial {
    failure: OnceLock<HboneError>,
}

/// What one who wants a place gets.
pub(crate) enum Place {
    /// A place.
    Free(Slot),
    /// Somebody dials already; look again when woken.
    Wait(Arc<Dial>, OwnedNotified),
    /// Nobody does: the caller shall start it, and look again when woken.
    Dial(Arc<Dial>, OwnedNotified),
}

/// What became of a connection whose idle time may be up.
pub(crate) enum Idle {
    /// It takes no more streams.
    Released,
    /// Look again then.
    Until(Instant),
}

impl Dial {
    pub(crate) fn failure(&self) -> Option<&HboneError> {
        self.failure.get()
    }
}

impl<K> Default for Entries<K> {
    fn default() -> Self {
        Self { by_key: HashMap::new() }
    }
}

impl<K: Clone + Eq + Hash> Entries<K> {
    /// Finds a place, or who to wait for.
    ///
    /// The wake-up is armed while the lock is held, so that no change is missed.
    pub(crate) fn place(&mut self, key: &K) -> Place {
        let Some(entry) = self.by_key.get_mut(key) else {
            let entry = self.by_key.entry(key.clone()).or_default();
            return entry.start_dial();
        };
        entry.members.retain(|member| member.is_usable());
        if let Some(slot) = entry.members.iter().find_map(Member::take) {
            return Place::Free(slot);
        }
        match &entry.dial {
            Some(dial) => Place::Wait(Arc::clone(dial), Arc::clone(&entry.changed).notified_owned()),
            None => entry.start_dial(),
        }
    }

    pub(crate) fn has_room(&self, key: &K) -> bool {
        let members = self.by_key.get(key).map(|entry| entry.members.as_slice()).unwrap_or_default();
        members.iter().any(|member| member.is_usable() && member.has_room())
    }

    /// The signal that a new member of this key shall give when one of its places gets free.
    pub(crate) fn changed(&mut self, key: &K) -> Arc<Notify> {
        Arc::clone(&self.by_key.entry(key.clone()).or_default().changed)
    }

    pub(crate) fn add(&mut self, key: &K, member: Arc<Member>) {
        let entry = self.by_key.entry(key.clone()).or_default();
        entry.members.push(member);
        entry.changed.notify_waiters();
    }

    /// Ends a dial; those who wait for it learn the failure, if there is one.
    pub(crate) fn settle(&mut self, key: &K, dial: &Arc<Dial>, failure: Option<HboneError>) {
        if let Some(failure) = failure {
            // A dial settles once.
            let _ = dial.failure.set(failure);
        }
        if let Some(entry) = self.by_key.get_mut(key) {
            entry.dial.take_if(|current| Arc::ptr_eq(current, dial));
            entry.changed.notify_waiters();
        }
        self.forget_if_empty(key);
    }

    pub(crate) fn remove(&mut self, key: &K, member: &Arc<Member>) {
        if let Some(entry) = self.by_key.get_mut(key) {
            entry.members.retain(|other| !Arc::ptr_eq(other, member));
            entry.changed.notify_waiters();
        }
        self.forget_if_empty(key);
    }

    /// Removes a connection that has had no streams for `timeout`; nobody can take a place on it meanwhile.
    pub(crate) fn release_idle(&mut self, key: &K, member: &Arc<Member>, timeout: Duration) -> Idle {
        let now = Instant::now();
        let due = member.idle_since().map_or_else(|| now + patience(timeout), |since| since + timeout);
        if due > now {
            return Idle::Until(due);
        }
        self.remove(key, member);
        Idle::Released
    }

    fn forget_if_empty(&mut self, key: &K) {
        if self.by_key.get(key).is_some_and(|entry| entry.members.is_empty() && entry.dial.is_none()) {
            self.by_key.remove(key);
        }
    }
}

impl<K> Entries<K> {
    pub(crate) fn connections(&self) -> usize {
        self.by_key.values().map(|entry| entry.members.len()).sum()
    }

    pub(crate) fn streams(&self) -> usize {
        self.by_key.values().flat_map(|entry| &entry.members).map(|member| member.active()).sum()
    }
}

impl Entry {
    fn start_dial(&mut self) -> Place {
        let dial = Arc::new(Dial::default());
        self.dial = Some(Arc::clone(&dial));
        Place::Dial(dial, Arc::clone(&self.changed).notified_owned())
    }
}

/// How soon a connection with streams may have been without them for `timeout`.
pub(super) fn patience(timeout: Duration) -> Duration {
    if timeout.is_zero() { PATIENCE } else { timeout }
}
