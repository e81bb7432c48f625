//! Tests of consistent hashing.

use proptest::prelude::*;

use super::super::{RingSizes, TableSize};
use super::*;

fn endpoint(port: usize) -> Endpoint {
    Endpoint::new(&format!("127.0.0.1:{port}"))
}

/// The table of endpoints with these ports and weights; members are the ports.
fn table(policy: BalancePolicy, weights: &[(usize, u32)]) -> Table {
    let all: u32 = weights.iter().map(|(_, weight)| weight).sum();
    let endpoints: Vec<_> = weights.iter().map(|(port, _)| endpoint(*port)).collect();
    let weighed = weights.iter().zip(&endpoints).map(|((member, weight), endpoint)| Weighed {
        member: *member,
        endpoint,
        part: f64::from(*weight) / f64::from(all),
    });
    Table::new(&policy, &weighed.collect::<Vec<_>>()).unwrap()
}

fn ring(minimum: u32, maximum: u32) -> BalancePolicy {
    BalancePolicy::RingHash(RingSizes::new(Some(minimum), Some(maximum)).unwrap())
}

fn maglev(size: u32) -> BalancePolicy {
    BalancePolicy::Maglev(TableSize::new(size).unwrap())
}

fn equal(ports: impl IntoIterator<Item = usize>) -> Vec<(usize, u32)> {
    ports.into_iter().map(|port| (port, 1)).collect()
}

/// The ring of the ports 90 to 95 with two hashes each, as a real Envoy logs it.
const RING: [(u64, usize); 12] = [
    (833_437_586_790_550_860, 94),
    (928_266_305_478_181_108, 92),
    (1_033_482_794_131_418_490, 90),
    (3_551_244_743_356_806_947, 95),
    (3_851_675_632_748_031_481, 93),
    (5_583_722_120_771_150_861, 91),
    (6_311_230_543_546_372_928, 91),
    (7_700_377_290_971_790_572, 93),
    (13_144_177_310_400_110_813, 95),
    (13_444_792_449_719_432_967, 92),
    (15_516_499_411_664_133_160, 94),
    (16_117_243_373_044_804_889, 90),
];

#[test]
fn a_hash_belongs_to_the_next_one_of_the_ring() {
    let table = table(ring(12, 12), &equal(90..96));
    for (place, (hash, port)) in RING.into_iter().enumerate() {
        let next = RING[(place + 1) % RING.len()].1;
        assert_eq!(table.choose(hash, 0), Some(port));
        assert_eq!(table.choose(hash - 1, 0), Some(port));
        assert_eq!(table.choose(hash + 1, 0), Some(next));
        assert_eq!(table.choose(hash, 1), Some(next));
    }
    assert_eq!(table.choose(0, 0), Some(94));
    assert_eq!(table.choose(u64::MAX, 0), Some(94));
    assert_eq!(table.choose(u64::MAX, 3), Some(95));
}

fn sizes(table: &Table, ports: &[usize]) -> Vec<usize> {
    let Table::Ring(ring) = table else { panic!("no ring") };
    let places = (0..u32::MAX).map(|attempt| ring.choose(0, attempt).unwrap());
    let first: Vec<_> = places.take(ring.len()).collect();
    ports.iter().map(|port| first.iter().filter(|member| *member == port).count()).collect()
}

#[test]
fn a_ring_has_hashes_by_weight() {
    assert_eq!(sizes(&table(ring(1024, 8 << 20), &equal(90..93)), &[90, 91, 92]), [342; 3]);
    assert_eq!(sizes(&table(ring(3, 100), &[(90, 1), (91, 2)]), &[90, 91]), [1, 2]);
    assert_eq!(sizes(&table(ring(4, 100), &[(90, 1), (91, 2)]), &[90, 91]), [2, 4]);
    // One and a half each, of which no part is lost.
    assert_eq!(sizes(&table(ring(1, 6), &equal(90..94)), &[90, 91, 92, 93]), [1; 4]);
    assert_eq!(sizes(&table(ring(6, 6), &equal(90..94)), &[90, 91, 92, 93]), [2, 1, 2, 1]);
}

#[test]
fn a_ring_has_sizes_that_make_sense() {
    assert_eq!(RingSizes::new(None, None), RingSizes::new(Some(1024), Some(8_388_608)));
    assert_eq!(RingSizes::new(Some(2), Some(1)), None);
    assert_eq!(RingSizes::new(None, Some(1023)), None);
    assert_eq!(RingSizes::new(None, Some(8_388_609)), None);
}

