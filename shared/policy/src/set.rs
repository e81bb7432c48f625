//! All policies at one moment, found by the workload that they apply to.

use std::collections::BTreeMap;
use std::sync::Arc;

use types::NamespacedName;

use crate::matching::Subject;
use crate::{Action, Authorization, Connection, Decision, Denial, DryRun, Evaluation, Scope, Unreadable};

/// How many removed keys are remembered before the older half is forgotten.
///
/// A key must be remembered for as long as a workload may still name it, which is the moment until that workload's
/// own update arrives; the bound keeps years of churn from growing the set.
/// Forgetting one too early denies, which is the safe side.
const MAX_REMOVED: usize = 65_536;

/// An immutable snapshot of policies.
///
/// An update makes a new snapshot with [`PolicySet::with`]; both share the policies and the namespaces that are not
/// touched, so the cost is that of the namespaces that change.
#[derive(Debug, Clone, Default)]
pub struct PolicySet {
    namespaces: BTreeMap<Arc<str>, Arc<Namespace>>,
    /// Those of scope [`Scope::Global`].
    global: Implied,
    len: usize,
    /// How many slots are [`Slot::Removed`].
    removed: usize,
    /// How many removals there ever were: the age of the next.
    removals: u64,
}

/// The policies whose key is in one namespace.
#[derive(Debug, Clone, Default)]
struct Namespace {
    slots: BTreeMap<Arc<str>, Slot>,
    /// Those of scope [`Scope::Namespace`].
    scoped: Implied,
}

/// What applies to a workload that does not name it.
#[derive(Debug, Clone, Default)]
struct Implied {
    /// Sorted by key.
    policies: Vec<Arc<Authorization>>,
    unreadable: BTreeMap<NamespacedName, Action>,
}

#[derive(Debug, Clone)]
enum Slot {
    Present(Arc<Authorization>),
    /// Arrived in a form that could not be read beyond this; what is not known is taken for the worst.
    Unreadable(Scope, Action),
    /// Taken away by the control plane, at this age.
    Removed(u64),
}

impl PolicySet {
    /// A snapshot with policies added or replaced, and then keys removed.
    ///
    /// A removed key is remembered, also when it was never there:
    /// a workload that still names it is not denied for it, other than for a key that has not arrived.
    #[must_use]
    pub fn with(
        &self,
        upserts: impl IntoIterator<Item = Authorization>,
        removals: impl IntoIterator<Item = NamespacedName>,
    ) -> Self {
        let mut next = self.clone();
        for policy in upserts {
            next.insert(Arc::new(policy));
        }
        for key in removals {
            next.remove(key);
        }
        if next.removed > MAX_REMOVED {
            next.forget_older_removals();
        }
        next
    }

    /// A snapshot that knows of policies which could not be read.
    ///
    /// Where a good version of such a policy is in force, it stays.
    /// Where there is none, the policy counts as the strictest that it may be until it is readable or removed:
    /// a DENY policy, or one whose action is not known, denies all that it applies to;
    /// an ALLOW policy allows nobody, which leaves what other ALLOW policies allow.
    /// Without that, whatever it was going to deny would pass.
    #[must_use]
    pub fn with_unreadable(&self, policies: impl IntoIterator<Item = Unreadable>) -> Self {
        let mut next = self.clone();
        for Unreadable { key, scope, action } in policies {
            if next.policy(&key).is_none() {
                next.insert_unreadable(key, scope.unwrap_or(Scope::Namespace), action.unwrap_or(Action::Deny));
            }
        }
        next
    }

    /// The policy with this key.
    #[must_use]
    pub fn policy(&self, key: &NamespacedName) -> Option<&Arc<Authorization>> {
        match self.slot(key)? {
            Slot::Present(policy) => Some(policy),
            Slot::Unreadable(..) | Slot::Removed(_) => None,
        }
    }

