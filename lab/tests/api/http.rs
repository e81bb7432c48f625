//! The REST interface, request by request.

use serde_json::{Value, json};

use crate::support::Lab;

const PODS: &str = "/api/v1/namespaces/shop/pods";
const MAPS: &str = "/api/v1/namespaces/shop/configmaps";

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": {"containers": [{"name": "a", "image": "b"}]}})
}

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": name}}})
}

#[tokio::test]
async fn health_and_version_are_open_and_the_rest_needs_a_token() {
    let lab = Lab::start();
    for path in ["/healthz", "/livez", "/readyz", "/readyz/ping", "/version"] {
        let (status, _) = lab.send("GET", path, &[("Authorization", "")], b"").await;
        assert_eq!(status, 200, "{path}");
    }
    for token in ["", "Bearer", "Bearer wrong", "Basic YWRtaW46YWRtaW4="] {
        for path in ["/api", "/apis", "/api/v1/namespaces", "/openapi/v3"] {
            let (status, answer) = lab.send("GET", path, &[("Authorization", token)], b"").await;
            assert_eq!((status, &answer["kind"], &answer["reason"]), (401, &json!("Status"), &json!("Unauthorized")));
        }
    }
    lab.stop().await;
}

#[tokio::test]
async fn discovery_lists_every_group_both_ways() {
    let lab = Lab::start();
    let (_, groups) = lab.call("GET", "/apis", &Value::Null).await;
    let names: Vec<_> = groups["groups"].as_array().unwrap().iter().map(|group| group["name"].clone()).collect();
    for name in ["apps", "discovery.k8s.io", "gateway.networking.k8s.io", "security.istio.io", "events.k8s.io"] {
        assert!(names.contains(&json!(name)), "{name} in {names:?}");
    }
    let accept = [("Accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json")];
    let (_, aggregated) = lab.send("GET", "/apis", &accept, b"").await;
    assert_eq!(aggregated["kind"], "APIGroupDiscoveryList");
    let aggregated: Vec<_> =
        aggregated["items"].as_array().unwrap().iter().map(|group| group["metadata"]["name"].clone()).collect();
    assert_eq!(aggregated, names);
    for path in ["/api/v1", "/apis/apps/v1", "/apis/security.istio.io/v1beta1"] {
        let (status, list) = lab.call("GET", path, &Value::Null).await;
        assert_eq!((status, &list["kind"]), (200, &json!("APIResourceList")), "{path}");
    }
    assert_eq!(lab.call("GET", "/apis/security.istio.io/v2", &Value::Null).await.0, 404);
    lab.stop().await;
}

#[tokio::test]
async fn an_object_lives_through_its_verbs() {
    let lab = Lab::start();
    let path = format!("{MAPS}/a");
    let (status, created) = lab.call("POST", MAPS, &json!({"metadata": {"name": "a"}, "data": {"k": "1"}})).await;
    assert_eq!((status, &created["kind"], &created["apiVersion"]), (201, &json!("ConfigMap"), &json!("v1")));
    assert_eq!(lab.call("GET", &path, &Value::Null).await, (200, created.clone()));
    let mut changed = created.clone();
    changed["data"]["k"] = json!("2");
    let (status, replaced) = lab.call("PUT", &path, &changed).await;
    assert_eq!((status, &replaced["data"]["k"]), (200, &json!("2")));
    let (status, refused) = lab.call("PUT", &path, &changed).await;
    assert_eq!(
        (status, &refused["reason"], &refused["details"]["kind"]),
        (409, &json!("Conflict"), &json!("configmaps"))
    );
    let merge = [("Content-Type", "application/merge-patch+json")];
    let (status, patched) = lab.send("PATCH", &path, &merge, br#"{"data":{"k":null,"l":"3"}}"#).await;
    assert_eq!((status, &patched["data"]), (200, &json!({"l": "3"})));
    let json_patch = [("Content-Type", "application/json-patch+json")];
    let (status, _) = lab.send("PATCH", &path, &json_patch, br#"[{"op":"remove","path":"/data/l"}]"#).await;
    assert_eq!(status, 200);
    let apply = [("Content-Type", "application/apply-patch+yaml")];
    let (status, refused) = lab.send("PATCH", &path, &apply, b"data: {}").await;
    assert_eq!(status, 415, "{refused}");
    let (status, deleted) = lab.call("DELETE", &path, &Value::Null).await;
    assert_eq!(
        (status, &deleted["status"], &deleted["details"]["uid"]),
        (200, &json!("Success"), &created["metadata"]["uid"])
    );
    let (status, missing) = lab.call("GET", &path, &Value::Null).await;
    assert_eq!((status, &missing["message"]), (404, &json!("configmaps \"a\" not found")));
    lab.stop().await;
}

#[tokio::test]
async fn yaml_bodies_may_have_numbers_as_keys() {
    let lab = Lab::start();
    let yaml = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: ports}\nspec:\n  \
                selector: {matchLabels: {app: api}}\n  mtls: {mode: STRICT}\n  portLevelMtls:\n    8080: {mode: DISABLE}\n";
    let path = "/apis/security.istio.io/v1/namespaces/shop/peerauthentications";
    let (status, created) = lab.send("POST", path, &[("Content-Type", "application/yaml")], yaml.as_bytes()).await;
    assert_eq!((status, &created["spec"]["portLevelMtls"]["8080"]["mode"]), (201, &json!("DISABLE")), "{created}");
    lab.stop().await;
}

#[tokio::test]
async fn field_validation_follows_the_query() {
    let lab = Lab::start();
    let object = json!({"metadata": {"name": "a"}, "daat": {"k": "v"}});
    let (status, refused) = lab.call("POST", &format!("{MAPS}?fieldValidation=Strict"), &object).await;
    assert_eq!(status, 400);
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("strict decoding error: unknown field \"daat\", did you mean \"data\"?"), "{message}");
    let body = object.to_string();
    let response = lab.raw("POST", MAPS, &[("Content-Type", "application/json")], body.as_bytes()).await;
    assert_eq!(response.status, 201);
    assert!(response.head.contains("warning: 299 - \"unknown field \\\"daat\\\""), "{}", response.head);
    let (status, _) = lab.call("POST", &format!("{MAPS}?fieldValidation=Sometimes"), &object).await;
    assert_eq!(status, 400);
    lab.stop().await;
}

