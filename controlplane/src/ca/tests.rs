//! The authority against a fake API server: who gets which certificate.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{TokenReviewStatus, UserInfo};
use k8s_openapi::api::core::v1::Secret;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use proto::istio::v1::auth::IstioCertificateRequest;
use proto::istio::v1::auth::istio_certificate_service_server::IstioCertificateService;
use serde_json::json;
use telemetry::Registry;
use tls::{Authority, CertificateDetails, CertificateRequest};
use tokio::sync::watch;
use tonic::{Code, Request, Status};
use types::{Identity, TrustDomain};

use super::authenticate::{Authenticator, TokenReviewer};
use super::impersonate::Rules;
use super::issue::CertificateService;
use super::keeper::Signing;
use super::root;
use crate::metrics::CaMetrics;
use crate::objects::Objects;
use crate::pods::PodIndex;

const FAILURE: &str = "request impersonation authentication failure";

/// Tokens are written `namespace/account[/pod/uid][@audience]`; anything else is invalid.
struct FakeReviewer(Arc<AtomicUsize>);

impl TokenReviewer for FakeReviewer {
    fn review(&self, token: &str, audiences: &[String]) -> BoxFuture<'static, kube::Result<TokenReviewStatus>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let (subject, audience) = token.split_once('@').unwrap_or((token, "istio-ca"));
        let parts: Vec<&str> = subject.split('/').collect();
        let extra = match parts.as_slice() {
            [_, _, pod, uid] => Some(BTreeMap::from([
                ("authentication.kubernetes.io/pod-name".to_owned(), vec![(*pod).to_owned()]),
                ("authentication.kubernetes.io/pod-uid".to_owned(), vec![(*uid).to_owned()]),
            ])),
            _ => None,
        };
        let username = match parts.as_slice() {
            ["user", name] => (*name).to_owned(),
            [namespace, account, ..] => format!("system:serviceaccount:{namespace}:{account}"),
            _ => {
                return async { Ok(TokenReviewStatus { error: Some("bad".to_owned()), ..Default::default() }) }.boxed();
            }
        };
        let known = audiences.iter().filter(|wanted| *wanted == audience).cloned().collect();
        let user = UserInfo { username: Some(username), extra, ..UserInfo::default() };
        let status =
            TokenReviewStatus { authenticated: Some(true), audiences: Some(known), user: Some(user), error: None };
        async move { Ok(status) }.boxed()
    }
}

fn objects() -> Objects {
    let mut objects = Objects::default();
    for (namespace, name, uid, node, account, phase) in [
        ("aquifer-system", "ztunnel-a", "uid-a", "node-a", "ztunnel", "Running"),
        ("aquifer-system", "ztunnel-b", "uid-b", "node-b", "ztunnel", "Running"),
        ("shop", "cart-1", "uid-c", "node-a", "cart", "Running"),
        ("shop", "pay-1", "uid-p", "node-b", "pay", "Failed"),
    ] {
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": namespace, "name": name, "uid": uid},
            "spec": {"nodeName": node, "serviceAccountName": account, "containers": []},
            "status": {"phase": phase}});
        objects.add(pod).unwrap();
    }
    objects
}

struct Fixture {
    service: CertificateService,
    reviews: Arc<AtomicUsize>,
    _pods: watch::Sender<Arc<PodIndex>>,
}

fn fixture() -> Fixture {
    let reviews = Arc::new(AtomicUsize::new(0));
    let (sender, pods) = watch::channel(Arc::new(PodIndex::new(&objects())));
    let trust_domain = TrustDomain::default();
    let service = CertificateService {
        signing: Signing::with(&Authority::self_signed(&trust_domain, Duration::from_secs(30 * 86_400)).unwrap()),
        authenticator: Arc::new(Authenticator::new(FakeReviewer(Arc::clone(&reviews)), vec!["istio-ca".to_owned()])),
        rules: Rules { trust_domain, trusted_accounts: vec!["aquifer-system/ztunnel".parse().unwrap()] },
        cluster_id: "Kubernetes".to_owned(),
        default_ttl: Duration::from_secs(86_400),
        max_ttl: Duration::from_secs(90 * 86_400),
        pods,
        metrics: CaMetrics::new(&Registry::new()),
    };
    Fixture { service, reviews, _pods: sender }
}

fn identity(text: &str) -> Identity {
    format!("spiffe://cluster.local/ns/{}", text.replace('/', "/sa/")).parse().unwrap()
}

/// Asks for a certificate: the CSR names `named`, the metadata `impersonated`.
struct Ask<'a> {
    token: &'a str,
    named: &'a str,
    impersonated: Option<&'a str>,
    seconds: i64,
}

