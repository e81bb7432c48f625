//! Certificates of the node's own workloads, asked for before the first connection needs them.

use discovery::{IdentityChange, View};
use identity::CertificateStore;

/// Follows the identities of the node until discovery is gone.
pub(crate) async fn follow(view: View, certificates: CertificateStore) {
    let mut changes = view.local_identities();
    while let Some(changes) = changes.next().await {
        for change in changes {
            match change {
                IdentityChange::Appeared(identity) => certificates.warm(&identity),
                IdentityChange::Vanished(identity) => certificates.forget(&identity),
            }
        }
    }
}
