//! A namespace's way into the mesh and out of it, by kubectl alone, as the first pages of every guide tell it.

use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::support::lab::{Lab, REDIRECTION, shop};
use crate::support::program::text;
use crate::support::{PATIENCE, eventually, within};

const PODS: &str = include_str!("../fixtures/shop.yaml");
const DEPLOYED: &str = include_str!("../fixtures/deployed.yaml");
const STREET: &str = include_str!("../fixtures/street.yaml");
const MISSPELT: &str = include_str!("../fixtures/misspelt.yaml");
const PORT_LEVEL: &str = include_str!("../fixtures/strict-but-8080.yaml");

/// A labelled namespace is captured within this time.
const CAPTURE_LIMIT: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_namespace_is_driven_into_the_mesh_and_out_by_kubectl() {
    let Some(lab) = Lab::start(&["curl"]).await else { return };
    assert_eq!(lab.kubectl("create namespace shop").await, "namespace/shop created\n");
    let applied = lab.apply(DEPLOYED).await;
    assert!(applied.contains("deployment.apps/web created") && applied.contains("service/web created"), "{applied}");
    lab.kubectl("rollout status deployment/web -n shop --timeout=30s").await;
    assert_eq!(lab.kubectl("label namespace shop istio.io/dataplane-mode=ambient").await, "namespace/shop labeled\n");
    let took = lab.wait_for_redirection("pods", true).await;
    assert!(took <= CAPTURE_LIMIT, "captured after {took:?}");

    let words = "get pods -n shop -o jsonpath={..annotations.ambient\\.istio\\.io/redirection}";
    assert_eq!(lab.kubectl(words).await, "enabled enabled");
    let pods = lab.kubectl("get pods -n shop -o wide --no-headers").await;
    assert!(pods.lines().all(|line| line.contains("1/1") && line.contains("Running")), "{pods}");
    let pod = lab.pod_of("web").await;
    let described = lab.kubectl(&format!("describe pod {pod} -n shop")).await;
    assert!(described.contains(&format!("{REDIRECTION}: enabled")) && described.contains("Captured"), "{described}");
    lab.kubectl(&format!("annotate pod {pod} -n shop example.com/note=seen")).await;
    let annotations = lab.get(&format!("pod {pod} -n shop")).await["metadata"]["annotations"].clone();
    assert_eq!((&annotations["example.com/note"], &annotations[REDIRECTION]), (&"seen".into(), &"enabled".into()));
    let answer = lab.curl(shop(&pod), "http://web/").await.unwrap();
    assert!(answer.contains("\"name\": \"web-"), "{answer}");
    let log = lab.kubectl(&format!("logs {pod} -n shop")).await;
    assert!(log.contains("listening"), "{log}");

    lab.kubectl("label namespace shop istio.io/dataplane-mode-").await;
    lab.wait_for_redirection("pods", false).await;
    let annotations = lab.get(&format!("pod {pod} -n shop")).await["metadata"]["annotations"].clone();
    let marks = annotations.as_object().unwrap().keys().filter(|key| key.contains("ambient")).count();
    assert_eq!(marks, 0, "every mark of the mesh is gone: {annotations}");
    lab.feed("delete -f -", DEPLOYED).await;
    eventually("the pods are gone", async || {
        lab.get("pods -n shop").await["items"].as_array().unwrap().is_empty().then_some(())
    })
    .await;
    lab.kubectl("delete namespace shop").await;
    within(Duration::from_secs(10), "the namespace is gone", async || {
        (!lab.try_kubectl("get namespace shop", "").await.status.success()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_misspelt_field_is_refused_with_its_nearest_name() {
    let Some(lab) = Lab::start(&[]).await else { return };
    lab.open_shop(PODS).await;
    let refused = lab.try_kubectl("apply -f -", MISSPELT).await;
    let said = text(&refused.stderr);
    assert!(!refused.status.success(), "{refused:?}");
    for part in ["PeerAuthentication", "misspelt", "spec.mTLS", "mtls"] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    let absent = lab.try_kubectl("get peerauthentication misspelt -n shop", "").await;
    assert!(!absent.status.success(), "it was stored: {absent:?}");
    let applied = lab.apply(PORT_LEVEL).await;
    assert!(applied.contains("cart-ports created"), "{applied}");
    let stored = lab.get("peerauthentication cart-ports -n shop").await;
    assert_eq!(stored["spec"]["portLevelMtls"]["8080"]["mode"], "DISABLE", "{stored}");
    assert!(lab.apply(PORT_LEVEL).await.contains("unchanged"), "applying it again changes nothing");
}

/// Runs a kubectl of another version than the tests' own, which must succeed; its output.
async fn feed(lab: &Lab, program: &str, words: &str, input: &str) -> String {
    let usual = lab.kubectl_command(words);
    let mut command = Command::new(program);
    command.args(usual.as_std().get_args()).kill_on_drop(true);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    command.stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // One that reads no input may have ended already.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let ended = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let output = ended.unwrap_or_else(|_| panic!("{program} {words} does not end")).unwrap();
    assert!(output.status.success(), "{program} {words}: {output:?}");
    text(&output.stdout)
}

#[tokio::test]
async fn the_oldest_and_the_newest_kubectl_do_what_people_do_with_it() {
    let Some(lab) = Lab::start(&["kubectl-oldest"]).await else { return };
    let mut versions = Vec::new();
    for program in ["kubectl-oldest", "kubectl"] {
        let kubectl = async |words: &str| feed(&lab, program, words, "").await;
        let version: Value = serde_json::from_str(&kubectl("version -o json").await).unwrap();
        versions.push(version["clientVersion"]["gitVersion"].as_str().unwrap().to_owned());
        assert!(version["serverVersion"]["gitVersion"].is_string(), "{version}");
        assert!(feed(&lab, program, "apply -f -", STREET).await.contains("pod/outsider created"), "{program}");
        kubectl("wait -n street --for=condition=Ready pod/outsider --timeout=30s").await;
        kubectl("label namespace street istio.io/dataplane-mode=ambient").await;
        let path = format!("{{.metadata.annotations.{}}}", REDIRECTION.replace('.', "\\."));
        kubectl(&format!("wait -n street --for=jsonpath={path}=enabled pod/outsider --timeout=10s")).await;
        assert!(kubectl("get pods -n street -o wide").await.contains("1/1"), "{program}");
        assert!(kubectl("describe pod outsider -n street").await.contains("Captured"), "{program}");
        assert!(kubectl("logs outsider -n street").await.contains("listening"), "{program}");
        assert!(kubectl("api-resources").await.contains("authorizationpolicies"), "{program}");
        kubectl("create serviceaccount somebody -n street").await;
        let token = kubectl("create token somebody -n street --audience istio-ca").await;
        assert_eq!(token.trim().split('.').count(), 3, "{program}: {token}");
        kubectl("create configmap notes -n street --from-literal=note=seen").await;
        kubectl("patch configmap notes -n street --type merge -p {\"data\":{\"note\":\"again\"}}").await;
        assert_eq!(kubectl("get configmap notes -n street -o jsonpath={.data.note}").await, "again", "{program}");
        // It waits until they are gone.
        feed(&lab, program, "delete -f - --timeout=20s", STREET).await;
    }
    assert_ne!(versions[0], versions[1], "two versions");
}
