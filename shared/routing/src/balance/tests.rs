//! Tests of the choice of endpoints.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::num::NonZeroU32;

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;

fn endpoint(key: &str, weight: u32) -> Endpoint {
    Endpoint { weight: NonZeroU32::new(weight).unwrap(), ..Endpoint::new(key) }
}

fn locality(weight: u32, endpoints: Vec<Endpoint>) -> Locality {
    Locality { weight, endpoints, ..Locality::default() }
}

/// Priorities of one locality each.
fn priorities(priorities: Vec<Vec<Endpoint>>) -> Endpoints {
    let priority = |endpoints| Priority { localities: vec![locality(1, endpoints)] };
    Endpoints { priorities: priorities.into_iter().map(priority).collect(), ..Endpoints::default() }
}

fn with(policy: BalancePolicy) -> Balancing {
    Balancing { policy, panic_threshold: 0, weighs_localities: false }
}

const ROUND_ROBIN: BalancePolicy = BalancePolicy::RoundRobin { slow_start: None };
const LEAST_REQUEST: BalancePolicy = BalancePolicy::LeastRequest { choices: 2, active_bias: 1.0, slow_start: None };

fn every_policy() -> [BalancePolicy; 5] {
    let ring = BalancePolicy::RingHash(RingSizes::new(None, None).unwrap());
    [ROUND_ROBIN, LEAST_REQUEST, BalancePolicy::Random, ring, BalancePolicy::Maglev(TableSize::new(251).unwrap())]
}

fn anything() -> Wanted<'static> {
    Wanted {
        hash: None,
        now: Duration::from_secs(1000),
        is_excluded: &|_| false,
        attempts: 0,
        active: &|_| 0,
        loads: None,
    }
}

/// How often each endpoint is chosen.
fn count(balancing: &Balancing, endpoints: &Endpoints, wanted: &Wanted<'_>, times: usize) -> BTreeMap<String, usize> {
    let mut random = SmallRng::seed_from_u64(7);
    let mut balancer = Balancer::new(balancing, endpoints, wanted.now, &mut random);
    let mut counts = BTreeMap::new();
    for _ in 0..times {
        let key = balancer.choose(wanted, &mut random).map_or("none", |chosen| &chosen.endpoint.key);
        *counts.entry(key.to_owned()).or_default() += 1;
    }
    counts
}

fn counts(pairs: &[(&str, usize)]) -> BTreeMap<String, usize> {
    pairs.iter().map(|(key, count)| ((*key).to_owned(), *count)).collect()
}

fn is_about(count: Option<&usize>, expected: usize) -> bool {
    count.is_some_and(|count| count.abs_diff(expected) * 10 <= expected)
}

#[test]
fn endpoints_take_turns() {
    let same = priorities(vec![vec![endpoint("a", 5), endpoint("b", 5), endpoint("c", 5)]]);
    assert_eq!(count(&with(ROUND_ROBIN), &same, &anything(), 30), counts(&[("a", 10), ("b", 10), ("c", 10)]));
    let weighted = priorities(vec![vec![endpoint("a", 1), endpoint("b", 2), endpoint("c", 3)]]);
    assert_eq!(count(&with(ROUND_ROBIN), &weighted, &anything(), 60), counts(&[("a", 10), ("b", 20), ("c", 30)]));
}

#[test]
fn a_random_choice_knows_no_weights() {
    let weighted = priorities(vec![vec![endpoint("a", 1), endpoint("b", 99)]]);
    let chosen = count(&with(BalancePolicy::Random), &weighted, &anything(), 10_000);
    assert!(is_about(chosen.get("a"), 5000), "{chosen:?}");
}

#[test]
fn that_with_fewer_requests_of_two_is_chosen() {
    let endpoints = priorities(vec![vec![endpoint("a", 1), endpoint("b", 1), endpoint("c", 1)]]);
    let busy = Wanted { active: &|key| u64::from(key == "a") * 5, ..anything() };
    let chosen = count(&with(LEAST_REQUEST), &endpoints, &busy, 9000);
    // Only where it is drawn twice is the busy one chosen.
    assert!(is_about(chosen.get("a"), 1000) && is_about(chosen.get("b"), 4000), "{chosen:?}");
}

