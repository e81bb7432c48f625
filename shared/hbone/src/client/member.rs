//! A connection of the pool, and the places on it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Client;
use crate::Parameters;

/// A connection that may take streams.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) client: Client,
    /// The pool's own limit.
    most: usize,
    /// Whether it may wait for further streams when it has none.
    is_kept: bool,
    active: AtomicUsize,
    is_retired: AtomicBool,
    idle_since: Mutex<Instant>,
    /// Wakes those who wait for a place.
    changed: Arc<Notify>,
    /// Its last stream has ended, and it is not kept.
    emptied: Arc<Notify>,
}

/// A place on a connection; dropping it frees the place.
#[derive(Debug)]
pub(crate) struct Slot {
    member: Arc<Member>,
    /// Whether the connection has carried streams before.
    pub(crate) is_reused: bool,
}

impl Member {
    pub(crate) fn new(client: Client, parameters: &Parameters, changed: Arc<Notify>) -> Self {
        Self {
            client,
            most: parameters.client_streams.max(1),
            is_kept: !parameters.idle_timeout.is_zero(),
            active: AtomicUsize::new(0),
            is_retired: AtomicBool::new(false),
            idle_since: Mutex::new(Instant::now()),
            changed,
            emptied: Arc::default(),
        }
    }

    /// Takes a place if there is one.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Slot> {
        let limit = self.limit();
        let take_one = |active: usize| (active < limit).then_some(active + 1);
        self.active.fetch_update(Ordering::AcqRel, Ordering::Acquire, take_one).ok()?;
        Some(Slot { member: Arc::clone(self), is_reused: self.client.peer_limit().is_some() })
    }

    /// Until the peer has told its limit, one stream is all that it surely allows.
    fn limit(&self) -> usize {
        self.client.peer_limit().map_or(1, |limit| limit.min(self.most))
    }

    pub(crate) fn has_room(&self) -> bool {
        self.active() < self.limit()
    }

    pub(crate) fn is_usable(&self) -> bool {
        !self.is_retired.load(Ordering::Acquire) && self.client.is_usable()
    }

    /// Takes no further streams; those that it has go on.
    pub(crate) fn retire(&self) {
        self.is_retired.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Tells those who wait for a place to look again.
    pub(crate) fn wake_waiters(&self) {
        self.changed.notify_waiters();
    }

    /// Told when its last stream has ended, if it is not kept after that.
    pub(crate) fn emptied(&self) -> Arc<Notify> {
        Arc::clone(&self.emptied)
    }

    /// Since when it has had no streams; `None` while it has.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        let idle_since = *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner);
        (self.active.load(Ordering::Acquire) == 0).then_some(idle_since)
    }

    pub(crate) fn active(&self) -> usize {
        self.active.load(Ordering::Acquire)
    }
}

impl Slot {
    pub(crate) fn member(&self) -> &Arc<Member> {
        &self.member
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *self.member.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        if self.member.active.fetch_sub(1, Ordering::AcqRel) == 1 && !self.member.is_kept {
            self.member.is_retired.store(true, Ordering::Release);
            self.member.emptied.notify_one();
        }
        self.member.changed.notify_waiters();
    }
}
