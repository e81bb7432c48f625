//! Mutual TLS between workloads: who is let in, who is not, and with which words.

use crate::support::*;
use rcgen::{ExtendedKeyUsagePurpose, SanType};
use rustls::crypto::aws_lc_rs::{self, kx_group};
use tls::{KeyExchange, Negotiated, Refusal, TlsError, WorkloadCertificate};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::time::timeout;
use types::Identity;

fn identity(text: &str) -> Identity {
    text.parse().unwrap()
}

/// What the server says about a client that shows this certificate, and what the client gets to hear.
async fn server_verdict(server: &WorkloadCertificate, shown: Option<&Issued>) -> (TlsError, std::io::Error) {
    let (near, far) = duplex(1 << 16);
    let (ours, theirs) =
        tokio::join!(timeout(DEADLINE, tls::accept(near, server)), dial_carelessly(far, careless_client(shown)));
    (ours.unwrap().unwrap_err(), theirs.unwrap_err())
}

/// What the client says about a server that shows this certificate, and what the server gets to hear.
async fn client_verdict(
    client: &WorkloadCertificate,
    expected: &[Identity],
    shown: &Issued,
) -> (TlsError, std::io::Error) {
    let (near, far) = duplex(1 << 16);
    let (ours, theirs) = tokio::join!(
        timeout(DEADLINE, tls::connect(near, client, expected)),
        serve_carelessly(far, careless_server(shown))
    );
    (ours.unwrap().unwrap_err(), theirs.unwrap_err())
}

