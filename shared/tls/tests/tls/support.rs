//! A certificate authority that signs anything, and TLS peers that check nothing.
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme};
use tls::WorkloadCertificate;
use tokio::io::DuplexStream;
use tokio_rustls::client::TlsStream;

/// No handshake in memory takes longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

pub(crate) const CART: &str = "spiffe://cluster.local/ns/shop/sa/cart";
pub(crate) const FRONTEND: &str = "spiffe://cluster.local/ns/shop/sa/frontend";
pub(crate) const STRANGER: &str = "spiffe://elsewhere.example/ns/shop/sa/cart";

/// A root that signs whatever it is given.
pub(crate) struct TestCa {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key.
#[derive(Clone)]
pub(crate) struct Issued {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl TestCa {
    pub(crate) fn new() -> Self {
        Self::named("test root")
    }

    pub(crate) fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    pub(crate) fn root(&self) -> String {
        self.issuer.pem()
    }

    /// A leaf with these URI names, valid around now and for both purposes, then edited.
    pub(crate) fn issue_with(&self, names: &[&str], edit: impl FnOnce(&mut CertificateParams)) -> Issued {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = names.iter().map(|name| SanType::URI((*name).try_into().unwrap())).collect();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        edit(&mut params);
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        Issued { chain: leaf.pem(), key: key.serialize_pem() }
    }

    pub(crate) fn issue(&self, names: &[&str]) -> Issued {
        self.issue_with(names, |_| {})
    }

    pub(crate) fn expired(&self, name: &str) -> Issued {
        self.issue_with(&[name], |params| {
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        })
    }

    pub(crate) fn workload(&self, name: &str) -> WorkloadCertificate {
        let issued = self.issue(&[name]);
        WorkloadCertificate::from_pem(&issued.chain, &issued.key, &self.root()).unwrap()
    }
}

/// Trusts everybody.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The verifier of the careless client.
pub(crate) fn careless_verifier() -> Arc<dyn ServerCertVerifier> {
    Arc::new(Anyone(Arc::new(aws_lc_rs::default_provider())))
}

fn der(issued: &Issued) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_slice_iter(issued.chain.as_bytes()).collect::<Result<_, _>>().unwrap();
    (chain, PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap())
}

/// A client that trusts everybody and shows the certificate it is given, if any.
pub(crate) fn careless_client(shown: Option<&Issued>) -> ClientConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)));
    let mut config = match shown.map(der) {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// A server that asks for no certificate and shows the one it is given.
pub(crate) fn careless_server(shown: &Issued) -> ServerConfig {
    let (chain, key) = der(shown);
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// A server of yesterday.
pub(crate) fn old_server(shown: &Issued) -> Arc<ServerConfig> {
    let (chain, key) = der(shown);
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    Arc::new(config)
}

/// Dials with a careless client; an alert that follows the handshake counts as failure.
pub(crate) async fn dial_carelessly(io: DuplexStream, config: ClientConfig) -> std::io::Result<()> {
    use tokio::io::AsyncReadExt;
    open_carelessly(io, config).await?.read(&mut [0]).await.map(drop)
}

/// Dials with a careless client and keeps the connection.
pub(crate) async fn open_carelessly(
    io: DuplexStream,
    config: ClientConfig,
) -> std::io::Result<TlsStream<DuplexStream>> {
    let name = ServerName::try_from("anything.example").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, io).await
}

/// Serves with a careless server; an alert that follows the handshake counts as failure.
pub(crate) async fn serve_carelessly(io: DuplexStream, config: ServerConfig) -> std::io::Result<()> {
    use tokio::io::AsyncReadExt;
    let mut stream = tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(io).await?;
    stream.read(&mut [0]).await.map(drop)
}
