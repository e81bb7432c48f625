//! Workloads and services that are asked for one by one, of a server that follows a script and of our own.

use std::time::Duration;

use proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE};
use tokio::time::Instant;
use xds::demand::Unanswered;

use crate::support::{Scripted, Wire, pod_resource, response, soon, start_on_demand};

fn later() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

#[tokio::test]
async fn a_name_is_asked_for_once_and_known_when_the_wait_is_over() {
    let mut server = Scripted::start().await;
    let (mut fed, demand) = start_on_demand(server.address);
    let mut stream = server.stream().await;
    let [addresses, policies] = stream.opening().await;
    assert_eq!((addresses.resource_names_subscribe.len(), addresses.resource_names_unsubscribe.len()), (1, 1));
    assert!(policies.resource_names_subscribe.is_empty(), "policies are all wanted, always");
    stream.exchange(response(AUTHORIZATION_TYPE, "1", vec![], &[])).await;
    fed.is_ready().await;

    let asking: Vec<_> = (0..5)
        .map(|_| {
            let demand = demand.clone();
            tokio::spawn(async move { demand.settled("/10.0.0.1", later()).await })
        })
        .collect();
    let request = stream.request().await;
    assert_eq!((&*request.type_url, request.resource_names_subscribe), (ADDRESS_TYPE, vec!["/10.0.0.1".to_owned()]));
    let mut found = pod_resource("a", "v1", [10, 0, 0, 1]);
    found.aliases = vec!["/10.0.0.1".to_owned()];
    stream.exchange(response(ADDRESS_TYPE, "2", vec![found], &[])).await;
    for asked in asking {
        soon("the answer", asked).await.unwrap().unwrap();
        assert_eq!(fed.uids(), ["a"]);
    }
    // That there is no such thing is an answer.
    let asked = tokio::spawn({
        let demand = demand.clone();
        async move { demand.settled("/10.0.0.9", later()).await }
    });
    assert_eq!(stream.request().await.resource_names_subscribe, ["/10.0.0.9"]);
    stream.exchange(response(ADDRESS_TYPE, "3", vec![], &["/10.0.0.9"])).await;
    soon("the answer", asked).await.unwrap().unwrap();
    // Silence is none.
    let short = Instant::now() + Duration::from_millis(50);
    assert_eq!(demand.settled("/10.0.0.8", short).await, Err(Unanswered::Deadline));
}

#[tokio::test]
async fn what_was_asked_for_and_not_answered_is_asked_for_again_on_the_next_stream() {
    let mut server = Scripted::start().await;
    let wire = Wire::to(server.address).await;
    let (fed, demand) = start_on_demand(wire.address);
    let mut stream = server.stream().await;
    stream.opening().await;
    let asked = tokio::spawn(async move { demand.settled("a", later()).await });
    assert_eq!(stream.request().await.resource_names_subscribe, ["a"]);
    wire.cut();
    let mut stream = server.stream().await;
    let [addresses, _] = stream.opening().await;
    assert_eq!(addresses.initial_resource_versions.get("a").map(String::as_str), Some(""));
    stream.exchange(response(ADDRESS_TYPE, "1", vec![pod_resource("a", "v1", [10, 0, 0, 1])], &[])).await;
    soon("the answer", asked).await.unwrap().unwrap();
    assert_eq!(fed.uids(), ["a"]);
}
