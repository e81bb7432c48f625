//! Certificates that were revoked: of either side, anywhere in the chain.

use std::time::{Duration, SystemTime};

use crate::support::{CART, DEADLINE, FRONTEND};
use tls::{Authority, CertificateRequest, Peer, Refusal, RevocationLists, WorkloadCertificate};
use tokio::io::duplex;
use tokio::time::timeout;

fn authority() -> Authority {
    Authority::self_signed(&"cluster.local".parse().unwrap(), Duration::from_secs(3600)).unwrap()
}

fn workload(authority: &Authority, identity: &str) -> WorkloadCertificate {
    let identity = identity.parse().unwrap();
    let request = CertificateRequest::generate(&identity).unwrap();
    let chain = authority.sign_csr(request.csr_pem(), &identity, Duration::from_secs(60)).unwrap();
    request.complete(&chain).unwrap()
}

fn pem(certificate: &WorkloadCertificate) -> String {
    certificate.chain()[0].pem.clone()
}

/// How the client sees the server, and the server the client.
async fn meet(client: &WorkloadCertificate, server: &WorkloadCertificate) -> (Peer, Peer) {
    let (near, far) = duplex(1 << 16);
    let expected = [server.identity().clone()];
    let both = async { tokio::join!(tls::connect(near, client, &expected), tls::accept(far, server)) };
    let (dialled, accepted) = timeout(DEADLINE, both).await.unwrap();
    (dialled.unwrap().1, accepted.unwrap().1)
}

fn list(authority: &Authority, revoked: &[&str]) -> String {
    authority.revocation_list(revoked, 1, SystemTime::now()).unwrap()
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_in_both_directions_and_no_other_is() {
    let authority = authority();
    let (client, server) = (workload(&authority, FRONTEND), workload(&authority, CART));
    let (seen_server, seen_client) = meet(&client, &server).await;
    for (revoked, server_is, client_is) in [
        (vec![], true, true),
        (vec![pem(&server)], false, true),
        (vec![pem(&client)], true, false),
        (vec![pem(&server), pem(&client)], false, false),
    ] {
        let revoked: Vec<&str> = revoked.iter().map(String::as_str).collect();
        let lists = RevocationLists::parse(list(&authority, &revoked).as_bytes()).unwrap();
        assert_eq!(lists.len(), 1);
        assert_eq!((lists.check(&seen_server).is_ok(), lists.check(&seen_client).is_ok()), (server_is, client_is));
    }
    let lists = RevocationLists::parse(list(&authority, &[&pem(&server)]).as_bytes()).unwrap();
    assert_eq!(lists.check(&seen_server), Err(Refusal::Revoked));
}

#[tokio::test]
async fn a_list_counts_for_certificates_of_its_issuer_alone_even_of_the_same_name() {
    let (ours, theirs) = (authority(), authority());
    let (client, server) = (workload(&ours, FRONTEND), workload(&ours, CART));
    let (seen, _) = meet(&client, &server).await;
    let foreign = list(&theirs, &[&pem(&server)]);
    assert!(RevocationLists::parse(foreign.as_bytes()).unwrap().check(&seen).is_ok());
    // Nor does it hide the list that counts.
    let both = foreign + &list(&ours, &[&pem(&server)]);
    let lists = RevocationLists::parse(both.as_bytes()).unwrap();
    assert_eq!((lists.len(), lists.check(&seen)), (2, Err(Refusal::Revoked)));
}

#[tokio::test]
async fn a_list_that_is_out_of_date_goes_on_to_count() {
    let authority = authority();
    let (client, server) = (workload(&authority, FRONTEND), workload(&authority, CART));
    let (seen, _) = meet(&client, &server).await;
    let long_ago = SystemTime::now() - Duration::from_secs(90 * 24 * 3600);
    let old = authority.revocation_list(&[&pem(&server)], 1, long_ago).unwrap();
    assert_eq!(RevocationLists::parse(old.as_bytes()).unwrap().check(&seen), Err(Refusal::Revoked));
}

#[test]
fn lists_come_as_pem_or_der_or_not_at_all() {
    let authority = authority();
    let pem = list(&authority, &[]);
    assert_eq!(RevocationLists::parse(b"").unwrap().len(), 0);
    assert_eq!(RevocationLists::parse(b" \n").unwrap().len(), 0);
    assert_eq!(RevocationLists::parse((pem.clone() + &pem).as_bytes()).unwrap().len(), 2);
    let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = base64_decode(&base64);
    assert_eq!(RevocationLists::parse(&der).unwrap().len(), 1);
    for broken in [&b"nonsense"[..], &der[..der.len() - 1], b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"]
    {
        let error = RevocationLists::parse(broken).unwrap_err();
        assert!(error.to_string().contains("revocation list"), "{error}");
    }
}

fn base64_decode(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.bytes().filter_map(|byte| ALPHABET.iter().position(|digit| *digit == byte));
    let bits: Vec<u32> = digits.map(|digit| u32::try_from(digit).unwrap()).collect();
    let group = |group: &[u32]| {
        let padded = (0..4).fold(0, |sum, index| (sum << 6) | group.get(index).copied().unwrap_or(0));
        padded.to_be_bytes()[1..group.len()].to_vec()
    };
    bits.chunks(4).flat_map(group).collect()
}
