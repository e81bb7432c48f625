//! Objects that kubectl makes itself and sends as it pleases: protobuf, for most kinds.

use std::path::Path;

use lab::api::Selection;
use serde_json::{Value, json};

use super::{Kubectl, with_each};

impl Kubectl {
    async fn json(&self, words: &str) -> Value {
        serde_json::from_str(&self.run(&format!("{words} -o json")).await).unwrap()
    }
}

/// The claims of a token.
fn claims(token: &str) -> Value {
    use base64::Engine as _;
    let part = token.trim().split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[tokio::test]
async fn objects_made_by_kubectl_itself_are_read() {
    with_each(async |kubectl| {
        for (command, expected) in [
            ("create namespace fresh", "namespace/fresh created"),
            ("-n fresh create deployment d --image=aquifer --replicas=0 --port=80 -- aquifer echo", "d created"),
            ("-n fresh create service clusterip c --tcp=80:8080", "service/c created"),
            ("-n fresh create service clusterip h --clusterip=None", "service/h created"),
            ("-n fresh create service nodeport n --tcp=80:http", "service/n created"),
            ("-n fresh create service externalname e --external-name=example.com", "service/e created"),
            ("-n fresh expose deployment d --port=80", "service/d exposed"),
            ("-n fresh run p --image=aquifer --labels=a=b", "pod/p created"),
            ("auth whoami", "kubernetes-admin"),
            ("auth can-i create pods", "yes"),
        ] {
            let output = kubectl.run(command).await;
            assert!(output.contains(expected), "{command}: {output}");
        }
        let deployment = kubectl.json("-n fresh get deployment d").await;
        assert_eq!(deployment["spec"]["replicas"], 0);
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["command"], json!(["aquifer", "echo"]));
        assert_eq!(container["stdin"], Value::Null, "what was not given must not be there");
        assert_eq!(kubectl.json("-n fresh get service c").await["spec"]["ports"][0]["targetPort"], 8080);
        assert_eq!(kubectl.json("-n fresh get service n").await["spec"]["ports"][0]["targetPort"], "http");
        kubectl.run("delete namespace fresh --wait=false").await;
        assert!(kubectl.fail("-n fresh create configmap late", "").await.contains("is being terminated"));
    })
    .await;
}

/// Writes files that a ConfigMap or Secret is made from: text, and bytes that are none.
fn sources(folder: &Path) -> (String, String) {
    let path = |name: &str| folder.join(name).display().to_string();
    std::fs::write(folder.join("text"), "grüße\n").unwrap();
    std::fs::write(folder.join("bytes"), b"\xff\xfe\0x").unwrap();
    (path("text"), path("bytes"))
}

#[tokio::test]
async fn configmaps_and_secrets_keep_text_bytes_and_types() {
    let folder = tempfile::tempdir().unwrap();
    let (text, bytes) = sources(folder.path());
    with_each(async |kubectl| {
        let from = format!("--from-literal=a=b --from-literal=empty= --from-file={text} --from-file={bytes}");
        kubectl.run(&format!("-n shop create configmap m {from}")).await;
        let map = kubectl.json("-n shop get configmap m").await;
        assert_eq!(map["data"], json!({"a": "b", "empty": "", "text": "grüße\n"}));
        assert_eq!(map["binaryData"], json!({"bytes": "//4AeA=="}));

        kubectl.run(&format!("-n shop create secret generic s {from} --type=example.com/own")).await;
        let secret = kubectl.json("-n shop get secret s").await;
        assert_eq!(secret["data"], json!({"a": "Yg==", "bytes": "//4AeA==", "empty": "", "text": "Z3LDvMOfZQo="}));
        assert_eq!(secret["type"], "example.com/own");
        let login = "--docker-username=u --docker-password=p --docker-server=r.example.com";
        kubectl.run(&format!("-n shop create secret docker-registry d {login}")).await;
        assert_eq!(kubectl.json("-n shop get secret d").await["type"], "kubernetes.io/dockerconfigjson");
        let hashed = kubectl.run("-n shop create secret generic h --from-literal=a=b --append-hash").await;
        assert!(hashed.starts_with("secret/h-"), "{hashed}");

        let dry = kubectl.run("-n shop create configmap dry --from-literal=a=b --dry-run=server -o name").await;
        assert_eq!(dry, "configmap/dry\n");
        assert!(kubectl.fail("-n shop get configmap dry", "").await.contains("NotFound"));
        assert!(kubectl.fail("-n shop create configmap m", "").await.contains("already exists"));
        assert!(kubectl.fail("-n shop create configmap Bad", "").await.contains("RFC 1123"));
    })
    .await;
}

#[tokio::test]
async fn accounts_and_tokens_are_made_as_asked_for() {
    with_each(async |kubectl| {
        assert_eq!(kubectl.run("-n shop create serviceaccount bob").await, "serviceaccount/bob created\n");
        let token = kubectl.run("-n shop create token bob --audience=istio-ca --audience=other --duration=20m").await;
        let said = claims(&token);
        assert_eq!(said["aud"], json!(["istio-ca", "other"]));
        assert_eq!(said["exp"].as_i64().unwrap() - said["iat"].as_i64().unwrap(), 1200);
        assert_eq!(said["sub"], "system:serviceaccount:shop:bob");

        let pod = r#"{"spec":{"serviceAccountName":"bob"}}"#;
        kubectl.run(&format!("-n shop run p --image=aquifer --overrides={pod}")).await;
        let uid = kubectl.run("-n shop get pod p -o jsonpath={.metadata.uid}").await;
        let bound = format!("--bound-object-kind=Pod --bound-object-name=p --bound-object-uid={uid}");
        let said = claims(&kubectl.run(&format!("-n shop create token bob {bound}")).await);
        assert_eq!(said["kubernetes.io"]["pod"], json!({"name": "p", "uid": uid}));
        let refused = kubectl.fail(&format!("-n shop create token default {bound}"), "").await;
        assert!(refused.contains("pod running with"), "{refused}");
        let refused = kubectl.fail("-n shop create token bob --duration=1m", "").await;
        assert!(refused.contains("10 minutes"), "{refused}");
        assert!(kubectl.fail("-n shop create token nobody", "").await.contains("\"nobody\" not found"));
        let accounts =
            kubectl.lab.client.list::<k8s_openapi::api::core::v1::ServiceAccount>(&Selection::namespace("shop"));
        assert_eq!(accounts.unwrap().len(), 2);
    })
    .await;
}
