//! OpenSSL's command-line tool as an independent client, server and certificate authority.

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tls::{Authority, CertificateRequest, Place, Refusal, TlsError, WorkloadCertificate};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use types::Identity;

use crate::support::*;

const HOUR: Duration = Duration::from_secs(3600);

/// A folder with a workload's certificate as OpenSSL reads it, and the authority that issued it.
struct World {
    folder: TempDir,
    authority: Authority,
}

impl World {
    /// `None`, and said so, when there is no OpenSSL here.
    async fn new() -> Option<Self> {
        if Command::new("openssl").arg("version").output().await.is_err() {
            println!("SKIPPED: the openssl command is not installed");
            return None;
        }
        let authority = Authority::self_signed(&identity(CART).trust_domain, HOUR).unwrap();
        let world = Self { folder: tempfile::tempdir().unwrap(), authority };
        world.write("root.pem", world.authority.roots_pem());
        Some(world)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// A certificate of ours, also written to `cert.pem` and `key.pem`.
    fn issue(&self, name: &str) -> WorkloadCertificate {
        let request = CertificateRequest::generate(&identity(name)).unwrap();
        let chain = self.authority.sign_csr(request.csr_pem(), &identity(name), HOUR).unwrap();
        self.write("cert.pem", &chain[0]);
        self.write("key.pem", &request.key_pem());
        request.complete(&chain).unwrap()
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new("openssl");
        command.args(arguments.split_whitespace()).current_dir(self.folder.path()).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    async fn run(&self, arguments: &str) -> Output {
        let output = self.command(arguments).stdin(Stdio::null()).output();
        timeout(DEADLINE, output).await.expect("openssl hangs").unwrap()
    }

    /// Runs it and expects success; both outputs together.
    async fn run_well(&self, arguments: &str) -> String {
        let output = self.run(arguments).await;
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments}: {text}");
        text.into_owned()
    }
}

fn identity(text: &str) -> Identity {
    text.parse().unwrap()
}

/// Serves one connection with our side while `openssl s_client` dials with these arguments and sends a line.
async fn serve_openssl(
    world: &World,
    server: &WorkloadCertificate,
    arguments: &str,
) -> (Result<(Identity, String), TlsError>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut client = world.command(&format!("s_client -connect 127.0.0.1:{port} -brief {arguments}")).spawn().unwrap();
    client.stdin.take().unwrap().write_all(b"over there\n").await.unwrap();
    let ours = async {
        let (stream, _) = listener.accept().await.unwrap();
        let (mut stream, peer) = tls::accept(stream, server).await?;
        let mut text = String::new();
        BufReader::new(&mut stream).read_line(&mut text).await.unwrap();
        stream.shutdown().await.unwrap();
        Ok((peer.identity, text))
    };
    let ours = timeout(DEADLINE, ours).await.expect("s_client does not connect");
    let output = timeout(DEADLINE, client.wait_with_output()).await.expect("s_client hangs").unwrap();
    (ours, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn an_openssl_client_with_a_workload_certificate_is_served() {
    let Some(world) = World::new().await else { return };
    let server = world.issue(CART);
    world.issue(FRONTEND);
    let arguments = "-tls1_3 -alpn h2 -cert cert.pem -key key.pem -CAfile root.pem -verify_return_error";
    let (ours, theirs) = serve_openssl(&world, &server, arguments).await;
    assert_eq!(ours.unwrap(), (identity(FRONTEND), "over there\n".to_owned()));
    assert!(theirs.contains("Protocol version: TLSv1.3"), "{theirs}");
    assert!(theirs.contains("Verification: OK"), "{theirs}");
}

#[tokio::test]
async fn an_openssl_client_that_the_mesh_does_not_speak_to_is_refused() {
    let Some(world) = World::new().await else { return };
    let server = world.issue(CART);
    world.issue(FRONTEND);
    let shown = "-cert cert.pem -key key.pem -alpn h2";
    for (arguments, words) in [
        (format!("-tls1_2 {shown}"), "handshake failed"),
        (format!("-tls1_3 -ciphersuites TLS_CHACHA20_POLY1305_SHA256 {shown}"), "handshake failed"),
        (format!("-tls1_3 {shown}").replace("h2", "http/1.1"), "handshake failed"),
        ("-tls1_3 -alpn h2".to_owned(), "no certificate presented"),
    ] {
        let (ours, _) = serve_openssl(&world, &server, &arguments).await;
        let error = ours.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_certificate_that_openssl_issued_with_two_names_is_refused() {
    let Some(world) = World::new().await else { return };
    let server = world.issue(CART);
    let pem = world.authority.to_pem();
    world.write("ca.key", &pem.key);
    world.write("names", &format!("subjectAltName=critical,URI:{FRONTEND},URI:{CART}\n"));
    world
        .run_well("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -subj /O=x -out csr.pem")
        .await;
    let sign = "x509 -req -in csr.pem -CA root.pem -CAkey ca.key -CAcreateserial -extfile names -out cert.pem";
    world.run_well(sign).await;
    let (ours, _) = serve_openssl(&world, &server, "-tls1_3 -alpn h2 -cert cert.pem -key key.pem").await;
    assert!(matches!(ours.unwrap_err(), TlsError::Peer(Refusal::SeveralSpiffeNames(_))));
}

#[tokio::test]
async fn a_request_of_ours_can_be_signed_by_openssl() {
    let Some(world) = World::new().await else { return };
    let request = CertificateRequest::generate(&identity(CART)).unwrap();
    world.write("csr.pem", request.csr_pem());
    let text = world.run_well("req -in csr.pem -noout -text -verify").await;
    assert!(text.contains("verify OK"), "{text}");
    assert!(text.contains("Subject: \n") && text.contains(&format!("URI:{CART}")), "{text}");
    assert!(text.contains("prime256v1") && text.contains("ecdsa-with-SHA256"), "{text}");

    world.run_well("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -subj /O=openssl -days 1 -out ca.pem").await;
    world.write("names", &format!("subjectAltName=critical,URI:{CART}\n"));
    world.run_well("x509 -req -in csr.pem -CA ca.pem -CAkey ca.key -CAcreateserial -extfile names -out cert.pem").await;
    let read = |name: &str| std::fs::read_to_string(world.path(name)).unwrap();
    let certificate = request.complete(&[read("cert.pem"), read("ca.pem")]).unwrap();
    assert_eq!(certificate.identity(), &identity(CART));

    // Both ends hold it: an RSA root signs ECDSA leaves.
    let (near, far) = tokio::io::duplex(1 << 16);
    let expected = [identity(CART)];
    let (dialled, accepted) = tokio::join!(tls::connect(near, &certificate, &expected), tls::accept(far, &certificate));
    dialled.unwrap();
    accepted.unwrap();
}

#[tokio::test]
async fn openssl_verifies_what_our_authority_signs() {
    let Some(world) = World::new().await else { return };
    world.issue(CART);
    for purpose in ["sslserver", "sslclient"] {
        let text = world.run_well(&format!("verify -x509_strict -purpose {purpose} -CAfile root.pem cert.pem")).await;
        assert!(text.contains("cert.pem: OK"), "{text}");
    }
    let server = world.authority.issue_server(&["aquifer.aquifer-system.svc"], HOUR).unwrap();
    world.write("server.pem", &server.certificate);
    let name = "-verify_hostname aquifer.aquifer-system.svc";
    world.run_well(&format!("verify -x509_strict -purpose sslserver {name} -CAfile root.pem server.pem")).await;
}

/// An `openssl s_server` that demands a certificate, and its port.
async fn openssl_server(world: &World) -> (Child, u16) {
    let arguments = "s_server -accept 127.0.0.1:0 -tls1_3 -alpn h2 -cert cert.pem -key key.pem -CAfile root.pem \
                     -Verify 1 -verify_return_error -tlsextdebug -rev";
    let mut server = world.command(arguments).spawn().unwrap();
    let mut lines = BufReader::new(server.stdout.as_mut().unwrap()).lines();
    let port = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some(port) = line.strip_prefix("ACCEPT 127.0.0.1:") {
                return port.parse().unwrap();
            }
        }
        panic!("s_server ended");
    };
    let port = timeout(DEADLINE, port).await.expect("s_server does not listen");
    (server, port)
}

#[tokio::test]
async fn an_openssl_server_is_dialled_and_believed() {
    let Some(world) = World::new().await else { return };
    let client = world.issue(FRONTEND);
    world.issue(CART);
    let (_server, port) = openssl_server(&world).await;
    let expected = [identity(CART)];
    let exchange = async {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (mut stream, peer) = tls::connect(stream, &client, &expected).await.unwrap();
        stream.write_all(b"over there\n").await.unwrap();
        stream.flush().await.unwrap();
        let mut reversed = [0; 11];
        stream.read_exact(&mut reversed).await.unwrap();
        (peer.identity, reversed)
    };
    let (peer, reversed) = timeout(DEADLINE, exchange).await.unwrap();
    assert_eq!((peer, &reversed), (identity(CART), b"ereht revo\n"));
}

#[tokio::test]
async fn an_openssl_server_is_come_back_to_with_the_sessions_that_it_gives() {
    let Some(world) = World::new().await else { return };
    let client = world.issue(FRONTEND);
    world.issue(CART);
    let (_server, port) = openssl_server(&world).await;
    let place = Place { address: ([127, 0, 0, 1], port).into(), revocations: 0 };
    for is_known in [false, true, true] {
        let exchange = async {
            let stream = TcpStream::connect(place.address).await.unwrap();
            let expected = [identity(CART)];
            let (mut stream, peer) = tls::connect_to_write(stream, &client, &expected, Some(place)).await.unwrap();
            stream.write_all(b"over there\n").await.unwrap();
            stream.flush().await.unwrap();
            let mut reversed = [0; 11];
            stream.read_exact(&mut reversed).await.unwrap();
            stream.shutdown().await.unwrap();
            (peer.identity, reversed, stream.negotiated().is_resumed)
        };
        let (peer, reversed, is_resumed) = timeout(DEADLINE, exchange).await.unwrap();
        assert_eq!((peer, &reversed, is_resumed), (identity(CART), b"ereht revo\n", is_known));
    }
}

#[tokio::test]
async fn an_openssl_server_of_another_identity_is_left_at_once() {
    let Some(world) = World::new().await else { return };
    let client = world.issue(CART);
    world.issue(FRONTEND);
    let (_server, port) = openssl_server(&world).await;
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let error = timeout(DEADLINE, tls::connect(stream, &client, &[identity(CART)])).await.unwrap().unwrap_err();
    assert!(matches!(error, TlsError::Peer(Refusal::IdentityMismatch { .. })), "{error}");
}

#[tokio::test]
async fn an_authority_is_read_whatever_the_layout_of_its_key() {
    let Some(world) = World::new().await else { return };
    let read = |name: &str| std::fs::read_to_string(world.path(name)).unwrap();
    for (make, layout) in [
        ("genrsa -traditional -out key 2048", "BEGIN RSA PRIVATE KEY"),
        ("genrsa -out key 2048", "BEGIN PRIVATE KEY"),
        ("ecparam -name prime256v1 -genkey -noout -out key", "BEGIN EC PRIVATE KEY"),
        ("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key", "BEGIN PRIVATE KEY"),
    ] {
        world.run_well(make).await;
        assert!(read("key").contains(layout), "{make}");
        world.run_well("req -x509 -new -key key -out ca -days 1 -subj /O=test").await;
        // What is kept of it is read again, and is the same.
        let kept =
            Authority::from_pem(&read("ca"), &read("key")).unwrap_or_else(|error| panic!("{make}: {error}")).to_pem();
        let authority = Authority::from_pem(&kept.certificate, &kept.key).unwrap();
        assert!(authority.to_pem() == kept, "{make}");
        let request = CertificateRequest::generate(&identity(CART)).unwrap();
        let chain = authority.sign_csr(request.csr_pem(), &identity(CART), HOUR).unwrap();
        world.write("leaf", &chain[0]);
        assert!(world.run_well("verify -CAfile ca leaf").await.contains("leaf: OK"), "{make}");
        request.complete(&chain).unwrap();
    }
}
