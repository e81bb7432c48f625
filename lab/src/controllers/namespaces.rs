//! Namespaces: deletes what is in those that are marked for deletion.

use k8s_openapi::api::core::v1::Namespace;

use super::first_failure;
use crate::api::{Client, Selection, Status};

/// So long a marked namespace keeps its contents: `kubectl delete -f` of a manifest that begins with the namespace
/// then still finds what it is about to delete, as it does in a real cluster.
const DELAY: jiff::SignedDuration = jiff::SignedDuration::from_secs(2);

pub(super) fn reconcile(client: &Client) -> Result<(), Status> {
    let namespaces: Vec<Namespace> = client.list(&Selection::default())?;
    let marked = namespaces.iter().filter_map(|namespace| {
        let since = &namespace.metadata.deletion_timestamp.as_ref()?.0;
        Some((namespace.metadata.name.as_deref().unwrap_or_default(), since.duration_until(jiff::Timestamp::now())))
    });
    first_failure(marked.map(|(name, age)| {
        if age < DELAY {
            return Err(Status::unavailable(format!("namespace {name} keeps its contents for a moment")));
        }
        client.empty_namespace(name)
    }))
}