#[tokio::test]
async fn a_dry_run_keeps_nothing() {
    let lab = Lab::start();
    let map = map("a");
    assert_eq!(lab.call("POST", &format!("{MAPS}?dryRun=All"), &map).await.0, 201);
    assert_eq!(lab.call("GET", &format!("{MAPS}/a"), &Value::Null).await.0, 404);
    lab.call("POST", MAPS, &map).await;
    assert_eq!(lab.call("DELETE", &format!("{MAPS}/a?dryRun=All"), &Value::Null).await.0, 200);
    assert_eq!(lab.call("GET", &format!("{MAPS}/a"), &Value::Null).await.0, 200);
    lab.stop().await;
}

#[tokio::test]
async fn tables_and_metadata_are_written_for_those_who_ask() {
    let lab = Lab::start();
    lab.call("POST", PODS, &pod("cart")).await;
    let table = [("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    let (_, answer) = lab.send("GET", PODS, &table, b"").await;
    let columns: Vec<_> =
        answer["columnDefinitions"].as_array().unwrap().iter().map(|column| column["name"].clone()).collect();
    assert_eq!(columns[..5], ["Name", "Ready", "Status", "Restarts", "Age"]);
    assert_eq!(answer["rows"][0]["cells"].as_array().unwrap()[..4], ["cart", "0/1", "Pending", "0"]);
    assert_eq!(answer["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let partial = [("Accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io")];
    let (_, answer) = lab.send("GET", PODS, &partial, b"").await;
    assert_eq!((&answer["kind"], &answer["items"][0]["spec"]), (&json!("PartialObjectMetadataList"), &Value::Null));
    let (status, _) = lab.send("GET", PODS, &[("Accept", "application/vnd.kubernetes.protobuf")], b"").await;
    assert_eq!(status, 406);
    lab.stop().await;
}

#[tokio::test]
async fn a_watch_tells_what_happened_since_a_version_and_ends_in_time() {
    let lab = Lab::start();
    let (_, created) = lab.call("POST", MAPS, &map("a")).await;
    let version = created["metadata"]["resourceVersion"].as_str().unwrap();
    lab.call("POST", MAPS, &map("b")).await;
    let merge = [("Content-Type", "application/merge-patch+json")];
    lab.send("PATCH", &format!("{MAPS}/a"), &merge, br#"{"metadata":{"labels":{"app":"x"}}}"#).await;
    lab.call("DELETE", &format!("{MAPS}/b"), &Value::Null).await;
    let seen = async |query: &str| -> Vec<String> {
        let path = format!("{MAPS}?watch=true&timeoutSeconds=1&{query}");
        let events = lab.raw("GET", &path, &[], b"").await.events();
        let short =
            |event: &Value| format!("{} {}", event["type"], event["object"]["metadata"]["name"]).replace('"', "");
        events.iter().map(short).collect()
    };
    let since = format!("resourceVersion={version}");
    assert_eq!(seen(&since).await, ["ADDED b", "MODIFIED a", "DELETED b"]);
    let initial = "allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    let bookmarked = seen(&format!("{initial}&labelSelector=app%3Dx")).await;
    assert_eq!(bookmarked, ["ADDED a", "BOOKMARK null", "BOOKMARK null"]);
    assert_eq!(seen("labelSelector=app%3Da&resourceVersion=0").await, Vec::<String>::new());
    lab.stop().await;
}

#[tokio::test]
async fn a_watch_from_a_version_that_is_forgotten_or_foreign_is_told_so() {
    let lab = Lab::start();
    lab.call("POST", MAPS, &map("a")).await;
    for version in ["999999999", "1"] {
        if version == "1" {
            let body = |count: u32| json!({"data": {"count": count.to_string()}});
            for count in 0..2100 {
                let patch = lab::api::Patch::Merge(body(count));
                lab.client.patch::<k8s_openapi::api::core::v1::ConfigMap>(Some("shop"), "a", &patch).unwrap();
            }
        }
        let path = format!("{MAPS}?watch=true&resourceVersion={version}");
        let events = lab.raw("GET", &path, &[], b"").await.events();
        assert_eq!((&events[0]["type"], &events[0]["object"]["code"]), (&json!("ERROR"), &json!(410)), "{version}");
    }
    lab.stop().await;
}

#[tokio::test]
async fn status_and_scale_are_parts_of_their_own() {
    let lab = Lab::start();
    let deployments = "/apis/apps/v1/namespaces/shop/deployments";
    let template = json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "a", "image": "b"}]}});
    let spec = json!({"replicas": 0, "selector": {"matchLabels": {"app": "a"}}, "template": template});
    lab.call("POST", deployments, &json!({"metadata": {"name": "d"}, "spec": spec})).await;
    let (_, scale) = lab.call("GET", &format!("{deployments}/d/scale"), &Value::Null).await;
    assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&json!("Scale"), &json!(0)));
    let merge = [("Content-Type", "application/merge-patch+json")];
    lab.send("PATCH", &format!("{deployments}/d/scale"), &merge, br#"{"spec":{"replicas":3}}"#).await;
    let (_, deployment) = lab.call("GET", &format!("{deployments}/d"), &Value::Null).await;
    assert_eq!(deployment["spec"]["replicas"], 3);
    let route = json!({"metadata": {"name": "r"}, "spec": {}, "status": {"parents": []}});
    let routes = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes";
    let (status, created) = lab.call("POST", routes, &route).await;
    assert_eq!((status, &created["status"]), (201, &Value::Null), "{created}");
    let parents = r#"{"status":{"parents":[]}}"#;
    let (status, patched) = lab.send("PATCH", &format!("{routes}/r/status"), &merge, parents.as_bytes()).await;
    assert_eq!(
        (status, &patched["status"]["parents"], &patched["metadata"]["generation"]),
        (200, &json!([]), &json!(1))
    );
    lab.stop().await;
}

