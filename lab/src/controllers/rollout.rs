//! How many pods the ReplicaSets of a Deployment shall have next: pure arithmetic, after
//! [the documentation of rolling updates](https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#rolling-update-deployment).

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// A ReplicaSet as the arithmetic sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    /// How many pods it asks for.
    pub(super) wanted: i32,
    /// How many of its pods exist.
    pub(super) existing: i32,
    /// How many of its pods are available.
    pub(super) available: i32,
}

/// How a Deployment replaces pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strategy {
    /// First all old pods go, then the new ones come.
    Recreate,
    /// Never more than `surge` pods above, never more than `unavailable` below what is asked for.
    Rolling { surge: i32, unavailable: i32 },
}

impl Strategy {
    /// A rolling update with limits as the API writes them: a number or a percentage, rounded up for the surge and down
    /// for what may be missing. If both came to nothing it could never move.
    pub(super) fn rolling(replicas: i32, surge: Option<&IntOrString>, unavailable: Option<&IntOrString>) -> Self {
        let surge = limit(replicas, surge, 99);
        let unavailable = limit(replicas, unavailable, 0).min(replicas);
        Self::Rolling { surge, unavailable: if surge == 0 && unavailable == 0 { 1 } else { unavailable } }
    }
}

fn limit(replicas: i32, limit: Option<&IntOrString>, rounding: i32) -> i32 {
    let quarter = IntOrString::String("25%".into());
    match limit.unwrap_or(&quarter) {
        IntOrString::Int(number) => (*number).max(0),
        IntOrString::String(text) => {
            let percent: i32 = text.strip_suffix('%').and_then(|number| number.parse().ok()).unwrap_or(25);
            replicas.saturating_mul(percent.max(0)).saturating_add(rounding) / 100
        }
    }
}

/// The sizes to ask for next: of the ReplicaSet with the current template, and of each older one.
pub(super) fn next(replicas: i32, strategy: Strategy, new: Size, old: &[Size]) -> (i32, Vec<i32>) {
    let (surge, unavailable) = match strategy {
        Strategy::Recreate => {
            let is_clear = old.iter().all(|old| old.existing == 0 && old.wanted == 0);
            return (if is_clear { replicas } else { new.wanted.min(replicas) }, vec![0; old.len()]);
        }
        Strategy::Rolling { surge, unavailable } => (surge, unavailable),
    };
    let total: i32 = new.wanted + old.iter().map(|old| old.wanted).sum::<i32>();
    let room = (replicas + surge - total).max(0);
    let grown = if new.wanted < replicas { replicas.min(new.wanted + room) } else { replicas };

    // Old pods may go as long as enough are available; those that are not available do not count and go first.
    let least = replicas - unavailable;
    let missing_new = (new.wanted - new.available).max(0);
    let mut may_go = (total - least - missing_new).max(0);
    let mut sizes: Vec<_> = old.iter().map(|old| old.wanted).collect();
    for (size, old) in sizes.iter_mut().zip(old) {
        let broken = (old.wanted - old.available).clamp(0, may_go);
        *size -= broken;
        may_go -= broken;
    }
    let available: i32 = new.available + old.iter().map(|old| old.available).sum::<i32>();
    let mut may_go = (available - least).clamp(0, may_go);
    for size in &mut sizes {
        let going = may_go.min(*size);
        *size -= going;
        may_go -= going;
    }
    (grown, sizes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUARTER: Strategy = Strategy::Rolling { surge: 1, unavailable: 1 };

    fn size(wanted: i32, available: i32) -> Size {
        Size { wanted, existing: wanted, available }
    }

    #[test]
    fn limits_round_towards_progress_and_safety() {
        let percent = |text: &str| IntOrString::String(text.into());
        assert_eq!(Strategy::rolling(4, None, None), Strategy::Rolling { surge: 1, unavailable: 1 });
        assert_eq!(Strategy::rolling(1, None, None), Strategy::Rolling { surge: 1, unavailable: 0 });
        let nothing = Strategy::rolling(3, Some(&IntOrString::Int(0)), Some(&percent("10%")));
        assert_eq!(nothing, Strategy::Rolling { surge: 0, unavailable: 1 });
    }

    #[test]
    fn a_new_deployment_is_filled_at_once() {
        assert_eq!(next(4, QUARTER, size(0, 0), &[]), (4, vec![]));
    }

    #[test]
    fn recreate_waits_until_the_old_pods_are_gone() {
        let ending = Size { wanted: 0, existing: 1, available: 0 };
        assert_eq!(next(2, Strategy::Recreate, size(0, 0), &[size(2, 2)]), (0, vec![0]));
        assert_eq!(next(2, Strategy::Recreate, size(0, 0), &[ending]), (0, vec![0]));
        assert_eq!(next(2, Strategy::Recreate, size(0, 0), &[size(0, 0)]), (2, vec![0]));
    }

    #[test]
    fn old_pods_that_never_came_up_do_not_hold_up_their_successors() {
        assert_eq!(next(1, Strategy::Rolling { surge: 1, unavailable: 0 }, size(1, 0), &[size(1, 0)]), (1, vec![1]));
        assert_eq!(next(4, QUARTER, size(1, 1), &[size(4, 0)]), (1, vec![2]));
    }

    /// Plays a rollout to its end, all pods becoming available one step after they were asked for.
    #[test]
    fn a_rollout_ends_and_keeps_its_limits_throughout() {
        for replicas in 0..12 {
            for (surge, unavailable) in [(1, 0), (0, 1), (1, 1), (3, 2), (25, 25)] {
                let strategy = Strategy::Rolling { surge, unavailable: unavailable.min(replicas.max(1)) };
                let (mut new, mut old) = (size(0, 0), [size(replicas, replicas)]);
                for _ in 0..100 {
                    let (grown, sizes) = next(replicas, strategy, new, &old);
                    let available = new.available.min(grown) + old[0].available.min(sizes[0]);
                    assert!(grown + sizes[0] <= replicas + surge, "{replicas} {strategy:?}");
                    assert!(available >= replicas - unavailable, "{replicas} {strategy:?}");
                    (new, old) = (size(grown, grown), [size(sizes[0], sizes[0])]);
                }
                assert_eq!((new.wanted, old[0].wanted), (replicas, 0), "{strategy:?}");
            }
        }
    }
}
