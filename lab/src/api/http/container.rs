//! Which container of which pod a subresource is about.

use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize as _;

use super::Call;
use crate::api::Status;
use crate::api::core::Target;
use crate::api::store::{Object, items, text};

/// A pod that a node runs.
///
/// # Errors
/// `NotFound`, or `BadRequest` while no node runs it.
pub(super) fn bound(call: &Call, target: Target<'_>) -> Result<Object, Status> {
    let pod = call.core.fetch(target)?;
    if text(&pod, "/spec/nodeName").is_empty() {
        return Err(Status::bad_request(format!("pod {} does not have a host assigned", target.name)));
    }
    Ok(pod)
}

/// The container that the query names, or the only one.
///
/// # Errors
/// `BadRequest` when there is no such container, or several and none is named.
pub(super) fn asked_for(call: &Call, pod: &Object) -> Result<String, Status> {
    let name = text(pod, "/metadata/name");
    let names: Vec<_> = ["/spec/containers", "/spec/initContainers"]
        .into_iter()
        .flat_map(|list| items(pod, list))
        .map(|container| text(container, "/name"))
        .collect();
    match (call.query.text("container"), names.as_slice()) {
        ("", [only]) => Ok((*only).to_owned()),
        ("", _) => {
            let message = format!("a container name must be specified for pod {name}, choose one of: {names:?}");
            Err(Status::bad_request(message))
        }
        (asked, names) if names.contains(&asked) => Ok(asked.to_owned()),
        (asked, _) => Err(Status::bad_request(format!("container {asked} is not valid for pod {name}"))),
    }
}

/// The pod as those who run it know it.
///
/// # Errors
/// `ServiceUnavailable` for an object that is no pod.
pub(super) fn typed(pod: &Object) -> Result<Pod, Status> {
    Pod::deserialize(&**pod).map_err(|error| Status::unavailable(error.to_string()))
}