#[tokio::test]
async fn a_broken_rule_is_named_with_its_field() {
    let lab = Lab::start();
    let (status, refused) =
        lab.call("POST", PODS, &json!({"metadata": {"name": "p"}, "spec": {"containers": []}})).await;
    assert_eq!((status, &refused["details"]["kind"], &refused["details"]["name"]), (422, &json!("Pod"), &json!("p")));
    let cause = json!({"reason": "FieldValueInvalid", "field": "spec.containers", "message": "Required value"});
    assert_eq!(refused["details"]["causes"], json!([cause]));
    lab.stop().await;
}

#[tokio::test]
async fn collections_are_deleted_by_selector() {
    let lab = Lab::start();
    for name in ["a", "b"] {
        lab.call("POST", PODS, &pod(name)).await;
    }
    assert_eq!(lab.call("DELETE", &format!("{PODS}?labelSelector=app%3Da"), &Value::Null).await.0, 200);
    let (_, left) = lab.call("GET", PODS, &Value::Null).await;
    assert_eq!((left["items"].as_array().unwrap().len(), &left["items"][0]["metadata"]["name"]), (1, &json!("b")));
    lab.stop().await;
}

#[tokio::test]
async fn tokens_are_made_and_reviewed_over_http() {
    let lab = Lab::start();
    let path = "/api/v1/namespaces/shop/serviceaccounts/default/token";
    let asked = json!({"spec": {"audiences": ["istio-ca"], "expirationSeconds": 3600}});
    let (status, made) = lab.call("POST", path, &asked).await;
    assert_eq!(status, 201, "{made}");
    let token = made["status"]["token"].as_str().unwrap();
    let review = json!({"spec": {"token": token, "audiences": ["istio-ca"]}});
    let (_, answer) = lab.call("POST", "/apis/authentication.k8s.io/v1/tokenreviews", &review).await;
    assert_eq!(answer["status"]["user"]["username"], "system:serviceaccount:shop:default");
    let (_, own) = lab.call("POST", path, &json!({"spec": {}})).await;
    let bearer = format!("Bearer {}", own["status"]["token"].as_str().unwrap());
    assert_eq!(lab.send("GET", PODS, &[("Authorization", &bearer)], b"").await.0, 200);
    let foreign = format!("Bearer {token}");
    assert_eq!(lab.send("GET", PODS, &[("Authorization", &foreign)], b"").await.0, 401);
    lab.stop().await;
}