    /// All policies, sorted by namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Authorization>> {
        let slots = self.namespaces.values().flat_map(|namespace| namespace.slots.values());
        slots.filter_map(|slot| match slot {
            Slot::Present(policy) => Some(policy),
            Slot::Unreadable(..) | Slot::Removed(_) => None,
        })
    }

    /// How many policies there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no policy.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Decides about a connection to a workload of `namespace` that names the policies `named`.
    ///
    /// Applicable are the policies of global scope, those of the namespace's scope, and those named.
    /// Then, in this order:
    /// 1. an enforced DENY policy that matches refuses;
    /// 2. a named key that was never received refuses, as it may be a DENY policy, and so does an applicable one that
    ///    could not be read;
    /// 3. without enforced ALLOW policies the connection is allowed;
    /// 4. an enforced ALLOW policy that matches allows;
    /// 5. else the connection is refused.
    #[must_use]
    pub fn evaluate(&self, namespace: &str, named: &[NamespacedName], connection: &Connection) -> Evaluation {
        let subject = Subject::new(connection);
        let mut tally = Tally::default();
        for implied in [Some(&self.global), self.scoped(namespace)].into_iter().flatten() {
            implied.policies.iter().for_each(|policy| tally.count(policy, &subject));
            implied.unreadable.iter().for_each(|(key, action)| tally.count_unreadable(key, *action));
        }
        for key in named {
            match self.slot(key) {
                Some(Slot::Present(policy)) if !policy.scope.implies(key, namespace) => tally.count(policy, &subject),
                Some(Slot::Unreadable(scope, action)) if !scope.implies(key, namespace) => {
                    tally.count_unreadable(key, *action);
                }
                Some(_) => {}
                None => tally.missing = tally.missing.or(Some(key)),
            }
        }
        tally.conclude()
    }

    fn slot(&self, key: &NamespacedName) -> Option<&Slot> {
        self.namespaces.get(&key.namespace)?.slots.get(&key.name)
    }

    fn scoped(&self, namespace: &str) -> Option<&Implied> {
        self.namespaces.get(namespace).map(|namespace| &namespace.scoped)
    }

    fn insert(&mut self, policy: Arc<Authorization>) {
        if self.policy(&policy.key).is_some_and(|present| *present == policy) {
            return;
        }
        self.take(&policy.key);
        let namespace = Arc::make_mut(self.namespaces.entry(Arc::clone(&policy.key.namespace)).or_default());
        match policy.scope {
            Scope::Global => insert_sorted(&mut self.global.policies, Arc::clone(&policy)),
            Scope::Namespace => insert_sorted(&mut namespace.scoped.policies, Arc::clone(&policy)),
            Scope::WorkloadSelector => {}
        }
        namespace.slots.insert(Arc::clone(&policy.key.name), Slot::Present(policy));
        self.len += 1;
    }

    fn insert_unreadable(&mut self, key: NamespacedName, scope: Scope, action: Action) {
        self.take(&key);
        let namespace = Arc::make_mut(self.namespaces.entry(Arc::clone(&key.namespace)).or_default());
        namespace.slots.insert(Arc::clone(&key.name), Slot::Unreadable(scope, action));
        let implied = match scope {
            Scope::Global => &mut self.global,
            Scope::Namespace => &mut namespace.scoped,
            Scope::WorkloadSelector => return,
        };
        implied.unreadable.insert(key, action);
    }

    fn remove(&mut self, key: NamespacedName) {
        self.take(&key);
        let namespace = Arc::make_mut(self.namespaces.entry(key.namespace).or_default());
        namespace.slots.insert(key.name, Slot::Removed(self.removals));
        self.removals += 1;
        self.removed += 1;
    }

    /// Empties a key's slot, so that `len` and `removed` count what is left.
    fn take(&mut self, key: &NamespacedName) {
        let Some(namespace) = self.namespaces.get_mut(&key.namespace) else { return };
        let namespace = Arc::make_mut(namespace);
        match namespace.slots.remove(&key.name) {
            Some(Slot::Present(policy)) => {
                self.len -= 1;
                match policy.scope {
                    Scope::Global => self.global.policies.retain(|other| other.key != *key),
                    Scope::Namespace => namespace.scoped.policies.retain(|other| other.key != *key),
                    Scope::WorkloadSelector => {}
                }
            }
            Some(Slot::Unreadable(..)) => {
                self.global.unreadable.remove(key);
                namespace.scoped.unreadable.remove(key);
            }
            Some(Slot::Removed(_)) => self.removed -= 1,
            None => {}
        }
    }

    /// Keeps the younger half; as it takes as many removals again to come back here, the cost per removal is constant.
    fn forget_older_removals(&mut self) {
        let mut ages: Vec<u64> = self.namespaces.values().flat_map(|namespace| namespace.removal_ages()).collect();
        ages.sort_unstable();
        let Some(&oldest_kept) = ages.get(ages.len() / 2) else { return };
        let mut removed = 0;
        self.namespaces.retain(|_name, namespace| {
            if namespace.removal_ages().any(|age| age < oldest_kept) {
                let is_kept = |slot: &mut Slot| !matches!(slot, Slot::Removed(age) if *age < oldest_kept);
                Arc::make_mut(namespace).slots.retain(|_name, slot| is_kept(slot));
            }
            removed += namespace.removal_ages().count();
            !namespace.slots.is_empty()
        });
        self.removed = removed;
    }
}

