//! A namespace's way into the mesh and out of it, by kubectl alone, as the first pages of every guide tell it.

use std::time::Duration;

use crate::support::lab::{Lab, REDIRECTION, shop};
use crate::support::program::text;
use crate::support::{eventually, within};

const PODS: &str = include_str!("../fixtures/shop.yaml");
const DEPLOYED: &str = include_str!("../fixtures/deployed.yaml");
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
