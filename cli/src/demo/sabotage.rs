//! Breaking the cause of one step, always from outside: a component is taken away or given other settings, an object is
//! changed. What was broken is mended after its step, so that no other step fails.

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use kinds::annotations::{DNS_CAPTURE, REDIRECTION_ENABLED};
use tokio::time::sleep;

use super::cluster;
use super::lab::Lab;
use super::report::Report;
use super::shop::SHOP;

/// When to stop waiting for pods that join or leave.
const PATIENCE: Duration = Duration::from_secs(15);

/// How soon every ztunnel knows what the control plane knows.
const SPREADING: Duration = Duration::from_secs(1);

/// What can be broken: one for each step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sabotage {
    /// The shop is in the mesh from the beginning: there is nothing to read (step F1).
    Plaintext,
    /// No node agent: nothing is redirected (step F2).
    Capture,
    /// The control plane is made to believe that nobody is captured: no tunnel, no TLS (step F3).
    Encryption,
    /// No control plane: policies reach nobody (step F4).
    Policy,
    /// No node agent: nobody takes the redirection away (step F5).
    Release,
    /// Node agents that know IPv4 alone: what goes over IPv6 goes around the mesh (step F6).
    Ipv6,
    /// The shop's lookups are left to the cluster's name server (step F7).
    Names,
    /// The old ztunnel is killed instead of being told to end (step F8).
    Drain,
    /// The control plane does not come back (step F9).
    Absence,
}

impl Sabotage {
    /// Breaks what has to be broken before the step begins.
    pub(super) async fn strike(self, report: &Report, lab: &Lab) -> Result<()> {
        let done = match self {
            Self::Plaintext => {
                join(lab).await?;
                "the shop is in the mesh already"
            }
            Self::Capture | Self::Release => {
                lab.remove_node_agents().await?;
                "the node agents are gone"
            }
            Self::Encryption => {
                cluster::mark(lab.client(), SHOP, None).await?;
                sleep(SPREADING).await;
                "the control plane takes the shop for uncaptured"
            }
            Self::Policy => {
                lab.remove_control_plane().await?;
                "the control plane is gone"
            }
            Self::Ipv6 => {
                lab.replace_node_agents(false).await?;
                "the node agents have no rules for IPv6"
            }
            Self::Names => {
                leave(lab).await?;
                cluster::annotate(lab.client(), SHOP, DNS_CAPTURE, Some("false")).await?;
                join(lab).await?;
                "the shop's lookups go to the cluster's name server"
            }
            // In the middle of their steps.
            Self::Drain | Self::Absence => return Ok(()),
        };
        report.note(&format!("sabotage: {done}"));
        Ok(())
    }

    /// Mends it again, so that the next step has what it needs.
    pub(super) async fn mend(self, report: &Report, lab: &Lab) -> Result<()> {
        report.progress("mending what was sabotaged");
        match self {
            Self::Plaintext => leave(lab).await,
            Self::Capture => {
                lab.replace_node_agents(true).await?;
                join(lab).await
            }
            Self::Encryption => {
                cluster::mark(lab.client(), SHOP, Some(REDIRECTION_ENABLED)).await?;
                sleep(SPREADING).await;
                Ok(())
            }
            Self::Policy => lab.restore_control_plane().await,
            Self::Release => {
                lab.replace_node_agents(true).await?;
                leave(lab).await
            }
            Self::Ipv6 => lab.replace_node_agents(true).await,
            Self::Names => {
                leave(lab).await?;
                cluster::annotate(lab.client(), SHOP, DNS_CAPTURE, None).await?;
                join(lab).await
            }
            Self::Drain | Self::Absence => Ok(()),
        }
    }
}

/// Has the whole shop in the mesh, and everybody know of it.
pub(super) async fn join(lab: &Lab) -> Result<()> {
    cluster::label(lab.client(), SHOP, Some("ambient")).await?;
    cluster::wait_for_pods(lab.client(), SHOP, PATIENCE, cluster::is_captured).await?;
    sleep(SPREADING).await;
    Ok(())
}

/// Has the whole shop out of the mesh.
async fn leave(lab: &Lab) -> Result<()> {
    cluster::label(lab.client(), SHOP, None).await?;
    cluster::wait_for_pods(lab.client(), SHOP, PATIENCE, cluster::has_left).await?;
    Ok(())
}
