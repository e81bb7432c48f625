//! `kubectl exec`: streams, exit codes and refusals as from a cluster.

use std::sync::Arc;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use lab::api::{PodPrograms, ProgramRequest, Status};
use tokio::process::{Child, Command};

use super::with_each;
use crate::support::wait_until;

/// A kubelet whose pods are this machine.
struct Here;

impl PodPrograms for Here {
    fn start(&self, pod: &Pod, request: ProgramRequest) -> BoxFuture<'static, Result<Child, Status>> {
        let (name, container) = (pod.metadata.name.clone().unwrap_or_default(), request.container);
        let [input, output, errors] = request.standard;
        let mut words = request.command.into_iter();
        let mut command = Command::new(words.next().unwrap());
        command.args(words).env("PLACE", format!("{name}/{container}")).process_group(0).kill_on_drop(true);
        let child = command.stdin(input).stdout(output).stderr(errors).spawn();
        Box::pin(async move { child.map_err(|error| Status::bad_request(error.to_string())) })
    }
}

#[tokio::test]
async fn programs_run_in_pods() {
    with_each(async |kubectl| {
        kubectl.run("-n shop run p --image=aquifer").await;
        wait_until("a node", async || {
            kubectl.lab.client.fetch::<Pod>(Some("shop"), "p").unwrap().spec.unwrap().node_name.is_some()
        })
        .await;
        assert!(kubectl.fail("-n shop exec p -- true", "").await.contains("no kubelet runs programs yet"));
        kubectl.lab.server.provide_programs(Arc::new(Here));
        assert_eq!(kubectl.run("-n shop exec p -- printenv PLACE").await, "p/p\n");
        assert_eq!(kubectl.run("-n shop exec p -c p -- echo a b").await, "a b\n");
        assert_eq!(kubectl.feed("-n shop exec -i p -- cat", "to and fro").await, "to and fro");
        let failed = kubectl.fail("-n shop exec p -- ls /nowhere", "").await;
        assert!(failed.contains("/nowhere") && failed.contains("exit code 2"), "{failed}");
        let absent = kubectl.fail("-n shop exec p -c other -- true", "").await;
        assert!(absent.contains("container other is not valid for pod p"), "{absent}");
        let unknown = kubectl.fail("-n shop exec p -- no-such-program", "").await;
        assert!(unknown.contains("No such file"), "{unknown}");
    })
    .await;
}
