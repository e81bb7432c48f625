//! Connections shared by many tunnels.

mod entries;
mod task;

use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::io::Transport;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use self::entries::{Dial, Entries, Place};
use super::member::Slot;
use super::{Connect, Connected};
use crate::{DialError, HboneError, Parameters};

/// How often a request moves on to another connection when the one it was given turns out to be closing.
const ATTEMPTS: usize = 3;

/// Connections by key, each carrying many tunnels; cheap to clone.
///
/// - A connection takes streams up to the smaller of the own and the peer's limit, and again as soon as one ends.
/// - Connections that broke, whose peer said GOAWAY, or whose peer fell silent over a request, take no more.
/// - There is one dial per key at a time, and all who wait for it share its outcome: nobody waits behind a failure.
/// - A connection without streams is closed after [`Parameters::idle_timeout`].
/// - When the last clone is dropped, a connection closes as soon as it has no streams: what was written still arrives.
///
/// The key holds whatever must be equal for two tunnels to share a connection: identities, address, source.
pub struct Pool<K> {
    inner: Arc<Inner<K>>,
}

pub(super) struct Inner<K> {
    parameters: Parameters,
    entries: Mutex<Entries<K>>,
    /// Dials and drivers.
    tasks: Mutex<JoinSet<()>>,
}

impl<K> Pool<K>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
{
    /// An empty pool.
    #[must_use]
    pub fn new(parameters: Parameters) -> Self {
        let inner = Inner { parameters, entries: Mutex::default(), tasks: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// Opens a tunnel on a connection of this key, dialling one when there is none with a free place.
    ///
    /// `dial` makes the transport: TCP and TLS. It runs in a task of the pool, so that one who gives up waiting does
    /// not spoil it for the others, and it is called again only if the connection was used up by others.
    ///
    /// A request that met a connection in the act of closing is sent again on another one: nothing was tunnelled yet.
    ///
    /// # Errors
    /// [`HboneError`]: which step failed, and [`HboneError::permits_another_endpoint`] whether to go on elsewhere.
    pub async fn open<F, Fut, T>(
        &self,
        key: &K,
        request: &Connect,
        deadline: Instant,
        dial: F,
    ) -> Result<Connected, HboneError>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, DialError>> + Send + 'static,
        T: Transport + Send + 'static,
    {
        let mut attempt = 1;
        loop {
            let slot = timeout_at(deadline, self.reserve(key, &dial))
                .await
                .map_err(|_elapsed| HboneError::Timeout("a connection"))??;
            let (member, is_reused, asked) = (Arc::clone(slot.member()), slot.is_reused, Instant::now());
            let answer = timeout_at(deadline, member.client.connect_on(request, Some(slot))).await;
            let Ok(answer) = answer else {
                if !member.client.was_heard_since(asked) {
                    member.retire();
                }
                return Err(HboneError::Timeout("the answer to CONNECT"));
            };
            match answer {
                Err(error) if attempt < ATTEMPTS && error.was_closing() && (is_reused || error.was_turned_away()) => {
                    member.retire();
                    attempt += 1;
                }
                answer => return answer,
            }
        }
    }

    /// How many connections there are, of all keys.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.inner.entries().connections()
    }

    /// How many streams there are, on all connections that still take more.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.inner.entries().streams()
    }

    /// Whether a tunnel of this key could be opened at once, without dialling.
    #[must_use]
    pub fn has_room(&self, key: &K) -> bool {
        self.inner.entries().has_room(key)
    }

    async fn reserve<F, Fut, T>(&self, key: &K, dial: &F) -> Result<Slot, HboneError>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, DialError>> + Send + 'static,
        T: Transport + Send + 'static,
    {
        let mut joined: Option<Arc<Dial>> = None;
        loop {
            if let Some(failure) = joined.as_ref().and_then(|dial| dial.failure()) {
                return Err(failure.clone());
            }
            let place = self.inner.entries().place(key);
            let changed = match place {
                Place::Free(slot) => return Ok(slot),
                Place::Wait(dialling, changed) => {
                    joined = Some(dialling);
                    changed
                }
                Place::Dial(dialling, changed) => {
                    self.spawn(key, &dialling, dial());
                    joined = Some(dialling);
                    changed
                }
            };
            changed.await;
        }
    }

    fn spawn<Fut, T>(&self, key: &K, dialling: &Arc<Dial>, dial: Fut)
    where
        Fut: Future<Output = Result<T, DialError>> + Send + 'static,
        T: Transport + Send + 'static,
    {
        let task = task::Task {
            pool: Arc::downgrade(&self.inner),
            key: key.clone(),
            dialling: Arc::clone(dialling),
            parameters: self.inner.parameters.clone(),
        };
        let mut tasks = self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task.run(dial));
    }
}

impl<K> Inner<K> {
    pub(super) fn entries(&self) -> MutexGuard<'_, Entries<K>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> Drop for Inner<K> {
    /// A driver without a pool ends by itself: after its last stream, or when its peer falls silent.
    ///
    /// Cut off, it would lose what it holds of streams that their users have finished with.
    fn drop(&mut self) {
        self.tasks.get_mut().unwrap_or_else(PoisonError::into_inner).detach_all();
    }
}

impl<K> Clone for Pool<K> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<K> fmt::Debug for Pool<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}