impl Ask<'_> {
    fn request(&self) -> Request<IstioCertificateRequest> {
        let csr = CertificateRequest::generate(&identity(self.named)).unwrap().csr_pem().to_owned();
        let metadata = self.impersonated.map(|text| {
            let value = Value { kind: Some(Kind::StringValue(text.to_owned())) };
            Struct { fields: [("ImpersonatedIdentity".to_owned(), value)].into() }
        });
        let mut request = Request::new(IstioCertificateRequest { csr, validity_duration: self.seconds, metadata });
        request.metadata_mut().insert("authorization", format!("Bearer {}", self.token).parse().unwrap());
        request
    }

    async fn of(&self, fixture: &Fixture) -> Result<Vec<String>, Status> {
        let answer = fixture.service.create_certificate(self.request()).await;
        answer.map(|answer| answer.into_inner().cert_chain)
    }
}

const NODE_A: &str = "aquifer-system/ztunnel/ztunnel-a/uid-a";
const NODE_B: &str = "aquifer-system/ztunnel/ztunnel-b/uid-b";
const CART: &str = "spiffe://cluster.local/ns/shop/sa/cart";

fn cart<'a>(token: &'a str) -> Ask<'a> {
    Ask { token, named: "shop/cart", impersonated: Some(CART), seconds: 3600 }
}

#[tokio::test]
async fn a_node_proxy_gets_the_certificates_of_its_node() {
    let fixture = fixture();
    let request = CertificateRequest::generate(&identity("shop/cart")).unwrap();
    let mut ask = cart(NODE_A).request();
    request.csr_pem().clone_into(&mut ask.get_mut().csr);
    let chain = fixture.service.create_certificate(ask).await.unwrap().into_inner().cert_chain;
    assert_eq!(chain.len(), 2, "leaf and root");
    let certificate = request.complete(&chain).unwrap();
    assert_eq!(certificate.identity(), &identity("shop/cart"));
    assert_eq!((fixture.service.metrics.requests.value(), fixture.service.metrics.issued.value()), (1, 1));
}

async fn assert_impersonation_fails(ask: Ask<'_>) {
    let fixture = fixture();
    let status = ask.of(&fixture).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unauthenticated, FAILURE));
    assert_eq!(fixture.service.metrics.authentication_failures.value(), 1);
    assert_eq!(fixture.service.metrics.issued.value(), 0);
}

#[tokio::test]
async fn an_identity_that_runs_on_another_node_only_is_refused() {
    assert_impersonation_fails(cart(NODE_B)).await;
}

#[tokio::test]
async fn a_token_that_is_bound_to_no_pod_is_refused() {
    assert_impersonation_fails(cart("aquifer-system/ztunnel")).await;
}

#[tokio::test]
async fn a_token_of_a_pod_that_was_replaced_is_refused() {
    assert_impersonation_fails(cart("aquifer-system/ztunnel/ztunnel-a/uid-of-its-predecessor")).await;
    assert_impersonation_fails(cart("aquifer-system/ztunnel/ztunnel-gone/uid-a")).await;
}

#[tokio::test]
async fn an_account_that_is_no_node_proxy_cannot_impersonate() {
    assert_impersonation_fails(cart("shop/cart/cart-1/uid-c")).await;
    assert_impersonation_fails(cart("istio-system/ztunnel/ztunnel-a/uid-a")).await;
}

#[tokio::test]
async fn pods_that_failed_do_not_count() {
    let pay = Some("spiffe://cluster.local/ns/shop/sa/pay");
    assert_impersonation_fails(Ask { token: NODE_B, named: "shop/pay", impersonated: pay, seconds: 60 }).await;
}

#[tokio::test]
async fn an_identity_that_is_malformed_or_of_another_mesh_is_refused() {
    for text in ["", "cart", "spiffe://other.mesh/ns/shop/sa/cart"] {
        assert_impersonation_fails(Ask { token: NODE_A, named: "shop/cart", impersonated: Some(text), seconds: 60 })
            .await;
    }
}

#[tokio::test]
async fn an_identity_that_is_no_text_is_not_taken_for_the_callers_own() {
    for kind in [None, Some(Kind::NullValue(0)), Some(Kind::BoolValue(true))] {
        let fixture = fixture();
        let mut request =
            Ask { token: NODE_A, named: "aquifer-system/ztunnel", impersonated: None, seconds: 60 }.request();
        let fields = [("ImpersonatedIdentity".to_owned(), Value { kind })].into();
        request.get_mut().metadata = Some(Struct { fields });
        let status = fixture.service.create_certificate(request).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unauthenticated, FAILURE));
    }
}

