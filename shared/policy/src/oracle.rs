//! The evaluation compared with a naive oracle, over a hundred thousand random cases.
//!
//! The oracle reads like the specification and shares no code with what it judges:
//! `oracle::verdict` goes through its sentences, on texts where the crate has types.
//! `oracle::cases` makes the cases.

mod cases;
mod verdict;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::{Action, Decision, Denial, Scope};
use cases::Case;
use verdict::Verdict;

const CASES: usize = 110_000;
const THREADS: usize = 4;
/// Takes one field out of a case.
type Without = fn(&mut Case);

/// What may decide: each list of a match, and each field of a policy and of a case. Taken away in turn.
const FIELDS: [(&str, Without); 20] = [
    ("namespaces", |case| case.each_match(|one| one.namespaces.clear())),
    ("not_namespaces", |case| case.each_match(|one| one.not_namespaces.clear())),
    ("principals", |case| case.each_match(|one| one.principals.clear())),
    ("not_principals", |case| case.each_match(|one| one.not_principals.clear())),
    ("source_ips", |case| case.each_match(|one| one.source_ips.clear())),
    ("not_source_ips", |case| case.each_match(|one| one.not_source_ips.clear())),
    ("destination_ips", |case| case.each_match(|one| one.destination_ips.clear())),
    ("not_destination_ips", |case| case.each_match(|one| one.not_destination_ips.clear())),
    ("destination_ports", |case| case.each_match(|one| one.destination_ports.clear())),
    ("not_destination_ports", |case| case.each_match(|one| one.not_destination_ports.clear())),
    ("service_accounts", |case| case.each_match(|one| one.service_accounts.clear())),
    ("not_service_accounts", |case| case.each_match(|one| one.not_service_accounts.clear())),
    ("rules", |case| case.policies.iter_mut().for_each(|policy| policy.rules.clear())),
    ("action", |case| case.policies.iter_mut().for_each(|policy| policy.action = opposite(policy.action))),
    ("scope", |case| case.policies.iter_mut().for_each(|policy| policy.scope = Scope::WorkloadSelector)),
    ("dry_run", |case| case.policies.iter_mut().for_each(|policy| policy.dry_run = false)),
    ("named", |case| case.named.clear()),
    ("removed", |case| case.removed.clear()),
    ("unreadable", |case| case.unreadable.clear()),
    ("identity", |case| case.connection.identity = None),
];

/// How often each field must have made the difference.
const DECISIVE: usize = 1_000;

#[derive(Default)]
struct Counts {
    verdicts: BTreeMap<Verdict, usize>,
    /// How often each of [`FIELDS`] made the difference.
    decisive: [usize; FIELDS.len()],
}

#[test]
fn every_decision_is_that_of_the_oracle() {
    let differs = &AtomicBool::new(false);
    let counts = thread::scope(|scope| {
        let threads: [_; THREADS] = std::array::from_fn(|first| scope.spawn(move || compare(first, differs)));
        threads.into_iter().map(|thread| thread.join().unwrap()).reduce(Counts::add).unwrap()
    });
    let verdicts = &counts.verdicts;
    let decisive: Vec<_> = FIELDS.iter().map(|(name, _)| *name).zip(counts.decisive).collect();
    println!("{CASES} cases: {verdicts:?}, decisive: {decisive:?}");
    for verdict in [Verdict::Allowed, Verdict::Denied, Verdict::NoneAllowed] {
        assert!(verdicts[&verdict] * 4 >= CASES, "{verdict:?} is less than a quarter of the cases: {verdicts:?}");
    }
    assert!(verdicts[&Verdict::NotReceived] * 20 >= CASES, "{verdicts:?}");
    assert!(verdicts[&Verdict::Unreadable] * 200 >= CASES, "{verdicts:?}");
    let idle: Vec<_> = decisive.iter().filter(|(_, count)| *count < DECISIVE).collect();
    assert!(idle.is_empty(), "decisive in fewer than {DECISIVE} cases: {idle:?}");
}

/// Ends early once any thread has found a difference.
fn compare(first: usize, differs: &AtomicBool) -> Counts {
    let mut counts = Counts::default();
    for seed in (first..CASES).step_by(THREADS) {
        if differs.load(Ordering::Relaxed) {
            break;
        }
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
        differs.fetch_or(found != expected, Ordering::Relaxed);
        assert_eq!(found, expected, "seed {seed}: {case:#?}");
        assert_named_policy_is_to_blame(&case, &decision);
        *counts.verdicts.entry(found).or_insert(0) += 1;
        // Half of the cases are enough to see that each field matters, and this is the slow part.
        let probed = counts.decisive.iter_mut().zip(FIELDS).filter(|_| (seed / THREADS).is_multiple_of(2));
        for (count, (_, take_away)) in probed {
            let mut without = case.clone();
            take_away(&mut without);
            *count += usize::from(verdict::verdict(&without) != expected);
        }
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

fn opposite(action: Action) -> Action {
    match action {
        Action::Allow => Action::Deny,
        Action::Deny => Action::Allow,
    }
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
