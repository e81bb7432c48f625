//! The client in front of a certificate authority: a tonic server on loopback that writes down what it is asked.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use identity::{CaClient, CaOptions, ChannelFactory, SignError, Signer, TokenSource};
use proto::istio::v1::auth::istio_certificate_service_server::{
    IstioCertificateService, IstioCertificateServiceServer,
};
use proto::istio::v1::auth::{IstioCertificateRequest, IstioCertificateResponse};
use tls::{Authority, KeyExchange, SigningRequest, TlsError};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Endpoint, Server};
use tonic::{Code, Request, Response, Status};
use types::Identity;

use crate::support::*;

/// What the authority answers; by default a certificate for the impersonated identity.
type Answer = Box<dyn Fn(&Authority, &Asked) -> Result<Vec<String>, Status> + Send + Sync>;

/// One request as it came in.
#[derive(Debug, Clone)]
struct Asked {
    headers: Vec<(String, String)>,
    message: IstioCertificateRequest,
}

impl Asked {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    fn impersonated(&self) -> Option<Identity> {
        let value = self.message.metadata.as_ref()?.fields.get("ImpersonatedIdentity")?;
        match value.kind.as_ref()? {
            prost_types::value::Kind::StringValue(text) => text.parse().ok(),
            _ => None,
        }
    }
}

struct Ca {
    authority: Authority,
    answer: Answer,
    asked: Arc<Mutex<Vec<Asked>>>,
}

// What the generated trait's `async_trait` expands to.
impl IstioCertificateService for Ca {
    fn create_certificate<'a, 'b>(
        &'a self,
        request: Request<IstioCertificateRequest>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<IstioCertificateResponse>, Status>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        let headers = request.metadata().clone().into_headers();
        let text = |value: &http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let headers = headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        let asked = Asked { headers, message: request.into_inner() };
        let answer = (self.answer)(&self.authority, &asked);
        self.asked.lock().unwrap().push(asked);
        Box::pin(async move { Ok(Response::new(IstioCertificateResponse { cert_chain: answer? })) })
    }
}

