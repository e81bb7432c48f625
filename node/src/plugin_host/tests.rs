//! Agents that end, against a scripted API: the plugin stays for the next agent, or goes with the last one.

use std::net::SocketAddr;

use http::StatusCode;
use kube::runtime::reflector;
use serde_json::{Value, json};
use telemetry::http::{Router, json as answer};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::*;

const POD: &str = "/api/v1/namespaces/aquifer-system/pods/aquifer-node-x";
const SET: &str = "/apis/apps/v1/namespaces/aquifer-system/daemonsets/aquifer-node";
const NODE: &str = "/api/v1/nodes/node-1";
const TOKEN: &str = "/api/v1/namespaces/aquifer-system/serviceaccounts/aquifer-node/token";

/// What the API has, or says instead.
type Scripted = (&'static str, Result<Value, u16>);

/// An API with these objects alone.
async fn api(objects: &[Scripted]) -> SocketAddr {
    let mut router = Router::new();
    for path in [POD, SET, NODE, TOKEN] {
        let found = objects.iter().find(|(named, _)| *named == path).map(|(_, object)| object.clone());
        let (status, body) = match found.unwrap_or(Err(404)) {
            Ok(object) => (200, object),
            Err(code) => {
                let reason = if code == 404 { "NotFound" } else { "Other" };
                (code, json!({"kind": "Status", "status": "Failure", "message": "no", "reason": reason, "code": code}))
            }
        };
        router = router.any(path, move |_| {
            let mut response = answer(body.to_string());
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            std::future::ready(response)
        });
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, router, std::future::pending()));
    address
}

fn client(api: SocketAddr) -> Client {
    Client::try_from(kube::Config::new(format!("http://{api}").parse().unwrap())).unwrap()
}

fn pod() -> Scripted {
    let owner = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "aquifer-node", "uid": "set-1"});
    let metadata = json!({"name": "aquifer-node-x", "namespace": "aquifer-system", "ownerReferences": [owner]});
    let spec = json!({"serviceAccountName": "aquifer-node", "containers": []});
    (POD, Ok(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})))
}

/// The agent's DaemonSet, with this in its metadata.
fn set(metadata: Value) -> Scripted {
    let mut set = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"uid": "set-1"}, "spec": {
        "selector": {}, "template": {"spec": {"containers": [], "nodeSelector": {"kubernetes.io/os": "linux"}}},
    }});
    for (key, value) in metadata.as_object().unwrap() {
        set["metadata"][key] = value.clone();
    }
    (SET, Ok(set))
}

fn node(system: &str) -> Scripted {
    let metadata = json!({"name": "node-1", "labels": {"kubernetes.io/os": system}});
    (NODE, Ok(json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata})))
}

/// The configuration of an agent whose host is below `directory`.
fn config(directory: &std::path::Path) -> config::Node {
    let path = |name: &str| directory.join(name).display().to_string();
    let variables = [
        ("NODE_NAME", "node-1".to_owned()),
        ("POD_NAME", "aquifer-node-x".to_owned()),
        ("MOUNTED_CNI_NET_DIR", path("net.d")),
        ("MOUNTED_CNI_BIN_DIR", path("bin")),
        ("CNI_AGENT_RUN_DIR", path("run")),
    ];
    config::Node::from(&variables.into_iter().collect()).unwrap()
}

