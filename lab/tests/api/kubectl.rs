//! The server under the real kubectl, over TLS: each test with every version that is here.
//! Skipped where there is none.

mod bodies;
mod exec;
mod rollout;
mod watching;

use std::io::Write as _;
use std::process::{Output, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use lab::api::{DeleteOptions, LogRequest, LogStream, Patch, PodLogs, Selection, Status};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::support::{DEADLINE, Lab, wait_until};

/// What kubectl is called: the newest, or the machine's own, and the oldest that `cargo xtask test` fetches.
const PROGRAMS: &[&str] = &["kubectl", "kubectl-oldest"];

/// Runs a test with each kubectl that is here, each with a server of its own.
async fn with_each(test: impl AsyncFn(&Kubectl)) {
    let mut found = 0;
    for program in PROGRAMS {
        let version = Command::new(program).args(["version", "--client"]).output().await;
        let Ok(version) = version else { continue };
        println!("{program}: {}", String::from_utf8_lossy(&version.stdout).lines().next().unwrap_or_default());
        let kubectl = Kubectl::start(program);
        test(&kubectl).await;
        kubectl.lab.stop().await;
        found += 1;
    }
    if found == 0 {
        println!("SKIPPED: kubectl is not installed");
    }
}

#[tokio::test]
async fn kubectl_is_here_in_its_oldest_and_newest_version() {
    for program in PROGRAMS {
        if Command::new(program).args(["version", "--client"]).output().await.is_err() {
            println!("SKIPPED: {program} is not installed");
        }
    }
}

/// A lab with nodes, a kubeconfig in a file, and kubectl.
struct Kubectl {
    program: &'static str,
    lab: Lab,
    kubeconfig: tempfile::NamedTempFile,
    cache: tempfile::TempDir,
}

impl Kubectl {
    fn start(program: &'static str) -> Self {
        let lab = Lab::start();
        let mut kubeconfig = tempfile::NamedTempFile::new().unwrap();
        kubeconfig.write_all(lab.kubeconfig().as_bytes()).unwrap();
        for name in ["node-1", "node-2"] {
            let status = json!({"conditions": [{"type": "Ready", "status": "True"}]});
            let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status});
            lab.client.apply_json(node).unwrap();
        }
        Self { program, lab, kubeconfig, cache: tempfile::tempdir().unwrap() }
    }

    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(self.program);
        command.arg("--kubeconfig").arg(self.kubeconfig.path()).arg("--cache-dir").arg(self.cache.path());
        command.args(words.split_whitespace()).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    async fn output(&self, words: &str, input: &str) -> Output {
        let mut child = self.command(words).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A kubectl that reads no input may have ended already.
        let _ended = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        tokio::time::timeout(DEADLINE, child.wait_with_output()).await.expect("kubectl must end").unwrap()
    }

    /// Runs a command that must succeed; its output.
    async fn run(&self, words: &str) -> String {
        self.feed(words, "").await
    }

    /// As [`Kubectl::run`], with a manifest as input.
    async fn feed(&self, words: &str, input: &str) -> String {
        let output = self.output(words, input).await;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{} {words}: {text} {}",
            self.program,
            String::from_utf8_lossy(&output.stderr)
        );
        text
    }

    /// Runs a command that must fail; what it complains of.
    async fn fail(&self, words: &str, input: &str) -> String {
        let output = self.output(words, input).await;
        assert!(!output.status.success(), "{} {words}: {}", self.program, String::from_utf8_lossy(&output.stdout));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Gives every pod of the shop an address and readiness, and ends those that are to go.
    fn play_kubelet(&self) {
        let client = &self.lab.client;
        for (index, pod) in client.list::<Pod>(&Selection::namespace("shop")).unwrap().into_iter().enumerate() {
            let name = pod.metadata.name.as_deref().unwrap();
            if pod.metadata.deletion_timestamp.is_some() {
                let uid = pod.metadata.uid.clone().unwrap();
                client.delete::<Pod>(Some("shop"), name, &DeleteOptions::now(uid)).unwrap();
                continue;
            }
            let running = json!({"name": "app", "ready": true, "restartCount": 0, "image": "a", "imageID": "a"});
            let status = json!({
                "phase": "Running", "podIP": format!("10.244.1.{index}"), "containerStatuses": [running],
                "conditions": [{"type": "Ready", "status": "True"}],
            });
            let patch = Patch::Strategic(json!({"status": status}));
            client.patch_status::<Pod>(Some("shop"), name, &patch).unwrap();
        }
    }
}