impl Namespace {
    fn removal_ages(&self) -> impl Iterator<Item = u64> {
        self.slots.values().filter_map(|slot| match slot {
            Slot::Removed(age) => Some(*age),
            Slot::Present(_) | Slot::Unreadable(..) => None,
        })
    }
}

impl Scope {
    /// Whether the policy with this key applies to workloads of the namespace without being named.
    fn implies(self, key: &NamespacedName, namespace: &str) -> bool {
        match self {
            Self::Global => true,
            Self::Namespace => &*key.namespace == namespace,
            Self::WorkloadSelector => false,
        }
    }
}

/// What the applicable policies said.
#[derive(Default)]
struct Tally<'a> {
    denied_by: Option<&'a NamespacedName>,
    missing: Option<&'a NamespacedName>,
    unreadable: Option<&'a NamespacedName>,
    /// The first ALLOW policy that applies, and how many there are.
    allow_policies: Option<(&'a NamespacedName, usize)>,
    allowed_by: Option<&'a NamespacedName>,
    /// Each dry-run policy, and whether it matches.
    dry_run: Vec<(&'a Authorization, bool)>,
}

impl<'a> Tally<'a> {
    /// A policy that cannot change the decision any more is not compared with the connection.
    fn count(&mut self, policy: &'a Authorization, subject: &Subject<'_>) {
        if policy.dry_run {
            self.dry_run.push((policy, policy.matches(subject)));
            return;
        }
        if policy.action == Action::Allow {
            self.allow_policies = Some(one_more(self.allow_policies, &policy.key));
        }
        let by = match policy.action {
            Action::Allow => &mut self.allowed_by,
            Action::Deny => &mut self.denied_by,
        };
        if by.is_none() && policy.matches(subject) {
            *by = Some(&policy.key);
        }
    }

    fn count_unreadable(&mut self, key: &'a NamespacedName, action: Action) {
        match action {
            Action::Allow => self.allow_policies = Some(one_more(self.allow_policies, key)),
            Action::Deny => self.unreadable = self.unreadable.or(Some(key)),
        }
    }

    fn conclude(&self) -> Evaluation {
        let dry_run = self.dry_run.iter().map(|&(policy, matches)| {
            let key = policy.key.clone();
            DryRun { key, decision: self.enforcing(policy, matches).decision() }
        });
        Evaluation { decision: self.decision(), dry_run: dry_run.collect() }
    }

    fn decision(&self) -> Decision {
        if let Some(key) = self.denied_by {
            return Decision::Deny(Denial::ExplicitlyDenied(key.clone()));
        }
        if let Some(key) = self.missing {
            return Decision::Deny(Denial::NotReceived(key.clone()));
        }
        if let Some(key) = self.unreadable {
            return Decision::Deny(Denial::Unreadable(key.clone()));
        }
        match (self.allowed_by, self.allow_policies) {
            (None, Some((first, count))) => {
                Decision::Deny(Denial::NoneAllowed { first: first.clone(), others: count.saturating_sub(1) })
            }
            (allowed_by, _) => Decision::Allow { by: allowed_by.cloned() },
        }
    }

    /// The same, had one of the dry-run policies been enforced.
    fn enforcing(&self, policy: &'a Authorization, matches: bool) -> Self {
        let by = matches.then_some(&policy.key);
        let (denied_by, allowed_by) = match policy.action {
            Action::Deny => (self.denied_by.or(by), self.allowed_by),
            Action::Allow => (self.denied_by, self.allowed_by.or(by)),
        };
        Tally {
            denied_by,
            missing: self.missing,
            unreadable: self.unreadable,
            allow_policies: match policy.action {
                Action::Allow => Some(one_more(self.allow_policies, &policy.key)),
                Action::Deny => self.allow_policies,
            },
            allowed_by,
            dry_run: Vec::new(),
        }
    }
}

/// The ALLOW policies that apply, with another one.
fn one_more<'a>(counted: Option<(&'a NamespacedName, usize)>, key: &'a NamespacedName) -> (&'a NamespacedName, usize) {
    counted.map_or((key, 1), |(first, count)| (first, count + 1))
}

fn insert_sorted(policies: &mut Vec<Arc<Authorization>>, policy: Arc<Authorization>) {
    let index = policies.partition_point(|other| other.key < policy.key);
    policies.insert(index, policy);
}

#[cfg(test)]
mod tests;
