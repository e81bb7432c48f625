//! Endpoints of which one is chosen.

use rand::Rng;

use super::edf::Edf;
use super::{BalancePolicy, Endpoint, Wanted};

/// Endpoints that are chosen from, and whose turn it is.
#[derive(Debug, Clone)]
pub(super) struct Group {
    members: Vec<usize>,
    /// The order of turns where weights differ; the members are numbers of `members`.
    turns: Option<Edf>,
    /// How many turns there were where weights do not differ.
    next: u64,
}

/// What a choice depends on.
pub(super) struct Choice<'a> {
    pub(super) policy: &'a BalancePolicy,
    pub(super) endpoints: &'a [Endpoint],
    pub(super) wanted: &'a Wanted<'a>,
    /// The random number that chose the priority.
    pub(super) number: u64,
}

impl Group {
    /// Endpoints by their numbers; with weights they take turns by these.
    pub(super) fn new(members: Vec<usize>, weights: Option<&[f64]>, seed: u64) -> Self {
        let turns = weights.filter(|_| members.len() > 1).map(|weights| Edf::new(weights, seed));
        Self { members, turns, next: seed }
    }

    pub(super) fn choose(&mut self, choice: &Choice<'_>, random: &mut impl Rng) -> Option<usize> {
        if let Some(turns) = &mut self.turns {
            let members = &self.members;
            let turn = turns.take(|member| {
                let endpoint = members.get(member).and_then(|number| choice.endpoints.get(*number));
                endpoint.map_or(1.0, |endpoint| choice.policy.weight(endpoint, choice.wanted))
            });
            return self.members.get(turn?).copied();
        }
        match choice.policy {
            BalancePolicy::LeastRequest { choices, .. } => {
                let candidates = (0..*choices).filter_map(|_| self.at(random.next_u64()));
                candidates.min_by_key(|number| {
                    choice.endpoints.get(*number).map_or(0, |endpoint| (choice.wanted.active)(&endpoint.key))
                })
            }
            BalancePolicy::Random => self.at(choice.number),
            _ => {
                self.next = self.next.wrapping_add(1);
                self.at(self.next)
            }
        }
    }

    /// The endpoint that a number falls on.
    fn at(&self, number: u64) -> Option<usize> {
        let place = number.checked_rem(self.members.len() as u64)?;
        self.members.get(usize::try_from(place).ok()?).copied()
    }
}
