//! The plugin as a runtime calls it, against scripted agents; what a real kubelet and API do with it is in the lab's
//! tests.

use std::collections::BTreeMap;
use std::os::unix::net::UnixListener;
use std::path::Path;

use serde_json::json;

use super::*;

const PREVIOUS: &str = r#"{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"/n"}],"ips":[{"address":"10.1.0.5/24","gateway":"10.1.0.1","interface":0}],"dns":{},"more":1.50}"#;

fn call(command: &str, arguments: &str, input: &str) -> Answer {
    let variables: BTreeMap<&str, &str> = BTreeMap::from([
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", "c"),
        ("CNI_NETNS", "/var/run/netns/c"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", arguments),
    ]);
    run(|name| variables.get(name).copied(), input.as_bytes())
}

fn configuration(directory: &Path, more: Value) -> String {
    let mut configuration = json!({
        "cniVersion": "1.0.0", "name": "n", "type": "aquifer-cni", "cni_agent_run_dir": directory,
        "exclude_namespaces": ["kube-system"], "pod_namespace": "aquifer-system", "node_name": "node-1",
    });
    configuration["prevResult"] = serde_json::from_str(PREVIOUS).unwrap();
    for (key, value) in more.as_object().unwrap() {
        configuration[key] = value.clone();
    }
    configuration.to_string()
}

fn add(directory: &Path, arguments: &str, more: Value) -> Answer {
    call("ADD", arguments, &configuration(directory, more))
}

const CART: &str = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart;K8S_POD_UID=u-1";

/// An agent that gives one answer and returns the request's body.
fn agent(directory: &Path, answer: &'static str) -> std::thread::JoinHandle<Value> {
    let listener = UnixListener::bind(directory.join(SOCKET)).unwrap();
    std::thread::spawn(move || {
        use std::io::Write;
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let length = stream.read(&mut buffer).unwrap();
            request.extend_from_slice(&buffer[..length]);
            let text = String::from_utf8_lossy(&request).into_owned();
            if let Some((_, body)) = text.split_once("\r\n\r\n")
                && let Ok(body) = serde_json::from_str(body)
            {
                stream.write_all(answer.as_bytes()).unwrap();
                return body;
            }
        }
    })
}

fn failure(answer: &Answer) -> (u64, String) {
    assert!(!answer.is_success, "{answer:?}");
    let object: Value = serde_json::from_str(&answer.output).unwrap();
    (object["code"].as_u64().unwrap(), object["msg"].as_str().unwrap().to_owned())
}

#[test]
fn a_pod_that_the_agent_takes_in_gets_the_previous_result_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    let agent = agent(directory.path(), "HTTP/1.1 200 OK\r\n\r\ncaptured\n");
    let answer = add(directory.path(), CART, json!({}));
    assert_eq!(answer, Answer { output: PREVIOUS.replace("1.50", "1.5"), is_success: true });
    let expected = json!({
        "Netns": "/var/run/netns/c", "PodName": "cart", "PodNamespace": "shop", "PodUID": "u-1",
        "IPs": [{"Interface": 0, "Address": {"IP": "10.1.0.5", "Mask": "////AA=="}, "Gateway": "10.1.0.1"}],
    });
    assert_eq!(agent.join().unwrap(), expected);
}

#[test]
fn a_refusal_names_pod_node_and_cause_and_asks_to_try_again() {
    let directory = tempfile::tempdir().unwrap();
    let agent =
        agent(directory.path(), "HTTP/1.1 503 Service Unavailable\r\n\r\nno ztunnel connected on node node-1\n");
    let answer = add(directory.path(), CART, json!({}));
    agent.join().unwrap();
    let expected = "pod shop/cart cannot join the mesh on node node-1: no ztunnel connected on node node-1";
    assert_eq!(failure(&answer), (11, expected.to_owned()));
    assert_eq!(serde_json::from_str::<Value>(&answer.output).unwrap()["cniVersion"], "1.0.0");
}

#[test]
fn without_agent_and_api_a_pod_does_not_start_unless_told_to() {
    let directory = tempfile::tempdir().unwrap();
    let (code, message) = failure(&add(directory.path(), CART, json!({})));
    assert_eq!(code, 11);
    assert!(
        message.starts_with("pod shop/cart cannot join the mesh on node node-1: the node agent is away"),
        "{message}"
    );
    assert!(message.contains("cannot be told") && message.contains(KUBECONFIG), "{message}");
    let open = add(directory.path(), CART, json!({"enable_ambient_detection_retry": false}));
    assert!(open.is_success, "{open:?}");
}

#[test]
fn pods_that_are_known_to_stay_outside_wait_for_nobody() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [
        "K8S_POD_NAMESPACE=kube-system;K8S_POD_NAME=dns",
        "K8S_POD_NAMESPACE=aquifer-system;K8S_POD_NAME=aquifer-node-x7f",
        "",
    ] {
        assert!(add(directory.path(), arguments, json!({})).is_success, "{arguments}");
    }
    assert!(add(directory.path(), CART, json!({"ambient_enabled": false})).is_success);
}

#[test]
fn what_is_no_chain_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (code, message) = failure(&add(directory.path(), CART, json!({"prevResult": null})));
    assert_eq!(code, 7);
    assert!(message.contains("prevResult is missing"), "{message}");
    let (code, message) = failure(&add(directory.path(), CART, json!({"cniVersion": "0.2.0"})));
    assert_eq!(code, 1);
    assert!(message.contains("\"0.2.0\""), "{message}");
    assert_eq!(failure(&call("ADD", CART, "{")).0, 6);
    assert_eq!(failure(&call("JUMP", CART, "{}")).0, 4);
    let (code, message) = failure(&add(directory.path(), CART, json!({"exclude_namespaces": 7})));
    assert_eq!(code, 7, "{message}");
}

#[test]
fn the_other_commands_need_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let input = configuration(directory.path(), json!({}));
    let nothing = Answer { output: String::new(), is_success: true };
    for command in ["CHECK", "DEL", "GC", "STATUS"] {
        assert_eq!(call(command, CART, &input), nothing, "{command}");
    }
    assert_eq!(call("DEL", CART, r#"{"cniVersion":"1.0.0"}"#), nothing, "what was never added is gone already");
    let versions = r#"{"cniVersion":"0.4.0","supportedVersions":["0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}"#;
    assert_eq!(call("VERSION", "", r#"{"cniVersion":"0.4.0"}"#).output, versions);
    assert!(call("VERSION", "", "").is_success);
}
