//! A weighted order of turns.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// More simulated turns than this make no difference to where the order begins.
const MAX_TURNS: u64 = 1 << 28;

/// Members that take turns by weight: whose turn is due first is next (earliest deadline first, as Envoy does it).
///
/// Over any time, each has as many turns as its weight says, give or take one, and they are spread evenly.
/// A weight may be another one each time: it says how soon after the last turn the next one is due.
#[derive(Debug, Clone, Default)]
pub(super) struct Edf {
    now: f64,
    next_order: u64,
    queue: BinaryHeap<Turn>,
}

#[derive(Debug, Clone, Copy)]
struct Turn {
    due: f64,
    /// Who was added first is first among those that are due together.
    order: u64,
    member: usize,
}

impl Edf {
    /// The members with their weights, after so many turns; a random number lets each proxy begin elsewhere.
    ///
    /// Most of the turns are computed instead of taken.
    pub(super) fn new(weights: &[f64], turns: u64) -> Self {
        let all: f64 = weights.iter().sum();
        let turns = turns % MAX_TURNS;
        let mut edf = Self::default();
        let mut taken = 0.0;
        for (member, weight) in weights.iter().enumerate() {
            let own = (weight * turns as f64 / all).floor();
            edf.now = edf.now.max(own / weight);
            edf.push((own + 1.0) / weight, member);
            taken += own;
        }
        while taken < turns as f64 && !edf.queue.is_empty() {
            edf.take(|member| weights.get(member).copied().unwrap_or(1.0));
            taken += 1.0;
        }
        edf
    }

    /// Takes the next turn; `weight` says how soon the member has another one.
    pub(super) fn take(&mut self, weight: impl Fn(usize) -> f64) -> Option<usize> {
        let Turn { due, member, .. } = self.queue.pop()?;
        self.now = self.now.max(due);
        self.push(self.now + 1.0 / weight(member), member);
        Some(member)
    }

    fn push(&mut self, due: f64, member: usize) {
        self.queue.push(Turn { due, order: self.next_order, member });
        self.next_order += 1;
    }
}

impl Ord for Turn {
    fn cmp(&self, other: &Self) -> Ordering {
        // The queue has the greatest on top.
        other.due.total_cmp(&self.due).then(other.order.cmp(&self.order))
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Turn {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Turn {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn turns(edf: &mut Edf, weights: &[f64], count: usize) -> Vec<usize> {
        (0..count).map(|_| edf.take(|member| weights[member]).unwrap()).collect()
    }

    #[test]
    fn members_take_turns_by_weight() {
        let weights = [1.0, 2.0];
        assert_eq!(turns(&mut Edf::new(&weights, 0), &weights, 6), [1, 0, 1, 1, 0, 1]);
        assert_eq!(turns(&mut Edf::new(&[1.0; 3], 0), &[1.0; 3], 6), [0, 1, 2, 0, 1, 2]);
        assert_eq!(Edf::new(&[], 7).take(|_| 1.0), None);
    }

    proptest! {
        #[test]
        fn each_member_has_its_share_wherever_the_order_begins(
            weights in prop::collection::vec(1u32..20, 1..8),
            skipped in any::<u64>(),
        ) {
            let all: u32 = weights.iter().sum();
            let floats: Vec<_> = weights.iter().map(|weight| f64::from(*weight)).collect();
            let mut edf = Edf::new(&floats, skipped);
            let taken = turns(&mut edf, &floats, 10 * all as usize);
            for (member, weight) in weights.iter().enumerate() {
                let times = taken.iter().filter(|turn| **turn == member).count();
                prop_assert!(times.abs_diff(10 * *weight as usize) <= 1, "{} instead of 10 * {}", times, weight);
            }
        }

        #[test]
        fn turns_are_computed_as_if_they_were_taken(
            weights in prop::collection::vec(1u32..9, 1..5),
            count in 0usize..300,
        ) {
            let floats: Vec<_> = weights.iter().map(|weight| f64::from(*weight)).collect();
            let computed = turns(&mut Edf::new(&floats, count as u64), &floats, 100);
            let taken = turns(&mut Edf::new(&floats, 0), &floats, count + 100).split_off(count);
            // Those that are due together may come in another order, at the beginning and at the end of what is compared.
            for (member, _) in weights.iter().enumerate() {
                let before = |turns: &[usize], end: usize| turns[..end].iter().filter(|turn| **turn == member).count();
                for end in 0..100 {
                    prop_assert!(before(&computed, end).abs_diff(before(&taken, end)) <= 2);
                }
            }
        }
    }
}
