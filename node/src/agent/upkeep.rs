//! What is looked at from time to time: pods that have left, and whether captured pods still have their rules.

use std::net::IpAddr;

use tokio::task::JoinHandle;
use tracing::{debug, warn};
use types::PodUid;

use super::Agent;
use super::state::{State, Step};
use crate::eligibility::Capture;
use crate::enrol::{Enrolled, Tools, uid_of};
use crate::linger::proxied_connections;
use crate::redirect;

impl Agent {
    /// Takes the last rules out of pods none of whose connections runs through ztunnel any more.
    pub(super) fn collect_lingering(&mut self) {
        let families = self.tools.families.clone();
        self.states.retain(|uid, state| {
            let State::Lingering(enrolled) = state else { return true };
            match proxied_connections(&enrolled.netns) {
                Ok(0) => {
                    if let Err(error) = redirect::remove(&enrolled.netns, &families) {
                        warn!(%uid, %error, "removing the last rules of a pod failed");
                    }
                    false
                }
                Ok(connections) => {
                    debug!(%uid, connections, "a pod that left still has connections through ztunnel");
                    true
                }
                Err(error) => {
                    warn!(%uid, %error, "a pod that left cannot be looked into");
                    true
                }
            }
        });
    }

    /// Starts to compare the rules of captured pods and of the node with what they should be, beside the loop.
    pub(super) fn inspect_rules(&mut self) {
        if self.inspection.is_some() {
            return;
        }
        let pods = self.captured();
        // While steps are under way or have failed, the sets hold something else, and for a reason.
        let is_settled = self.tasks.is_empty()
            && self.states.values().all(|state| matches!(state, State::Captured { .. } | State::Lingering(_)));
        let tools = self.tools.clone();
        self.inspection = Some(tokio::task::spawn_blocking(move || inspect(&tools, &pods, is_settled)));
    }

    /// Puts back what is missing, unless the pod has changed its state since it was looked at.
    pub(super) fn finish_inspection(&mut self, found: Found) {
        self.inspection = None;
        for uid in found.damaged {
            let Some(State::Captured { capture, .. }) = self.states.get(&uid) else { continue };
            let step = Step::Repair(capture.clone());
            if let Some(pod) = self.tools.pods.find(|pod| uid_of(pod) == uid) {
                self.start(&pod, step);
            }
        }
        if found.is_node_damaged && self.tasks.is_empty() {
            let pods = probed(&self.captured());
            match self.tools.bypass.replace(&pods) {
                Ok(()) => warn!("somebody had changed the node's own rules; they are as they were"),
                Err(error) => warn!(%error, "the node's own rules cannot be put back"),
            }
        }
    }

    fn captured(&self) -> Vec<(PodUid, Enrolled, Capture)> {
        let captured = self.states.iter().filter_map(|(uid, state)| match state {
            State::Captured { enrolled, capture } => Some((uid.clone(), enrolled.clone(), capture.clone())),
            _ => None,
        });
        captured.collect()
    }
}

/// What an inspection has found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Pods whose rules are not as they should be.
    damaged: Vec<PodUid>,
    is_node_damaged: bool,
}

/// The result of an inspection, if one is under way.
pub(super) async fn inspected(inspection: &mut Option<JoinHandle<Found>>) -> Found {
    match inspection {
        Some(inspection) => inspection.await.unwrap_or_default(),
        None => std::future::pending().await,
    }
}

/// The addresses that the node's probe sets should hold.
fn probed(pods: &[(PodUid, Enrolled, Capture)]) -> Vec<(PodUid, Vec<IpAddr>)> {
    pods.iter().map(|(uid, enrolled, _)| (uid.clone(), enrolled.addresses.clone())).collect()
}

fn inspect(tools: &Tools, pods: &[(PodUid, Enrolled, Capture)], is_settled: bool) -> Found {
    let is_node_damaged = is_settled
        && tools.bypass.is_intact(&probed(pods)).map(|is_intact| !is_intact).unwrap_or_else(|error| {
            warn!(%error, "the node's own rules cannot be looked at");
            false
        });
    let is_damaged = |(uid, enrolled, capture): &&(PodUid, Enrolled, Capture)| {
        redirect::is_intact(&enrolled.netns, &tools.families, capture).map(|is_intact| !is_intact).unwrap_or_else(
            |error| {
                debug!(%uid, %error, "a pod's rules cannot be looked at");
                false
            },
        )
    };
    Found { damaged: pods.iter().filter(is_damaged).map(|(uid, ..)| uid.clone()).collect(), is_node_damaged }
}
