//! The server under kube-rs, the client of the control plane and the node agent.

use std::pin::pin;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ServiceAccount};
use kinds::PeerAuthentication;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::watcher;
use kube::{Client, Config, Resource as _};
use serde_json::json;

use crate::support::{DEADLINE, Lab, wait_until};

async fn client(lab: &Lab) -> Client {
    let kubeconfig = Kubeconfig::from_yaml(&lab.kubeconfig()).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

fn map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"k": "v"}})).unwrap()
}

#[tokio::test]
async fn objects_are_created_listed_patched_and_deleted() {
    let lab = Lab::start();
    let client = client(&lab).await;
    assert_eq!(client.apiserver_version().await.unwrap().major, "1");
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "shop");
    maps.create(&PostParams::default(), &map("a")).await.unwrap();
    let exists = maps.create(&PostParams::default(), &map("a")).await.unwrap_err();
    assert!(matches!(exists, kube::Error::Api(status) if status.code == 409 && status.reason == "AlreadyExists"));
    let list = maps.list(&ListParams::default().fields("metadata.name=a")).await.unwrap();
    assert_eq!(list.items.len(), 1);
    let patched = maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"l": "w"}}))).await.unwrap();
    assert_eq!(patched.data.unwrap().len(), 2);
    let mut stale = list.items.into_iter().next().unwrap();
    stale.data = None;
    let conflict = maps.replace("a", &PostParams::default(), &stale).await.unwrap_err();
    assert!(matches!(conflict, kube::Error::Api(status) if status.reason == "Conflict"));
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(maps.get_opt("a").await.unwrap(), None);
    lab.stop().await;
}

#[tokio::test]
async fn a_strategic_patch_keeps_conditions_of_others() {
    let lab = Lab::start();
    let pods: Api<Pod> = Api::namespaced(client(&lab).await, "shop");
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "b"}]}});
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    for kind in ["Ready", "Initialized"] {
        let patch = Patch::Strategic(json!({"status": {"conditions": [{"type": kind, "status": "True"}]}}));
        pods.patch_status("p", &PatchParams::default(), &patch).await.unwrap();
    }
    let conditions = pods.get("p").await.unwrap().status.unwrap().conditions.unwrap();
    let kinds: Vec<_> = conditions.iter().map(|condition| condition.type_.as_str()).collect();
    assert!(kinds.contains(&"Ready") && kinds.contains(&"Initialized"), "{kinds:?}");
    lab.stop().await;
}

#[tokio::test]
async fn a_watcher_sees_everything_in_both_ways_of_starting() {
    let lab = Lab::start();
    let client = client(&lab).await;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let ways = [("list", watcher::Config::default()), ("stream", watcher::Config::default().streaming_lists())];
    for (way, config) in ways {
        let mut events = pin!(watcher(namespaces.clone(), config));
        let mut known = Vec::new();
        loop {
            match tokio::time::timeout(DEADLINE, events.try_next()).await.unwrap().unwrap().unwrap() {
                watcher::Event::InitApply(namespace) => known.push(namespace.metadata.name.unwrap()),
                watcher::Event::InitDone => break,
                _ => {}
            }
        }
        assert!(known.contains(&"shop".to_owned()), "{known:?}");
        let label = Patch::Merge(json!({"metadata": {"labels": {"way": way}}}));
        namespaces.patch("shop", &PatchParams::default(), &label).await.unwrap();
        let event = tokio::time::timeout(DEADLINE, events.try_next()).await.unwrap().unwrap().unwrap();
        assert!(
            matches!(event, watcher::Event::Apply(namespace) if namespace.metadata.name.as_deref() == Some("shop"))
        );
    }
    lab.stop().await;
}

/// A map of some size, changed more often than the server remembers while its reader looks away.
fn bury(lab: &Lab, last: &str) {
    let filler = "x".repeat(20_000);
    for count in 0..4500 {
        let patch = lab::api::Patch::Merge(json!({"data": {"k": count.to_string(), "filler": filler}}));
        lab.client.patch::<ConfigMap>(Some("shop"), "a", &patch).unwrap();
    }
    let patch = lab::api::Patch::Merge(json!({"data": {"k": last, "filler": null}}));
    lab.client.patch::<ConfigMap>(Some("shop"), "a", &patch).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_fell_behind_is_told_and_lists_again() {
    let lab = Lab::start();
    let maps: Api<ConfigMap> = Api::namespaced(client(&lab).await, "shop");
    maps.create(&PostParams::default(), &map("a")).await.unwrap();
    maps.create(&PostParams::default(), &map("b")).await.unwrap();
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let mut events = pin!(watcher(maps.clone(), config.fields("metadata.name=a")));
        while !matches!(events.try_next().await, Ok(Some(watcher::Event::InitDone))) {}
        // The watch has begun once it tells of a change.
        let patch = Patch::Merge(json!({"data": {"k": "begun"}}));
        maps.patch("a", &PatchParams::default(), &patch).await.unwrap();
        assert!(matches!(events.try_next().await, Ok(Some(watcher::Event::Apply(_)))));
        tokio::task::block_in_place(|| bury(&lab, "last"));
        let (mut expired, mut listed) = (false, false);
        let wait = async {
            loop {
                let map = match events.next().await.unwrap() {
                    Err(watcher::Error::WatchError(status)) => {
                        assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
                        expired = true;
                        continue;
                    }
                    Err(other) => panic!("{other}"),
                    Ok(watcher::Event::InitApply(map)) => {
                        listed = true;
                        map
                    }
                    Ok(watcher::Event::Apply(map)) => map,
                    Ok(_) => continue,
                };
                if map.data.unwrap()["k"] == "last" {
                    return;
                }
            }
        };
        tokio::time::timeout(DEADLINE, wait).await.expect("the last state must arrive");
        assert!(expired && listed, "told: {expired}, listed again: {listed}");
    }
    lab.stop().await;
}

