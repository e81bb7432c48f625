//! What the agent does for the CNI plugin: it listens for it, keeps it installed, and takes it away with itself when it
//! goes for good.

mod farewell;

use std::path::PathBuf;
use std::time::Duration;

use cni::announcement::SOCKET;
use drain::Task;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::PostParams;
use kube::{Api, Client};
use telemetry::http::serve;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::NodeError;
use crate::arrivals::{Arrival, Arrivals, Knowledge, RootOnly};
use crate::install::{Binary, Installation, PluginToken};
use crate::observe::PluginMetrics;
use crate::plugin::{Entry, KUBECONFIG};
use crate::plugin_host::farewell::Way;

/// This program, whatever its path.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// How long the plugin's token lasts, in seconds: for so long an agent may be away without pods outside the mesh having
/// to wait for it.
const LIFETIME: i64 = 24 * 3600;

/// A fresh token is asked for this often, well before the last one ends.
const RENEWAL: Duration = Duration::from_secs(6 * 3600);

/// And this soon after it was refused.
const NEXT_TRY: Duration = Duration::from_secs(60);

/// Socket and installation.
pub(crate) struct PluginHost {
    socket: RootOnly,
    arrivals: Arrivals,
    installation: Installation,
    metrics: PluginMetrics,
    config: config::Plugin,
    node_name: String,
}

impl PluginHost {
    /// Listens; announcements go to the returned receiver.
    pub(crate) fn open(
        config: &config::Node,
        plugin: &config::Plugin,
        knowledge: Knowledge,
        metrics: PluginMetrics,
    ) -> Result<(Self, mpsc::Receiver<Arrival>), NodeError> {
        let path = plugin.run_dir.join(SOCKET);
        let socket = RootOnly::bind(&path).map_err(|source| NodeError::PluginSocket { path, source })?;
        let (arrivals, received) =
            Arrivals::new(knowledge, plugin.host_root.clone(), &config.node_name, metrics.requests.clone());
        let installation = Installation {
            network_dir: plugin.network_dir.clone(),
            binary: Binary::new(PathBuf::from(OWN_PROGRAM), plugin.binary_dir.clone()),
            run_dir: plugin.run_dir.clone(),
            entry: Entry::of(config, plugin),
            api: plugin.api_server.clone(),
            token: PluginToken::default(),
        };
        let (config, node_name) = (plugin.clone(), config.node_name.clone());
        let host = Self { socket, arrivals, installation, metrics, config, node_name };
        Ok((host, received))
    }

    /// Serves until the drain starts. Then everything stays for the next agent, unless there will be none: tells whether
    /// that is so, and the plugin has been taken away.
    pub(crate) async fn run(self, client: Client, installed: Task, drain: &drain::Watch) -> bool {
        let removal = self.installation.clone();
        let token = self.installation.token.clone();
        let renewal = drain.unless_draining(Box::pin(renew(&client, &self.config, &token)));
        let serving = serve(self.socket, self.arrivals.router(), drain.draining());
        let keeping = self.installation.keep(installed, &self.metrics, drain.draining());
        // What has been kept until now may only be removed once nobody keeps it any more.
        tokio::join!(renewal, serving, keeping);
        let own = if token.is_known() { Way::of_plugin(&removal.run_dir.join(KUBECONFIG)).await } else { None };
        if !own.unwrap_or_else(|| Way::of_pod(client)).is_last(&self.config, &self.node_name).await {
            return false;
        }
        match tokio::task::spawn_blocking(move || removal.remove()).await.map_err(std::io::Error::other) {
            Ok(Ok(())) => info!("the agent goes for good, and the CNI plugin with it"),
            Ok(Err(error)) | Err(error) => warn!(%error, "the CNI plugin is not wholly gone"),
        }
        true
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

#[cfg(test)]
mod tests;
