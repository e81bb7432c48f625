//! Whether an announced pod belongs into the mesh.

use std::sync::Arc;
use std::time::Duration;

use cni::announcement::NewPod;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Api;
use kube::runtime::reflector::{ObjectRef, Store};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::annotations::annotation;
use crate::eligibility::{Capture, Eligibility, Ineligible};

/// The annotation by which the API's copy of a static pod names the UID that the kubelet knows it by.
const STATIC_POD_UID: &str = "kubernetes.io/config.hash";

/// How long the API may take to confirm that a pod stays outside; what the agent has seen counts after that.
const CONFIRMATION: Duration = Duration::from_secs(1);

/// What the agent knows about its pods, and where it asks further.
#[derive(Clone)]
pub(crate) struct Knowledge {
    pub(crate) client: kube::Client,
    pub(crate) pods: Store<Pod>,
    pub(crate) namespaces: Store<Namespace>,
    /// Changes whenever one of the stores does.
    pub(crate) changes: watch::Receiver<u64>,
    pub(crate) eligibility: Eligibility,
}

impl Knowledge {
    /// The pod and what of it is captured, or why nothing is. Waits, without end, until the agent has seen the pod.
    ///
    /// That a pod stays outside is confirmed by the API: a label that was set a moment before the pod was made may not
    /// have reached the agent yet.
    pub(crate) async fn decide(&self, new: &NewPod) -> Result<(Arc<Pod>, Capture), Ineligible> {
        let mut changes = self.changes.clone();
        loop {
            changes.mark_unchanged();
            let reason = match self.seen(new) {
                Some((pod, Ok(capture))) => return Ok((pod, capture)),
                Some((_, Err(reason))) => Some(reason),
                None => None,
            };
            match (self.is_outside(new).await, reason) {
                (Some(true), reason) => return Err(reason.unwrap_or(Ineligible::NotSelected)),
                // Without the API, what was seen last is the best there is.
                (None, Some(reason)) => return Err(reason),
                // It has to be captured, and is as soon as the agent sees so too.
                (Some(false), _) | (None, None) => {}
            }
            if changes.changed().await.is_err() {
                // The watches have ended, and so does the agent; the caller's deadline decides.
                std::future::pending::<()>().await;
            }
        }
    }

    fn seen(&self, new: &NewPod) -> Option<(Arc<Pod>, Result<Capture, Ineligible>)> {
        let pod = self.pods.get(&ObjectRef::<Pod>::new(&new.name).within(&new.namespace))?;
        if !is_announced(&pod, new) {
            return None;
        }
        let namespace = self.namespaces.get(&ObjectRef::new(&new.namespace))?;
        let decision = self.eligibility.decide(&pod, &namespace);
        Some((pod, decision))
    }

    /// Whether the API says now that the pod stays outside; `None` when it says nothing in time.
    async fn is_outside(&self, new: &NewPod) -> Option<bool> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), &new.namespace);
        let namespaces = Api::<Namespace>::all(self.client.clone());
        let both = async { tokio::join!(pods.get(&new.name), namespaces.get(&new.namespace)) };
        match timeout(CONFIRMATION, both).await {
            Ok((Ok(pod), Ok(namespace))) => Some(self.eligibility.decide(&pod, &namespace).is_err()),
            _ => None,
        }
    }
}

/// Whether this is the announced pod, and not one of the same name before it.
fn is_announced(pod: &Pod, new: &NewPod) -> bool {
    new.uid
        .as_deref()
        .is_none_or(|uid| pod.metadata.uid.as_deref() == Some(uid) || annotation(pod, STATIC_POD_UID) == Some(uid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_known_by_its_uid() {
        let mut pod = Pod::default();
        pod.metadata.uid = Some("a".to_owned());
        let mut new: NewPod = serde_json::from_str(r#"{"Netns":"","PodName":"p","PodNamespace":"n"}"#).unwrap();
        assert!(is_announced(&pod, &new), "other plugins do not tell the UID");
        new.uid = Some("b".to_owned());
        assert!(!is_announced(&pod, &new));
        let hash = (STATIC_POD_UID.to_owned(), "b".to_owned());
        pod.metadata.annotations = Some([hash].into());
        assert!(is_announced(&pod, &new));
    }
}
