//! The mesh's verdict on a peer's certificate: chain, time, purpose, then the SPIFFE name.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, RootCertStore, SignatureScheme,
};
use types::{Identity, TrustDomain};

use crate::session::{self, Proof};
use crate::x509::{self, Leaf, Validity};
use crate::{Refusal, TlsError};

/// The client's view: the server must be one of those that were dialled.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
    /// Nobody is accepted when empty.
    expected: Vec<Identity>,
    /// When the own certificate is valid.
    own: Validity,
}

impl ServerVerifier {
    pub(crate) fn new(
        roots: Arc<RootCertStore>,
        crypto: &CryptoProvider,
        expected: Vec<Identity>,
        own: Validity,
    ) -> Self {
        Self { roots, algorithms: crypto.signature_verification_algorithms, expected, own }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, self.algorithms.all)
            .map_err(namesake)?;
        let leaf = Leaf::parse(end_entity).map_err(Refusal::into_rustls)?;
        is_expected(&leaf.identity, &self.expected).map_err(Refusal::into_rustls)?;
        note(leaf.validity, intermediates, self.own, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The server's view: the client must show a certificate of the own trust domain.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    trust_domain: TrustDomain,
    /// When the own certificate is valid.
    own: Validity,
}

impl ClientVerifier {
    pub(crate) fn new(
        roots: Arc<RootCertStore>,
        crypto: &Arc<CryptoProvider>,
        trust_domain: TrustDomain,
        own: Validity,
    ) -> Result<Self, TlsError> {
        // Without hints the client shows what it has; hints would only make a rotation of roots harder.
        let chain = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(crypto))
            .clear_root_hint_subjects()
            .build()
            .map_err(|error| TlsError::malformed("root certificate", error))?;
        Ok(Self { chain, trust_domain, own })
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now).map_err(namesake)?;
        let leaf = Leaf::parse(end_entity).map_err(Refusal::into_rustls)?;
        is_of(&leaf.identity, &self.trust_domain).map_err(Refusal::into_rustls)?;
        note(leaf.validity, intermediates, self.own, now)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Whether a server is one of those that were dialled.
pub(crate) fn is_expected(found: &Identity, expected: &[Identity]) -> Result<(), Refusal> {
    if expected.contains(found) {
        return Ok(());
    }
    Err(Refusal::IdentityMismatch { expected: expected.to_vec(), found: found.clone() })
}

/// Whether a client is of the own trust domain.
pub(crate) fn is_of(found: &Identity, trust_domain: &TrustDomain) -> Result<(), Refusal> {
    if found.trust_domain == *trust_domain {
        return Ok(());
    }
    Err(Refusal::OtherTrustDomain { expected: trust_domain.clone(), found: found.clone() })
}

/// Remembers for how long the certificates of both ends prove what they have proven now.
fn note(leaf: Validity, intermediates: &[CertificateDer<'_>], own: Validity, now: UnixTime) -> Result<(), Error> {
    let mut validities = vec![leaf, own];
    for intermediate in intermediates {
        validities.push(x509::validity_of(intermediate).map_err(Refusal::into_rustls)?);
    }
    session::note(Proof::given(now, validities));
    Ok(())
}

/// A root of the same name but with another key is another root: two meshes of one trust domain have such roots.
fn namesake(error: Error) -> Error {
    match error {
        Error::InvalidCertificate(CertificateError::BadSignature) => CertificateError::UnknownIssuer.into(),
        error => error,
    }
}

/// Mesh configurations negotiate TLS 1.3 alone, so this is never reached; refusing is right all the same.
fn tls12() -> Error {
    Error::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig)
}