#[test]
fn requests_count_against_weights_where_these_differ() {
    let endpoints = priorities(vec![vec![endpoint("a", 1), endpoint("b", 2)]]);
    let idle = count(&with(LEAST_REQUEST), &endpoints, &anything(), 300);
    assert_eq!(idle, counts(&[("a", 100), ("b", 200)]));
    let busy = Wanted { active: &|key| u64::from(key == "b") * 3, ..anything() };
    let chosen = count(&with(LEAST_REQUEST), &endpoints, &busy, 300);
    assert!(is_about(chosen.get("a"), 200) && is_about(chosen.get("b"), 100), "{chosen:?}");
}

#[test]
fn a_young_endpoint_is_spared() {
    let slow_start = SlowStart { window: Duration::from_secs(100), aggression: 1.0, min_weight_percent: 10.0 };
    let young = Endpoint { healthy_since: Some(Duration::from_secs(950)), ..endpoint("a", 1) };
    let endpoints = priorities(vec![vec![young, endpoint("b", 1)]]);
    for slow_start in [None, Some(slow_start)] {
        let round_robin = BalancePolicy::RoundRobin { slow_start };
        let chosen = count(&with(round_robin), &endpoints, &anything(), 300);
        assert_eq!(chosen["a"], if slow_start.is_some() { 100 } else { 150 });
    }
    let old = Wanted { now: Duration::from_secs(1050), ..anything() };
    assert_eq!(
        count(&with(BalancePolicy::RoundRobin { slow_start: Some(slow_start) }), &endpoints, &old, 300)["a"],
        150
    );
}

#[test]
fn localities_have_shares_where_that_is_wanted() {
    let near = vec![endpoint("a", 1), endpoint("b", 1)];
    let localities = vec![locality(3, near), locality(1, vec![endpoint("c", 1)]), locality(0, vec![endpoint("d", 1)])];
    let endpoints = Endpoints { priorities: vec![Priority { localities }], ..Endpoints::default() };
    for policy in [ROUND_ROBIN, LEAST_REQUEST, BalancePolicy::Random] {
        let weighed = Balancing { weighs_localities: true, ..with(policy.clone()) };
        let chosen = count(&weighed, &endpoints, &anything(), 4000);
        assert_eq!((chosen["c"], chosen.get("d")), (1000, None));
        assert!(is_about(chosen.get("a"), 1500), "{chosen:?}");
        let plain = count(&with(policy), &endpoints, &anything(), 4000);
        assert!(is_about(plain.get("d"), 1000), "{plain:?}");
    }
    let hashing = Balancing { weighs_localities: true, ..with(BalancePolicy::Maglev(TableSize::default())) };
    let chosen = count(&hashing, &endpoints, &anything(), 8000);
    assert!(is_about(chosen.get("a"), 3000) && is_about(chosen.get("c"), 2000), "{chosen:?}");
    assert_eq!(chosen.get("d"), None);
}

#[test]
fn localities_of_a_ring_are_in_the_order_of_their_names() {
    let policy = BalancePolicy::RingHash(RingSizes::new(Some(2), Some(2)).unwrap());
    let weighed = Balancing { weighs_localities: true, ..with(policy) };
    let place = |zone: &str| Locality { zone: zone.into(), ..locality(1, vec![endpoint(zone, 1)]) };
    // There is room for two of the three.
    for zones in [["a", "b", "c"], ["c", "b", "a"], ["b", "c", "a"]] {
        let localities = zones.into_iter().map(place).collect();
        let endpoints = Endpoints { priorities: vec![Priority { localities }], ..Endpoints::default() };
        let chosen = count(&weighed, &endpoints, &anything(), 100);
        assert_eq!(chosen.keys().collect::<Vec<_>>(), ["a", "b"], "{zones:?}");
    }
}

#[test]
fn a_locality_that_is_half_down_has_less_than_its_share() {
    let down = Endpoint { health: Health::Unhealthy, ..endpoint("b", 1) };
    let localities = vec![locality(10, vec![endpoint("a", 1), down]), locality(7, vec![endpoint("c", 1)])];
    let endpoints = Endpoints { priorities: vec![Priority { localities }], ..Endpoints::default() };
    let weighed = Balancing { weighs_localities: true, ..with(ROUND_ROBIN) };
    let chosen = count(&weighed, &endpoints, &anything(), 1400);
    assert!(chosen["a"].abs_diff(700) <= 1 && chosen["a"] + chosen["c"] == 1400, "{chosen:?}");
}

