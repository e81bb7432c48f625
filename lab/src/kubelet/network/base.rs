//! What makes a pod's network itself: the lab's own plugin, or the configuration of those of others.

use std::sync::Arc;

use linux::Prefix;
use serde_json::{Value, json};

use crate::fabric::{self, NodeNetwork};
use crate::families::Family;
use crate::kubelet::NodeContext;
use crate::kubelet::sandbox::Sandbox;

/// Where the plugin `host-local` notes who has which address; of the node, as plugins see it.
const LEASES: &str = "/run/aquifer-lab/leases";

/// Joins a namespace to its node; also returns the result that a plugin would print.
pub(super) async fn connect(context: &Arc<NodeContext>, sandbox: Sandbox) -> (Sandbox, Result<Value, String>) {
    let Some(address) = context.take_address() else {
        return (sandbox, Err("every address of the node's pod range is in use".to_owned()));
    };
    let shared = Arc::clone(context);
    let mut sandbox = sandbox;
    sandbox.hold(address);
    let joined = tokio::task::spawn_blocking(move || {
        let connected = sandbox.connect(&shared.node, address.addresses);
        (sandbox, connected)
    });
    match joined.await {
        Ok((sandbox, Ok(()))) => {
            let result = sandbox.result(&context.node);
            (sandbox, Ok(result))
        }
        Ok((sandbox, Err(error))) => (sandbox, Err(error.to_string())),
        // A panic is a bug; the namespace is gone with its file.
        Err(error) => (Sandbox::of_host(&context.node), Err(error.to_string())),
    }
}

/// The plugins `ptp` and `host-local` with the node's addresses.
pub(super) fn with_ptp(plan: &NodeNetwork) -> Value {
    let gateways = plan.gateways();
    let range = |range: &Prefix| {
        let gateway = gateways.of(Family::of(range.address()));
        json!([{"subnet": range.to_string(), "gateway": gateway}])
    };
    let route = |gateway| json!({"dst": fabric::any(Family::of(gateway)).to_string()});
    json!({
        "type": "ptp",
        "ipam": {
            "type": "host-local",
            "dataDir": LEASES,
            "ranges": plan.pod_ranges().iter().map(range).collect::<Vec<_>>(),
            "routes": gateways.iter().map(route).collect::<Vec<_>>(),
        },
    })
}
