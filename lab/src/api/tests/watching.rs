//! Watches of in-process clients.

use k8s_openapi::api::core::v1::{ConfigMap, Pod};

use super::*;
use crate::api::{Event, Watch};

fn label(client: &Client, name: &str, app: &str) {
    let patch = Patch::Merge(json!({"metadata": {"labels": {"app": app}}}));
    client.patch::<Pod>(Some("shop"), name, &patch).unwrap();
}

/// The next event in short: `+` applied, `-` deleted, `=` synced.
async fn next(watch: &mut Watch<Pod>) -> String {
    match soon(watch.next()).await.expect("the server runs") {
        Event::Applied(pod) => format!("+{}", pod.metadata.name.unwrap()),
        Event::Deleted(pod) => format!("-{}", pod.metadata.name.unwrap()),
        Event::Synced => "=".into(),
    }
}

#[tokio::test]
async fn a_watch_begins_with_what_exists_and_follows() {
    let server = server();
    let client = server.client();
    client.create(&pod("a", None)).unwrap();
    let mut watch = client.watch::<Pod>(&Selection::default()).unwrap();
    assert_eq!((next(&mut watch).await, next(&mut watch).await), ("+a".into(), "=".into()));
    client.create(&pod("b", None)).unwrap();
    label(&client, "a", "new");
    client.delete::<Pod>(Some("shop"), "b", &DeleteOptions::default()).unwrap();
    for expected in ["+b", "+a", "-b"] {
        assert_eq!(next(&mut watch).await, expected);
    }
    server.stop().await;
    assert_eq!(soon(watch.next()).await, None);
}

#[tokio::test]
async fn leaving_and_entering_a_selection_are_seen() {
    let server = server();
    let client = server.client();
    let mut watch = client.watch::<Pod>(&Selection { labels: "app=a".into(), ..Selection::default() }).unwrap();
    assert_eq!(next(&mut watch).await, "=");
    client.create(&pod("a", None)).unwrap();
    client.create(&pod("b", None)).unwrap();
    label(&client, "a", "other");
    label(&client, "a", "third");
    label(&client, "b", "a");
    for expected in ["+a", "-a", "+b"] {
        assert_eq!(next(&mut watch).await, expected);
    }
}

#[tokio::test]
async fn a_reader_that_was_too_slow_still_ends_up_with_the_last_state() {
    let server = server();
    let client = server.client();
    client.create(&pod("gone", None)).unwrap();
    client.create(&pod("stays", None)).unwrap();
    let mut watch = client.watch::<Pod>(&Selection::default()).unwrap();
    for expected in ["+gone", "+stays", "="] {
        assert_eq!(next(&mut watch).await, expected);
    }
    client.delete::<Pod>(Some("shop"), "gone", &DeleteOptions::default()).unwrap();
    // More changes than the server remembers.
    for count in 0..3000 {
        label(&client, "stays", &format!("v{count}"));
    }
    client.create(&pod("new", None)).unwrap();
    for expected in ["-gone", "+new"] {
        assert_eq!(next(&mut watch).await, expected);
    }
    match soon(watch.next()).await {
        Some(Event::Applied(pod)) => assert_eq!(pod.metadata.labels.unwrap()["app"], "v2999"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn other_kinds_do_not_wake_a_watch_with_events() {
    let server = server();
    let client = server.client();
    let mut watch = client.watch::<Pod>(&Selection::default()).unwrap();
    assert_eq!(next(&mut watch).await, "=");
    let map: ConfigMap = object(json!({"metadata": {"namespace": "shop", "name": "m"}}));
    client.create(&map).unwrap();
    client.create(&pod("a", None)).unwrap();
    assert_eq!(next(&mut watch).await, "+a");
}
