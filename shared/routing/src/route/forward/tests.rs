//! Shares of requests.

use proptest::prelude::*;

use super::super::example::Asked;
use super::*;
use crate::Denominator;

fn weighted(weights: &[u32]) -> Vec<WeightedCluster> {
    let named = weights.iter().enumerate().map(|(index, weight)| (index.to_string().into(), *weight));
    named
        .map(|(name, weight)| WeightedCluster { name, weight, changes: Changes::default(), host_rewrite: None })
        .collect()
}

fn choose(choice: &ClusterChoice, asked: &Asked, random: u64) -> String {
    choice.choose(&asked.request(), random).0.into_owned()
}

#[test]
fn weights_that_add_up_to_nothing_or_too_much_are_refused() {
    assert_eq!(WeightedClusters::new(weighted(&[0, 0])).unwrap_err(), BadWeights(0));
    assert_eq!(WeightedClusters::new(Vec::new()).unwrap_err(), BadWeights(0));
    assert!(WeightedClusters::new(weighted(&[u32::MAX, 0])).is_ok());
    let error = WeightedClusters::new(weighted(&[u32::MAX, 1])).unwrap_err();
    assert_eq!(error.to_string(), "the weights of clusters add up to 4294967296");
}

#[test]
fn a_header_names_the_cluster() {
    let by_header = ClusterChoice::FromHeader("cluster".into());
    assert_eq!(choose(&by_header, &Asked::new("a", "/").with("cluster", "b").with("cluster", "c"), 0), "b");
    assert_eq!(choose(&by_header, &Asked::new("a", "/"), 0), "");
    assert_eq!(choose(&ClusterChoice::FromHeader(":authority".into()), &Asked::new("a", "/"), 0), "a");
}

#[test]
fn a_missing_cluster_has_a_status() {
    let statuses = [MissingCluster::default(), MissingCluster::NotFound, MissingCluster::InternalError];
    assert_eq!(statuses.map(|missing| missing.status().as_u16()), [503, 404, 500]);
}

#[test]
fn a_copy_goes_to_some_mirrors() {
    let mirror = |name: &str, numerator| Mirror {
        cluster: name.into(),
        fraction: Fraction { numerator, denominator: Denominator::Hundred },
        appends_shadow_to_host: false,
    };
    let mut forward = Forward::to(ClusterChoice::One("a".into()));
    forward.mirrors = vec![mirror("b", 100), mirror("c", 10), mirror("d", 0)];
    let of = |random| forward.mirrors_of(random).map(|mirror| &*mirror.cluster).collect::<Vec<_>>();
    assert_eq!(of(109), ["b", "c"]);
    assert_eq!(of(110), ["b"]);
}

#[test]
fn the_authority_of_a_copy_tells_that_it_is_one_if_it_should() {
    let fraction = Fraction { numerator: 100, denominator: Denominator::Hundred };
    let mut mirror = Mirror { cluster: "a".into(), fraction, appends_shadow_to_host: true };
    assert_eq!(mirror.authority("a"), "a-shadow");
    assert_eq!(mirror.authority("[::1]:80"), "[::1]-shadow:80");
    mirror.appends_shadow_to_host = false;
    assert_eq!(mirror.authority("a:80"), "a:80");
}

#[test]
fn what_is_unset_stays_so() {
    let forward = Forward::to(ClusterChoice::One("a".into()));
    assert_eq!(forward.timeouts.route.as_secs(), 15);
    assert_eq!([forward.idle_timeout, forward.max_stream_duration], [None; 2]);
    assert!(forward.hash.is_empty() && forward.retry.is_none() && forward.mirrors.is_empty());
    assert_eq!(forward.upgrades, [] as [Upgrade; 0]);
}

proptest! {
    #[test]
    fn clusters_get_their_share(weights in proptest::collection::vec(0_u32..5, 1..5), round in 0_u64..1 << 40) {
        let Ok(clusters) = WeightedClusters::new(weighted(&weights)) else {
            prop_assert!(weights.iter().all(|weight| *weight == 0));
            return Ok(());
        };
        let total: u32 = weights.iter().sum();
        let choice = ClusterChoice::Weighted(clusters);
        let asked = Asked::new("a", "/");
        let mut counted = vec![0_u32; weights.len()];
        for random in 0..u64::from(total) {
            let chosen: usize = choose(&choice, &asked, round * u64::from(total) + random).parse().unwrap();
            counted[chosen] += 1;
        }
        prop_assert_eq!(counted, weights);
    }
}
