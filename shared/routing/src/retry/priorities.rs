//! Priorities that retries avoid.

use std::num::NonZeroU32;

use crate::Loads;

/// The priorities that a request was sent to, and the loads of the others.
#[derive(Debug, Clone, Default)]
pub(super) struct PreviousPriorities {
    tried: Vec<usize>,
    excluded: Vec<usize>,
    adjusted: Option<Loads>,
}

impl PreviousPriorities {
    pub(super) fn add(&mut self, priority: usize) {
        self.tried.push(priority);
    }

    /// The loads for the next try; `None` for those that are configured.
    ///
    /// They change when the number of tries is a multiple of `every`; in between, and before, they are what they were.
    pub(super) fn loads(&mut self, configured: &Loads, every: NonZeroU32) -> Option<Loads> {
        let tries = u32::try_from(self.tried.len()).unwrap_or(u32::MAX);
        if tries < every.get() {
            return None;
        }
        if !tries.is_multiple_of(every.get()) {
            return self.adjusted.clone();
        }
        self.excluded.extend(&self.tried);
        self.adjusted = configured.without(&self.excluded).or_else(|| {
            // Nothing is left that was not tried, so it all begins again.
            self.excluded.clear();
            self.tried.clear();
            configured.without(&[])
        });
        self.adjusted.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Endpoint, Endpoints, Health, Locality, Priority};

    fn loads(healths: &[Health]) -> Loads {
        let priorities = healths.iter().map(|health| {
            let endpoint = Endpoint { health: *health, ..Endpoint::new("10.0.0.1:80") };
            Priority { localities: vec![Locality { endpoints: vec![endpoint], ..Locality::default() }] }
        });
        Loads::new(&Endpoints { priorities: priorities.collect(), ..Endpoints::default() }, 50)
    }

    fn every(count: u32) -> NonZeroU32 {
        NonZeroU32::new(count).unwrap()
    }

    #[test]
    fn priorities_that_were_tried_are_avoided_until_none_is_left() {
        let all = loads(&[Health::Healthy; 3]);
        let mut previous = PreviousPriorities::default();
        assert_eq!(previous.loads(&all, every(1)), None);
        previous.add(0);
        assert_eq!(previous.loads(&all, every(1)).unwrap().healthy(), [0, 100, 0]);
        previous.add(1);
        assert_eq!(previous.loads(&all, every(1)).unwrap().healthy(), [0, 0, 100]);
        previous.add(2);
        assert_eq!(previous.loads(&all, every(1)).unwrap().healthy(), [100, 0, 0]);
    }

    #[test]
    fn loads_change_each_time_after_some_tries() {
        let all = loads(&[Health::Healthy; 3]);
        let mut previous = PreviousPriorities::default();
        previous.add(0);
        assert_eq!(previous.loads(&all, every(2)), None);
        previous.add(0);
        assert_eq!(previous.loads(&all, every(2)).unwrap().healthy(), [0, 100, 0]);
        previous.add(1);
        assert_eq!(previous.loads(&all, every(2)).unwrap().healthy(), [0, 100, 0]);
    }

    #[test]
    fn the_configured_loads_stay_where_nothing_is_available() {
        let mut previous = PreviousPriorities::default();
        previous.add(0);
        assert_eq!(previous.loads(&loads(&[Health::Unhealthy; 2]), every(1)), None);
    }
}
