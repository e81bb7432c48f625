//! The steps by which a running pod joins the mesh and leaves it without a connection being lost.
//!
//! Joining ends with the redirect, because a redirect without a listener resets connections.
//! Leaving starts with telling everybody, because a tunnel to a pod that no longer listens fails.

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kinds::annotations::TOLD;
use kube::runtime::reflector::{ObjectRef, Store};
use linux::netns::NetNs;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, info};
use types::PodUid;
use zds::WorkloadInfo;

use crate::annotations::{self, annotation};
use crate::eligibility::{Capture, has_ended};
use crate::find::{FindError, NetnsSource};
use crate::host::ProbeBypass;
use crate::proxies::{HandOverError, Proxies};
use crate::redirect;
use crate::rules::FamilyRules;

/// How long a new pod waits before it is handed over again after its proxy went away.
const HAND_OVER_PAUSE: Duration = Duration::from_millis(50);

/// What the steps work with.
#[derive(Clone)]
pub struct Tools {
    /// For annotations.
    pub client: kube::Client,
    /// The pods of this node, as last seen.
    pub pods: Store<Pod>,
    /// Changes whenever `pods` does.
    pub changes: watch::Receiver<u64>,
    /// The connected node proxies.
    pub proxies: Proxies,
    /// Where network namespaces are found.
    pub netns: NetnsSource,
    /// The node's own rules.
    pub bypass: ProbeBypass,
    /// The address families to capture.
    pub families: Vec<FamilyRules>,
    /// How long leaving waits for the control plane to have told everybody.
    pub told_deadline: Duration,
}

/// A pod that is in the mesh, or was and still has connections through ztunnel.
#[derive(Debug, Clone)]
pub struct Enrolled {
    /// Its network namespace.
    pub netns: NetNs,
    /// The addresses whose probes bypass the mesh.
    pub addresses: Vec<IpAddr>,
}

