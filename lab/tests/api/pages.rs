//! Lists in pages and at revisions, and what is said when a revision is too old.

use lab::api::Patch;
use serde_json::{Value, json};

use crate::support::Lab;

const MAPS: &str = "/api/v1/namespaces/shop/configmaps";

async fn add(lab: &Lab, names: &[&str]) {
    for name in names {
        let map = json!({"metadata": {"name": name, "labels": {"app": "x"}}, "data": {"k": "1"}});
        assert_eq!(lab.call("POST", MAPS, &map).await.0, 201);
    }
}

async fn list(lab: &Lab, query: &str) -> (u16, Value) {
    lab.call("GET", &format!("{MAPS}?labelSelector=app%3Dx&{query}"), &Value::Null).await
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

fn revision(list: &Value) -> &str {
    list["metadata"]["resourceVersion"].as_str().unwrap()
}

/// More changes than the server remembers.
fn forget_history(lab: &Lab) {
    for count in 0..2100 {
        let patch = Patch::Merge(json!({"data": {"count": count.to_string()}}));
        lab.client.patch::<k8s_openapi::api::core::v1::ConfigMap>(Some("shop"), "kube-root-ca.crt", &patch).unwrap();
    }
}

#[tokio::test]
async fn all_pages_show_one_revision_whatever_changes_meanwhile() {
    let lab = Lab::start();
    add(&lab, &["a", "b", "c", "d", "e"]).await;
    let (_, first) = list(&lab, "limit=2").await;
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], Value::Null, "a selection does not tell");
    lab.call("DELETE", &format!("{MAPS}/d"), &Value::Null).await;
    add(&lab, &["bb"]).await;
    let merge = [("Content-Type", "application/merge-patch+json")];
    lab.send("PATCH", &format!("{MAPS}/c"), &merge, br#"{"data":{"k":"2"}}"#).await;
    let (_, second) =
        list(&lab, &format!("limit=2&continue={}", first["metadata"]["continue"].as_str().unwrap())).await;
    assert_eq!((names(&second), revision(&second)), (vec!["c", "d"], revision(&first)));
    assert_eq!(second["items"][0]["data"]["k"], "1");
    let (_, last) = list(&lab, &format!("limit=2&continue={}", second["metadata"]["continue"].as_str().unwrap())).await;
    assert_eq!((names(&last), &last["metadata"]["continue"]), (vec!["e"], &Value::Null));
    let (_, whole) = lab.call("GET", &format!("{MAPS}?limit=1"), &Value::Null).await;
    assert_eq!((names(&whole).len(), &whole["metadata"]["remainingItemCount"]), (1, &json!(5)));
    let (_, cached) = list(&lab, "limit=2&resourceVersion=0").await;
    assert_eq!(names(&cached), ["a", "b", "bb", "c", "e"]);
    lab.stop().await;
}

#[tokio::test]
async fn tables_come_in_pages_too() {
    let lab = Lab::start();
    add(&lab, &["a", "b", "c"]).await;
    let accept = [("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    let path = format!("{MAPS}?labelSelector=app%3Dx&limit=2");
    let (_, first) = lab.send("GET", &path, &accept, b"").await;
    assert_eq!((&first["kind"], first["rows"].as_array().unwrap().len()), (&json!("Table"), 2));
    let path = format!("{path}&continue={}", first["metadata"]["continue"].as_str().unwrap());
    let (_, last) = lab.send("GET", &path, &accept, b"").await;
    assert_eq!((&last["rows"][0]["cells"][0], last["rows"].as_array().unwrap().len()), (&json!("c"), 1));
    lab.stop().await;
}

#[tokio::test]
async fn a_list_shows_the_revision_that_is_asked_for() {
    let lab = Lab::start();
    add(&lab, &["a"]).await;
    let (_, before) = list(&lab, "").await;
    add(&lab, &["b"]).await;
    lab.call("DELETE", &format!("{MAPS}/a"), &Value::Null).await;
    let old = revision(&before);
    let (_, exact) = list(&lab, &format!("resourceVersion={old}&resourceVersionMatch=Exact")).await;
    assert_eq!(exact, before);
    let (_, newer) = list(&lab, &format!("resourceVersion={old}&resourceVersionMatch=NotOlderThan")).await;
    assert_eq!(names(&newer), ["b"]);
    for path in [
        format!("{MAPS}?resourceVersion=999999"),
        format!("{MAPS}?resourceVersion=999999&resourceVersionMatch=Exact"),
        format!("{MAPS}/b?resourceVersion=999999"),
    ] {
        let (status, refused) = lab.call("GET", &path, &Value::Null).await;
        assert_eq!((status, &refused["reason"]), (504, &json!("Timeout")), "{path}");
        assert_eq!(refused["details"]["causes"][0]["reason"], "ResourceVersionTooLarge", "{path}");
    }
    for query in ["resourceVersionMatch=Exact", "sendInitialEvents=true"] {
        let (status, refused) = list(&lab, query).await;
        assert_eq!((status, &refused["reason"]), (422, &json!("Invalid")), "{query}");
    }
    for query in ["resourceVersion=new", "continue=!", "continue=e30"] {
        assert_eq!(list(&lab, query).await.0, 400, "{query}");
    }
    lab.stop().await;
}

#[tokio::test]
async fn a_page_of_a_forgotten_revision_is_gone_and_the_rest_can_be_had_as_it_is_now() {
    let lab = Lab::start();
    add(&lab, &["a", "b", "c", "d"]).await;
    let (_, first) = list(&lab, "limit=2").await;
    lab.call("DELETE", &format!("{MAPS}/c"), &Value::Null).await;
    forget_history(&lab);
    let (status, exact) = list(&lab, &format!("resourceVersion={}&resourceVersionMatch=Exact", revision(&first))).await;
    assert_eq!((status, &exact["reason"]), (410, &json!("Expired")));
    let token = first["metadata"]["continue"].as_str().unwrap();
    let (status, gone) = list(&lab, &format!("limit=1&continue={token}")).await;
    assert_eq!((status, &gone["kind"], &gone["reason"]), (410, &json!("Status"), &json!("Expired")));
    assert!(gone["message"].as_str().unwrap().starts_with("The provided continue parameter is too old"), "{gone}");
    let token = gone["metadata"]["continue"].as_str().unwrap();
    add(&lab, &["e"]).await;
    let (_, rest) = list(&lab, &format!("limit=1&continue={token}")).await;
    assert_eq!(names(&rest), ["d"]);
    let (_, rest) = list(&lab, &format!("continue={}", rest["metadata"]["continue"].as_str().unwrap())).await;
    assert_eq!(names(&rest), ["e"]);
    lab.stop().await;
}
