//! Certificates of the node's own workloads, asked for before the first connection needs them.

use discovery::{IdentityChange, View};
use identity::CertificateStore;
use tls::CertificateRequest;
use types::{Identity, TrustDomain};

/// Makes a key that nobody is going to use, on a thread of its own, which then ends.
///
/// For its first key the cryptographic library measures the processor's jitter for some 40 ms. By the time that the node
/// is known and keys are needed this has been done, and neither readiness nor a first connection waits for it.
pub(crate) fn prepare() {
    let unused = Identity::new(TrustDomain::default(), "none", "none");
    drop(tokio::task::spawn_blocking(move || CertificateRequest::generate(&unused)));
}

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
