//! Asking for resources one by one: who waits for what, and what nobody has used for a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

/// How long a name stays subscribed to that nobody asks for.
pub(crate) const IDLE: Duration = Duration::from_secs(600);

/// How many names may be subscribed to at once: pods choose which addresses they connect to.
const MOST: usize = 1 << 16;

/// How many names may wait to be asked for.
const QUEUED: usize = 1024;

/// Why a name is not known to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// The control plane did not answer in time.
    #[error("the control plane did not answer in time")]
    Deadline,
    /// Too many names are subscribed to.
    #[error("too many names are asked for")]
    TooMany,
    /// The client is gone.
    #[error("discovery has ended")]
    Ended,
}

/// Asks for resources of a type that is subscribed to on demand; cheap to clone.
///
/// All who ask for one name share one question, and its answer for as long as it is subscribed to.
#[derive(Debug, Clone)]
pub struct Demand {
    names: Arc<Names>,
    orders: mpsc::Sender<String>,
}

/// The client's end of it.
#[derive(Debug)]
pub(crate) struct Supply {
    names: Arc<Names>,
    pub(crate) orders: mpsc::Receiver<String>,
}

#[derive(Debug, Default)]
struct Names(Mutex<HashMap<String, Name>>);

#[derive(Debug)]
struct Name {
    is_settled: watch::Sender<bool>,
    used: Instant,
}

/// Both ends.
pub(crate) fn pair() -> (Demand, Supply) {
    let names = Arc::new(Names::default());
    let (sender, orders) = mpsc::channel(QUEUED);
    (Demand { names: Arc::clone(&names), orders: sender }, Supply { names, orders })
}

impl Demand {
    /// Waits until the control plane has said what it knows of a name: a resource's, or an alias such as `/10.0.0.1`.
    ///
    /// What it said is in the feed then; that there is no such resource is an answer too.
    ///
    /// # Errors
    /// When there is no answer: nothing may be concluded from that.
    pub async fn settled(&self, name: &str, deadline: Instant) -> Result<(), Unanswered> {
        let known = self.names.lock().get_mut(name).map(Name::join);
        let mut settled = match known {
            Some(settled) => settled,
            None => self.order(name, deadline).await?,
        };
        let waiting = timeout_at(deadline, settled.wait_for(|is_settled| *is_settled)).await;
        waiting.map_err(|_elapsed| Unanswered::Deadline)?.map(drop).map_err(|_gone| Unanswered::Ended)
    }

    /// The place in the queue comes first: whoever gives up before it has one leaves nothing behind.
    async fn order(&self, name: &str, deadline: Instant) -> Result<watch::Receiver<bool>, Unanswered> {
        let place = timeout_at(deadline, self.orders.reserve()).await.map_err(|_elapsed| Unanswered::Deadline)?;
        let place = place.map_err(|_closed| Unanswered::Ended)?;
        let mut names = self.names.lock();
        if let Some(known) = names.get_mut(name) {
            return Ok(known.join());
        }
        if names.len() >= MOST {
            return Err(Unanswered::TooMany);
        }
        let (is_settled, settled) = watch::channel(false);
        names.insert(name.to_owned(), Name { is_settled, used: Instant::now() });
        place.send(name.to_owned());
        Ok(settled)
    }
}

impl Supply {
    /// These names have been answered.
    pub(crate) fn settle(&self, settled: &[String]) {
        let names = self.names.lock();
        for name in settled.iter().filter_map(|name| names.get(name)) {
            name.is_settled.send_replace(true);
        }
    }

    /// Takes out what was answered and has not been asked for since.
    pub(crate) fn take_idle(&self) -> Vec<String> {
        let mut names = self.names.lock();
        let is_idle = |name: &Name| *name.is_settled.borrow() && name.used.elapsed() >= IDLE;
        let idle: Vec<String> = names.iter().filter(|(_, name)| is_idle(name)).map(|(key, _)| key.clone()).collect();
        for name in &idle {
            names.remove(name);
        }
        idle
    }
}

impl Names {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Name>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Name {
    fn join(&mut self) -> watch::Receiver<bool> {
        self.used = Instant::now();
        self.is_settled.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(1)
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_ask_for_a_name_share_one_question_and_its_answer() {
        let (demand, mut supply) = pair();
        let asking: Vec<_> = (0..10)
            .map(|_| {
                let demand = demand.clone();
                tokio::spawn(async move { demand.settled("/10.0.0.1", soon()).await })
            })
            .collect();
        assert_eq!(supply.orders.recv().await.unwrap(), "/10.0.0.1");
        tokio::task::yield_now().await;
        supply.settle(&["/10.0.0.1".to_owned(), "other".to_owned()]);
        for asked in asking {
            asked.await.unwrap().unwrap();
        }
        assert!(supply.orders.try_recv().is_err(), "it was asked for once");
        demand.settled("/10.0.0.1", Instant::now()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn without_an_answer_there_is_an_error_and_the_question_stands() {
        let (demand, mut supply) = pair();
        let before = Instant::now();
        assert_eq!(demand.settled("a", soon()).await, Err(Unanswered::Deadline));
        assert_eq!(before.elapsed().as_secs(), 1);
        assert_eq!(demand.settled("a", soon()).await, Err(Unanswered::Deadline));
        assert_eq!(supply.orders.recv().await.unwrap(), "a");
        assert!(supply.orders.try_recv().is_err());
        supply.settle(&["a".to_owned()]);
        demand.settled("a", soon()).await.unwrap();
        drop(supply);
        assert_eq!(demand.settled("b", soon()).await, Err(Unanswered::Ended));
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_asks_for_is_let_go_and_asked_for_anew() {
        let (demand, mut supply) = pair();
        for name in ["used", "idle", "unanswered"] {
            let _ = demand.settled(name, Instant::now()).await;
            assert_eq!(supply.orders.recv().await.unwrap(), name);
        }
        supply.settle(&["used".to_owned(), "idle".to_owned()]);
        advance(IDLE / 2).await;
        demand.settled("used", soon()).await.unwrap();
        advance(IDLE / 2).await;
        assert_eq!(supply.take_idle(), ["idle"]);
        let _ = demand.settled("idle", Instant::now()).await;
        assert_eq!(supply.orders.recv().await.unwrap(), "idle");
    }

    #[tokio::test(start_paused = true)]
    async fn names_are_bounded() {
        let (demand, supply) = pair();
        let mut supply = supply;
        for number in 0..MOST {
            let _ = demand.settled(&format!("{number}"), Instant::now()).await;
            supply.orders.try_recv().unwrap();
        }
        assert_eq!(demand.settled("more", soon()).await, Err(Unanswered::TooMany));
    }
}
