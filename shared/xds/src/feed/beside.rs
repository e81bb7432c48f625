//! Work on many items by two threads: one makes them, the other takes them.

use std::sync::mpsc::sync_channel;
use std::thread;

use tracing::debug;

/// How many items go over together: enough that handing them over costs nothing beside making them.
const PART: usize = 256;

/// How many parts may wait; the maker waits when there are more.
const WAITING: usize = 16;

/// [`Iterator::for_each`], with `take` on a thread of its own, so that the next items are made meanwhile.
///
/// It takes them in their order, and has taken all of them when this returns.
pub(super) fn for_each<T: Send>(mut items: impl Iterator<Item = T>, mut take: impl FnMut(T) + Send) {
    let (sender, parts) = sync_channel::<Vec<T>>(WAITING);
    let is_beside = thread::scope(|scope| {
        let (sender, take) = (sender, &mut take);
        let taker = thread::Builder::new().name("discovery".to_owned());
        if let Err(error) = taker.spawn_scoped(scope, move || parts.into_iter().flatten().for_each(take)) {
            debug!(%error, "no second thread");
            return false;
        }
        loop {
            let mut part = Vec::with_capacity(PART);
            part.extend(items.by_ref().take(PART));
            // Nobody takes them any more only where that has panicked, which the scope passes on.
            if part.is_empty() || sender.send(part).is_err() {
                return true;
            }
        }
    });
    if !is_beside {
        items.for_each(take);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_items_are_taken_in_their_order() {
        for count in [0, 1, PART, PART + 1, PART * (WAITING + 3)] {
            let mut taken = Vec::new();
            for_each(0..count, |item| taken.push(item));
            assert!(taken.into_iter().eq(0..count), "{count}");
        }
    }

    #[test]
    #[should_panic = "a scoped thread panicked"]
    fn a_panic_of_the_taker_is_passed_on() {
        for_each(0..PART * (WAITING + 3), |item| assert!(item < PART));
    }
}