const SHOP: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: cart, namespace: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart, namespace: shop, labels: {app: cart}}
spec:
  replicas: 2
  selector: {matchLabels: {app: cart}}
  template:
    metadata: {labels: {app: cart}}
    spec:
      serviceAccountName: cart
      containers:
      - name: app
        image: aquifer/echo
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /, port: http}}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec:
  selector: {app: cart}
  ports: [{name: http, port: 80, targetPort: http}]
";

#[tokio::test]
async fn a_deployment_and_its_service_live_through_everyday_commands() {
    with_each(async |kubectl| {
        let applied = kubectl.feed("apply -f -", SHOP).await;
        assert!(
            applied.contains("deployment.apps/cart created") && applied.contains("service/cart created"),
            "{applied}"
        );
        assert!(kubectl.feed("apply -f -", SHOP).await.lines().all(|line| line.ends_with(" unchanged")));
        let client = &kubectl.lab.client;
        wait_until("two pods", async || client.list::<Pod>(&Selection::namespace("shop")).unwrap().len() == 2).await;
        kubectl.play_kubelet();
        kubectl.run("-n shop rollout status deployment/cart --timeout=10s").await;
        kubectl.run("-n shop wait --for=condition=Ready pod -l app=cart --timeout=10s").await;

        let pods = kubectl.run("-n shop get pods -o wide").await;
        let header: Vec<_> = pods.lines().next().unwrap().split_whitespace().take(7).collect();
        assert_eq!(header, ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"]);
        assert!(pods.contains("1/1     Running") && pods.contains("node-1") && pods.contains("node-2"), "{pods}");
        let all = kubectl.run("-n shop get all").await;
        for name in ["pod/cart-", "service/cart", "deployment.apps/cart", "replicaset.apps/cart-"] {
            assert!(all.contains(name), "{name} in {all}");
        }
        let json = kubectl.run("-n shop get deployment cart -o json").await;
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["status"]["availableReplicas"], 2);
        assert!(kubectl.run("-n shop get endpointslices").await.contains("8080"));
        assert!(kubectl.run("-n shop describe pod -l app=cart").await.contains("Controlled By:    ReplicaSet/cart-"));

        kubectl.run("label namespace shop istio.io/dataplane-mode=ambient").await;
        assert!(kubectl.run("get ns -l istio.io/dataplane-mode=ambient -o name").await.contains("namespace/shop"));
        kubectl.run("annotate namespace shop example.com/note=hello").await;
        kubectl.run("label namespace shop istio.io/dataplane-mode-").await;
        let image = r#"{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"other"}]}}}}"#;
        assert!(kubectl.run(&format!("-n shop patch deployment cart -p {image}")).await.contains("patched"));
        assert!(kubectl.run("-n shop scale deployment cart --replicas=1").await.contains("scaled"));
        kubectl.run("-n shop rollout restart deployment cart").await;
        assert!(kubectl.feed("-n shop delete -f -", SHOP).await.contains("deployment.apps \"cart\" deleted"));
        wait_until("the end of the pods", async || {
            kubectl.play_kubelet();
            client.list::<Pod>(&Selection::namespace("shop")).unwrap().is_empty()
        })
        .await;
    })
    .await;
}

const GOOD: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: ports, namespace: shop}
spec:
  selector: {matchLabels: {app: api}}
  mtls: {mode: STRICT}
  portLevelMtls:
    8080: {mode: DISABLE}
---
apiVersion: security.istio.io/v1beta1
kind: AuthorizationPolicy
metadata: {name: deny-all, namespace: shop}
spec: {}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: cart, namespace: shop}
spec: {host: cart, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: shop}
spec:
  gatewayClassName: istio-waypoint
  listeners: [{name: mesh, port: 15008, protocol: HBONE}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: cart, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: cart, port: 80}]
  rules: [{backendRefs: [{name: cart, port: 80}]}]
";

const MISSPELT: &str = "
apiVersion: security.istio.io/v1beta1
kind: PeerAuthentication
metadata: {name: default, namespace: shop}
spec:
  mTLS:
    mode: STRICT
    portLevelMtls:
      8080: {mode: DISABLE}
