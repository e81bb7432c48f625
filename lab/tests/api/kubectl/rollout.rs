//! Deployments and ReplicaSets as kubectl drives them, and the kinds beside them that are kept and shown.

use serde_json::Value;

use super::{Kubectl, SHOP, with_each};
use crate::support::wait_until;

impl Kubectl {
    /// Plays the kubelet until a command succeeds.
    async fn soon(&self, words: &str) -> String {
        let mut said = String::new();
        wait_until(words, async || {
            self.play_kubelet();
            let output = self.output(words, "").await;
            said = String::from_utf8_lossy(&output.stdout).into_owned();
            output.status.success()
        })
        .await;
        said
    }

    async fn rolled_out(&self) {
        self.soon("-n shop rollout status deployment/cart --timeout=1s").await;
    }

    async fn image(&self) -> String {
        self.run("-n shop get deployment cart -o jsonpath={.spec.template.spec.containers[0].image}").await
    }

    /// Revision and cause of each ReplicaSet, by `rollout history`.
    async fn history(&self) -> Vec<String> {
        let shown = self.run("-n shop rollout history deployment/cart").await;
        let rows = shown.lines().skip(2).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        rows.filter(|row| !row.is_empty()).collect()
    }
}

#[tokio::test]
async fn rollouts_are_recorded_undone_paused_and_restarted() {
    with_each(async |kubectl| {
        kubectl.feed("apply -f -", SHOP).await;
        kubectl.run("-n shop annotate deployment cart kubernetes.io/change-cause=first").await;
        kubectl.rolled_out().await;
        kubectl.run("-n shop set image deployment/cart app=second").await;
        kubectl.run("-n shop annotate --overwrite deployment cart kubernetes.io/change-cause=second").await;
        kubectl.rolled_out().await;
        assert_eq!(kubectl.history().await, ["1 first", "2 second"]);
        let detail = kubectl.run("-n shop rollout history deployment/cart --revision=1").await;
        assert!(detail.contains("Image:	aquifer/echo"), "{detail}");

        assert!(kubectl.run("-n shop rollout undo deployment/cart").await.contains("rolled back"));
        kubectl.rolled_out().await;
        assert_eq!(
            (kubectl.image().await.as_str(), kubectl.history().await),
            ("aquifer/echo", vec!["2 second".into(), "3 first".into()])
        );
        kubectl.run("-n shop rollout undo deployment/cart --to-revision=2").await;
        kubectl.rolled_out().await;
        assert_eq!(
            (kubectl.image().await.as_str(), kubectl.history().await),
            ("second", vec!["3 first".into(), "4 second".into()])
        );
        assert_eq!(kubectl.run("-n shop get replicasets -o name").await.lines().count(), 2, "no others were made");
        let missing = kubectl.fail("-n shop rollout undo deployment/cart --to-revision=9", "").await;
        assert!(missing.contains("unable to find specified revision 9"), "{missing}");

        kubectl.run("-n shop rollout pause deployment/cart").await;
        kubectl.run("-n shop set image deployment/cart app=third").await;
        assert!(kubectl.fail("-n shop rollout undo deployment/cart", "").await.contains("paused"));
        assert_eq!(kubectl.run("-n shop get replicasets -o name").await.lines().count(), 2);
        kubectl.run("-n shop rollout resume deployment/cart").await;
        kubectl.rolled_out().await;
        kubectl.run("-n shop rollout restart deployment/cart").await;
        kubectl.rolled_out().await;
        assert_eq!(kubectl.history().await.len(), 4);
        let described = kubectl.run("-n shop describe deployment cart").await;
        assert!(described.contains("NewReplicaSetAvailable") && described.contains("2 available"), "{described}");
    })
    .await;
}

#[tokio::test]
async fn a_rollout_that_does_not_move_fails_its_status() {
    with_each(async |kubectl| {
        let slow = SHOP.replace("  replicas: 2\n", "  replicas: 1\n  progressDeadlineSeconds: 1\n");
        kubectl.feed("apply -f -", &slow).await;
        let told = kubectl.fail("-n shop rollout status deployment/cart --timeout=15s", "").await;
        assert!(told.contains("exceeded its progress deadline"), "{told}");
    })
    .await;
}

