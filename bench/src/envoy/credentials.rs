//! Certificates for an Envoy, as files of a folder of its pod.

use std::io;
use std::time::Duration;

use tls::{Authority, CertificateRequest, TlsError};
use types::Identity;

/// How long certificates are valid: longer than any comparison.
const VALIDITY: Duration = Duration::from_secs(24 * 3600);

const CHAIN: &str = "chain.pem";
const KEY: &str = "key.pem";
const ROOT: &str = "root.pem";

/// What an Envoy shows, and whom it trusts.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    folder: String,
    files: [(&'static str, String); 3],
    trust_domain: String,
}

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The certificate cannot be made.
    #[error("cannot issue a certificate for Envoy")]
    Tls(#[from] TlsError),
    /// The authority gave no chain.
    #[error("cannot use Envoy's certificate")]
    Chain(#[from] io::Error),
}

impl Credentials {
    /// Issues a certificate for an Envoy that will find its files in `folder` of its pod.
    ///
    /// # Errors
    /// The authority's.
    pub fn issue(authority: &Authority, identity: &Identity, folder: &str) -> Result<Self, CredentialError> {
        let request = CertificateRequest::generate(identity)?;
        let answer = authority.sign_csr(request.csr_pem(), identity, VALIDITY)?;
        let (roots, chain) = answer.split_last().ok_or_else(|| io::Error::other("an empty chain"))?;
        let files = [(CHAIN, chain.concat()), (KEY, request.key_pem()), (ROOT, roots.clone())];
        Ok(Self { folder: folder.to_owned(), files, trust_domain: identity.trust_domain.to_string() })
    }

    /// Names and contents of the files.
    #[must_use]
    pub fn files(&self) -> &[(&'static str, String)] {
        &self.files
    }

    pub(super) fn chain(&self) -> String {
        self.path(CHAIN)
    }

    pub(super) fn key(&self) -> String {
        self.path(KEY)
    }

    pub(super) fn root(&self) -> String {
        self.path(ROOT)
    }

    pub(super) fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }
}
