//! The evaluation compared with a naive oracle, over a hundred thousand random cases.
//!
//! The oracle reads like the specification and shares no code with what it judges:
//! `oracle::verdict` goes through its sentences, on texts where the crate has types.
//! `oracle::cases` makes the cases.

mod cases;
mod verdict;

use std::collections::BTreeMap;
use std::thread;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::{Decision, Denial, Match};
use cases::Case;
use verdict::Verdict;

const CASES: usize = 110_000;
const THREADS: usize = 4;
/// Each list of a match, to be emptied in turn.
const LISTS: [fn(&mut Match); 12] = [
    |one| one.namespaces.clear(),
    |one| one.not_namespaces.clear(),
    |one| one.principals.clear(),
    |one| one.not_principals.clear(),
    |one| one.source_ips.clear(),
    |one| one.not_source_ips.clear(),
    |one| one.destination_ips.clear(),
    |one| one.not_destination_ips.clear(),
    |one| one.destination_ports.clear(),
    |one| one.not_destination_ports.clear(),
    |one| one.service_accounts.clear(),
    |one| one.not_service_accounts.clear(),
];

#[derive(Default)]
struct Counts {
    verdicts: BTreeMap<Verdict, usize>,
    /// How often each list of [`LISTS`] made the difference.
    decisive: [usize; LISTS.len()],
}

#[test]
fn every_decision_is_that_of_the_oracle() {
    let counts = thread::scope(|scope| {
        let threads: [_; THREADS] = std::array::from_fn(|first| scope.spawn(move || compare(first)));
        threads.into_iter().map(|thread| thread.join().unwrap()).reduce(Counts::add).unwrap()
    });
    let (verdicts, decisive) = (&counts.verdicts, &counts.decisive);
    println!("{CASES} cases: {verdicts:?}, each list decisive: {decisive:?}");
    for verdict in [Verdict::Allowed, Verdict::Denied, Verdict::NoneAllowed] {
        assert!(verdicts[&verdict] * 4 >= CASES, "{verdict:?} is less than a quarter of the cases: {verdicts:?}");
    }
    assert!(verdicts[&Verdict::NotReceived] * 20 >= CASES, "{verdicts:?}");
    assert!(verdicts[&Verdict::Unreadable] * 200 >= CASES, "{verdicts:?}");
    assert!(decisive.iter().all(|count| *count >= 50), "a list hardly ever makes a difference: {decisive:?}");
}

fn compare(first: usize) -> Counts {
    let mut counts = Counts::default();
    for seed in (first..CASES).step_by(THREADS) {
        let case = Case::random(&mut SmallRng::seed_from_u64(seed as u64));
        let expected = verdict::verdict(&case);
        let decision = case.set().evaluate(&case.namespace, &case.named, &case.connection).decision;
        let found = match &decision {
            Decision::Allow { .. } => Verdict::Allowed,
            Decision::Deny(Denial::ExplicitlyDenied(_)) => Verdict::Denied,
            Decision::Deny(Denial::NoneAllowed { .. }) => Verdict::NoneAllowed,
            Decision::Deny(Denial::NotReceived(_)) => Verdict::NotReceived,
            Decision::Deny(Denial::Unreadable(_)) => Verdict::Unreadable,
        };
        assert_eq!(found, expected, "seed {seed}: {case:#?}");
        assert_named_policy_is_to_blame(&case, &decision);
        *counts.verdicts.entry(found).or_insert(0) += 1;
        // One list per case is enough to see that each of them matters.
        let list = seed % LISTS.len();
        counts.decisive[list] += usize::from(verdict::verdict(&without(LISTS[list], case)) != expected);
    }
    counts
}

/// With the policy that the decision names alone, the oracle must say the same.
fn assert_named_policy_is_to_blame(case: &Case, decision: &Decision) {
    let (key, expected) = match decision {
        Decision::Allow { by: Some(key) } => (key, Verdict::Allowed),
        Decision::Deny(Denial::ExplicitlyDenied(key)) => (key, Verdict::Denied),
        _ => return,
    };
    let mut alone = case.clone();
    alone.policies.retain(|policy| policy.key == *key && !policy.dry_run);
    alone.named.retain(|named| named == key);
    assert_eq!(alone.policies.len(), 1, "{key}: {case:#?}");
    assert_eq!(verdict::verdict(&alone), expected, "{key}: {case:#?}");
}

fn without(clear: fn(&mut Match), mut case: Case) -> Case {
    let rules = case.policies.iter_mut().flat_map(|policy| &mut policy.rules);
    rules.flat_map(|rule| &mut rule.clauses).flat_map(|clause| &mut clause.matches).for_each(clear);
    case
}

impl Counts {
    fn add(mut self, other: Self) -> Self {
        for (verdict, count) in other.verdicts {
            *self.verdicts.entry(verdict).or_insert(0) += count;
        }
        self.decisive.iter_mut().zip(other.decisive).for_each(|(sum, count)| *sum += count);
        self
    }
}
