//! The demo's own lab: brought up, talked to over the Kubernetes API, entered by `aquifer exec`, ended.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use lab::families::{Families, Family};
use lab::launch::{self, Options};
use lab::mesh::SYSTEM_NAMESPACE;
use lab::state::StateDirectory;
use tokio::process::Command;

use super::report::Report;
use crate::lab_name;
use crate::own_lab::{self, Up};

/// How many nodes the story needs.
pub(super) const NODES: u8 = 2;
/// The lab's name when it is kept, so that other commands find it.
const KEPT_NAME: &str = "demo";

/// Where a program runs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'a> {
    /// Inside a pod.
    Pod { namespace: &'a str, name: &'a str },
    /// In the network of a node.
    Node(&'a str),
}

/// A lab that is starting: namespaces must be entered before the process has a second thread.
pub(super) struct Starting {
    lab: launch::Lab,
    keep: bool,
}

/// A lab that is up.
pub(super) struct Lab {
    lab: launch::Lab,
    families: Families,
    client: kube::Client,
    program: PathBuf,
}

impl Starting {
    /// Starts the lab's processes.
    pub(super) fn start(runtime_directory: Option<&Path>, keep: bool) -> Result<Self> {
        lab_name::sweep(KEPT_NAME, runtime_directory);
        let name = if keep { KEPT_NAME.to_owned() } else { format!("{KEPT_NAME}-{}", std::process::id()) };
        let options = Options {
            directory: StateDirectory::new(&name, runtime_directory)?,
            nodes: NODES,
            port: 0,
            families: Families::Dual,
            mesh: true,
            detach: keep,
            log_filter: "info".to_owned(),
            plugins: None,
        };
        Ok(Self { lab: launch::start(&options)?, keep })
    }

    /// Waits until the lab and the mesh in it are ready.
    pub(super) async fn ready(mut self, report: &Report) -> Result<Lab> {
        let mut progress = |step: &str| report.progress(step);
        // Kept or not: a lab without its mesh is of no use to the demo.
        let Up { record, client } = own_lab::ready(&mut self.lab, true, &mut progress).await?;
        let program = std::env::current_exe().context("cannot find this program")?;
        let lab = Lab { lab: self.lab, families: record.families, client, program };
        let kept = if self.keep { ", kept at the end" } else { "" };
        report.note(&format!("{NODES} nodes, control plane, a ztunnel and an agent on each node{kept}"));
        Ok(lab)
    }
}

impl Lab {
    /// The Kubernetes API.
    pub(super) fn client(&self) -> &kube::Client {
        &self.client
    }

    /// The families that the lab's pods have addresses of.
    pub(super) const fn families(&self) -> Families {
        self.families
    }

    /// Whether the lab's pods have addresses of that family.
    pub(super) fn has(&self, family: Family) -> bool {
        self.families.has(family)
    }

    /// A command that runs this very program inside the lab.
    pub(super) fn exec(&self, place: &Place<'_>, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["exec", "--name", self.name()]);
        match place {
            Place::Pod { namespace, name } => command.args([name, "--namespace", namespace]),
            Place::Node(node) => command.args(["--node", node]),
        };
        command.args(["--", "aquifer"]).args(arguments);
        command
    }

    /// Commands for somebody who wants to see more.
    pub(super) fn how_to_look_around(&self) -> Vec<String> {
        let name = self.name();
        vec![
            format!("export KUBECONFIG={}", self.lab.directory().kubeconfig().display()),
            "kubectl get pods -A -o wide".to_owned(),
            format!("aquifer exec --name {name} frontend -n shop -- curl -s http://cart/"),
            format!("aquifer logs --name {name} ztunnel-node-2 -n {SYSTEM_NAMESPACE}"),
            format!("aquifer down --name {name}"),
        ]
    }

    /// Ends the lab, and waits until nothing is left of it.
    pub(super) async fn stop(mut self) -> Result<()> {
        Ok(self.lab.stop().await?)
    }

    fn name(&self) -> &str {
        self.lab.directory().name()
    }
}
