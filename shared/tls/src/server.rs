//! The server side of control-plane connections: HTTPS without client certificates.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use crate::{Alpn, KeyExchange, TlsError, TlsStream, provider, x509};

/// Accepts TLS connections with one server certificate, which can be swapped while running.
///
/// Clones share the certificate.
/// TLS 1.2 is accepted too: some gRPC clients, Envoy among them, offer no more unless told.
#[derive(Clone)]
pub struct HttpsAcceptor {
    alpn: Alpn,
    config: Arc<RwLock<Arc<ServerConfig>>>,
}

impl HttpsAcceptor {
    /// Takes the certificate chain (leaf first) and its key, both PEM.
    ///
    /// # Errors
    /// [`TlsError::Malformed`] or [`TlsError::Configuration`] when they cannot be used together.
    pub fn new(certificate_pem: &str, key_pem: &str, alpn: Alpn) -> Result<Self, TlsError> {
        let config = Arc::new(server_config(certificate_pem, key_pem, alpn)?);
        Ok(Self { alpn, config: Arc::new(RwLock::new(config)) })
    }

    /// Uses another certificate for connections from now on.
    ///
    /// # Errors
    /// As [`HttpsAcceptor::new`]; the present certificate then stays.
    pub fn replace(&self, certificate_pem: &str, key_pem: &str) -> Result<(), TlsError> {
        let config = Arc::new(server_config(certificate_pem, key_pem, self.alpn)?);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// Performs the handshake; the caller sets the deadline.
    ///
    /// # Errors
    /// [`TlsError`].
    pub async fn accept<S>(&self, stream: S) -> Result<TlsStream<S>, TlsError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let config = Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner));
        let stream = TlsAcceptor::from(config).accept(stream).await.map_err(TlsError::from_io)?;
        Ok(TlsStream::new(stream))
    }
}

impl fmt::Debug for HttpsAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpsAcceptor").field("alpn", &self.alpn).finish_non_exhaustive()
    }
}

fn server_config(certificate_pem: &str, key_pem: &str, alpn: Alpn) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider::control(KeyExchange::Hybrid))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(TlsError::Configuration)?
        .with_no_client_auth()
        .with_single_cert(x509::certificates(certificate_pem)?, x509::private_key(key_pem)?)
        .map_err(TlsError::Configuration)?;
    config.alpn_protocols = alpn.protocols();
    Ok(config)
}
