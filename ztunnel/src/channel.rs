//! Connections to the control plane: TCP, TLS that proves the server, HTTP/2 with keepalive.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use config::{CompliancePolicy, ControlEndpoint, RootSource, ServerAddress};
use futures::future::BoxFuture;
use http::Uri;
use hyper_util::rt::TokioIo;
use identity::TokenSource;
use linux::socket::{Keepalive, Tuning};
use tls::{ControlClient, ControlOptions, KeyExchange, TlsStream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::metadata::{Ascii, AsciiMetadataKey, MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};

/// Whatever a connection trips over.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Makes connections; see `xds::client::ChannelFactory` and `identity::ChannelFactory`, which are the same type.
pub(crate) type ChannelFactory = Arc<dyn Fn() -> BoxFuture<'static, Result<Channel, BoxError>> + Send + Sync>;

/// Makes the metadata of calls.
pub(crate) type MetadataFactory = Arc<dyn Fn() -> BoxFuture<'static, Result<MetadataMap, BoxError>> + Send + Sync>;

/// How long name resolution and TCP may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// How long the TLS handshake may take.
const TLS_DEADLINE: Duration = Duration::from_secs(5);

/// When an idle TCP connection is probed.
const KEEPALIVE: Keepalive =
    Keepalive { time: Duration::from_secs(300), interval: Duration::from_secs(75), retries: 9 };

const TUNING: Tuning = Tuning { keepalive: Some(KEEPALIVE), no_delay: true, is_local: false, unsent: None };

/// How often a silent server is asked whether it is there, and how long it may take to say so.
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

/// What of TLS is good enough for the control plane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strength {
    tls12: bool,
    key_exchange: KeyExchange,
}

impl Strength {
    pub(crate) fn of(config: &config::Ztunnel) -> Self {
        Self { tls12: config.control_plane_tls12, key_exchange: key_exchange(config) }
    }
}

/// Which key exchanges the operator finds good enough.
pub(crate) fn key_exchange(config: &config::Ztunnel) -> KeyExchange {
    match config.compliance_policy {
        None => KeyExchange::Hybrid,
        Some(CompliancePolicy::Pqc) => KeyExchange::PostQuantumOnly,
    }
}

/// Connects anew at each call; roots in files are read again each time, since they rotate.
pub(crate) fn factory(endpoint: ControlEndpoint, strength: Strength) -> ChannelFactory {
    Arc::new(move || {
        let endpoint = endpoint.clone();
        Box::pin(async move { channel(endpoint, strength).await })
    })
}

/// Reads the token anew at each call.
pub(crate) fn metadata(endpoint: &ControlEndpoint, token: TokenSource, cluster_id: &str) -> MetadataFactory {
    let (headers, cluster_id) = (endpoint.headers.clone(), cluster_id.to_owned());
    Arc::new(move || {
        let (headers, token, cluster_id) = (headers.clone(), token.clone(), cluster_id.clone());
        Box::pin(async move {
            let mut metadata = MetadataMap::new();
            metadata.insert("clusterid", MetadataValue::<Ascii>::try_from(cluster_id)?);
            for (name, value) in &headers {
                metadata.insert(AsciiMetadataKey::from_bytes(name.as_bytes())?, value.parse()?);
            }
            if let Some(token) = token.read().await? {
                let mut bearer: MetadataValue<Ascii> = format!("Bearer {token}").parse()?;
                bearer.set_sensitive(true);
                metadata.insert("authorization", bearer);
            }
            Ok(metadata)
        })
    })
}

/// The token's source as the identity crate knows it.
pub(crate) fn token(token: &config::Token) -> TokenSource {
    match token {
        config::Token::None => TokenSource::None,
        config::Token::File(path) => TokenSource::File(path.clone()),
        config::Token::Literal(text) => TokenSource::Literal(text.clone()),
    }
}

async fn channel(endpoint: ControlEndpoint, strength: Strength) -> Result<Channel, BoxError> {
    let tls = if endpoint.address.tls { Some(Arc::new(control_client(&endpoint, strength)?)) } else { None };
    let uri = Uri::builder()
        .scheme(if endpoint.address.tls { "https" } else { "http" })
        .authority(endpoint.address.authority())
        .path_and_query("/")
        .build()?;
    let (interval, patience) = PING;
    let channel = Endpoint::from(uri)
        .http2_keep_alive_interval(interval)
        .keep_alive_timeout(patience)
        .keep_alive_while_idle(true)
        .connect_with_connector(Connector { address: endpoint.address, tls })
        .await?;
    Ok(channel)
}

fn control_client(endpoint: &ControlEndpoint, strength: Strength) -> Result<ControlClient, tls::TlsError> {
    let roots = match &endpoint.root {
        RootSource::File(path) => tls::RootSource::File(path.clone()),
        RootSource::System => tls::RootSource::System,
        RootSource::Pem(text) => tls::RootSource::Pem(text.clone()),
    };
    let name = endpoint.alternative_name.as_ref().unwrap_or(&endpoint.address.host);
    let mut options = ControlOptions::new(roots, name);
    (options.tls12, options.key_exchange) = (strength.tls12, strength.key_exchange);
    ControlClient::new(&options)
}

/// Makes the transport of one channel.
#[derive(Clone)]
struct Connector {
    address: ServerAddress,
    tls: Option<Arc<ControlClient>>,
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Transport>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        let Self { address, tls } = self.clone();
        Box::pin(async move {
            let late = |what: &str| io::Error::new(io::ErrorKind::TimedOut, format!("{what} {address} took too long"));
            let connecting = TcpStream::connect((address.host.as_str(), address.port));
            let stream = timeout(CONNECT_DEADLINE, connecting).await.map_err(|_elapsed| late("connecting to"))??;
            linux::socket::tuned(&stream, TUNING)?;
            let Some(tls) = tls else { return Ok(TokioIo::new(Transport::Plain(stream))) };
            let handshake = timeout(TLS_DEADLINE, tls.connect(stream)).await;
            let stream = handshake.map_err(|_elapsed| late("the TLS handshake with"))??;
            Ok(TokioIo::new(Transport::Tls(Box::new(stream))))
        })
    }
}

/// A connection with or without TLS.
enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    fn inner(self: Pin<&mut Self>) -> Pin<&mut (dyn Duplex + Unpin)> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream),
            Self::Tls(stream) => Pin::new(stream.as_mut()),
        }
    }
}

trait Duplex: AsyncRead + AsyncWrite {}

impl<T: AsyncRead + AsyncWrite> Duplex for T {}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.inner().poll_read(context, buffer)
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.inner().poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_shutdown(context)
    }
}
