//! Coming back with an earlier session: who may, who may not any more, and what it carries.

use std::time::{Duration, SystemTime};

use tls::{
    Authority, CertificateRequest, MeshStream, Peer, Place, Refusal, RevocationLists, TlsError, WorkloadCertificate,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::timeout;
use types::Identity;

use crate::support::*;

const HOUR: Duration = Duration::from_secs(3600);

fn identity(text: &str) -> Identity {
    text.parse().unwrap()
}

fn authority() -> Authority {
    Authority::self_signed(&"cluster.local".parse().unwrap(), HOUR).unwrap()
}

fn issue(authority: &Authority, name: &str, ttl: Duration) -> WorkloadCertificate {
    let request = CertificateRequest::generate(&identity(name)).unwrap();
    let chain = authority.sign_csr(request.csr_pem(), &identity(name), ttl).unwrap();
    request.complete(&chain).unwrap()
}

fn place(port: u16) -> Place {
    Place { address: ([10, 0, 0, 1], port).into(), revocations: 0 }
}

/// A connection, as its client and its server see it.
#[derive(Debug)]
struct Met {
    near: MeshStream<DuplexStream>,
    server: Peer,
    far: MeshStream<DuplexStream>,
    client: Peer,
}

type Outcome = (Result<(MeshStream<DuplexStream>, Peer), TlsError>, Result<(MeshStream<DuplexStream>, Peer), TlsError>);

async fn dial(client: &WorkloadCertificate, server: &WorkloadCertificate, names: &[&str], place: Place) -> Outcome {
    let (near, far) = duplex(1 << 16);
    let expected: Vec<Identity> = names.iter().map(|name| identity(name)).collect();
    let dial = async {
        let (mut stream, peer) = tls::connect_to_write(near, client, &expected, Some(place)).await?;
        stream.flush().await.map_err(TlsError::Io)?;
        Ok((stream, peer))
    };
    timeout(DEADLINE, Box::pin(async { tokio::join!(dial, tls::accept(far, server)) })).await.unwrap()
}

/// Connects, and lets nothing be said after the handshake.
async fn meet(client: &WorkloadCertificate, server: &WorkloadCertificate, place: Place) -> Met {
    let (dialled, accepted) = dial(client, server, &[CART], place).await;
    let ((near, server), (far, client)) = (dialled.unwrap(), accepted.unwrap());
    assert_eq!(near.negotiated(), far.negotiated());
    Met { near, server, far, client }
}

impl Met {
    fn is_resumed(&self) -> bool {
        self.near.negotiated().is_resumed
    }

    /// Carries something in both directions, with which the client gets what it can come back with.
    async fn talk(&mut self) -> &mut Self {
        let both = async {
            self.near.write_all(b"over there").await.unwrap();
            self.near.flush().await.unwrap();
            let mut text = [0; 10];
            self.far.read_exact(&mut text).await.unwrap();
            self.far.write_all(&text).await.unwrap();
            self.far.flush().await.unwrap();
            self.near.read_exact(&mut text).await.unwrap();
            assert_eq!(&text, b"over there");
        };
        timeout(DEADLINE, both).await.unwrap();
        self
    }
}

/// Whether the client comes back with a session that it has.
async fn comes_back(client: &WorkloadCertificate, server: &WorkloadCertificate, place: Place) -> bool {
    meet(client, server, place).await.talk().await.is_resumed()
}

#[tokio::test]
async fn a_client_that_comes_back_is_the_same_workload_and_so_is_its_server() {
    let authority = authority();
    let (client, server) = (issue(&authority, FRONTEND, HOUR), issue(&authority, CART, HOUR));
    for time in 0..4 {
        let mut met = meet(&client, &server, place(1)).await;
        assert_eq!(met.talk().await.is_resumed(), time > 0);
        assert_eq!((&met.server.identity, &met.client.identity), (&identity(CART), &identity(FRONTEND)));
        assert_eq!((met.server.chain(), met.client.chain()), (server.chain(), client.chain()));
        assert_eq!(met.near.negotiated().key_exchange, "X25519MLKEM768");
    }
}

#[tokio::test]
async fn who_is_revoked_since_is_found_out_when_a_session_goes_on() {
    let authority = authority();
    let (client, server) = (issue(&authority, FRONTEND, HOUR), issue(&authority, CART, HOUR));
    assert!(!comes_back(&client, &server, place(1)).await);
    let again = meet(&client, &server, place(1)).await;
    assert!(again.is_resumed());
    let revoked = [client.chain()[0].pem.clone(), server.chain()[0].pem.clone()];
    let list = authority.revocation_list(&[&revoked[0], &revoked[1]], 1, SystemTime::now()).unwrap();
    let lists = RevocationLists::parse(list.as_bytes()).unwrap();
    assert_eq!(
        (lists.check(&again.server), lists.check(&again.client)),
        (Err(Refusal::Revoked), Err(Refusal::Revoked))
    );
}

#[tokio::test]
async fn a_session_is_offered_where_it_was_made_and_nowhere_else() {
    let authority = authority();
    let (client, server) = (issue(&authority, FRONTEND, HOUR), issue(&authority, CART, HOUR));
    let renewed = issue(&authority, FRONTEND, HOUR);
    assert!(!comes_back(&client, &server, place(1)).await);
    assert!(!comes_back(&client, &server, place(2)).await, "another address");
    let other_lists = Place { revocations: 1, ..place(1) };
    assert!(!comes_back(&client, &server, other_lists).await, "other revocation lists");
    assert!(!comes_back(&renewed, &server, place(1)).await, "a renewed certificate of the client");
    let (more, _accepted) = dial(&client, &server, &[CART, STRANGER], place(1)).await;
    assert!(!more.unwrap().0.negotiated().is_resumed, "other expected identities");
    assert!(comes_back(&client, &server, place(1)).await, "where it was made");
}

#[tokio::test]
async fn another_workload_where_a_known_one_was_is_refused() {
    let authority = authority();
    let (client, server) = (issue(&authority, FRONTEND, HOUR), issue(&authority, CART, HOUR));
    assert!(!comes_back(&client, &server, place(1)).await);
    let (other, roots) = (issue(&authority, FRONTEND, HOUR), TestCa::new());
    let (dialled, _) = dial(&client, &other, &[CART], place(1)).await;
    assert!(matches!(dialled.unwrap_err(), TlsError::Peer(Refusal::IdentityMismatch { .. })));
    assert!(!comes_back(&client, &server, place(1)).await, "the session was offered, and is used up");
    let (dialled, _) = dial(&client, &roots.workload(CART), &[CART], place(1)).await;
    assert!(matches!(dialled.unwrap_err(), TlsError::Peer(Refusal::UnknownRoot)));
}

#[tokio::test]
async fn a_server_that_has_renewed_its_certificate_wants_to_see_that_of_its_client() {
    let authority = authority();
    let (client, server) = (issue(&authority, FRONTEND, HOUR), issue(&authority, CART, HOUR));
    assert!(!comes_back(&client, &server, place(1)).await);
    let renewed = issue(&authority, CART, HOUR);
    let met = meet(&client, &renewed, place(1)).await;
    assert!(!met.is_resumed());
    assert_eq!(met.server.chain(), renewed.chain());
}

#[tokio::test]
async fn a_client_whose_root_is_gone_is_refused_by_a_server_that_knew_it() {
    let (old, new) = (TestCa::named("old"), TestCa::named("new"));
    let (shown, served) = (old.issue(&[FRONTEND]), old.issue(&[CART]));
    let client = WorkloadCertificate::from_pem(&shown.chain, &shown.key, &old.root()).unwrap();
    let with = |roots: &str| WorkloadCertificate::from_pem(&served.chain, &served.key, roots).unwrap();
    let both = with(&(old.root() + &new.root()));
    assert!(!comes_back(&client, &both, place(1)).await);
    assert!(comes_back(&client, &both, place(1)).await);
    let (_, accepted) = dial(&client, &with(&new.root()), &[CART], place(1)).await;
    assert_eq!(accepted.unwrap_err().to_string(), TlsError::Peer(Refusal::UnknownRoot).to_string());
}

#[tokio::test]
async fn sessions_end_with_the_certificate_of_either_side() {
    const SHORT: Duration = Duration::from_secs(3);
    let authority = authority();
    for (client_lives, server_lives) in [(SHORT, HOUR), (HOUR, SHORT)] {
        let client = issue(&authority, FRONTEND, client_lives);
        let server = issue(&authority, CART, server_lives);
        let mut resumed = 0;
        let ended = async {
            loop {
                match dial(&client, &server, &[CART], place(1)).await {
                    (Ok((near, server)), Ok((far, client))) => {
                        let mut met = Met { near, server, far, client };
                        resumed += usize::from(met.talk().await.is_resumed());
                    }
                    (Err(error), _) | (_, Err(error)) => return error,
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let error = timeout(DEADLINE, Box::pin(ended)).await.expect("the certificate has expired");
        assert!(resumed > 1, "{resumed}");
        let over = client.not_after().min(server.not_after());
        assert!(over <= SystemTime::now(), "{error}");
        assert!(matches!(error, TlsError::Peer(Refusal::Expired { .. }) | TlsError::Alert(_)), "{error}");
    }
}

#[tokio::test]
async fn what_a_client_comes_back_with_leaves_with_what_the_server_writes_first() {
    let authority = authority();
    let (client, server) = (issue(&authority, FRONTEND, HOUR), issue(&authority, CART, HOUR));
    let mut met = meet(&client, &server, place(1)).await;
    // Nothing has come from the server since its handshake.
    let nothing = timeout(Duration::from_millis(20), met.near.read_u8()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    assert!(!meet(&client, &server, place(1)).await.is_resumed());
    met.talk().await;
    assert!(meet(&client, &server, place(1)).await.is_resumed());
}

#[tokio::test]
async fn each_session_serves_once_and_eight_of_a_server_are_kept() {
    let authority = authority();
    let (client, server) = (issue(&authority, FRONTEND, HOUR), issue(&authority, CART, HOUR));
    let mut met = Vec::new();
    for _ in 0..10 {
        met.push(meet(&client, &server, place(1)).await);
    }
    for met in &mut met {
        assert!(!met.talk().await.is_resumed());
    }
    let mut resumed = 0;
    while meet(&client, &server, place(1)).await.is_resumed() {
        resumed += 1;
    }
    assert_eq!(resumed, 8);
}

#[tokio::test]
async fn the_server_that_was_dialled_longest_ago_is_forgotten_first() {
    let authority = authority();
    let (client, server) = (issue(&authority, FRONTEND, HOUR), issue(&authority, CART, HOUR));
    for port in 1..=64 {
        assert!(!comes_back(&client, &server, place(port)).await);
    }
    assert!(comes_back(&client, &server, place(1)).await, "the first of 64");
    assert!(!comes_back(&client, &server, place(65)).await);
    assert!(comes_back(&client, &server, place(1)).await, "dialled since");
    assert!(!comes_back(&client, &server, place(2)).await, "the one that had to go");
}

#[tokio::test]
async fn who_does_not_ask_gets_nothing_to_come_back_with() {
    let ca = TestCa::new();
    let (server, shown) = (ca.workload(CART), ca.issue(&[FRONTEND]));
    let config = std::sync::Arc::new(careless_client(Some(&shown)));
    for _ in 0..2 {
        let (near, far) = duplex(1 << 16);
        let dial = tokio_rustls::TlsConnector::from(std::sync::Arc::clone(&config));
        let name = rustls::pki_types::ServerName::try_from("anything.example").unwrap();
        let both = async { tokio::join!(tls::accept(near, &server), dial.connect(name, far)) };
        let (ours, theirs) = timeout(DEADLINE, both).await.unwrap();
        let (mut ours, mut theirs) = (ours.unwrap().0, theirs.unwrap());
        assert!(!ours.negotiated().is_resumed);
        ours.write_all(b"x").await.unwrap();
        ours.flush().await.unwrap();
        assert_eq!(timeout(DEADLINE, theirs.read_u8()).await.unwrap().unwrap(), b'x');
        assert_eq!(theirs.get_ref().1.tls13_tickets_received(), 0);
    }
}
