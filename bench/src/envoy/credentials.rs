//! Certificates for an Envoy, as files.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tls::{Authority, CertificateRequest, TlsError};
use types::Identity;

/// How long certificates are valid: longer than any comparison.
const VALIDITY: Duration = Duration::from_secs(24 * 3600);

/// A folder with `chain.pem`, `key.pem` and `root.pem`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    folder: PathBuf,
    trust_domain: String,
}

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The certificate cannot be made.
    #[error("cannot issue a certificate for Envoy")]
    Tls(#[from] TlsError),
    /// The files cannot be written.
    #[error("cannot write Envoy's certificate")]
    Io(#[from] io::Error),
}

impl Credentials {
    /// Issues a certificate and writes it into `folder`, which is made.
    ///
    /// # Errors
    /// The authority's, and the file system's.
    pub fn issue(authority: &Authority, identity: &Identity, folder: &Path) -> Result<Self, CredentialError> {
        let request = CertificateRequest::generate(identity)?;
        let answer = authority.sign_csr(request.csr_pem(), identity, VALIDITY)?;
        let (roots, chain) = answer.split_last().ok_or_else(|| io::Error::other("an empty chain"))?;
        fs::create_dir_all(folder)?;
        write(&folder.join("chain.pem"), &chain.concat())?;
        write(&folder.join("root.pem"), roots)?;
        write(&folder.join("key.pem"), &request.key_pem())?;
        Ok(Self { folder: folder.to_owned(), trust_domain: identity.trust_domain.to_string() })
    }

    pub(super) fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    pub(super) fn trust_domain(&self) -> &str {
        &self.trust_domain
    }
}

/// For this user alone.
fn write(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write;
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