#[tokio::test]
async fn deployments_and_replica_sets_are_scaled() {
    with_each(async |kubectl| {
        kubectl.feed("apply -f -", SHOP).await;
        kubectl.rolled_out().await;
        let wrong = kubectl.fail("-n shop scale deployment cart --replicas=3 --current-replicas=7", "").await;
        assert!(wrong.contains("Expected replicas to be 7, was 2"), "{wrong}");
        let version = kubectl.fail("-n shop scale deployment cart --replicas=3 --resource-version=1", "").await;
        assert!(version.contains("Expected resource version to be 1"), "{version}");
        kubectl.run("-n shop scale deployment cart --replicas=3 --dry-run=server").await;
        assert_eq!(kubectl.run("-n shop get deployment cart -o jsonpath={.spec.replicas}").await, "2");
        kubectl.run("-n shop scale deployment cart --replicas=3 --current-replicas=2 --timeout=1s").await;
        kubectl.rolled_out().await;
        let row = kubectl.run("-n shop get deployment cart --no-headers").await;
        assert_eq!(row.split_whitespace().nth(1), Some("3/3"), "{row}");
        let patch = r#"{"spec":{"replicas":1}}"#;
        kubectl.run(&format!("-n shop patch deployment cart --subresource=scale --type=merge -p {patch}")).await;
        let scale: Value =
            serde_json::from_str(&kubectl.run("-n shop get deployment cart --subresource=scale -o json").await)
                .unwrap();
        assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&"Scale".into(), &1.into()));

        let set = "
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: alone, namespace: shop}
spec:
  replicas: 1
  selector: {matchLabels: {app: alone}}
  template: {metadata: {labels: {app: alone}}, spec: {containers: [{name: app, image: aquifer}]}}
"
        .replace("\n        ", "\n");
        kubectl.feed("apply -f -", &set).await;
        kubectl.run("-n shop scale replicaset alone --replicas=2").await;
        kubectl.soon("-n shop wait replicaset/alone --for=jsonpath={.status.readyReplicas}=2 --timeout=1s").await;
        kubectl.run("-n shop delete replicaset alone --cascade=orphan").await;
        assert_eq!(kubectl.run("-n shop get pods -l app=alone -o name").await.lines().count(), 2);
    })
    .await;
}

const KEPT: &str = "
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: cart, namespace: shop}
spec: {minAvailable: 50%, selector: {matchLabels: {app: cart}}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: cart, namespace: shop}
spec: {maxReplicas: 4, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: cart}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: cart, namespace: shop}
spec: {podSelector: {matchLabels: {app: cart}}, ingress: [{from: [{podSelector: {}}], ports: [{port: 8080}]}]}
";

#[tokio::test]
async fn kinds_without_effect_are_kept_shown_and_said_to_be_so() {
    with_each(async |kubectl| {
        let applied = kubectl.output("apply -f -", KEPT).await;
        let (out, warned) = (String::from_utf8_lossy(&applied.stdout), String::from_utf8_lossy(&applied.stderr));
        assert_eq!(out.matches(" created").count(), 3, "{out} {warned}");
        for warning in ["scales nothing by them", "holds no deletion of a pod to them", "does not enforce them"] {
            assert!(warned.contains(warning), "{warned}");
        }
        // kubectl sends the selector of a budget each time, to replace it.
        assert_eq!(kubectl.feed("apply -f -", KEPT).await.matches(" unchanged").count(), 2);
        kubectl
            .feed("apply -f -", &KEPT.replace("matchLabels: {app: cart}}}\n---", "matchLabels: {tier: x}}}\n---"))
            .await;
        let selector = kubectl.run("-n shop get pdb cart -o jsonpath={.spec.selector.matchLabels}").await;
        assert_eq!(selector, r#"{"tier":"x"}"#);
        for (kind, columns) in [
            ("pdb", "cart 50% <none> 0"),
            ("hpa", "cart Deployment/cart cpu: <unknown>/80% 1 4 0"),
            ("netpol", "cart app=cart"),
        ] {
            let row = kubectl.run(&format!("-n shop get {kind} --no-headers")).await;
            let row = row.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(row.starts_with(columns), "{row}");
            assert!(kubectl.run(&format!("-n shop describe {kind} cart")).await.contains("cart"));
        }
        for (bad, why) in [
            (KEPT.replace("minAvailable", "minAvailabel"), "unknown field \"spec.minAvailabel\""),
            (KEPT.replace("minAvailable: 50%", "minAvailable: 1, maxUnavailable: 1"), "cannot be both set"),
            (KEPT.replace("maxReplicas: 4", "maxReplicas: 0"), "spec.maxReplicas"),
            (KEPT.replace("podSelector: {matchL", "podSelektor: {matchL"), "did you mean \"podSelector\""),
        ] {
            let refused = kubectl.fail("apply -f -", &bad).await;
            assert!(refused.contains(why), "{refused}");
        }
        let made = kubectl.run("-n shop create poddisruptionbudget made --selector=app=cart --max-unavailable=1").await;
        assert!(made.contains("created"), "{made}");
        let spec = kubectl.run("-n shop get pdb made -o jsonpath={.spec.maxUnavailable}").await;
        assert_eq!(spec, "1");
        kubectl.feed("apply -f -", SHOP).await;
        // Clients before 1.33 know but autoscaling/v1, which is not served.
        let auto = kubectl.output("-n shop autoscale deployment cart --name=auto --min=2 --max=5 --cpu=60%", "").await;
        if auto.status.success() {
            let spec = kubectl.run("-n shop get hpa auto -o jsonpath={.spec.metrics[0].resource.target}").await;
            assert_eq!(spec, r#"{"averageUtilization":60,"type":"Utilization"}"#);
        } else {
            let why = String::from_utf8_lossy(&auto.stderr).into_owned();
            assert!(why.contains("unknown flag: --cpu"), "{why}");
        }
    })
    .await;
}