#[test]
fn localities_without_any_share_are_as_if_there_were_none() {
    let localities = vec![locality(0, vec![endpoint("a", 1)]), locality(0, vec![endpoint("b", 1)])];
    let endpoints = Endpoints { priorities: vec![Priority { localities }], ..Endpoints::default() };
    let weighed = |policy| Balancing { weighs_localities: true, ..with(policy) };
    assert_eq!(count(&weighed(ROUND_ROBIN), &endpoints, &anything(), 10), counts(&[("a", 5), ("b", 5)]));
    // Consistent hashing has no such way out.
    let maglev = BalancePolicy::Maglev(TableSize::default());
    assert_eq!(count(&weighed(maglev), &endpoints, &anything(), 10), counts(&[("none", 10)]));
}

#[test]
fn worse_priorities_take_what_is_left() {
    let down = Endpoint { health: Health::Unhealthy, ..endpoint("down", 1) };
    let degraded = Endpoint { health: Health::Degraded, ..endpoint("degraded", 1) };
    let endpoints = priorities(vec![vec![endpoint("a", 1), down], vec![endpoint("b", 1)]]);
    for policy in every_policy() {
        let chosen = count(&with(policy), &endpoints, &anything(), 10_000);
        assert!(is_about(chosen.get("a"), 7000) && is_about(chosen.get("b"), 3000), "{chosen:?}");
    }
    let spilling = priorities(vec![vec![endpoint("a", 1), degraded.clone()]]);
    let chosen = count(&with(ROUND_ROBIN), &spilling, &anything(), 10_000);
    assert!(is_about(chosen.get("a"), 7000) && is_about(chosen.get("degraded"), 3000), "{chosen:?}");
    // In consistent hashing degraded ones have no place.
    let maglev = BalancePolicy::Maglev(TableSize::default());
    assert_eq!(count(&with(maglev), &priorities(vec![vec![degraded]]), &anything(), 10), counts(&[("none", 10)]));
}

#[test]
fn all_are_used_in_panic_only() {
    let down = |key| Endpoint { health: Health::Unhealthy, ..endpoint(key, 1) };
    let endpoints = priorities(vec![vec![endpoint("a", 1), down("b"), down("c"), down("d")]]);
    for policy in every_policy() {
        let never = count(&with(policy.clone()), &endpoints, &anything(), 100);
        assert_eq!(never, counts(&[("a", 100)]));
        let panicking = Balancing { panic_threshold: 50, ..with(policy) };
        assert_eq!(count(&panicking, &endpoints, &anything(), 4000).len(), 4);
    }
    let none = priorities(vec![vec![down("a")]]);
    assert_eq!(count(&with(ROUND_ROBIN), &none, &anything(), 3), counts(&[("none", 3)]));
    assert_eq!(count(&Balancing::default(), &none, &anything(), 3), counts(&[("a", 3)]));
    assert_eq!(count(&Balancing::default(), &Endpoints::default(), &anything(), 3), counts(&[("none", 3)]));
}

#[test]
fn retries_may_have_loads_of_their_own() {
    let endpoints = priorities(vec![vec![endpoint("a", 1)], vec![endpoint("b", 1)]]);
    let mut random = SmallRng::seed_from_u64(7);
    let mut balancer = Balancer::new(&with(ROUND_ROBIN), &endpoints, Duration::ZERO, &mut random);
    let others = balancer.loads().without(&[0]).unwrap();
    let chosen = balancer.choose(&Wanted { loads: Some(&others), ..anything() }, &mut random).unwrap();
    assert_eq!((&*chosen.endpoint.key, chosen.priority), ("b", 1));
    let chosen = balancer.choose(&anything(), &mut random).unwrap();
    assert_eq!((&*chosen.endpoint.key, chosen.priority), ("a", 0));
}

