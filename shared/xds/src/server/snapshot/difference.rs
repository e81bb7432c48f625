//! What differs between two states of a type, found out once for all clients that come from the one to the other.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{Entry, Resources};

/// Names, sorted.
type Names = Arc<[Arc<str>]>;

/// The difference to the state that was asked for last, which is the one before for nearly every client.
///
/// It is no part of what the resources are: clones begin without, and all are equal.
#[derive(Debug, Default)]
pub(super) struct Differences(Mutex<Option<(Weak<Resources>, Names)>>);

impl Differences {
    /// Others who ask meanwhile wait for the answer, which takes milliseconds for 100,000 resources.
    pub(super) fn to(&self, before: &Arc<Resources>, find: impl FnOnce() -> Vec<Arc<str>>) -> Names {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = Arc::downgrade(before);
        if let Some((to, names)) = &*last
            && Weak::ptr_eq(to, &before)
        {
            return Arc::clone(names);
        }
        let names = Names::from(find());
        *last = Some((before, Arc::clone(&names)));
        names
    }
}

impl Clone for Differences {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Differences {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for Differences {}

/// Walks through both in step.
pub(super) fn between(
    before: &BTreeMap<Arc<str>, Arc<Entry>>,
    after: &BTreeMap<Arc<str>, Arc<Entry>>,
) -> Vec<Arc<str>> {
    let (mut before, mut after) = (before.iter().peekable(), after.iter().peekable());
    let mut names = Vec::new();
    loop {
        let order = match (before.peek(), after.peek()) {
            (Some((left, _)), Some((right, _))) if Arc::ptr_eq(left, right) => Ordering::Equal,
            (Some((left, _)), Some((right, _))) => left.cmp(right),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return names,
        };
        let old = if order.is_le() { before.next() } else { None };
        let new = if order.is_ge() { after.next() } else { None };
        match (old, new) {
            (Some((_, old)), Some((_, new))) if Arc::ptr_eq(old, new) => {}
            (old, new) => names.extend(new.or(old).map(|(name, _)| Arc::clone(name))),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(content: u8) -> Arc<Entry> {
        let resource = prost_types::Any { value: vec![content], ..Default::default() };
        Arc::new(Entry { version: Arc::from(""), resource, aliases: Vec::new(), node: None })
    }

    proptest! {
        #[test]
        fn every_name_with_another_entry_is_told(
            names in prop::collection::btree_map("[a-e]{1,2}", (0..4_u8, any::<bool>()), 0..12)
        ) {
            let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
            let mut changed = Vec::new();
            for (name, (fate, shares_name)) in names {
                let (name, old) = (Arc::<str>::from(name), entry(0));
                let same = if shares_name { Arc::clone(&name) } else { Arc::from(&*name) };
                if fate > 0 {
                    before.insert(Arc::clone(&name), Arc::clone(&old));
                }
                match fate {
                    0 => drop(after.insert(same, entry(1))),
                    1 => drop(after.insert(same, old)),
                    2 => drop(after.insert(same, entry(2))),
                    _ => {}
                }
                if fate != 1 {
                    changed.push(name);
                }
            }
            prop_assert_eq!(between(&before, &after), changed);
        }
    }

    #[test]
    fn a_difference_is_found_out_once() {
        let before: Arc<Resources> = Arc::new([("a", entry(1)), ("b", entry(1))].into_iter().collect());
        let after: Resources = [("b", entry(2)), ("c", entry(2))].into_iter().collect();
        let first = after.changed_since(&before);
        assert_eq!(first.iter().map(|name| &**name).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert!(Arc::ptr_eq(&first, &after.changed_since(&before)));
        assert_eq!(after.changed_since(&Arc::default()).len(), 2);
    }
}
