//! The client side of control-plane connections: a server name is checked, no client certificate is shown.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use crate::{Alpn, KeyExchange, TlsError, TlsStream, provider, x509};

/// Where the roots that vouch for a control plane come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootSource {
    /// A PEM file, read anew for each [`ControlClient`], so that a rotated root is picked up on reconnect.
    File(PathBuf),
    /// PEM text.
    Pem(String),
    /// The operating system's roots.
    System,
}

impl RootSource {
    /// Reads the value of `XDS_ROOT_CA` or `CA_ROOT_CA`: `SYSTEM`, PEM text, or else the path of a file.
    #[must_use]
    pub fn parse(value: &str) -> Self {
        if value == "SYSTEM" {
            Self::System
        } else if value.contains("-----BEGIN") {
            Self::Pem(value.to_owned())
        } else {
            Self::File(PathBuf::from(value))
        }
    }

    fn load(&self) -> Result<RootCertStore, TlsError> {
        let certificates = match self {
            Self::File(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| self.unusable(error))?;
                x509::certificates(&text).map_err(|error| self.unusable(error))?
            }
            Self::Pem(text) => x509::certificates(text).map_err(|error| self.unusable(error))?,
            Self::System => rustls_native_certs::load_native_certs().certs,
        };
        let mut store = RootCertStore::empty();
        let is_system = *self == Self::System;
        for certificate in certificates {
            match store.add(certificate) {
                // Machines carry the odd root that no parser likes; the rest is still good.
                Err(error) if is_system => tracing::debug!(%error, "skipping a root of the operating system"),
                outcome => outcome.map_err(|error| self.unusable(error))?,
            }
        }
        if store.is_empty() {
            return Err(self.unusable("no certificate found"));
        }
        Ok(store)
    }

    fn unusable(&self, reason: impl ToString) -> TlsError {
        let source_name = match self {
            Self::File(path) => path.display().to_string(),
            Self::Pem(_) => "inline PEM".to_owned(),
            Self::System => "SYSTEM".to_owned(),
        };
        TlsError::Roots { source_name, reason: reason.to_string() }
    }
}

/// How to reach a control plane.
#[derive(Debug, Clone)]
pub struct ControlOptions {
    /// Who vouches for the server.
    pub roots: RootSource,
    /// The DNS name or IP address that its certificate must carry.
    pub server_name: String,
    /// Which application protocols to offer.
    pub alpn: Alpn,
    /// Whether TLS 1.2 is good enough (`TLS12_ENABLED`); never with a key exchange that it does not have.
    pub tls12: bool,
    /// Which key exchanges are good enough (`COMPLIANCE_POLICY`).
    pub key_exchange: KeyExchange,
}

impl ControlOptions {
    /// gRPC over TLS 1.3 with any key exchange.
    pub fn new(roots: RootSource, server_name: impl Into<String>) -> Self {
        Self { roots, server_name: server_name.into(), alpn: Alpn::H2, tls12: false, key_exchange: KeyExchange::Hybrid }
    }
}

/// A ready configuration for any number of connections to one control plane; cheap to clone.
#[derive(Debug, Clone)]
pub struct ControlClient {
    config: Arc<ClientConfig>,
    server_name: ServerName<'static>,
}

impl ControlClient {
    /// Reads the roots.
    ///
    /// # Errors
    /// [`TlsError::Roots`] when they cannot be read, [`TlsError::Malformed`] for a name that is none.
    pub fn new(options: &ControlOptions) -> Result<Self, TlsError> {
        const ONLY_13: &[&SupportedProtocolVersion] = &[&TLS13];
        const WITH_12: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
        let server_name = ServerName::try_from(options.server_name.clone())
            .map_err(|error| TlsError::malformed("server name", format!("{:?}: {error}", options.server_name)))?;
        let versions = if options.tls12 && options.key_exchange == KeyExchange::Hybrid { WITH_12 } else { ONLY_13 };
        let mut config = ClientConfig::builder_with_provider(provider::control(options.key_exchange))
            .with_protocol_versions(versions)
            .map_err(TlsError::Configuration)?
            .with_root_certificates(options.roots.load()?)
            .with_no_client_auth();
        config.alpn_protocols = options.alpn.protocols();
        Ok(Self { config: Arc::new(config), server_name })
    }

    /// Performs the handshake; the caller sets the deadline.
    ///
    /// # Errors
    /// [`TlsError`]; a server that was turned down is [`TlsError::Peer`].
    pub async fn connect<S>(&self, stream: S) -> Result<TlsStream<S>, TlsError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let stream = connector.connect(self.server_name.clone(), stream).await.map_err(TlsError::from_io)?;
        Ok(TlsStream::new(stream))
    }
}

/// One gRPC connection over TLS 1.3 to a server vouched for by the given PEM roots.
///
/// # Errors
/// As [`ControlClient::new`] and [`ControlClient::connect`].
pub async fn connect_verified<S>(stream: S, roots_pem: &str, server_name: &str) -> Result<TlsStream<S>, TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let options = ControlOptions::new(RootSource::Pem(roots_pem.to_owned()), server_name);
    ControlClient::new(&options)?.connect(stream).await
}
