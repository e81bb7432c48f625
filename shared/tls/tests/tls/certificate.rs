//! Certificates as the authority hands them out: what is accepted, and when the next one is due.

use std::time::Duration;

use crate::support::*;
use tls::{Authority, CertificateRequest, TlsError, WorkloadCertificate};
use types::Identity;

const HOUR: Duration = Duration::from_secs(3600);

fn cart() -> Identity {
    CART.parse().unwrap()
}

/// A request of the cart's and the answer of an authority to it.
fn asked() -> (Authority, CertificateRequest, Vec<String>) {
    let authority = Authority::self_signed(&cart().trust_domain, 10 * HOUR).unwrap();
    let request = CertificateRequest::generate(&cart()).unwrap();
    let chain = authority.sign_csr(request.csr_pem(), &cart(), HOUR).unwrap();
    (authority, request, chain)
}

fn response_error(request: CertificateRequest, chain: &[String]) -> String {
    match request.complete(chain).unwrap_err() {
        TlsError::Response(reason) => reason,
        other => panic!("{other}"),
    }
}

#[test]
fn an_answer_without_root_is_refused() {
    let (_, request, chain) = asked();
    assert_eq!(response_error(request, &chain[..1]), "1 elements instead of at least leaf and root");
    let (_, request, _) = asked();
    assert_eq!(response_error(request, &[]), "0 elements instead of at least leaf and root");
    let (_, request, chain) = asked();
    assert_eq!(response_error(request, &[chain[0].clone(), "\n".into()]), "no root certificate");
}

#[test]
fn an_answer_for_somebody_else_is_refused() {
    let (authority, request, _) = asked();
    let chain = authority.sign_csr(request.csr_pem(), &FRONTEND.parse().unwrap(), HOUR).unwrap();
    let reason = response_error(request, &chain);
    assert_eq!(reason, format!("asked for {CART}, got a certificate of {FRONTEND}"));
}

#[test]
fn an_answer_for_another_key_is_refused() {
    let (_, _, chain) = asked();
    let (_, request, _) = asked();
    assert!(matches!(request.complete(&chain).unwrap_err(), TlsError::Configuration(_)));
}

#[test]
fn intermediates_and_all_roots_are_kept() {
    let (authority, request, mut chain) = asked();
    let (extra, newer) = (TestCa::new().root(), TestCa::new().root());
    chain.insert(1, extra);
    chain.last_mut().unwrap().push_str(&newer);
    let certificate = request.complete(&chain).unwrap();
    assert_eq!((certificate.chain().len(), certificate.roots().len()), (2, 2));
    assert_eq!(certificate.roots()[0].pem, authority.roots_pem());
    assert_eq!(certificate.chain()[0].pem, chain[0]);
}

#[test]
fn the_next_certificate_is_due_at_half_of_what_remains() {
    let (_, request, chain) = asked();
    let certificate = request.complete(&chain).unwrap();
    let end = certificate.not_after();
    assert_eq!(certificate.refresh_at(end - HOUR), end - HOUR / 2);
    assert_eq!(certificate.refresh_at(end - Duration::from_secs(1)), end);
    assert_eq!(certificate.refresh_at(end), end + Duration::from_secs(1));
    assert_eq!(certificate.refresh_at(end + HOUR), end + HOUR + Duration::from_secs(1));
}

#[test]
fn validity_is_half_open() {
    let (_, request, chain) = asked();
    let certificate = request.complete(&chain).unwrap();
    let (start, end, tick) = (certificate.not_before(), certificate.not_after(), Duration::from_nanos(1));
    assert!(certificate.is_valid_at(start) && certificate.is_valid_at(end - tick));
    assert!(!certificate.is_valid_at(start - tick) && !certificate.is_valid_at(end));
}

#[test]
fn details_are_those_of_the_certificate() {
    let (_, request, chain) = asked();
    let certificate = request.complete(&chain).unwrap();
    let leaf = &certificate.chain()[0];
    assert!(leaf.serial_number.bytes().all(|byte| byte.is_ascii_digit()), "{}", leaf.serial_number);
    assert_eq!((leaf.not_before, leaf.not_after), (certificate.not_before(), certificate.not_after()));
}

#[test]
fn neither_request_nor_certificate_shows_its_key() {
    let (_, request, chain) = asked();
    let shown = format!("{request:?}");
    let secret = request.key_pem().lines().nth(1).unwrap().to_owned();
    let certificate = request.complete(&chain).unwrap();
    let shown = shown + &format!("{certificate:?}");
    assert!(!shown.contains(&secret) && !shown.contains("PRIVATE"), "{shown}");
}

#[test]
fn a_chain_of_nobody_makes_no_certificate() {
    let ca = TestCa::new();
    let nameless = ca.issue(&[]);
    let error = WorkloadCertificate::from_pem(&nameless.chain, &nameless.key, &ca.root()).unwrap_err();
    assert!(matches!(error, TlsError::Peer(tls::Refusal::NoSpiffeName)), "{error}");
}