/// A running authority, and a client factory that counts its connections.
struct World {
    asked: Arc<Mutex<Vec<Asked>>>,
    connects: Arc<AtomicUsize>,
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl World {
    async fn new(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::default();
        let ca = Ca { authority: authority(), answer, asked: Arc::clone(&asked) };
        let serve = Server::builder()
            .add_service(IstioCertificateServiceServer::new(ca))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let server = tokio::spawn(async move { serve.await.unwrap() });
        Self { asked, connects: Arc::default(), address, server }
    }

    fn connect(&self) -> ChannelFactory {
        let (connects, address) = (Arc::clone(&self.connects), self.address);
        Arc::new(move || {
            connects.fetch_add(1, Ordering::SeqCst);
            let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
            Box::pin(async move { Ok(endpoint.connect().await?) })
        })
    }

    fn client(&self, token: TokenSource) -> CaClient {
        CaClient::new(self.connect(), token, options())
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    fn connects(&self) -> usize {
        self.connects.load(Ordering::SeqCst)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn options() -> CaOptions {
    CaOptions {
        cluster_id: "Kubernetes".into(),
        ttl: 24 * HOUR,
        impersonates: true,
        headers: vec![("X-Tenant".into(), "blue".into())],
        key_exchange: KeyExchange::default(),
        root_file: None,
    }
}

fn sign_as_asked() -> Answer {
    Box::new(|authority, asked| {
        let ttl = HOUR.min(std::time::Duration::from_secs(asked.message.validity_duration.unsigned_abs()));
        Ok(authority.sign_csr(&asked.message.csr, &asked.impersonated().unwrap(), ttl).unwrap())
    })
}

fn refused(error: SignError) -> (Code, String) {
    match error {
        SignError::Refused(status) => (status.code(), status.message().to_owned()),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_request_says_who_asks_for_whom() {
    let world = World::new(sign_as_asked()).await;
    let client = world.client(TokenSource::Literal("secret".into()));
    let certificate = client.sign(&identity("cart")).await.unwrap();
    assert_eq!(certificate.identity(), &identity("cart"));
    let asked = &world.asked()[0];
    assert_eq!(asked.header("authorization"), Some("Bearer secret"));
    assert_eq!(asked.header("clusterid"), Some("Kubernetes"));
    assert_eq!(asked.header("x-tenant"), Some("blue"));
    assert_eq!(asked.message.validity_duration, 86_400);
    assert_eq!(asked.impersonated(), Some(identity("cart")));
    assert_eq!(asked.message.metadata.as_ref().unwrap().fields.len(), 1);
    let request = SigningRequest::parse(&asked.message.csr).unwrap();
    assert_eq!(request.names(), [identity("cart").to_string()]);
    assert!(!format!("{client:?}").contains("secret"));
}

#[tokio::test]
async fn a_single_workload_asks_for_itself() {
    let answer: Answer =
        Box::new(|authority, asked| Ok(authority.sign_csr(&asked.message.csr, &identity("cart"), HOUR).unwrap()));
    let world = World::new(answer).await;
    let options = CaOptions { impersonates: false, headers: Vec::new(), ..options() };
    let client = CaClient::new(world.connect(), TokenSource::None, options);
    client.sign(&identity("cart")).await.unwrap();
    let asked = &world.asked()[0];
    assert_eq!((asked.message.metadata.clone(), asked.header("authorization")), (None, None));
}

#[tokio::test]
async fn each_request_has_its_own_key_and_the_token_of_the_moment() {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("token");
    let world = World::new(sign_as_asked()).await;
    let client = world.client(TokenSource::File(path.clone()));
    assert!(matches!(client.sign(&identity("cart")).await.unwrap_err(), SignError::Token(_)));
    for token in ["first", "second"] {
        std::fs::write(&path, token).unwrap();
        client.sign(&identity("cart")).await.unwrap();
    }
    let asked = world.asked();
    assert_eq!(asked[0].header("authorization"), Some("Bearer first"));
    assert_eq!(asked[1].header("authorization"), Some("Bearer second"));
    assert_ne!(asked[0].message.csr, asked[1].message.csr);
}

#[tokio::test]
async fn callers_share_one_connection() {
    let world = World::new(sign_as_asked()).await;
    let client = world.client(TokenSource::None);
    let accounts: Vec<_> = (0..20).map(|index| identity(&format!("sa-{index}"))).collect();
    for outcome in futures::future::join_all(accounts.iter().map(|account| client.sign(account))).await {
        outcome.unwrap();
    }
    assert_eq!(world.connects(), 1);
}

#[tokio::test]
async fn rotated_roots_are_followed_by_the_next_request() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("root-cert.pem");
    std::fs::write(&path, "old").unwrap();
    let world = World::new(sign_as_asked()).await;
    let options = CaOptions { root_file: Some(path.clone()), ..options() };
    let client = CaClient::new(world.connect(), TokenSource::None, options);
    let sign = async |connects| {
        client.sign(&identity("cart")).await.unwrap();
        assert_eq!(world.connects(), connects);
    };
    sign(1).await;
    sign(1).await;
    std::fs::write(&path, "new").unwrap();
    sign(2).await;
    std::fs::write(&path, "new").unwrap();
    sign(2).await;
    std::fs::remove_file(&path).unwrap();
    sign(2).await;
}

#[tokio::test]
async fn a_refusal_keeps_its_words_and_the_connection() {
    let words = "request impersonation authentication failure";
    let world = World::new(Box::new(move |_, _| Err(Status::unauthenticated(words)))).await;
    let client = world.client(TokenSource::None);
    for _ in 0..2 {
        let error = client.sign(&identity("cart")).await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(refused(error), (Code::Unauthenticated, words.to_owned()));
    }
    assert_eq!(world.connects(), 1);
}

#[tokio::test]
async fn an_answer_that_is_not_ours_is_refused() {
    type Twist = fn(&Authority, &Asked) -> Vec<String>;
    let twists: [(Twist, &str); 4] = [
        (
            |authority, asked| authority.sign_csr(&asked.message.csr, &identity("admin"), HOUR).unwrap(),
            "asked for spiffe://cluster.local/ns/shop/sa/cart, got a certificate of \
             spiffe://cluster.local/ns/shop/sa/admin",
        ),
        (
            |authority, asked| authority.sign_csr(&asked.message.csr, &identity("cart"), HOUR).unwrap()[..1].to_vec(),
            "1 elements instead of at least leaf and root",
        ),
        (
            |authority, _| {
                let other = tls::CertificateRequest::generate(&identity("cart")).unwrap();
                authority.sign_csr(other.csr_pem(), &identity("cart"), HOUR).unwrap()
            },
            "certificate cannot be used",
        ),
        (|_, _| vec!["junk".into(), "junk".into()], "the first element holds no certificate"),
    ];
    for (twist, words) in twists {
        let world = World::new(Box::new(move |authority, asked| Ok(twist(authority, asked)))).await;
        let error = world.client(TokenSource::None).sign(&identity("cart")).await.unwrap_err();
        assert!(matches!(&error, SignError::Certificate(TlsError::Response(_) | TlsError::Configuration(_))));
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn an_answer_of_excessive_size_is_refused() {
    let world = World::new(Box::new(|_, _| Ok(vec!["x".repeat(1 << 20); 2]))).await;
    let error = world.client(TokenSource::None).sign(&identity("cart")).await.unwrap_err();
    assert_eq!(refused(error).0, Code::OutOfRange);
}

#[tokio::test]
async fn a_connection_that_failed_is_made_anew() {
    let answers = AtomicUsize::new(0);
    let sign = sign_as_asked();
    let world = World::new(Box::new(move |authority, asked| match answers.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => Err(Status::unavailable("going down")),
        _ => sign(authority, asked),
    }))
    .await;
    let client = world.client(TokenSource::None);
    for _ in 0..2 {
        assert_eq!(refused(client.sign(&identity("cart")).await.unwrap_err()).0, Code::Unavailable);
    }
    client.sign(&identity("cart")).await.unwrap();
    client.sign(&identity("cart")).await.unwrap();
    assert_eq!(world.connects(), 3);
}

#[tokio::test]
async fn an_authority_that_cannot_be_reached_is_tried_again() {
    let world = World::new(sign_as_asked()).await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (attempts, connect) = (AtomicUsize::new(0), world.connect());
    let factory: ChannelFactory = Arc::new(move || match attempts.fetch_add(1, Ordering::SeqCst) {
        0 => Box::pin(async move { Ok(Endpoint::from_shared(format!("http://{nobody}"))?.connect().await?) }),
        _ => connect(),
    });
    let client = CaClient::new(factory, TokenSource::None, options());
    let error = client.sign(&identity("cart")).await.unwrap_err();
    assert!(matches!(error, SignError::Channel(_)), "{error}");
    client.sign(&identity("cart")).await.unwrap();
}

#[tokio::test]
async fn a_header_that_cannot_be_sent_is_an_error_that_hides_its_value() {
    let world = World::new(sign_as_asked()).await;
    let error = world.client(TokenSource::Literal("sec\nret".into())).sign(&identity("cart")).await.unwrap_err();
    assert!(matches!(error, SignError::Malformed(_)) && !error.to_string().contains("ret\""), "{error}");
    assert!(!error.to_string().contains("sec"), "{error}");
}
