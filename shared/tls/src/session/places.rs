//! The client's side: what it keeps to come back to servers with.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{ClientConfig, NamedGroup};
use types::Identity;

use super::{Proof, note, noted};

/// How many servers one certificate keeps sessions of; the one that was dialled longest ago gives way.
const MOST_PLACES: usize = 64;

/// How many sessions of one server are kept: each opens one connection, which brings the next.
const MOST_SESSIONS: usize = 8;

/// How many sessions a process keeps, of all its certificates: some 2 KiB each, with the server's certificates.
const MOST_IN_ALL: usize = 1024;

/// How many sessions there are.
static IN_ALL: AtomicUsize = AtomicUsize::new(0);

/// Who keeps sessions; looked through for those that are over when there are too many.
static EVERYBODY: Mutex<Everybody> = Mutex::new(Everybody { sessions: Vec::new(), enough: FEW, swept: 0 });

/// How few are not worth looking through for those that have gone.
const FEW: usize = 64;

/// How often sessions that are over are looked for at most, in seconds.
const PAUSE: u64 = 60;

struct Everybody {
    sessions: Vec<Weak<Sessions>>,
    /// How many there may be before those that have gone are looked for.
    enough: usize,
    /// When sessions that are over were looked for last, in seconds of Unix time.
    swept: u64,
}

/// Where a server is to which a client may come back: sessions are offered nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// What was dialled.
    pub address: SocketAddr,
    /// Which revocation lists count; another number for others, so that sessions end with the lists under which the
    /// server was let in.
    pub revocations: u64,
}

/// Sessions of one certificate with servers that it has dialled: they end with it.
#[derive(Default)]
pub(crate) struct Places(Mutex<VecDeque<Known>>);

/// A server, as one of the identities that were expected there.
struct Known {
    place: Place,
    expected: Vec<Identity>,
    config: Arc<ClientConfig>,
    sessions: Arc<Sessions>,
}

/// Sessions with one server, under one certificate and with one list of expected identities.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    sessions: VecDeque<Session>,
    /// The certificate under which they were agreed on is not used any more.
    is_over: bool,
}

/// One session; it serves once.
#[derive(Debug)]
struct Session {
    value: Tls13ClientSessionValue,
    proof: Proof,
    _counted: Counted,
}

/// One of those that a process may keep.
#[derive(Debug)]
struct Counted;

impl Places {
    /// The configuration for a server, made when it is dialled for the first time.
    pub(crate) fn config(
        &self,
        place: Place,
        expected: &[Identity],
        make: impl FnOnce(&Arc<Sessions>) -> ClientConfig,
    ) -> Arc<ClientConfig> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.iter().position(|known| known.place == place && known.expected == expected);
        // The one that was dialled last stands last.
        if let Some(found) = found.and_then(|index| known.remove(index)) {
            let config = Arc::clone(&found.config);
            known.push_back(found);
            return config;
        }
        if known.len() >= MOST_PLACES
            && let Some(oldest) = known.pop_front()
        {
            oldest.sessions.end();
        }
        let sessions = Arc::default();
        Everybody::lock().remember(&sessions);
        let config = Arc::new(make(&sessions));
        known.push_back(Known { place, expected: expected.to_vec(), config: Arc::clone(&config), sessions });
        config
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        for known in self.0.get_mut().unwrap_or_else(PoisonError::into_inner) {
            // A connection that lives keeps its configuration, and with it this.
            known.sessions.end();
        }
    }
}

impl Sessions {
    fn keep(&self, value: Tls13ClientSessionValue, proof: Proof, now: UnixTime) {
        let counted = Counted::new().or_else(|| {
            Everybody::sweep(now);
            Counted::new()
        });
        let mut kept = self.lock();
        if kept.is_over {
            return;
        }
        if kept.sessions.len() >= MOST_SESSIONS {
            kept.sessions.pop_front();
        }
        if let Some(counted) = counted {
            kept.sessions.push_back(Session { value, proof, _counted: counted });
        }
    }

    fn drop_old(&self, now: UnixTime) -> MutexGuard<'_, Kept> {
        let mut kept = self.lock();
        kept.sessions.retain(|session| session.proof.counts_at(now));
        kept
    }

    fn take(&self, now: UnixTime) -> Option<(Tls13ClientSessionValue, Proof)> {
        self.drop_old(now).sessions.pop_back().map(|session| (session.value, session.proof))
    }

    fn end(&self) {
        let mut kept = self.lock();
        kept.is_over = true;
        kept.sessions = VecDeque::new();
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name is the same for all servers: each has a store of its own.
impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, _server: ServerName<'static>, _group: NamedGroup) {}

    fn kx_hint(&self, _server: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _server: ServerName<'static>, _session: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _server: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _server: ServerName<'static>, value: Tls13ClientSessionValue) {
        if let Some(proof) = noted() {
            self.keep(value, proof, UnixTime::now());
        }
    }

    fn take_tls13_ticket(&self, _server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let (value, proof) = self.take(UnixTime::now())?;
        note(proof);
        Some(value)
    }
}

impl Everybody {
    fn lock() -> MutexGuard<'static, Self> {
        EVERYBODY.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&mut self, sessions: &Arc<Sessions>) {
        if self.sessions.len() >= self.enough {
            self.sessions.retain(|sessions| sessions.strong_count() > 0);
            self.enough = (2 * self.sessions.len()).max(FEW);
        }
        self.sessions.push(Arc::downgrade(sessions));
    }

    /// Drops all sessions that are over.
    fn sweep(now: UnixTime) {
        let mut everybody = Self::lock();
        if now.as_secs().abs_diff(everybody.swept) < PAUSE {
            return;
        }
        everybody.swept = now.as_secs();
        let all: Vec<_> = everybody.sessions.iter().filter_map(Weak::upgrade).collect();
        drop(everybody);
        for sessions in all {
            drop(sessions.drop_old(now));
        }
    }
}

impl Counted {
    fn new() -> Option<Self> {
        let room = |count: usize| (count < MOST_IN_ALL).then_some(count + 1);
        IN_ALL.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).ok().map(|_| Self)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        IN_ALL.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Places").finish_non_exhaustive()
    }
}
