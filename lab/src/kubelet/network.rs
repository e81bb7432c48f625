//! A pod's network, made as container runtimes make it: by the chain of CNI plugins that the node's configuration names.
//!
//! The configuration is a file of the node that others may edit, as the mesh's node agent does. Plugins are programs of
//! the node, but for [`BASE`], which is the lab's own and runs in this process.

mod base;
mod plugin;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cni::chain::{Attachment, Run};
use cni::network::{self, Network};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::NodeContext;
use super::sandbox::Sandbox;
use crate::fabric::Node;

/// The type of the lab's own plugin.
const BASE: &str = "aquifer-lab";

/// The node's network configurations, as on any node.
const CONFIGURATIONS: &str = "/etc/cni/net.d";

/// The node's plugins, as on any node.
const PLUGINS: &str = "/opt/cni/bin";

/// The name of the interface that plugins are to make.
const INTERFACE: &str = "eth0";

/// Tells one attempt at a pod's network from another.
static ATTEMPTS: AtomicU64 = AtomicU64::new(1);

/// A pod's network, and what it takes to undo it.
#[derive(Debug)]
pub(crate) struct Attached {
    /// The network itself.
    pub(crate) sandbox: Sandbox,
    /// None on the node's own network.
    made: Option<Made>,
}

#[derive(Debug)]
struct Made {
    network: Network,
    attachment: Attachment,
    result: Option<Value>,
    files: PathBuf,
}

/// Writes the network that the node begins with. `plugins` is a directory with the plugins `ptp` and `host-local`, to
/// be used in place of the lab's own.
///
/// # Errors
/// The file system's.
pub(crate) fn configure(node: &Node, plugins: Option<&Path>) -> std::io::Result<()> {
    let first = match plugins {
        None => json!({"type": BASE}),
        Some(_) => base::with_ptp(&node.plan),
    };
    let network = json!({"cniVersion": "1.0.0", "name": "lab", "plugins": [first]});
    let directory = on_node(node, CONFIGURATIONS);
    std::fs::create_dir_all(&directory)?;
    std::fs::write(directory.join("10-lab.conflist"), format!("{network:#}\n"))?;
    plugin::provide(&on_node(node, PLUGINS))
}

impl Attached {
    /// The node's own network.
    pub(crate) fn to_host(node: &Node) -> Self {
        Self { sandbox: Sandbox::of_host(node), made: None }
    }

    /// Makes a pod's network with the first valid configuration of the node.
    ///
    /// # Errors
    /// What is missing, or a plugin's own words; nothing is left behind.
    pub(crate) async fn make(context: &Arc<NodeContext>, pod: &Pod) -> Result<Self, String> {
        let configurations = on_node(&context.node, CONFIGURATIONS);
        let found = network::first(&configurations).map_err(|error| format!("{CONFIGURATIONS}: {error}"))?;
        let network = found.ok_or_else(|| format!("no valid CNI configuration in {CONFIGURATIONS}"))?.network;
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let made = Made {
            attachment: attachment(context, pod),
            network,
            result: None,
            files: context.directory.join(&uid).join("cni"),
        };
        let mut sandbox = Some(Sandbox::bare(&context.node, &uid).map_err(|error| error.to_string())?);
        match made.add(context, &mut sandbox).await {
            Ok((sandbox, result)) => Ok(Self { sandbox, made: Some(Made { result: Some(result), ..made }) }),
            Err(why) => {
                made.delete(context).await;
                if let Some(sandbox) = sandbox {
                    release(context, sandbox).await;
                }
                Err(format!("failed to setup network for sandbox {:?}: {why}", made.attachment.container))
            }
        }
    }

    /// Takes the network away.
    pub(crate) async fn remove(self, context: &Arc<NodeContext>) {
        // With the lab everything goes that a plugin could have left.
        if let Some(made) = self.made.as_ref().filter(|_| !context.shutdown.is_cancelled()) {
            made.delete(context).await;
        }
        release(context, self.sandbox).await;
    }
}

impl Made {
    /// Calls the plugins one after the other; `sandbox` is taken only if all succeed.
    async fn add(&self, context: &Arc<NodeContext>, sandbox: &mut Option<Sandbox>) -> Result<(Sandbox, Value), String> {
        let mut run = Run::add(&self.network, &self.attachment);
        while let Some(call) = run.next() {
            if call.plugin == BASE {
                let held = sandbox.take().ok_or("the network has been made already")?;
                let (held, result) = base::connect(context, held).await;
                *sandbox = Some(held);
                run.answer(true, result?.to_string().as_bytes()).map_err(|error| error.to_string())?;
            } else {
                let output = plugin::call(&context.node, &call, &self.files, context.plugins.as_deref()).await?;
                run.answer(output.is_success, &output.text).map_err(|error| error.to_string())?;
            }
        }
        let result = run.into_result().unwrap_or_default();
        let no_plugin = "the network has no plugin";
        let made = sandbox.as_mut().ok_or(no_plugin)?;
        made.accept(&cni::result::addresses(&result)).map_err(|error| error.to_string())?;
        Ok((sandbox.take().ok_or(no_plugin)?, result))
    }

    /// Lets every plugin undo what it did. What fails is only said: the namespace goes, and most with it.
    async fn delete(&self, context: &Arc<NodeContext>) {
        let mut run = Run::delete(&self.network, &self.attachment, self.result.clone());
        while let Some(call) = run.next() {
            let answered = if call.plugin == BASE {
                run.answer(true, b"").map_err(|error| error.to_string())
            } else {
                match plugin::call(&context.node, &call, &self.files, context.plugins.as_deref()).await {
                    Ok(output) => run.answer(output.is_success, &output.text).map_err(|error| error.to_string()),
                    // It counts as called: the next one has its turn.
                    Err(error) => run.answer(true, b"").map_err(|other| other.to_string()).and(Err(error)),
                }
            };
            if let Err(error) = answered {
                tracing::debug!(error, container = self.attachment.container, "a plugin did not undo its work");
            }
        }
    }
}

async fn release(context: &Arc<NodeContext>, sandbox: Sandbox) {
    match tokio::task::spawn_blocking(move || sandbox.remove()).await {
        Ok(Some(address)) => context.give_back(address),
        Ok(None) => {}
        Err(error) => tracing::error!(%error, "a pod's network cannot be taken away"),
    }
}

fn attachment(context: &NodeContext, pod: &Pod) -> Attachment {
    let metadata = &pod.metadata;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let uid = text(&metadata.uid);
    let container = format!("{uid}-{}", ATTEMPTS.fetch_add(1, Ordering::Relaxed));
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let others = context.plugins.iter().map(|directory| format!(":{}", directory.display()));
    Attachment {
        netns: format!("/var/run/aquifer/netns/{uid}"),
        interface: INTERFACE.to_owned(),
        arguments: vec![
            pair("IgnoreUnknown", "1"),
            pair("K8S_POD_NAMESPACE", &text(&metadata.namespace)),
            pair("K8S_POD_NAME", &text(&metadata.name)),
            pair("K8S_POD_INFRA_CONTAINER_ID", &container),
            pair("K8S_POD_UID", &uid),
        ],
        search_path: std::iter::once(PLUGINS.to_owned()).chain(others).collect(),
        container,
    }
}

/// A directory of the node, as this process sees it.
fn on_node(node: &Node, path: &str) -> PathBuf {
    crate::volumes::keeper::host_directory(&node.host_directory, path)
}