#[tokio::test]
async fn an_agent_is_the_last_only_where_that_is_certain() {
    let directory = tempfile::tempdir().unwrap();
    let plugin = config(directory.path()).plugin.unwrap();
    let ownerless = (POD, Ok(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}})));
    let cases: [(&str, Vec<Scripted>, bool); 10] = [
        ("an upgrade", vec![pod(), set(json!({})), node("linux")], false),
        ("an upgrade of which the node is not known", vec![pod(), set(json!({}))], false),
        ("the DaemonSet is gone", vec![pod()], true),
        ("it is going", vec![pod(), set(json!({"deletionTimestamp": "2026-01-01T00:00:00Z"})), node("linux")], true),
        ("it does not want the node any more", vec![pod(), set(json!({})), node("plan9")], true),
        ("there is a new one of its name", vec![pod(), set(json!({"uid": "set-2"})), node("linux")], false),
        ("the pod is nobody's", vec![ownerless], false),
        ("the pod was deleted by force", vec![], false),
        ("the API is broken", vec![pod(), (SET, Err(500))], false),
        ("the account may do nothing any more", vec![(POD, Err(403))], true),
    ];
    for (name, objects, expected) in cases {
        let way = Way::of_pod(client(api(&objects).await));
        assert_eq!(way.is_last(&plugin, "node-1").await, expected, "{name}");
    }
    let nobody_listens = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert!(!Way::of_pod(client(nobody_listens)).is_last(&plugin, "node-1").await);
}

#[tokio::test]
async fn a_refused_token_tells_something_only_where_it_is_no_pods() {
    let directory = tempfile::tempdir().unwrap();
    let plugin = config(directory.path()).plugin.unwrap();
    let refusing = api(&[(POD, Err(401))]).await;
    assert!(!Way::of_pod(client(refusing)).is_last(&plugin, "node-1").await);
    let kubeconfig = directory.path().join("kubeconfig");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": format!("http://{refusing}")}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    std::fs::write(&kubeconfig, text.to_string()).unwrap();
    let way = Way::of_plugin(&kubeconfig).await.unwrap();
    assert!(way.is_last(&plugin, "node-1").await);
    assert!(Way::of_plugin(&directory.path().join("none")).await.is_none());
}

/// Runs an agent's plugin host until the plugin is installed, and ends it. Returns whether it says that it has taken
/// the plugin away, and which of the plugin's files are left.
async fn ended(objects: &[Scripted]) -> (bool, Vec<&'static str>) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let list = path("net.d/10-cluster.conflist");
    std::fs::create_dir(path("net.d")).unwrap();
    std::fs::write(&list, r#"{"cniVersion":"1.0.0","name":"cluster","plugins":[{"type":"ptp"}]}"#).unwrap();
    let has_entry = || cni::network::read(&list).unwrap().has(cni::PLUGIN);
    let config = config(directory.path());
    let client = client(api(objects).await);
    let knowledge = Knowledge {
        client: client.clone(),
        pods: reflector::store().0,
        namespaces: reflector::store().0,
        changes: watch::channel(0).1,
        eligibility: crate::eligibility(&config),
    };
    let metrics = PluginMetrics::new(&telemetry::Registry::new());
    let (host, _arrivals) = PluginHost::open(&config, config.plugin.as_ref().unwrap(), knowledge, metrics).unwrap();
    let (trigger, draining) = drain::new();
    let readiness = drain::Readiness::new();
    let installed = readiness.task("CNI plugin");
    let end = async {
        tokio::time::timeout(Duration::from_secs(30), readiness.ready()).await.expect("the plugin is installed");
        assert!(has_entry());
        trigger.start_without_deadline();
    };
    let (is_gone, ()) = tokio::join!(host.run(client, installed, &draining), end);
    let files = ["net.d/10-cluster.conflist", "bin/aquifer-cni", "run/pluginevent.sock"];
    let is_left = |file: &&str| if file.starts_with("net.d") { has_entry() } else { path(file).exists() };
    (is_gone, files.into_iter().filter(is_left).collect())
}

#[tokio::test]
async fn the_plugin_goes_with_its_daemonset() {
    assert_eq!(ended(&[pod()]).await, (true, vec![]));
}

#[tokio::test]
async fn the_plugin_stays_for_the_next_agent() {
    let everything = vec!["net.d/10-cluster.conflist", "bin/aquifer-cni", "run/pluginevent.sock"];
    assert_eq!(ended(&[pod(), set(json!({})), node("linux")]).await, (false, everything));
}