/// The step that failed, and why; each is tried again.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The pod's network namespace was not found.
    #[error(transparent)]
    Netns(#[from] FindError),
    /// ztunnel does not listen in the pod.
    #[error(transparent)]
    HandOver(#[from] HandOverError),
    /// The kernel refused rules or routes.
    #[error("{step} failed")]
    Kernel {
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// The API server refused an annotation.
    #[error("annotating the pod failed")]
    Annotate(#[source] Box<kube::Error>),
    /// The pod has no address yet.
    #[error("the pod has no address yet")]
    NoAddress,
}

impl EnrolError {
    fn kernel(step: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Kernel { step, source }
    }

    fn annotate(error: kube::Error) -> Self {
        Self::Annotate(Box::new(error))
    }
}

/// Brings a running pod into the mesh; doing it again changes nothing.
///
/// # Errors
/// The step that failed. New connections of the pod are redirected only if all steps before that one succeeded.
pub async fn enrol(tools: &Tools, pod: &Pod, capture: &Capture) -> Result<Enrolled, EnrolError> {
    let uid = uid_of(pod);
    let addresses = addresses_of(pod);
    if addresses.is_empty() {
        return Err(EnrolError::NoAddress);
    }
    let netns = tools.netns.open(uid.as_str())?;
    redirect::prepare(&netns).map_err(EnrolError::kernel("preparing the network namespace"))?;
    tools.proxies.add(uid.clone(), info_of(pod), netns.clone()).await?;
    tools.bypass.add(&uid, &addresses).map_err(EnrolError::kernel("adding the pod to the probe bypass"))?;
    // An agent that starts again leaves alone what an earlier one has put in place.
    if !redirect::is_intact(&netns, &tools.families, capture).unwrap_or(false) {
        redirect::install(&netns, &tools.families, capture)
            .map_err(EnrolError::kernel("installing the redirect rules"))?;
    }
    if !annotations::is_enabled(pod) {
        annotations::mark_enabled(&tools.client, pod).await.map_err(EnrolError::annotate)?;
    }
    info!(pod = %full_name(pod), "captured");
    Ok(Enrolled { netns, addresses })
}

/// Brings a new pod, in which nothing runs yet, into the mesh: with rules first, so that nothing it will ever send can
/// pass them by.
///
/// Waits, without end, for a proxy to be connected and to take the pod.
///
/// # Errors
/// The step that failed; [`dismiss`] undoes what was done.
pub async fn admit(tools: &Tools, pod: &Pod, capture: &Capture, new: &Enrolled) -> Result<(), EnrolError> {
    let uid = uid_of(pod);
    redirect::install(&new.netns, &tools.families, capture)
        .map_err(EnrolError::kernel("installing the redirect rules"))?;
    let mut connected = tools.proxies.connected();
    loop {
        // The sender lives as long as `tools.proxies`.
        let _ = connected.wait_for(|count| *count > 0).await;
        match tools.proxies.add(uid.clone(), info_of(pod), new.netns.clone()).await {
            Ok(()) => break,
            Err(HandOverError::NoProxy | HandOverError::NoAnswer) => sleep(HAND_OVER_PAUSE).await,
            Err(refused @ HandOverError::Refused(_)) => return Err(refused.into()),
        }
    }
    if capture.lookups {
        // Now that somebody answers lookups in the pod, they can be redirected.
        redirect::install(&new.netns, &tools.families, capture)
            .map_err(EnrolError::kernel("redirecting name lookups"))?;
    }
    tools.bypass.add(&uid, &new.addresses).map_err(EnrolError::kernel("adding the pod to the probe bypass"))?;
    if !annotations::is_enabled(pod) {
        annotations::mark_enabled(&tools.client, pod).await.map_err(EnrolError::annotate)?;
    }
    info!(pod = %full_name(pod), "captured before its start");
    Ok(())
}

/// Undoes a failed [`admit`]; the rules go with the network namespace, which the runtime takes away.
///
/// # Errors
/// The kernel's.
pub async fn dismiss(tools: &Tools, pod: &Pod, new: &Enrolled) -> Result<(), EnrolError> {
    forget(tools, &uid_of(pod), &new.addresses).await
}

/// Puts the rules of a captured pod back.
///
/// # Errors
/// The kernel's.
pub fn repair(tools: &Tools, capture: &Capture, enrolled: &Enrolled) -> Result<(), EnrolError> {
    redirect::install(&enrolled.netns, &tools.families, capture)
        .map_err(EnrolError::kernel("putting back the redirect rules"))
}

/// Takes a running pod out of the mesh; connections that run through ztunnel go on until they end.
///
/// # Errors
/// The step that failed; doing it again goes on from there.
pub async fn leave(tools: &Tools, pod: &Pod, enrolled: &Enrolled) -> Result<(), EnrolError> {
    let uid = uid_of(pod);
    if tools.proxies.cuts_on_del() {
        // Such a proxy gains nothing from rules that keep connections.
        redirect::remove(&enrolled.netns, &tools.families)
            .map_err(EnrolError::kernel("removing the redirect rules"))?;
    } else {
        let nonce = leaving_nonce();
        annotations::mark_leaving(&tools.client, pod, &nonce).await.map_err(EnrolError::annotate)?;
        if !everybody_is_told(tools, pod, &nonce).await {
            debug!(pod = %full_name(pod), "not every client is known to be told; going on");
        }
        redirect::release(&enrolled.netns).map_err(EnrolError::kernel("releasing the redirect rules"))?;
    }
    tools.proxies.remove(&uid).await;
    forget_probes(tools, &uid, &enrolled.addresses)?;
    unmark(tools, pod).await?;
    info!(pod = %full_name(pod), "released");
    Ok(())
}

/// Removes every mark of the mesh from a pod.
///
/// # Errors
/// The API server's.
pub async fn unmark(tools: &Tools, pod: &Pod) -> Result<(), EnrolError> {
    annotations::clear(&tools.client, pod).await.map_err(EnrolError::annotate)
}

/// Forgets a pod that has ended or is gone; its rules go with its network namespace.
///
/// # Errors
/// The kernel's.
pub async fn forget(tools: &Tools, uid: &PodUid, addresses: &[IpAddr]) -> Result<(), EnrolError> {
    tools.proxies.remove(uid).await;
    forget_probes(tools, uid, addresses)
}

fn forget_probes(tools: &Tools, uid: &PodUid, addresses: &[IpAddr]) -> Result<(), EnrolError> {
    tools.bypass.remove(uid, addresses).map_err(EnrolError::kernel("removing the pod from the probe bypass"))
}

/// Waits until the control plane has answered this leaving, or the deadline has passed.
async fn everybody_is_told(tools: &Tools, pod: &Pod, nonce: &str) -> bool {
    let deadline = Instant::now() + tools.told_deadline;
    let mut changes = tools.changes.clone();
    let reference = ObjectRef::from_obj(pod);
    loop {
        match tools.pods.get(&reference) {
            Some(seen) if annotation(&seen, TOLD) == Some(nonce) => return true,
            Some(_) => {}
            // A pod that is gone has nobody left to tell.
            None => return true,
        }
        if !matches!(timeout_at(deadline, changes.changed()).await, Ok(Ok(()))) {
            return false;
        }
    }
}

/// Tells this leaving apart from earlier ones of the same pod.
fn leaving_nonce() -> String {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{:x}", since_epoch.as_nanos())
}

/// The pod's UID.
#[must_use]
pub fn uid_of(pod: &Pod) -> PodUid {
    PodUid::from(pod.metadata.uid.clone().unwrap_or_default())
}

/// What ztunnel needs to recognise the pod in discovery.
#[must_use]
pub fn info_of(pod: &Pod) -> WorkloadInfo {
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
    WorkloadInfo {
        name: pod.metadata.name.clone().unwrap_or_default(),
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        service_account: account.unwrap_or_else(|| "default".to_owned()),
    }
}

/// The pod's addresses, sorted; those that do not parse are left out.
#[must_use]
pub fn addresses_of(pod: &Pod) -> Vec<IpAddr> {
    let Some(status) = &pod.status else { return Vec::new() };
    let mut addresses: Vec<IpAddr> =
        status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str()).filter_map(|ip| ip.parse().ok()).collect();
    if addresses.is_empty() {
        addresses.extend(status.pod_ip.as_deref().and_then(|ip| ip.parse::<IpAddr>().ok()));
    }
    // The order of the families is nobody's concern here.
    addresses.sort_unstable();
    addresses
}

/// The pods that are marked as captured, with their addresses.
#[must_use]
pub fn captured_addresses(pods: &Store<Pod>) -> Vec<(PodUid, Vec<IpAddr>)> {
    let captured = pods.state().into_iter().filter(|pod| annotations::is_enabled(pod) && !has_ended(pod));
    captured.map(|pod| (uid_of(&pod), addresses_of(&pod))).collect()
}

/// `namespace/name`, for logs.
#[must_use]
pub fn full_name(pod: &Pod) -> String {
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{}/{}", part(&pod.metadata.namespace), part(&pod.metadata.name))
}
