//! Asking a certificate authority for a workload certificate, and making sense of its answer.

use std::fmt;

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use types::Identity;

use crate::{KeyExchange, TlsError, WorkloadCertificate, x509};

/// A fresh key and the request to certify it; each request has a key of its own.
///
/// `Debug` never shows the key.
pub struct CertificateRequest {
    identity: Identity,
    csr_pem: String,
    key: KeyPair,
    key_exchange: KeyExchange,
}

impl CertificateRequest {
    /// Makes an ECDSA P-256 key and a request with an empty subject and the identity as its only alternative name.
    ///
    /// # Errors
    /// [`TlsError::Issue`] when the system has no randomness or the identity is not ASCII.
    pub fn generate(identity: &Identity) -> Result<Self, TlsError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(TlsError::Issue)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names.push(uri(identity)?);
        let request = params.serialize_request(&key).map_err(TlsError::Issue)?;
        let csr_pem = request.pem().map_err(TlsError::Issue)?;
        Ok(Self { identity: identity.clone(), csr_pem, key, key_exchange: KeyExchange::default() })
    }

    /// Restricts the key exchange of connections that will use the certificate.
    #[must_use]
    pub fn with_key_exchange(mut self, key_exchange: KeyExchange) -> Self {
        self.key_exchange = key_exchange;
        self
    }

    /// The request: PEM, `CERTIFICATE REQUEST`.
    #[must_use]
    pub fn csr_pem(&self) -> &str {
        &self.csr_pem
    }

    /// The private key: PKCS#8 PEM.
    /// For writing it next to the certificate where another program reads both; keep it out of logs.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// Turns the authority's answer into a certificate.
    ///
    /// The first element holds the leaf, the last one the roots to trust, those between the intermediates.
    ///
    /// # Errors
    /// [`TlsError::Response`] when an element is missing, or when the leaf is another workload's;
    /// [`TlsError::Configuration`] when the leaf certifies another key.
    pub fn complete(self, chain: &[String]) -> Result<WorkloadCertificate, TlsError> {
        let [first, between @ .., last] = chain else {
            let count = chain.len();
            return Err(TlsError::Response(format!("{count} elements instead of at least leaf and root")));
        };
        let mut certificates = x509::certificates(first)?;
        if certificates.is_empty() {
            return Err(TlsError::Response("the first element holds no certificate".to_owned()));
        }
        for element in between {
            certificates.extend(x509::certificates(element)?);
        }
        let roots = x509::certificates(last)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let certificate = WorkloadCertificate::new(certificates, key, roots, self.key_exchange)?;
        if *certificate.identity() != self.identity {
            let found = certificate.identity();
            return Err(TlsError::Response(format!("asked for {}, got a certificate of {found}", self.identity)));
        }
        Ok(certificate)
    }
}

impl fmt::Debug for CertificateRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateRequest").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// An identity as an alternative name.
pub(crate) fn uri(identity: &Identity) -> Result<SanType, TlsError> {
    identity.to_string().try_into().map(SanType::URI).map_err(TlsError::Issue)
}
