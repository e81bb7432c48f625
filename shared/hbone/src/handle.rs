//! What the driver and the users of a connection share, and a user's hold on one stream.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http2::{Connection, Key};

use crate::activity::Seen;
use crate::pace::Neighbours;

/// A connection's state; it is locked for moments only, and almost always by the thread that moves its bytes.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Both>);

struct Both {
    connection: Mutex<Connection>,
    neighbours: Neighbours,
}

impl Shared {
    pub(crate) fn new(connection: Connection, neighbours: Neighbours) -> Self {
        Self(Arc::new(Both { connection: Mutex::new(connection), neighbours }))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Connection> {
        self.0.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When something arrived last.
    pub(crate) fn seen(&self) -> &Seen {
        self.0.neighbours.seen()
    }

    /// The streams as they regard each other.
    pub(crate) fn neighbours(&self) -> &Neighbours {
        &self.0.neighbours
    }
}

/// One user's hold on a stream; when the last one is dropped, a stream that has not ended is reset.
pub(crate) struct Handle {
    shared: Shared,
    key: Key,
}

impl Handle {
    /// Takes over the hold that the connection has counted already.
    pub(crate) fn new(shared: Shared, key: Key) -> Self {
        Self { shared, key }
    }

    /// What the stream's connection is among.
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The connection, and which stream of it.
    pub(crate) fn lock(&self) -> (MutexGuard<'_, Connection>, Key) {
        (self.shared.lock(), self.key)
    }
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        self.shared.lock().retain(self.key);
        Self { shared: self.shared.clone(), key: self.key }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.lock().release(self.key);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut connection, key) = self.lock();
        f.debug_tuple("Handle").field(&connection.id(key)).finish()
    }
}