#[test]
fn a_table_of_maglev_is_that_of_envoy() {
    let seven = table(maglev(7), &equal([95, 94, 90, 91, 92, 93]));
    let ports = [92, 94, 90, 91, 95, 90, 93];
    for (place, port) in ports.into_iter().enumerate() {
        assert_eq!(seven.choose(place as u64, 0), Some(port));
        assert_eq!(seven.choose(place as u64 + 7 * 1000, 0), Some(port));
        let other = ports[((place as u64 ^ u64::MAX) % 7) as usize];
        assert_eq!(seven.choose(place as u64, 1), Some(other));
    }
    let weighted = table(maglev(17), &[(90, 1), (91, 2)]);
    let ports: Vec<_> = (0..17).map(|place| weighted.choose(place, 0).unwrap()).collect();
    assert_eq!(ports, [91, 90, 90, 91, 90, 91, 91, 90, 91, 91, 91, 91, 91, 90, 91, 90, 91]);
}

#[test]
fn a_table_of_maglev_has_a_prime_size() {
    assert_eq!(TableSize::new(65537), Some(TableSize::default()));
    assert_eq!(TableSize::new(u32::MAX), None);
    assert!(TableSize::new(2).is_some() && TableSize::new(5_000_011).is_some());
    for bad in [0, 1, 4, 9, 65536, 5_000_077] {
        assert_eq!(TableSize::new(bad), None, "{bad}");
    }
}

#[test]
fn nothing_is_chosen_from_nothing() {
    assert_eq!(table(ring(12, 12), &[]).choose(7, 0), None);
    assert_eq!(table(maglev(7), &[]).choose(7, 1), None);
    assert!(Table::new(&BalancePolicy::Random, &[]).is_none());
}

#[test]
fn an_endpoint_may_have_a_hash_key_of_its_own() {
    let renamed = |port: usize, name: usize| Endpoint { hash_key: Some(endpoint(name).key), ..endpoint(port) };
    let endpoints = [renamed(1, 91), renamed(2, 90)];
    let weighed = [0, 1].map(|member| Weighed { member: 91 - member, endpoint: &endpoints[member], part: 0.5 });
    for policy in [ring(1024, 1024), maglev(65537)] {
        let (renamed, plain) = (Table::new(&policy, &weighed).unwrap(), table(policy, &equal([90, 91])));
        for hash in (0..=u8::MAX).map(|number| crate::hash::xx_hash64(&[number], 0)) {
            assert_eq!(renamed.choose(hash, 0), plain.choose(hash, 0));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn an_endpoint_that_goes_moves_little_but_its_own(ports in prop::collection::btree_set(1usize..1000, 4..12)) {
        let ports: Vec<_> = ports.into_iter().collect();
        let gone = ports[0];
        for (policy, allowed) in [(ring(1024, 8 << 20), 0), (maglev(4099), 500)] {
            let before = table(policy.clone(), &equal(ports.iter().copied()));
            let after = table(policy, &equal(ports[1..].iter().copied()));
            let hashes = (0..4000_u64).map(|number| crate::hash::xx_hash64(&number.to_le_bytes(), 0));
            let changes = hashes.filter(|hash| {
                let owner = before.choose(*hash, 0);
                owner != Some(gone) && owner != after.choose(*hash, 0)
            });
            let changes = changes.count();
            // The ring gets some more hashes for each endpoint where fewer share it.
            let more = if allowed == 0 { 1300 } else { allowed };
            prop_assert!(changes <= more, "{} changes", changes);
        }
    }

    #[test]
    fn endpoints_have_parts_by_weight(weights in prop::collection::vec(1u32..10, 1..8)) {
        let weights: Vec<_> = weights.into_iter().enumerate().collect();
        let all: u32 = weights.iter().map(|(_, weight)| weight).sum();
        let table = table(maglev(4099), &weights);
        for (port, weight) in &weights {
            let places = (0..4099).filter(|place| table.choose(*place, 0) == Some(*port)).count() as f64;
            let expected = 4099.0 * f64::from(*weight) / f64::from(all);
            prop_assert!((places - expected).abs() <= 10.0, "{} instead of {}", places, expected);
        }
    }

    #[test]
    fn the_order_of_endpoints_makes_no_difference(ports in prop::collection::btree_set(1usize..1000, 1..12), hash in any::<u64>()) {
        for policy in [ring(1024, 8 << 20), maglev(4099)] {
            let forwards = table(policy.clone(), &equal(ports.iter().copied()));
            let backwards = table(policy, &equal(ports.iter().rev().copied()));
            prop_assert_eq!(forwards.choose(hash, 0), backwards.choose(hash, 0));
        }
    }
}