";

#[tokio::test]
async fn istio_and_gateway_manifests_are_applied_and_misspelt_ones_refused() {
    with_each(async |kubectl| {
        assert_eq!(kubectl.feed("apply -f -", GOOD).await.matches(" created").count(), 5);
        assert_eq!(kubectl.feed("apply -f -", GOOD).await.matches(" unchanged").count(), 5);
        assert!(kubectl.run("-n shop get pa").await.contains("STRICT"));
        assert!(kubectl.run("-n shop get gtw,httproutes,ap,dr -o name").await.lines().count() == 4);

        for validate in ["--validate=strict", "--validate=warn", "--validate=ignore"] {
            let refused = kubectl.fail(&format!("apply {validate} -f -"), MISSPELT).await;
            assert!(refused.contains(r#"unknown field "spec.mTLS", did you mean "mtls"?"#), "{refused}");
            assert!(refused.contains("portLevelMtls belongs at spec.portLevelMtls"), "{refused}");
        }
        let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: shop}\n\
                   spec: {containers: [{name: a, image: b, comand: [x]}]}";
        let refused = kubectl.fail("apply -f -", pod).await;
        assert!(refused.contains(r#"unknown field "spec.containers[0].comand", did you mean "command"?"#), "{refused}");
        let warned = kubectl.output("apply --validate=warn -f -", pod).await;
        assert!(warned.status.success());
        assert!(String::from_utf8_lossy(&warned.stderr).contains("Warning: unknown field"));
        let unserved = "apiVersion: policy.linkerd.io/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: x}";
        assert!(kubectl.fail("apply -f -", unserved).await.contains("no matches for kind"));
    })
    .await;
}

#[tokio::test]
async fn refusals_read_as_from_a_cluster() {
    with_each(async |kubectl| {
        let missing = kubectl.fail("-n shop get deployment x", "").await;
        assert!(missing.contains(r#"Error from server (NotFound): deployments.apps "x" not found"#), "{missing}");
        let exists = kubectl.fail("create namespace shop", "").await;
        assert!(exists.contains(r#"(AlreadyExists): namespaces "shop" already exists"#), "{exists}");
        let forbidden = kubectl.fail("delete namespace default", "").await;
        assert!(forbidden.contains("(Forbidden)"), "{forbidden}");
        let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: fresh}";
        let applied = kubectl.fail("apply --server-side -f -", namespace).await;
        assert!(applied.contains("no server-side apply"), "{applied}");
    })
    .await;
}

/// Logs that say what was asked for, in two chunks.
struct Echo;

impl PodLogs for Echo {
    fn open(&self, pod: &Pod, request: LogRequest) -> BoxFuture<'static, Result<LogStream, Status>> {
        let name = pod.metadata.name.clone().unwrap_or_default();
        Box::pin(async move {
            if request.previous {
                return Err(Status::bad_request("previous terminated container \"app\" not found"));
            }
            let container = request.container.unwrap_or_default();
            let lines =
                [format!("{name}/{container}\n"), format!("tail={:?} follow={}\n", request.tail_lines, request.follow)];
            Ok(futures::stream::iter(lines.map(|line| Ok(Bytes::from(line)))).boxed())
        })
    }
}

#[tokio::test]
async fn logs_come_from_the_kubelet() {
    with_each(async |kubectl| {
        kubectl.run("-n shop run p --image=aquifer").await;
        wait_until("a node", async || {
            kubectl.lab.client.fetch::<Pod>(Some("shop"), "p").unwrap().spec.unwrap().node_name.is_some()
        })
        .await;
        assert!(kubectl.fail("-n shop logs p", "").await.contains("no kubelet provides logs yet"));
        kubectl.lab.server.provide_logs(Arc::new(Echo));
        assert_eq!(kubectl.run("-n shop logs p").await, "p/p\ntail=None follow=false\n");
        assert_eq!(kubectl.run("-n shop logs -f --tail=5 p -c p").await, "p/p\ntail=Some(5) follow=true\n");
        assert_eq!(kubectl.run("-n shop logs --limit-bytes=5 p").await, "p/p\nt");
        assert!(kubectl.fail("-n shop logs -p p", "").await.contains("previous terminated container"));
        assert!(kubectl.fail("-n shop logs p -c other", "").await.contains("container other is not valid for pod p"));
    })
    .await;
}
