//! Running a CNI plugin of the node: in the node's network, with the node's files in their places.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use cni::chain::Call;
use linux::mount::{self, Mount};
use linux::process::{Confinement, Mounts, confine};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::{PLUGINS, on_node};
use crate::fabric::Node;
use crate::kubelet::SEARCH_PATH;
use crate::kubelet::image::is_program;
use crate::volumes::mounts::{Planner, Shown};

/// How long a plugin may take: longer than ours waits for the node agent and for the API.
const DEADLINE: Duration = Duration::from_secs(30);

/// The most that is read of what a plugin prints, in bytes.
const OUTPUT_LIMIT: u64 = 1 << 20;

/// What a plugin has come to.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) is_success: bool,
    pub(super) text: Vec<u8>,
}

/// Shows this program as the mesh's plugin in the node's directory of plugins, as an image of a node that ships it:
/// the node agent then finds it installed and does not copy it into memory for each node.
pub(super) fn provide(directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let target = directory.join(cni::PLUGIN);
    let steps = [
        Mount::File { path: target.clone() },
        Mount::Bind { source: std::env::current_exe()?, target, read_only: false },
    ];
    if let Err(error) = mount::apply(&steps) {
        // The agent copies it then.
        tracing::debug!(%error, "the plugin's binary is not shown");
    }
    Ok(())
}

/// Calls a plugin; `others` is a directory with further plugins.
///
/// # Errors
/// It does not exist, or did not start or end.
pub(super) async fn call(node: &Node, call: &Call, files: &Path, others: Option<&Path>) -> Result<Output, String> {
    let program = find(node, &call.plugin, others)?;
    let failed = |error: io::Error| format!("plugin type={:?}: {error}", call.plugin);
    let mut command = std::process::Command::new(program);
    command
        .env_clear()
        .env("PATH", SEARCH_PATH)
        .envs(call.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let confinement = Confinement {
        network: Some(node.network.clone()),
        mounts: Mounts::Private(mounts(node, files).map_err(failed)?),
        ..Confinement::default()
    };
    let report = confine(&mut command, &confinement).map_err(failed)?;
    let mut command = Command::from(command);
    command.kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| failed(report.explain(error)))?;
    let (mut input, output) = (child.stdin.take(), child.stdout.take());
    let conversation = async {
        if let Some(input) = &mut input {
            // A plugin that does not read its input still answers.
            let _ = input.write_all(&call.input).await;
        }
        drop(input);
        let mut text = Vec::new();
        if let Some(output) = output {
            output.take(OUTPUT_LIMIT).read_to_end(&mut text).await?;
        }
        let status = child.wait().await?;
        Ok(Output { is_success: status.success(), text })
    };
    match tokio::time::timeout(DEADLINE, conversation).await {
        Ok(ended) => ended.map_err(failed),
        Err(_late) => Err(format!("plugin type={:?} does not end within {} s", call.plugin, DEADLINE.as_secs())),
    }
}

/// The plugin's path as it is once the node's files are in their places.
fn find(node: &Node, plugin: &str, others: Option<&Path>) -> Result<PathBuf, String> {
    if is_program(&on_node(node, PLUGINS).join(plugin)) {
        return Ok(Path::new(PLUGINS).join(plugin));
    }
    let elsewhere = others.map(|directory| directory.join(plugin)).filter(|path| is_program(path));
    elsewhere.ok_or_else(|| format!("failed to find plugin {plugin:?} in path [{PLUGINS}]"))
}

/// The host's files with the node's own in their places.
fn mounts(node: &Node, files: &Path) -> io::Result<Vec<Mount>> {
    let scratch = files.join("scratch");
    match std::fs::remove_dir_all(&scratch) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => std::fs::create_dir_all(&scratch)?,
    }
    let mut planner = Planner::new(Path::new("/"), files.join("root"), scratch)?;
    for target in ["/run", PLUGINS] {
        let shown =
            Shown { source: on_node(node, target), target: target.into(), read_only: false, is_directory: true };
        planner.show(&shown)?;
    }
    Ok(planner.finish())
}
