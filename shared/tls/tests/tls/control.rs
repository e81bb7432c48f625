//! Control-plane connections: the server's name, its roots, and a certificate that is swapped while running.

use std::time::Duration;

use crate::support::*;
use tls::{
    Alpn, Authority, ControlClient, ControlOptions, HttpsAcceptor, KeyExchange, Refusal, RootSource, TlsError,
    TlsStream,
};
use tokio::io::{DuplexStream, duplex};

const HOUR: Duration = Duration::from_secs(3600);
const NAME: &str = "aquifer.aquifer-system.svc";

fn authority() -> Authority {
    Authority::self_signed(&"cluster.local".parse().unwrap(), HOUR).unwrap()
}

fn acceptor(authority: &Authority, alpn: Alpn) -> HttpsAcceptor {
    let server = authority.issue_server(&[NAME, "127.0.0.1"], HOUR).unwrap();
    HttpsAcceptor::new(&server.certificate, &server.key, alpn).unwrap()
}

async fn dial(
    options: &ControlOptions,
    acceptor: &HttpsAcceptor,
) -> (Result<TlsStream<DuplexStream>, TlsError>, Result<TlsStream<DuplexStream>, TlsError>) {
    let client = ControlClient::new(options).unwrap();
    let (near, far) = duplex(1 << 16);
    tokio::join!(client.connect(near), acceptor.accept(far))
}

fn options(authority: &Authority, name: &str) -> ControlOptions {
    ControlOptions::new(RootSource::Pem(authority.roots_pem().to_owned()), name)
}

#[tokio::test]
async fn a_server_is_known_by_its_names_and_addresses() {
    let authority = authority();
    let acceptor = acceptor(&authority, Alpn::H2AndHttp1);
    for name in [NAME, "127.0.0.1"] {
        let (client, server) = dial(&options(&authority, name), &acceptor).await;
        let agreed = client.unwrap().negotiated();
        assert_eq!(agreed, server.unwrap().negotiated());
        assert_eq!(
            (agreed.version.as_str(), agreed.key_exchange.as_str(), agreed.alpn.as_str()),
            ("TLSv1_3", "X25519MLKEM768", "h2")
        );
    }
}

#[tokio::test]
async fn another_servers_certificate_is_refused() {
    let (authority, namesake) = (authority(), authority());
    let other = Authority::self_signed(&"elsewhere.example".parse().unwrap(), HOUR).unwrap();
    let acceptor = acceptor(&authority, Alpn::H2);
    let (client, _) = dial(&options(&authority, "istiod.istio-system.svc"), &acceptor).await;
    let error = client.unwrap_err();
    assert!(error.to_string().contains("not valid for name"), "{error}");

    let (client, server) = dial(&options(&other, NAME), &acceptor).await;
    let error = client.unwrap_err();
    assert!(matches!(error, TlsError::Peer(Refusal::UnknownRoot)), "{error}");
    assert!(matches!(server.unwrap_err(), TlsError::Alert(alert) if alert == "UnknownCA"));

    let (client, _) = dial(&options(&namesake, NAME), &acceptor).await;
    let error = client.unwrap_err();
    assert!(matches!(error, TlsError::Peer(Refusal::BadSignature)), "{error}");
}

#[tokio::test]
async fn a_replaced_certificate_serves_new_connections() {
    let (first, second) = (authority(), authority());
    let acceptor = acceptor(&first, Alpn::H2);
    assert!(dial(&options(&first, NAME), &acceptor).await.0.is_ok());
    let server = second.issue_server(&[NAME], HOUR).unwrap();
    acceptor.clone().replace(&server.certificate, &server.key).unwrap();
    assert!(dial(&options(&second, NAME), &acceptor).await.0.is_ok());
    assert!(dial(&options(&first, NAME), &acceptor).await.0.is_err());
    assert!(acceptor.replace(&server.certificate, "no key").is_err());
    assert!(dial(&options(&second, NAME), &acceptor).await.0.is_ok(), "a bad certificate replaced a good one");
}

#[tokio::test]
async fn tls_1_2_is_spoken_only_when_allowed() {
    let authority = authority();
    let server = authority.issue_server(&[NAME], HOUR).unwrap();
    let old = old_server(&Issued { chain: server.certificate, key: server.key });
    for (tls12, works) in [(false, false), (true, true)] {
        let options = ControlOptions { tls12, ..options(&authority, NAME) };
        let client = ControlClient::new(&options).unwrap();
        let (near, far) = duplex(1 << 16);
        let (client, _) = tokio::join!(client.connect(near), tokio_rustls::TlsAcceptor::from(old.clone()).accept(far));
        assert_eq!(client.map(|stream| stream.negotiated().version).ok(), works.then(|| "TLSv1_2".to_owned()));
    }
}

#[tokio::test]
async fn only_post_quantum_key_exchange_is_offered_when_that_is_the_policy() {
    let authority = authority();
    let options = ControlOptions { key_exchange: KeyExchange::PostQuantumOnly, ..options(&authority, NAME) };
    let (client, _) = dial(&options, &acceptor(&authority, Alpn::H2)).await;
    assert_eq!(client.unwrap().negotiated().key_exchange, "X25519MLKEM768");
    // A server of old has no such key exchange, and a permission to speak TLS 1.2 does not bring it back.
    let server = authority.issue_server(&[NAME], HOUR).unwrap();
    let old = old_server(&Issued { chain: server.certificate, key: server.key });
    let client = ControlClient::new(&ControlOptions { tls12: true, ..options }).unwrap();
    let (near, far) = duplex(1 << 16);
    let (client, _) = tokio::join!(client.connect(near), tokio_rustls::TlsAcceptor::from(old).accept(far));
    assert!(client.is_err());
}

#[tokio::test]
async fn roots_come_from_a_file_that_is_read_anew() {
    let (first, second) = (authority(), authority());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("root-cert.pem");
    let options = ControlOptions::new(RootSource::parse(path.to_str().unwrap()), NAME);
    let error = ControlClient::new(&options).unwrap_err();
    assert!(error.to_string().contains("root-cert.pem"), "{error}");
    for authority in [first, second] {
        std::fs::write(&path, authority.roots_pem()).unwrap();
        assert!(dial(&options, &acceptor(&authority, Alpn::H2)).await.0.is_ok());
    }
    std::fs::write(&path, "").unwrap();
    assert!(matches!(ControlClient::new(&options).unwrap_err(), TlsError::Roots { .. }));
}

#[test]
fn a_root_setting_is_a_file_inline_pem_or_the_system() {
    assert_eq!(RootSource::parse("SYSTEM"), RootSource::System);
    assert_eq!(RootSource::parse("./root-cert.pem"), RootSource::File("./root-cert.pem".into()));
    let pem = authority().roots_pem().to_owned();
    assert_eq!(RootSource::parse(&pem), RootSource::Pem(pem));
}

#[tokio::test]
async fn one_call_connects_with_inline_roots() {
    let authority = authority();
    let acceptor = acceptor(&authority, Alpn::H2);
    let (near, far) = duplex(1 << 16);
    let (client, _server) =
        tokio::join!(tls::connect_verified(near, authority.roots_pem(), NAME), acceptor.accept(far));
    assert_eq!(client.unwrap().negotiated().alpn, "h2");
}
