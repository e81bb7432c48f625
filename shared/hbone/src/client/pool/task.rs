//! The task of one pooled connection: dial, drive, leave.

use std::future::Future;
use std::hash::Hash;
use std::pin::pin;
use std::sync::{Arc, Weak};

use ::io::Transport;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Inner;
use super::entries::{Dial, Idle, patience};
use crate::client::member::Member;
use crate::client::{Driver, handshake};
use crate::{DialError, HboneError, Parameters};

/// What a connection's task knows; it keeps neither the pool nor the connection's handle alive.
pub(super) struct Task<K> {
    pub(super) pool: Weak<Inner<K>>,
    pub(super) key: K,
    pub(super) dialling: Arc<Dial>,
    pub(super) parameters: Parameters,
}

impl<K> Task<K>
where
    K: Clone + Eq + Hash,
{
    pub(super) async fn run<Fut, T>(self, dial: Fut)
    where
        Fut: Future<Output = Result<T, DialError>>,
        T: Transport + Send,
    {
        let deadline = Instant::now() + self.parameters.dial_timeout;
        // The future of a dial is large, and of no use once the connection stands.
        let connection = Box::pin(timeout_at(deadline, self.establish(dial))).await;
        let connection = connection.unwrap_or(Err(HboneError::Timeout("a connection")));
        match connection {
            Err(failure) => self.settle(Some(failure)),
            Ok((member, driver)) => {
                // Whoever waits for the connection has a request that may go with the first bytes.
                yield_now().await;
                let outcome = self.drive(&member, driver, deadline).await;
                tracing::debug!(?outcome, "HBONE connection closed");
            }
        }
    }

    async fn establish<Fut, T>(&self, dial: Fut) -> Result<(Weak<Member>, Driver<T>), HboneError>
    where
        Fut: Future<Output = Result<T, DialError>>,
        T: Transport + Send,
    {
        let io = dial.await?;
        let (client, driver) = handshake(io, &self.parameters).await?;
        let pool = self.pool.upgrade().ok_or(HboneError::Closed)?;
        let mut entries = pool.entries();
        let member = Member::new(client, &self.parameters, entries.changed(&self.key));
        let member = Arc::new(member);
        let weak = Arc::downgrade(&member);
        entries.add(&self.key, member);
        Ok((weak, driver))
    }

    /// Moves frames until the connection is over; then takes it out of the pool.
    async fn drive<T>(&self, member: &Weak<Member>, driver: Driver<T>, deadline: Instant) -> Result<(), HboneError>
    where
        T: Transport,
    {
        let mut driver = pin!(driver);
        let outcome = tokio::select! {
            outcome = &mut driver => outcome.and(Err(HboneError::Closed)),
            () = limit_known(member) => Ok(()),
            () = sleep_until(deadline) => Err(HboneError::Timeout("the peer's SETTINGS")),
        };
        self.settle(outcome.as_ref().err().cloned());
        let outcome = match outcome {
            Ok(()) => {
                // Streams that were answered with the peer's SETTINGS have bytes that may go with our acknowledgement.
                yield_now().await;
                self.serve(member, driver).await
            }
            failure => failure,
        };
        if let (Some(pool), Some(member)) = (self.pool.upgrade(), member.upgrade()) {
            pool.entries().remove(&self.key, &member);
        }
        outcome
    }

    async fn serve<T>(&self, member: &Weak<Member>, mut driver: impl Future<Output = T> + Unpin) -> T {
        let mut unused = pin!(self.release_unused(member));
        let mut limit_changed = pin!(limit_changes(member));
        loop {
            tokio::select! {
                biased;
                // Before the driver, so that the end of a connection that is not kept leaves with that of its stream.
                () = &mut unused => break,
                outcome = &mut driver => return outcome,
                () = &mut limit_changed => {}
            }
        }
        driver.await
    }

    /// Takes the connection out of the pool once it has been without streams for long enough.
    async fn release_unused(&self, member: &Weak<Member>) {
        let Some(emptied) = member.upgrade().map(|member| member.emptied()) else { return };
        let mut due = Instant::now() + patience(self.parameters.idle_timeout);
        loop {
            tokio::select! {
                () = sleep_until(due) => {}
                () = emptied.notified() => {}
            }
            match self.release_idle(member) {
                Idle::Released => return,
                Idle::Until(next) => due = next,
            }
        }
    }

    fn release_idle(&self, member: &Weak<Member>) -> Idle {
        match (self.pool.upgrade(), member.upgrade()) {
            (Some(pool), Some(member)) => pool.entries().release_idle(&self.key, &member, self.parameters.idle_timeout),
            _ => Idle::Released,
        }
    }

    fn settle(&self, failure: Option<HboneError>) {
        if let Some(pool) = self.pool.upgrade() {
            pool.entries().settle(&self.key, &self.dialling, failure);
        }
    }
}

/// Waits for the peer's first SETTINGS.
async fn limit_known(member: &Weak<Member>) {
    let Some(changed) = member.upgrade().map(|member| member.client.limit().changed()) else {
        return std::future::pending().await;
    };
    changed.notified().await;
}

/// Wakes those who wait for a place whenever the peer raises its limit; never ends.
async fn limit_changes(member: &Weak<Member>) {
    let Some(changed) = member.upgrade().map(|member| member.client.limit().changed()) else {
        return std::future::pending().await;
    };
    loop {
        changed.notified().await;
        if let Some(member) = member.upgrade() {
            member.wake_waiters();
        }
    }
}
