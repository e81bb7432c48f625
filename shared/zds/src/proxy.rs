//! The node proxy's side: connect, say hello, take requests, acknowledge each.

use std::path::Path;

use crate::connection::Connection;
use crate::{Ack, Hello, Request, ZdsError};

/// A connection to the agent, after hello.
#[derive(Debug)]
pub struct Session {
    connection: Connection,
}

impl Session {
    /// Connects to the agent at `path` and makes the proxy known.
    ///
    /// # Errors
    /// When nobody listens, or the agent does not read.
    pub async fn connect(path: &Path) -> Result<Self, ZdsError> {
        Self::start(Connection::connect(path)?).await
    }

    /// Makes the proxy known over a connection.
    ///
    /// # Errors
    /// When the agent does not read.
    pub async fn start(connection: Connection) -> Result<Self, ZdsError> {
        connection.send(&Hello::aquifer().encode(), None).await?;
        Ok(Self { connection })
    }

    /// Waits for the agent's next request; without bound, because pods may stay as they are. May be cancelled.
    ///
    /// # Errors
    /// [`ZdsError::Closed`] when the agent went away, otherwise what was wrong with its message.
    pub async fn next(&mut self) -> Result<Request, ZdsError> {
        let packet = self.connection.recv().await?;
        Request::decode(&packet.bytes, packet.descriptor)
    }

    /// Acknowledges the last request, or says why it could not be fulfilled.
    ///
    /// # Errors
    /// When the agent went away or does not read.
    pub async fn acknowledge(&mut self, result: Result<(), String>) -> Result<(), ZdsError> {
        self.connection.send(&Ack(result).encode(), None).await
    }
}
