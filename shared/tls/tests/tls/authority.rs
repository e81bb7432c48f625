//! What the authority puts into certificates and what it makes of requests.

use std::time::{Duration, SystemTime};

use crate::support::*;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tls::{Authority, CertificateRequest, SigningRequest, TlsError};
use types::Identity;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

const HOUR: Duration = Duration::from_secs(3600);

fn cart() -> Identity {
    CART.parse().unwrap()
}

fn authority() -> Authority {
    Authority::self_signed(&cart().trust_domain, 10 * HOUR).unwrap()
}

fn seconds(moment: SystemTime) -> i64 {
    i64::try_from(moment.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// Hands the parsed leaf of an answer to a check.
fn with_leaf<T>(chain: &[String], check: impl FnOnce(&X509Certificate<'_>) -> T) -> T {
    let der = CertificateDer::from_pem_slice(chain[0].as_bytes()).unwrap();
    let (_, leaf) = X509Certificate::from_der(&der).unwrap();
    check(&leaf)
}

#[test]
fn a_leaf_has_the_shape_that_peers_expect() {
    let request = CertificateRequest::generate(&cart()).unwrap();
    let chain = authority().sign_csr(request.csr_pem(), &cart(), HOUR).unwrap();
    with_leaf(&chain, |leaf| {
        assert_eq!(leaf.subject().iter().count(), 0);
        let names = leaf.subject_alternative_name().unwrap().unwrap();
        assert!(names.critical);
        assert_eq!(names.value.general_names, [GeneralName::URI(CART)]);
        let usage = leaf.key_usage().unwrap().unwrap().value;
        assert!(usage.digital_signature() && usage.key_encipherment() && !usage.key_cert_sign());
        let purposes = leaf.extended_key_usage().unwrap().unwrap().value;
        assert!(purposes.server_auth && purposes.client_auth && !purposes.any);
        assert!(!leaf.is_ca());
        assert!(leaf.serial.bits() > 64, "serial numbers must not be guessable");
    });
}

#[test]
fn a_leaf_is_back_dated_and_does_not_outlive_the_authority() {
    let authority = authority();
    let request = SigningRequest::parse(CertificateRequest::generate(&cart()).unwrap().csr_pem()).unwrap();
    let now = SystemTime::now();
    for (ttl, not_after) in
        [(HOUR, now + HOUR), (100 * HOUR, authority.not_after()), (Duration::MAX, authority.not_after())]
    {
        let chain = authority.sign(&request, &cart(), ttl, now).unwrap();
        with_leaf(&chain, |leaf| {
            assert_eq!(leaf.validity().not_before.timestamp(), seconds(now) - 120);
            assert_eq!(leaf.validity().not_after.timestamp(), seconds(not_after));
        });
    }
}

#[test]
fn an_authority_that_is_over_signs_nothing() {
    let authority = authority();
    let request = SigningRequest::parse(CertificateRequest::generate(&cart()).unwrap().csr_pem()).unwrap();
    let error = authority.sign(&request, &cart(), HOUR, authority.not_after()).unwrap_err();
    assert!(matches!(error, TlsError::Authority(_)), "{error}");
}

#[test]
fn a_csr_for_another_identity_tells_its_names_and_gets_the_callers() {
    let request = SigningRequest::parse(CertificateRequest::generate(&FRONTEND.parse().unwrap()).unwrap().csr_pem());
    let request = request.unwrap();
    assert_eq!(request.names(), [FRONTEND]);
    let chain = authority().sign(&request, &cart(), HOUR, SystemTime::now()).unwrap();
    with_leaf(&chain, |leaf| {
        let names = leaf.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names, [GeneralName::URI(CART)]);
    });
}

#[test]
fn a_csr_that_its_key_did_not_sign_is_refused() {
    let pem = CertificateRequest::generate(&cart()).unwrap().csr_pem().to_owned();
    let der = rustls::pki_types::CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap();
    let mut forged = der.to_vec();
    let position = forged.windows(4).position(|window| window == b"shop").unwrap();
    forged[position..position + 4].copy_from_slice(b"bank");
    let forged = rcgen_pem("CERTIFICATE REQUEST", &forged);
    let error = SigningRequest::parse(&forged).unwrap_err();
    assert!(error.to_string().contains("self-signature"), "{error}");
}

#[test]
fn text_that_is_no_csr_is_refused() {
    let mut cut = CertificateRequest::generate(&cart()).unwrap().csr_pem().to_owned();
    cut.truncate(cut.len() / 2);
    for text in ["", "hello", cut.as_str(), &rcgen_pem("CERTIFICATE REQUEST", b"\x30\x00"), &TestCa::new().root()] {
        assert!(matches!(SigningRequest::parse(text).unwrap_err(), TlsError::Malformed { .. }), "{text}");
    }
}

#[test]
fn an_authority_comes_back_from_pem() {
    let first = authority();
    let pem = first.to_pem();
    assert!(!format!("{pem:?}{first:?}").contains("PRIVATE"), "Debug shows the key");
    let second = Authority::from_pem(&pem.certificate, &pem.key).unwrap();
    assert_eq!((second.roots_pem(), second.not_after()), (first.roots_pem(), first.not_after()));
    let request = CertificateRequest::generate(&cart()).unwrap();
    let chain = second.sign_csr(request.csr_pem(), &cart(), HOUR).unwrap();
    assert_eq!(chain.len(), 2);
    assert_eq!(chain[1], first.roots_pem());
    request.complete(&chain).unwrap();
}

#[test]
fn answers_name_further_roots_once_each() {
    let (own, other) = (authority(), authority());
    let own_root = own.roots_pem().to_owned();
    let both = own.trusting(&format!("{}{}{own_root}", other.roots_pem(), other.roots_pem())).unwrap();
    assert_eq!(both.roots_pem(), format!("{own_root}{}", other.roots_pem()));
    let request = CertificateRequest::generate(&cart()).unwrap();
    let chain = both.sign_csr(request.csr_pem(), &cart(), HOUR).unwrap();
    assert_eq!(chain[1], both.roots_pem());
    assert_eq!(both.to_pem().certificate, own_root, "only its own is kept of it");
    let garbage = format!("{}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", other.roots_pem());
    assert!(matches!(other.trusting(&garbage).unwrap_err(), TlsError::Malformed { .. }));
}

#[test]
fn an_authority_needs_its_own_key_and_a_ca_certificate() {
    let (one, other) = (authority().to_pem(), authority().to_pem());
    let leaf = TestCa::new().issue(&[CART]);
    for (certificate, key) in [(&one.certificate, &other.key), (&leaf.chain, &leaf.key)] {
        assert!(matches!(Authority::from_pem(certificate, key).unwrap_err(), TlsError::Authority(_)));
    }
    let error = Authority::from_pem(&one.certificate, "no key").unwrap_err();
    assert!(!error.to_string().contains("no key"), "{error}");
}

#[test]
fn server_certificates_carry_names_and_addresses() {
    let authority = authority();
    let server = authority.issue_server(&["aquifer.aquifer-system.svc", "10.96.0.1", "::1"], HOUR).unwrap();
    with_leaf(&[server.certificate], |leaf| {
        let names = leaf.subject_alternative_name().unwrap().unwrap().value.general_names.clone();
        let expected = [
            GeneralName::DNSName("aquifer.aquifer-system.svc"),
            GeneralName::IPAddress(&[10, 96, 0, 1]),
            GeneralName::IPAddress(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        ];
        assert_eq!(names, expected);
        assert!(!leaf.extended_key_usage().unwrap().unwrap().value.client_auth);
    });
    assert!(matches!(authority.issue_server(&["no name"], HOUR).unwrap_err(), TlsError::Malformed { .. }));
}

fn rcgen_pem(label: &str, der: &[u8]) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    // A known-good PEM frame around other bytes, so that only the content is wrong.
    let frame = key.serialize_pem().replace("PRIVATE KEY", label);
    let (first, last) = (frame.lines().next().unwrap(), frame.lines().last().unwrap());
    format!("{first}\n{}\n{last}\n", base64(der))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) & 0x3f;
            text.push(if digit <= group.len() { char::from(DIGITS[index as usize]) } else { '=' });
        }
    }
    text
}
