//! Who is connected to the server: how many, and who must go when others come.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use http_body::{Frame, SizeHint};
use tokio::sync::Notify;

/// How many connections there are at once.
pub(super) const CONNECTIONS: usize = 128;

/// How many of them may be getting an answer; the rest is for those that come to ask, so that they are heard at least.
pub(super) const ANSWERS: usize = CONNECTIONS - 32;

/// The connections of a server.
///
/// One that asks for nothing, since it came or since its last answer, makes room for one that comes:
/// the one that has done so for the longest goes first.
#[derive(Debug, Default)]
pub(super) struct Crowd(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    answering: usize,
    /// Those that ask for nothing, in the order in which they began to.
    silent: BTreeMap<u64, Arc<Notify>>,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Member {
    crowd: Arc<Crowd>,
    place: Mutex<Option<u64>>,
    leave: Arc<Notify>,
}

/// An answer under way, until it is dropped.
#[derive(Debug)]
pub(super) struct Answering(Arc<Member>);

impl Crowd {
    /// A connection has come; another one may have to go for it.
    pub(super) fn enter(self: &Arc<Self>) -> Arc<Member> {
        let leave = Arc::new(Notify::new());
        let mut state = self.lock();
        if state.answering + state.silent.len() >= CONNECTIONS
            && let Some((_, oldest)) = state.silent.pop_first()
        {
            oldest.notify_one();
        }
        let place = state.wait(&leave);
        drop(state);
        Arc::new(Member { crowd: Arc::clone(self), place: Mutex::new(Some(place)), leave })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wait(&mut self, leave: &Arc<Notify>) -> u64 {
        let place = self.next;
        self.next += 1;
        self.silent.insert(place, Arc::clone(leave));
        place
    }
}

impl Member {
    /// Waits until the connection has to make room.
    pub(super) async fn must_leave(&self) {
        self.leave.notified().await;
    }

    /// The connection asks for something; `None` when too many others are being answered.
    pub(super) fn answer(self: &Arc<Self>) -> Option<Answering> {
        let mut state = self.crowd.lock();
        if state.answering >= ANSWERS {
            return None;
        }
        let mut place = self.place();
        if let Some(place) = place.take() {
            state.silent.remove(&place);
        }
        state.answering += 1;
        Some(Answering(Arc::clone(self)))
    }

    fn place(&self) -> MutexGuard<'_, Option<u64>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let place = self.place().take();
        if let Some(place) = place {
            self.crowd.lock().silent.remove(&place);
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let member = &self.0;
        let mut state = member.crowd.lock();
        state.answering -= 1;
        *member.place() = Some(state.wait(&member.leave));
    }
}

/// A body that keeps its connection's answer under way for as long as there is something to send.
#[derive(Debug)]
pub(super) struct Held<B> {
    pub(super) body: B,
    pub(super) _answering: Option<Answering>,
}

impl<B: http_body::Body + Unpin> http_body::Body for Held<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn leaves(member: &Member) -> bool {
        tokio::time::timeout(std::time::Duration::from_millis(1), member.must_leave()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_silent_longest_makes_room() {
        let crowd = Arc::new(Crowd::default());
        let members: Vec<_> = (0..CONNECTIONS).map(|_| crowd.enter()).collect();
        // The first one asks, and is answered; then it is the last to have become silent.
        drop(members[0].answer().unwrap());
        let busy = members[1].answer().unwrap();
        let _late = crowd.enter();
        assert!(leaves(&members[2]).await);
        assert!(!leaves(&members[0]).await && !leaves(&members[1]).await && !leaves(&members[3]).await);
        drop(busy);
    }

    #[test]
    fn answers_leave_room_for_who_comes_to_ask() {
        let crowd = Arc::new(Crowd::default());
        let members: Vec<_> = (0..CONNECTIONS).map(|_| crowd.enter()).collect();
        let answers: Vec<_> = members.iter().map_while(Member::answer).collect();
        assert_eq!(answers.len(), ANSWERS);
        drop(answers);
        assert!(members[0].answer().is_some());
        drop(members);
        let state = crowd.lock();
        assert_eq!((state.answering, state.silent.len()), (0, 0));
    }
}
