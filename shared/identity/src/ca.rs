//! The client of a certificate authority that speaks `istio.v1.auth.IstioCertificateService`.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use proto::istio::v1::auth::IstioCertificateRequest;
use proto::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use tls::{CertificateRequest, KeyExchange, WorkloadCertificate};
use tokio::sync::OnceCell;
use tonic::metadata::{Ascii, AsciiMetadataKey, AsciiMetadataValue, MetadataMap};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use types::Identity;

use crate::{SignError, Signer, TokenSource};

/// Whatever a channel factory trips over.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Makes the connection to the authority: address, TLS and roots are its business.
///
/// It is called before the first request, and again when the connection has failed or [`CaOptions::root_file`] has
/// changed.
pub type ChannelFactory = Arc<dyn Fn() -> BoxFuture<'static, Result<Channel, BoxError>> + Send + Sync>;

/// The largest answer that is read; a chain of a dozen certificates is a tenth of it.
const LARGEST_ANSWER: usize = 256 << 10;

/// How to ask.
#[derive(Debug, Clone)]
pub struct CaOptions {
    /// The cluster that vouches for the token (`clusterid`).
    pub cluster_id: String,
    /// How long certificates shall be valid (`SECRET_TTL`).
    pub ttl: Duration,
    /// Whether certificates are asked for on behalf of others: a node's proxy for its workloads.
    pub impersonates: bool,
    /// Extra headers (`CA_HEADER_<name>`).
    pub headers: Vec<(String, String)>,
    /// Which key exchanges the certificates' connections may use.
    pub key_exchange: KeyExchange,
    /// The file of the roots that prove the authority, if it is a file: when it changes, the next request connects anew.
    pub root_file: Option<PathBuf>,
}

/// Asks a certificate authority over gRPC.
pub struct CaClient {
    connect: ChannelFactory,
    token: TokenSource,
    options: CaOptions,
    connection: Mutex<Connection>,
}

#[derive(Default)]
struct Connection {
    /// Connected by the first caller while the others wait; replaced when it has failed or its roots have changed.
    channel: Arc<OnceCell<Channel>>,
    /// What the file of roots held before the channel was made.
    roots: Vec<u8>,
}

impl CaClient {
    /// Connects when the first certificate is needed.
    #[must_use]
    pub fn new(connect: ChannelFactory, token: TokenSource, options: CaOptions) -> Self {
        Self { connect, token, options, connection: Mutex::default() }
    }

    async fn channel(&self) -> Result<(Channel, Arc<OnceCell<Channel>>), SignError> {
        self.follow_roots().await;
        let cell = Arc::clone(&self.connection().channel);
        let channel = cell.get_or_try_init(|| (self.connect)()).await.map_err(SignError::Channel)?.clone();
        Ok((channel, cell))
    }

    /// Drops a channel that has failed, unless somebody else has already done so.
    fn discard(&self, failed: &Arc<OnceCell<Channel>>) {
        let mut connection = self.connection();
        if Arc::ptr_eq(&connection.channel, failed) {
            connection.channel = Arc::default();
        }
    }

    /// Gives up the channel if the roots are no longer those that it was made with.
    ///
    /// Requests are rare, so the file is looked at before each: no watcher is needed, and none can be late.
    async fn follow_roots(&self) {
        let Some(path) = &self.options.root_file else { return };
        // A file that cannot be read for the moment proves nothing about the connection that there is.
        let Ok(roots) = tokio::fs::read(path).await else { return };
        let mut connection = self.connection();
        if connection.roots != roots {
            *connection = Connection { channel: Arc::default(), roots };
        }
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn request(&self, csr: &str, identity: &Identity) -> Result<Request<IstioCertificateRequest>, SignError> {
        let message = IstioCertificateRequest {
            csr: csr.to_owned(),
            validity_duration: i64::try_from(self.options.ttl.as_secs()).unwrap_or(i64::MAX),
            metadata: self.options.impersonates.then(|| impersonation(identity)),
        };
        let mut request = Request::new(message);
        let token = self.token.read().await.map_err(SignError::Token)?;
        self.put_headers(request.metadata_mut(), token.as_deref())?;
        Ok(request)
    }

    fn put_headers(&self, metadata: &mut MetadataMap, token: Option<&str>) -> Result<(), SignError> {
        metadata.insert("clusterid", value("clusterid", &self.options.cluster_id)?);
        for (name, text) in &self.options.headers {
            let key = AsciiMetadataKey::from_bytes(name.to_ascii_lowercase().as_bytes())
                .map_err(|_error| SignError::Malformed(format!("header name {name:?}")))?;
            metadata.insert(key, value(name, text)?);
        }
        if let Some(token) = token {
            let mut bearer = value("token", &format!("Bearer {token}"))?;
            bearer.set_sensitive(true);
            metadata.insert("authorization", bearer);
        }
        Ok(())
    }
}

impl Signer for CaClient {
    async fn sign(&self, identity: &Identity) -> Result<WorkloadCertificate, SignError> {
        let csr = CertificateRequest::generate(identity)?.with_key_exchange(self.options.key_exchange);
        let request = self.request(csr.csr_pem(), identity).await?;
        let (channel, cell) = self.channel().await?;
        let mut client = IstioCertificateServiceClient::new(channel).max_decoding_message_size(LARGEST_ANSWER);
        let response = client.create_certificate(request).await.map_err(|status| {
            if is_transport(&status) {
                self.discard(&cell);
            }
            SignError::Refused(Box::new(status))
        })?;
        Ok(csr.complete(&response.into_inner().cert_chain)?)
    }
}

impl fmt::Debug for CaClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaClient").field("token", &self.token).field("options", &self.options).finish_non_exhaustive()
    }
}

/// Tells the authority for whom a trusted node is asking.
fn impersonation(identity: &Identity) -> Struct {
    let value = Value { kind: Some(Kind::StringValue(identity.to_string())) };
    Struct { fields: BTreeMap::from([("ImpersonatedIdentity".to_owned(), value)]) }
}

/// The text is not quoted: it may be a secret.
fn value(name: &str, text: &str) -> Result<AsciiMetadataValue, SignError> {
    tonic::metadata::MetadataValue::<Ascii>::try_from(text)
        .map_err(|_error| SignError::Malformed(format!("value of header {name:?}")))
}

/// Whether the connection failed rather than the request.
fn is_transport(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled) || status.source().is_some()
}
