//! Installing the CNI plugin on the node, and keeping it installed: binary, kubeconfig, and its place at the end of the
//! node's network configuration.
//!
//! Every file is written beside its place and moved there whole, so that a full disk or a sudden end leave what was.
//! A configuration that another program writes anew gets our entry back at once, by inotify, and within
//! [`LOOK_AGAIN`] where that does not tell.

mod binary;
mod kubeconfig;
mod whole;

use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use cni::network::{self, Described, Network};
use drain::Task;
use linux::directory::Watch;
use serde_json::Value;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::observe::{PluginMetrics, result_label};
use crate::plugin::{Entry, KUBECONFIG};

pub use binary::Binary;

/// How often everything is looked at, whatever inotify says.
pub const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Somebody who has just written a file may be about to write another.
const SETTLING: Duration = Duration::from_millis(20);

/// The mode of a configuration that was not there before.
const MODE: u32 = 0o600;

/// Where everything goes.
#[derive(Debug, Clone)]
pub struct Installation {
    /// The host's network configurations.
    pub network_dir: PathBuf,
    /// The plugin's binary.
    pub binary: Binary,
    /// The directory of socket and kubeconfig.
    pub run_dir: PathBuf,
    /// What is written into the configuration.
    pub entry: Entry,
    /// The way to the API server for the kubeconfig, as `https://host:port`; none outside a cluster.
    pub api: Option<String>,
    /// The token for it, when there is a better one than that of the agent's own pod.
    pub token: PluginToken,
}

/// The plugin's token, renewed from time to time; a clone shares it.
#[derive(Clone, Default)]
pub struct PluginToken(watch::Sender<Option<String>>);

impl PluginToken {
    /// Uses this one from now on.
    pub fn renew(&self, token: String) {
        self.0.send_replace(Some(token));
    }

    /// Whether there is one.
    pub(crate) fn is_known(&self) -> bool {
        self.0.borrow().is_some()
    }
}

impl std::fmt::Debug for PluginToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PluginToken")
    }
}

/// What a look at the node has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Installed {
    /// Everything was in place.
    Already,
    /// Something was written.
    Now,
    /// No network is configured on the node yet; pods cannot start there anyway.
    NoNetwork,
}

impl Installation {
    /// Keeps the plugin installed until `end`; completes `started` when it is for the first time.
    ///
    /// Nothing is written any more once this has returned.
    pub async fn keep(self, started: Task, metrics: &PluginMetrics, end: impl Future<Output = ()>) {
        let mut end = pin!(end);
        let mut started = Some(started);
        let mut token = self.token.0.subscribe();
        loop {
            // Watching begins before looking: what changes meanwhile is seen.
            let watch = self.watch();
            let installation = self.clone();
            match tokio::task::spawn_blocking(move || installation.ensure()).await.map_err(io::Error::other) {
                Ok(Ok(outcome)) => {
                    metrics.ready.set(i64::from(outcome != Installed::NoNetwork));
                    if outcome == Installed::Now {
                        metrics.installs.with(&[result_label(true)]).increment();
                        info!(networks = %self.network_dir.display(), "the CNI plugin is installed");
                    }
                    if outcome != Installed::NoNetwork
                        && let Some(started) = started.take()
                    {
                        started.complete();
                    }
                }
                Ok(Err(error)) | Err(error) => {
                    metrics.ready.set(0);
                    metrics.installs.with(&[result_label(false)]).increment();
                    warn!(%error, "the CNI plugin cannot be installed; trying again");
                }
            }
            tokio::select! {
                () = &mut end => return,
                () = has_changed(watch) => sleep(SETTLING).await,
                // The sender is in `self`.
                Ok(()) = token.changed() => {}
                () = sleep(LOOK_AGAIN) => {}
            }
        }
    }

    /// Writes what is missing or differs. Blocks.
    ///
    /// # Errors
    /// The file system's; what was there is as it was, or whole and new.
    pub fn ensure(&self) -> io::Result<Installed> {
        // The entry is last, so that no runtime meets it without the rest.
        let mut has_changed = self.binary.ensure()?;
        if let Some(api) = &self.api {
            let text = kubeconfig::text(api, self.token.0.borrow().clone())?;
            has_changed |= whole::write(&self.run_dir.join(KUBECONFIG), text.as_bytes(), MODE)?;
        }
        let Some(described) = network::first(&self.network_dir)? else { return Ok(Installed::NoNetwork) };
        has_changed |= self.enter(&described)?;
        Ok(if has_changed { Installed::Now } else { Installed::Already })
    }

    /// Takes everything away again. Blocks.
    ///
    /// # Errors
    /// The file system's; the configuration is cleaned first, and the rest stays if that fails.
    pub fn remove(&self) -> io::Result<()> {
        for Described { path, network } in network::all(&self.network_dir)? {
            if network.has(cni::PLUGIN) {
                let mode = whole::mode(&path).unwrap_or(MODE);
                whole::write(&path, network.without(cni::PLUGIN).to_text().as_bytes(), mode)?;
            }
        }
        self.binary.remove()?;
        for file in [KUBECONFIG, cni::announcement::SOCKET] {
            whole::remove(&self.run_dir.join(file))?;
        }
        Ok(())
    }

    /// Puts our entry at the end of a network; tells whether it was not there as it should be.
    ///
    /// Where it is already, another plugin may have come after it since: moving it again would start a quarrel.
    fn enter(&self, described: &Described) -> io::Result<bool> {
        let entry = serde_json::to_value(&self.entry)?;
        if network::is_list(&described.path) && is_entered(&described.network, &entry) {
            return Ok(false);
        }
        let text = described.network.with_last(entry).to_text();
        let list = described.path.with_extension("conflist");
        let mode = whole::mode(&described.path).unwrap_or(MODE);
        let has_changed = whole::write(&list, text.as_bytes(), mode)?;
        if list != described.path {
            // The plugin that stood alone is in the list now.
            whole::remove(&described.path)?;
        }
        Ok(has_changed)
    }

    #[expect(deprecated, reason = "its successor is unsafe; a Watch owns its descriptor, and always the same")]
    fn watch(&self) -> Option<AsyncFd<Watch>> {
        let directories: [&Path; 2] = [&self.network_dir, self.binary.directory()];
        // A directory that is not there cannot be watched; that it cannot be made is said when it is to be used.
        let _ = std::fs::create_dir_all(self.binary.directory());
        Watch::open(&directories).and_then(AsyncFd::new).ok()
    }
}

/// Returns when a watched file has changed; never where nothing can be watched.
async fn has_changed(watch: Option<AsyncFd<Watch>>) {
    if let Some(watch) = &watch
        && watch.readable().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// Whether the entry is there once, and not as the first, who makes the network.
fn is_entered(network: &Network, entry: &Value) -> bool {
    let own: Vec<usize> = (0..)
        .zip(&network.plugins)
        .filter(|(_, plugin)| network::type_of(plugin) == Some(cni::PLUGIN))
        .map(|(index, _)| index)
        .collect();
    matches!(own.as_slice(), [index] if *index > 0 && network.plugins.get(*index) == Some(entry))
}

#[cfg(test)]
mod tests;