#[test]
fn another_one_is_chosen_as_often_as_is_allowed() {
    let endpoints = priorities(vec![vec![endpoint("a", 1), endpoint("b", 1), endpoint("c", 1)]]);
    for policy in every_policy() {
        let mut random = SmallRng::seed_from_u64(7);
        let mut balancer = Balancer::new(&with(policy), &endpoints, Duration::ZERO, &mut random);
        let asked = RefCell::new(0);
        let count = |_: &str| {
            *asked.borrow_mut() += 1;
            true
        };
        let chosen = balancer.choose(&Wanted { is_excluded: &count, attempts: 5, ..anything() }, &mut random);
        assert!(chosen.is_some());
        assert_eq!(*asked.borrow(), 6);
    }
}

/// What may be chosen: by priority and number, whether it is healthy, degraded or neither, and its weight.
fn healths() -> impl Strategy<Value = Vec<Vec<(Health, u32)>>> {
    let health = prop::sample::select(vec![Health::Healthy, Health::Degraded, Health::Unhealthy]);
    prop::collection::vec(prop::collection::vec((health, 1u32..5), 0..5), 1..4)
}

fn endpoints_of(healths: &[Vec<(Health, u32)>]) -> Endpoints {
    let numbered = healths.iter().enumerate().map(|(priority, healths)| {
        let endpoints = healths.iter().enumerate();
        endpoints
            .map(|(number, (health, weight))| Endpoint {
                health: *health,
                ..endpoint(&format!("{priority}.{number}"), *weight)
            })
            .collect()
    });
    priorities(numbered.collect())
}

proptest! {
    #[test]
    fn only_what_can_be_used_is_chosen(healths in healths(), policy in 0usize..5, hashes in any::<[u64; 20]>()) {
        let policy = every_policy()[policy].clone();
        let is_hashing = policy.is_hashing();
        let mut random = SmallRng::seed_from_u64(hashes[0]);
        let mut balancer = Balancer::new(&with(policy), &endpoints_of(&healths), Duration::ZERO, &mut random);
        let has = |health| healths.iter().flatten().any(|(own, _)| *own == health);
        for hash in hashes {
            let wanted = Wanted { hash: Some(hash), ..anything() };
            let chosen = balancer.choose(&wanted, &mut random).map(|chosen| (chosen.endpoint.health, chosen.priority));
            match chosen {
                Some((health, priority)) => {
                    prop_assert!(health != Health::Unhealthy);
                    prop_assert!(healths[priority].iter().any(|(own, _)| *own == health));
                }
                // Only consistent hashing finds nothing where there is something: degraded ones.
                None if is_hashing => prop_assert!(has(Health::Degraded) || !has(Health::Healthy)),
                None => prop_assert!(!has(Health::Degraded) && !has(Health::Healthy)),
            }
        }
    }

    #[test]
    fn nothing_excluded_is_chosen_while_it_is_somebody_elses_turn_as_well(count in 2usize..8, excluded in 0usize..8, seed in any::<u64>()) {
        let endpoints = (0..count).map(|number| endpoint(&number.to_string(), 1)).collect();
        let mut random = SmallRng::seed_from_u64(seed);
        let mut balancer = Balancer::new(&with(ROUND_ROBIN), &priorities(vec![endpoints]), Duration::ZERO, &mut random);
        let is_excluded = |key: &str| key == (excluded % count).to_string();
        for _ in 0..20 {
            let chosen = balancer.choose(&Wanted { is_excluded: &is_excluded, attempts: 1, ..anything() }, &mut random).unwrap();
            prop_assert!(!is_excluded(&chosen.endpoint.key));
        }
    }

    #[test]
    fn the_same_hash_has_the_same_endpoint(healths in healths(), hash in any::<u64>(), policy in 3usize..5) {
        let policy = every_policy()[policy].clone();
        let chosen = |seed| {
            let mut random = SmallRng::seed_from_u64(seed);
            let mut balancer = Balancer::new(&with(policy.clone()), &endpoints_of(&healths), Duration::ZERO, &mut random);
            let wanted = Wanted { hash: Some(hash), ..anything() };
            balancer.choose(&wanted, &mut random).map(|chosen| chosen.endpoint.key.clone())
        };
        prop_assert_eq!(chosen(1), chosen(2));
    }
}