#[tokio::test]
async fn a_list_in_pages_is_read_to_its_end() {
    let lab = Lab::start();
    let maps: Api<ConfigMap> = Api::namespaced(client(&lab).await, "shop");
    for name in ["a", "b", "c", "d", "e"] {
        maps.create(&PostParams::default(), &map(name)).await.unwrap();
    }
    let config = watcher::Config::default().page_size(2).fields("metadata.name!=kube-root-ca.crt");
    let mut events = pin!(watcher(maps, config));
    let mut known = Vec::new();
    loop {
        match tokio::time::timeout(DEADLINE, events.try_next()).await.unwrap().unwrap().unwrap() {
            watcher::Event::InitApply(map) => known.push(map.metadata.name.unwrap()),
            watcher::Event::InitDone => break,
            _ => {}
        }
    }
    assert_eq!(known, ["a", "b", "c", "d", "e"]);
    lab.stop().await;
}

#[tokio::test]
async fn a_raw_watch_tells_of_objects_that_leave_the_selection() {
    let lab = Lab::start();
    let maps: Api<ConfigMap> = Api::namespaced(client(&lab).await, "shop");
    let labelled = json!({"metadata": {"name": "a", "labels": {"app": "x"}}});
    maps.create(&PostParams::default(), &serde_json::from_value(labelled).unwrap()).await.unwrap();
    let parameters = WatchParams::default().labels("app=x").timeout(10);
    let mut events = maps.watch(&parameters, "0").await.unwrap().boxed();
    assert!(matches!(events.try_next().await.unwrap(), Some(WatchEvent::Added(_))));
    let unlabel = Patch::Merge(json!({"metadata": {"labels": {"app": "y"}}}));
    maps.patch("a", &PatchParams::default(), &unlabel).await.unwrap();
    assert!(matches!(events.try_next().await.unwrap(), Some(WatchEvent::Deleted(_))));
    lab.stop().await;
}

#[tokio::test]
async fn typed_istio_objects_and_their_status_are_kept() {
    let lab = Lab::start();
    let policies: Api<PeerAuthentication> = Api::namespaced(client(&lab).await, "shop");
    let policy = json!({"metadata": {"name": "default"}, "spec": {"mtls": {"mode": "STRICT"}}});
    let mut policy: serde_json::Value = policy;
    policy["apiVersion"] = json!("security.istio.io/v1");
    policy["kind"] = json!("PeerAuthentication");
    policies.create(&PostParams::default(), &serde_json::from_value(policy).unwrap()).await.unwrap();
    let condition = json!({"type": "Accepted", "status": "True", "reason": "Accepted", "message": ""});
    let patch = Patch::Merge(json!({"status": {"conditions": [condition]}}));
    let patched = policies.patch_status("default", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(patched.metadata.generation, Some(1));
    lab.stop().await;
}

#[tokio::test]
async fn tokens_are_requested_and_reviewed() {
    let lab = Lab::start();
    let client = client(&lab).await;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "shop");
    let request = json!({"spec": {"audiences": ["istio-ca"], "expirationSeconds": 600}});
    let request = serde_json::from_value(request).unwrap();
    let made = accounts.create_token_request("default", &PostParams::default(), &request).await.unwrap();
    let reviews: Api<TokenReview> = Api::all(client);
    let spec = TokenReviewSpec {
        token: made.status.and_then(|status| status.token).unwrap(),
        audiences: Some(vec!["istio-ca".into()]),
    };
    let review = TokenReview { spec, ..TokenReview::default() };
    let status = reviews.create(&PostParams::default(), &review).await.unwrap().status.unwrap();
    assert_eq!(status.user.unwrap().username.as_deref(), Some("system:serviceaccount:shop:default"));
    lab.stop().await;
}

#[tokio::test]
async fn recorded_events_are_seen_in_both_groups() {
    let lab = Lab::start();
    let client = client(&lab).await;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let mut about = namespaces.get("shop").await.unwrap().object_ref(&());
    about.namespace = Some("shop".into());
    let reporter = Reporter { controller: "aquifer".into(), instance: Some("one".into()) };
    let event = Event {
        type_: EventType::Warning,
        reason: "Tested".into(),
        note: Some("as expected".into()),
        action: "Testing".into(),
        secondary: None,
    };
    Recorder::new(client.clone(), reporter).publish(&event, &about).await.unwrap();
    let events: Api<k8s_openapi::api::core::v1::Event> = Api::all(client.clone());
    wait_until("the event", async || {
        let found = events.list(&ListParams::default().fields("involvedObject.name=shop,reason=Tested")).await.unwrap();
        found.items.iter().any(|event| event.message.as_deref() == Some("as expected"))
    })
    .await;
    let events: Api<k8s_openapi::api::events::v1::Event> = Api::all(client);
    let found = events.list(&ListParams::default()).await.unwrap();
    assert!(found.items.iter().any(|event| event.note.as_deref() == Some("as expected")));
    lab.stop().await;
}