fn refusal(error: TlsError) -> Refusal {
    match error {
        TlsError::Peer(refusal) => refusal,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn the_last_message_of_a_client_that_writes_leaves_with_what_it_writes() {
    let ca = TestCa::new();
    let (client, server) = (ca.workload(FRONTEND), ca.workload(CART));
    // What each side says is carried over by hand, piece by piece.
    let (near, mut tap) = duplex(1 << 16);
    let expected = [identity(CART)];
    let dial = tokio::spawn(async move { tls::connect_to_write(near, &client, &expected, None).await.unwrap() });
    let (far, mut other) = duplex(1 << 16);
    let accept = tokio::spawn(async move { tls::accept(far, &server).await.unwrap() });
    let mut space = vec![0; 1 << 16];
    let hello = tap.read(&mut space).await.unwrap();
    other.write_all(&space[..hello]).await.unwrap();
    let answer = other.read(&mut space).await.unwrap();
    tap.write_all(&space[..answer]).await.unwrap();
    let (mut stream, _peer) = timeout(DEADLINE, dial).await.unwrap().unwrap();
    stream.write_all(b"request").await.unwrap();
    tokio::task::yield_now().await;
    assert!(!accept.is_finished(), "the client has not said who it is");
    stream.flush().await.unwrap();
    let both = tap.read(&mut space).await.unwrap();
    other.write_all(&space[..both]).await.unwrap();
    let (mut accepted, peer) = timeout(DEADLINE, accept).await.unwrap().unwrap();
    assert_eq!(peer.identity, identity(FRONTEND));
    let mut request = [0; 7];
    timeout(DEADLINE, accepted.read_exact(&mut request)).await.unwrap().unwrap();
    assert_eq!(&request, b"request");
}

#[tokio::test]
async fn two_workloads_learn_each_others_identity() {
    let ca = TestCa::new();
    let (client, server) = (ca.workload(FRONTEND), ca.workload(CART));
    let (near, far) = duplex(1 << 16);
    let expected = [identity(STRANGER), identity(CART)];
    let (dialled, accepted) = tokio::join!(tls::connect(near, &client, &expected), tls::accept(far, &server));
    let ((mut near, seen_by_client), (mut far, seen_by_server)) = (dialled.unwrap(), accepted.unwrap());
    assert_eq!(seen_by_client.identity, identity(CART));
    assert_eq!(seen_by_server.identity, identity(FRONTEND));
    assert_eq!(seen_by_server.chain(), client.chain());
    let agreed = Negotiated {
        version: "TLSv1_3".into(),
        cipher_suite: "TLS13_AES_128_GCM_SHA256".into(),
        key_exchange: "X25519MLKEM768".into(),
        alpn: "h2".into(),
        is_resumed: false,
    };
    assert_eq!((near.negotiated(), far.negotiated()), (&agreed, &agreed));

    near.write_all(b"over there").await.unwrap();
    near.shutdown().await.unwrap();
    let mut text = String::new();
    far.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "over there");
}

#[tokio::test]
async fn a_server_names_what_is_wrong_with_a_client() {
    let (ca, other_ca, namesake) = (TestCa::new(), TestCa::named("other root"), TestCa::new());
    let server = ca.workload(CART);
    let only_server = ca.issue_with(&[FRONTEND], |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let not_yet = ca.issue_with(&[FRONTEND], |params| params.not_before = rcgen::date_time_ymd(3000, 1, 1));
    let cases: [(Issued, &str); 10] = [
        (ca.expired(FRONTEND), "peer refused: certificate expired "),
        (not_yet, "peer refused: certificate not valid for another "),
        (other_ca.issue(&[FRONTEND]), "peer refused: certificate does not chain to a known root"),
        (namesake.issue(&[FRONTEND]), "peer refused: certificate does not chain to a known root"),
        (
            ca.issue(&[STRANGER]),
            "peer refused: other trust domain: expected cluster.local, got spiffe://elsewhere.example/ns/shop/sa/cart",
        ),
        (ca.issue(&[]), "peer refused: certificate has no SPIFFE name"),
        (ca.issue(&["https://cart.example"]), "peer refused: certificate has no SPIFFE name"),
        (
            ca.issue(&[FRONTEND, CART]),
            "peer refused: certificate has several SPIFFE names: spiffe://cluster.local/ns/shop/sa/frontend, spiffe://",
        ),
        (
            ca.issue(&["spiffe://cluster.local/frontend"]),
            "peer refused: certificate has a malformed SPIFFE name \"spiffe://cluster.local/frontend\"",
        ),
        (only_server, "peer refused: certificate is not meant for this purpose"),
    ];
    for (shown, words) in cases {
        let (ours, theirs) = server_verdict(&server, Some(&shown)).await;
        assert!(ours.to_string().starts_with(words), "{ours} instead of {words}");
        assert!(theirs.to_string().contains("alert"), "{theirs}");
    }
}

#[tokio::test]
async fn a_client_without_certificate_is_refused() {
    let server = TestCa::new().workload(CART);
    let (ours, _) = server_verdict(&server, None).await;
    assert_eq!(refusal(ours), Refusal::NoCertificate);
}

#[tokio::test]
async fn a_second_spiffe_name_counts_in_any_letter_case_and_beside_other_names() {
    let ca = TestCa::new();
    let server = ca.workload(CART);
    let shown = ca.issue_with(&[FRONTEND, "https://a.example", "SPIFFE://cluster.local/ns/shop/sa/admin"], |params| {
        params.subject_alt_names.push(SanType::DnsName("cart.example".try_into().unwrap()));
    });
    let (ours, _) = server_verdict(&server, Some(&shown)).await;
    assert!(matches!(refusal(ours), Refusal::SeveralSpiffeNames(names) if names.len() == 2));
}

#[tokio::test]
async fn a_client_names_what_is_wrong_with_a_server() {
    let (ca, other_ca, namesake) = (TestCa::new(), TestCa::named("other root"), TestCa::new());
    let client = ca.workload(FRONTEND);
    let only_client = ca.issue_with(&[CART], |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    let cases: [(Issued, &str); 7] = [
        (ca.expired(CART), "peer refused: certificate expired "),
        (other_ca.issue(&[CART]), "peer refused: certificate does not chain to a known root"),
        (namesake.issue(&[CART]), "peer refused: certificate does not chain to a known root"),
        (ca.issue(&[]), "peer refused: certificate has no SPIFFE name"),
        (ca.issue(&[CART, FRONTEND]), "peer refused: certificate has several SPIFFE names: "),
        (
            ca.issue(&[FRONTEND]),
            "peer refused: identity mismatch: expected spiffe://cluster.local/ns/shop/sa/cart, \
             got spiffe://cluster.local/ns/shop/sa/frontend",
        ),
        (only_client, "peer refused: certificate is not meant for this purpose"),
    ];
    for (shown, words) in cases {
        let (ours, theirs) = client_verdict(&client, &[identity(CART)], &shown).await;
        assert!(ours.to_string().starts_with(words), "{ours} instead of {words}");
        assert!(theirs.to_string().contains("alert"), "{theirs}");
    }
}

#[tokio::test]
async fn nobody_is_expected_by_an_empty_list() {
    let ca = TestCa::new();
    let client = ca.workload(FRONTEND);
    let (ours, _) = client_verdict(&client, &[], &ca.issue(&[CART])).await;
    assert!(ours.to_string().contains("expected nobody, got"), "{ours}");
}

#[tokio::test]
async fn a_peer_without_h2_is_refused_by_both_sides() {
    let ca = TestCa::new();
    let (server, shown) = (ca.workload(CART), ca.issue(&[FRONTEND]));
    let (near, far) = duplex(1 << 16);
    let mut config = careless_client(Some(&shown));
    config.alpn_protocols.clear();
    let (ours, _) = tokio::join!(tls::accept(near, &server), dial_carelessly(far, config));
    assert!(matches!(ours.unwrap_err(), TlsError::Alpn { found, .. } if found.is_empty()));

    let (near, far) = duplex(1 << 16);
    let mut config = careless_server(&ca.issue(&[CART]));
    config.alpn_protocols.clear();
    let client = ca.workload(FRONTEND);
    let expected = [identity(CART)];
    let (ours, _) = tokio::join!(tls::connect(near, &client, &expected), serve_carelessly(far, config));
    assert!(matches!(ours.unwrap_err(), TlsError::Alpn { .. }));
}

#[tokio::test]
async fn what_is_not_tls_is_an_error_of_the_right_kind() {
    let server = TestCa::new().workload(CART);
    for (bytes, is_io) in [(&b"GET / HTTP/1.1\r\n\r\n"[..], false), (b"", true), (b"\x16\x03\x01\x40", true)] {
        let (near, mut far) = duplex(1 << 16);
        far.write_all(bytes).await.unwrap();
        far.shutdown().await.unwrap();
        let error = timeout(DEADLINE, tls::accept(near, &server)).await.unwrap().unwrap_err();
        assert_eq!(matches!(error, TlsError::Io(_)), is_io, "{error}");
        assert_eq!(matches!(error, TlsError::Handshake(_)), !is_io, "{error}");
    }
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let ca = TestCa::new();
    let (server, shown) = (ca.workload(CART), ca.issue(&[FRONTEND]));
    let (near, far) = duplex(1 << 16);
    let config = rustls::ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let (ours, _) = tokio::join!(tls::accept(near, &server), dial_carelessly(far, config));
    assert!(matches!(ours.unwrap_err(), TlsError::Handshake(_)));
    drop(shown);
}

#[tokio::test]
async fn a_classical_peer_is_served_unless_policy_demands_post_quantum() {
    let ca = tls::Authority::self_signed(&identity(CART).trust_domain, DEADLINE).unwrap();
    let issue = |key_exchange| {
        let request = tls::CertificateRequest::generate(&identity(CART)).unwrap().with_key_exchange(key_exchange);
        let chain = ca.sign_csr(request.csr_pem(), &identity(CART), DEADLINE).unwrap();
        (request.key_pem(), chain.clone(), request.complete(&chain).unwrap())
    };
    let classical = || {
        let (key, chain, _) = issue(KeyExchange::Hybrid);
        let mut config = careless_client(Some(&Issued { chain: chain[0].clone(), key }));
        let mut provider = aws_lc_rs::default_provider();
        provider.kx_groups = vec![kx_group::SECP256R1];
        let with_groups = rustls::ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(careless_verifier())
            .with_client_cert_resolver(config.client_auth_cert_resolver.clone());
        let alpn = std::mem::take(&mut config.alpn_protocols);
        let mut config = with_groups;
        config.alpn_protocols = alpn;
        config
    };
    for (key_exchange, is_served) in [(KeyExchange::Hybrid, true), (KeyExchange::PostQuantumOnly, false)] {
        let (_, _, server) = issue(key_exchange);
        let (near, far) = duplex(1 << 16);
        let (ours, _) = tokio::join!(
            async { tls::accept(near, &server).await.map(|(stream, _)| stream.negotiated().key_exchange.clone()) },
            dial_carelessly(far, classical())
        );
        assert_eq!(ours.is_ok(), is_served, "{ours:?}");
        assert_eq!(ours.ok(), is_served.then(|| "secp256r1".to_owned()));
    }
}