#[tokio::test]
async fn a_request_that_names_somebody_else_is_refused() {
    let fixture = fixture();
    let ask = Ask { token: NODE_A, named: "shop/pay", impersonated: Some(CART), seconds: 60 };
    let status = ask.of(&fixture).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("ns/shop/sa/pay") && status.message().contains(CART), "{status}");
    let own = Ask { token: "shop/cart", named: "shop/pay", impersonated: None, seconds: 60 };
    assert_eq!(own.of(&fixture).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(fixture.service.metrics.issued.value(), 0);
}

#[tokio::test]
async fn any_account_gets_its_own_identity() {
    let fixture = fixture();
    let own = Ask { token: "shop/cart", named: "shop/cart", impersonated: None, seconds: 60 };
    assert_eq!(own.of(&fixture).await.unwrap().len(), 2);
}

#[tokio::test]
async fn bad_tokens_are_refused_without_a_certificate() {
    let fixture = fixture();
    for (token, text) in
        [("nonsense", "not valid"), ("shop/cart@api", "audience istio-ca"), ("user/root", "no ServiceAccount")]
    {
        let status = cart(token).of(&fixture).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{token}");
        assert!(status.message().contains(text), "{token}: {status}");
    }
    let mut request = cart(NODE_A).request();
    request.metadata_mut().remove("authorization");
    assert_eq!(fixture.service.create_certificate(request).await.unwrap_err().code(), Code::Unauthenticated);
    let mut request = cart(NODE_A).request();
    request.metadata_mut().insert("clusterid", "elsewhere".parse().unwrap());
    assert_eq!(fixture.service.create_certificate(request).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(fixture.service.metrics.authentication_failures.value(), 5);
}

#[tokio::test]
async fn a_broken_request_is_the_callers_fault() {
    let fixture = fixture();
    let mut request = cart(NODE_A).request();
    "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"
        .clone_into(&mut request.get_mut().csr);
    assert_eq!(fixture.service.create_certificate(request).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn the_validity_is_the_one_asked_for_within_bounds() {
    let fixture = fixture();
    let lifetime = |chain: Vec<String>| {
        let leaf = CertificateDetails::from_pem(&chain[0]).unwrap().remove(0);
        leaf.not_after.duration_since(SystemTime::now()).unwrap().as_secs()
    };
    for (seconds, expected) in [(3600, 3600), (0, 86_400), (-5, 86_400), (89 * 86_400, 30 * 86_400)] {
        let found = lifetime(Ask { seconds, ..cart(NODE_A) }.of(&fixture).await.unwrap());
        assert!((expected - 60..=expected).contains(&found), "{seconds}: {found}");
    }
    for seconds in [91 * 86_400, i64::MAX] {
        let status = Ask { seconds, ..cart(NODE_A) }.of(&fixture).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
    }
}

#[tokio::test(start_paused = true)]
async fn a_good_token_is_reviewed_once_in_a_while() {
    let fixture = fixture();
    for _ in 0..3 {
        fixture.service.authenticator.account("shop/cart").await.unwrap();
    }
    assert_eq!(fixture.reviews.load(Ordering::Relaxed), 1);
    tokio::time::advance(Duration::from_secs(31)).await;
    fixture.service.authenticator.account("shop/cart").await.unwrap();
    assert_eq!(fixture.reviews.load(Ordering::Relaxed), 2);
    for _ in 0..2 {
        fixture.service.authenticator.account("shop/cart@api").await.unwrap_err();
    }
    assert_eq!(fixture.reviews.load(Ordering::Relaxed), 4, "bad tokens are not remembered");
}

fn secret(entries: &[(&str, &str)]) -> Secret {
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    let data = entries.iter().map(|(key, text)| ((*key).to_owned(), bytes(text))).collect();
    Secret { data: Some(data), ..Secret::default() }
}

#[test]
fn an_operators_authority_is_put_together_from_its_parts() {
    let pem = Authority::self_signed(&TrustDomain::default(), Duration::from_secs(3600)).unwrap().to_pem();
    let parts = [
        ("ca-cert.pem", pem.certificate.as_str()),
        ("ca-key.pem", &pem.key),
        ("cert-chain.pem", &pem.certificate),
        ("root-cert.pem", &pem.certificate),
    ];
    let wanted = root::read("cacerts", &secret(&parts)).unwrap();
    assert_eq!(wanted.pem.certificate.matches("BEGIN CERTIFICATE").count(), 1, "each certificate once");
    assert_eq!((wanted.secret, wanted.pem, wanted.revocations), ("cacerts", pem, None));
}

#[test]
fn an_unusable_secret_is_named() {
    let error = root::read("cacerts", &secret(&[("ca-cert.pem", "x")])).unwrap_err();
    assert_eq!(error.to_string(), "Secret cacerts lacks the key ca-key.pem");
    let error = root::read("cacerts", &secret(&[("ca-cert.pem", "x"), ("ca-key.pem", "y")])).unwrap_err();
    assert_eq!(error.to_string(), "Secret cacerts cannot be used");
}
