//! What the agent does for the CNI plugin: it listens for it, keeps it installed, and takes it away with itself when it
//! goes for good.

use std::path::PathBuf;
use std::time::Duration;

use cni::announcement::SOCKET;
use drain::Task;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount};
use kube::api::PostParams;
use kube::{Api, Client};
use telemetry::http::serve;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::NodeError;
use crate::arrivals::{Arrival, Arrivals, Knowledge, RootOnly};
use crate::install::{Binary, Installation, PluginToken};
use crate::plugin::Entry;

/// This program, whatever its path.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// How long the plugin's token lasts, in seconds: for so long an agent may be away without pods outside the mesh having
/// to wait for it.
const LIFETIME: i64 = 24 * 3600;

/// A fresh token is asked for this often, well before the last one ends.
const RENEWAL: Duration = Duration::from_secs(6 * 3600);

/// And this soon after it was refused.
const NEXT_TRY: Duration = Duration::from_secs(60);

/// How long the API may take to say whether the agent goes for good.
const FAREWELL: Duration = Duration::from_secs(2);

/// Socket and installation.
pub(crate) struct PluginHost {
    socket: RootOnly,
    arrivals: Arrivals,
    installation: Installation,
    config: config::Plugin,
    node_name: String,
}

impl PluginHost {
    /// Listens; announcements go to the returned receiver.
    pub(crate) fn open(
        config: &config::Node,
        plugin: &config::Plugin,
        knowledge: Knowledge,
    ) -> Result<(Self, mpsc::Receiver<Arrival>), NodeError> {
        let path = plugin.run_dir.join(SOCKET);
        let socket = RootOnly::bind(&path).map_err(|source| NodeError::PluginSocket { path, source })?;
        let (arrivals, received) = Arrivals::new(knowledge, plugin.host_root.clone(), &config.node_name);
        let installation = Installation {
            network_dir: plugin.network_dir.clone(),
            binary: Binary::new(PathBuf::from(OWN_PROGRAM), plugin.binary_dir.clone()),
            run_dir: plugin.run_dir.clone(),
            entry: Entry::of(config, plugin),
            api: plugin.api_server.clone(),
            token: PluginToken::default(),
        };
        let host = Self { socket, arrivals, installation, config: plugin.clone(), node_name: config.node_name.clone() };
        Ok((host, received))
    }

    /// Serves until the drain starts. Then everything stays for the next agent, unless there will be none.
    pub(crate) async fn run(self, client: Client, installed: Task, drain: &drain::Watch) {
        let removal = self.installation.clone();
        let token = self.installation.token.clone();
        let renewal = drain.unless_draining(Box::pin(renew(&client, &self.config, &token)));
        let serving = serve(self.socket, self.arrivals.router(), drain.draining());
        let keeping = self.installation.keep(installed, drain.draining());
        // What has been kept until now may only be removed once nobody keeps it any more.
        tokio::join!(renewal, serving, keeping);
        let is_for_good = timeout(FAREWELL, Box::pin(is_for_good(&client, &self.config, &self.node_name))).await;
        if is_for_good.unwrap_or(false) {
            match tokio::task::spawn_blocking(move || removal.remove()).await {
                Ok(Ok(())) => info!("the agent goes for good, and the CNI plugin with it"),
                Ok(Err(error)) => warn!(%error, "the CNI plugin is not wholly gone"),
                Err(error) => warn!(%error, "the CNI plugin is not wholly gone"),
            }
        }
    }
}

/// Keeps the plugin's token fresh, for as long as it is polled.
///
/// The token of the agent's own pod ends with that pod, and that is when the plugin needs one.
async fn renew(client: &Client, config: &config::Plugin, token: &PluginToken) {
    loop {
        let pause = match ask_for_token(client, config).await {
            Ok(fresh) => {
                token.renew(fresh);
                RENEWAL
            }
            Err(why) => {
                warn!(why, "the CNI plugin has no token of its own, and uses that of this pod");
                NEXT_TRY
            }
        };
        sleep(pause).await;
    }
}

async fn ask_for_token(client: &Client, config: &config::Plugin) -> Result<String, String> {
    let pods = Api::<Pod>::namespaced(client.clone(), &config.own_namespace);
    let own = pods.get(&config.own_pod).await.map_err(|error| format!("pod {}: {error}", config.own_pod))?;
    let account = own.spec.and_then(|spec| spec.service_account_name).unwrap_or_default();
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), &config.own_namespace);
    let request = TokenRequest {
        spec: Some(TokenRequestSpec { expiration_seconds: Some(LIFETIME), ..TokenRequestSpec::default() }),
        ..TokenRequest::default()
    };
    let answer = accounts.create_token_request(&account, &PostParams::default(), &request).await;
    let answer = answer.map_err(|error| format!("service account {account}: {error}"))?;
    answer.status.and_then(|status| status.token).ok_or_else(|| "the API answers without a token".to_owned())
}

/// Whether no agent will follow on this node: its DaemonSet is gone or going, or does not want this node any more.
///
/// What cannot be told counts as an upgrade: a plugin that stays refuses pods until there is an agent, and one that is
/// gone would let them run outside the mesh.
async fn is_for_good(client: &Client, config: &config::Plugin, node_name: &str) -> bool {
    let pods = Api::<Pod>::namespaced(client.clone(), &config.own_namespace);
    let Ok(Some(own)) = pods.get_opt(&config.own_pod).await else { return false };
    let owners = own.metadata.owner_references.unwrap_or_default();
    let Some(owner) = owners.into_iter().find(|owner| owner.kind == "DaemonSet") else { return false };
    let sets = Api::<DaemonSet>::namespaced(client.clone(), &config.own_namespace);
    match sets.get_opt(&owner.name).await {
        Err(_unknown) => false,
        Ok(None) => true,
        // One of the same name that was made since has agents of its own.
        Ok(Some(set)) if set.metadata.uid.as_deref() != Some(owner.uid.as_str()) => false,
        Ok(Some(set)) => {
            set.metadata.deletion_timestamp.is_some() || !wants(&set, Api::all(client.clone()), node_name).await
        }
    }
}

async fn wants(set: &DaemonSet, nodes: Api<Node>, node_name: &str) -> bool {
    let spec = set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let Some(selector) = spec.and_then(|spec| spec.node_selector.as_ref()) else { return true };
    let Ok(node) = nodes.get(node_name).await else { return true };
    let labels = node.metadata.labels.unwrap_or_default();
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}
