//! Whether a workload is the waypoint that a reference means.

use std::sync::Arc;

use crate::model::{Destination, GatewayAddress, Service, Workload};
use crate::view::View;

/// Whether the reference leads to this workload: itself, or as an endpoint of the service that is referred to.
pub(crate) fn is_served_by(view: &View, gateway: &GatewayAddress, workload: &Workload) -> bool {
    match &gateway.destination {
        Destination::Hostname(key) => {
            let is_named = *workload.hostname.as_str() == *key.hostname.as_str() && workload.namespace == key.namespace;
            match view.group(key) {
                Some(group) if group.service.is_some() => group.endpoint(&workload.uid).is_some(),
                _ => !key.hostname.as_str().is_empty() && is_named,
            }
        }
        Destination::Address(address) => {
            let services = view.services_at(address);
            let is_endpoint = |service: &Arc<Service>| {
                view.group(&service.key()).is_some_and(|group| group.endpoint(&workload.uid).is_some())
            };
            services.iter().any(is_endpoint)
                || (workload.network == address.network && workload.addresses.contains(&address.address))
        }
    }
}
