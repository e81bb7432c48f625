//! Who turns an identity into a certificate.

use std::time::Duration;

use tls::{Authority, CertificateRequest, KeyExchange, WorkloadCertificate};
use types::Identity;

use crate::SignError;

/// Gets certificates signed; one attempt per call, the caller retries.
pub trait Signer: Send + Sync + 'static {
    /// A new certificate for the identity, with a new key.
    ///
    /// # Errors
    /// [`SignError`]. The caller sets the deadline by dropping the future.
    fn sign(&self, identity: &Identity) -> impl Future<Output = Result<WorkloadCertificate, SignError>> + Send;
}

/// Signs with an authority in this process (`FAKE_CA`): for trying things out, never for a mesh.
#[derive(Debug)]
pub struct LocalSigner {
    authority: Authority,
    ttl: Duration,
    key_exchange: KeyExchange,
}

impl LocalSigner {
    /// Signs certificates that are valid for `ttl`.
    #[must_use]
    pub fn new(authority: Authority, ttl: Duration) -> Self {
        Self { authority, ttl, key_exchange: KeyExchange::default() }
    }
}

impl Signer for LocalSigner {
    async fn sign(&self, identity: &Identity) -> Result<WorkloadCertificate, SignError> {
        let request = CertificateRequest::generate(identity)?.with_key_exchange(self.key_exchange);
        let chain = self.authority.sign_csr(request.csr_pem(), identity, self.ttl)?;
        Ok(request.complete(&chain)?)
    }
}
