//! A certificate authority: signs workload certificates and issues server certificates.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PublicKeyData, RevokedCertParams, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls::pki_types::CertificateDer;
use types::{Identity, TrustDomain};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;

use crate::request::uri;
use crate::{TlsError, x509};

/// Certificates are back-dated by this much, so that a peer whose clock is a little behind accepts them.
const BACKDATED: Duration = Duration::from_secs(120);

/// How soon the next revocation list is promised; nobody holds an authority to it.
const LIST_VALIDITY: Duration = Duration::from_secs(24 * 3600);

/// The longest that a serial number may be is 20 octets (RFC 5280, section 4.1.2.2); 128 random bits never repeat.
const SERIAL_OCTETS: usize = 16;

/// Signs certificates with a key that never leaves it except through [`Authority::to_pem`].
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    not_after: SystemTime,
    /// The signing certificate first, then what leads to its root.
    chain_pem: String,
    /// The certificates of the chain that are not self-signed: sent along with each leaf.
    intermediates: Vec<String>,
    /// The self-signed certificates of the chain.
    roots_pem: String,
}

/// What is kept to bring an authority back; the key is a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthorityPem {
    /// The signing certificate, followed by the rest of its chain.
    pub certificate: String,
    /// The private key, PKCS#8.
    pub key: String,
}

/// A server's certificate chain and key, both PEM.
#[derive(Clone)]
pub struct ServerCertificate {
    /// Leaf first.
    pub certificate: String,
    /// The private key, PKCS#8.
    pub key: String,
    /// Until when it is valid.
    pub not_after: SystemTime,
}

/// A parsed certificate request whose signature proves that the sender holds the key.
pub struct SigningRequest {
    public_key: SubjectPublicKeyInfo,
    names: Vec<String>,
}

impl SigningRequest {
    /// Parses a PEM request and verifies its self-signature.
    ///
    /// # Errors
    /// [`TlsError::Malformed`].
    pub fn parse(csr_pem: &str) -> Result<Self, TlsError> {
        use rustls::pki_types::pem::PemObject;
        let malformed = |reason: String| TlsError::malformed("certificate request", reason);
        let der = rustls::pki_types::CertificateSigningRequestDer::from_pem_slice(csr_pem.as_bytes())
            .map_err(|error| malformed(error.to_string()))?;
        let (rest, request) = X509CertificationRequest::from_der(&der).map_err(|error| malformed(error.to_string()))?;
        if !rest.is_empty() {
            return Err(malformed("bytes follow the request".to_owned()));
        }
        request.verify_signature().map_err(|error| malformed(format!("self-signature: {error}")))?;
        let spki = request.certification_request_info.subject_pki.raw;
        let public_key = SubjectPublicKeyInfo::from_der(spki).map_err(|error| malformed(error.to_string()))?;
        let mut names = Vec::new();
        for extension in request.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(name) = extension {
                names.extend(x509::uris(&name.general_names).into_iter().map(str::to_owned));
            }
        }
        Ok(Self { public_key, names })
    }

    /// The URI names that were asked for.
    ///
    /// They are a claim, not a proof: a certificate is issued for the caller's identity.
    /// A policy may refuse a request that names somebody else.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

impl Authority {
    /// Makes a new root for a trust domain.
    ///
    /// # Errors
    /// [`TlsError::Issue`].
    pub fn self_signed(trust_domain: &TrustDomain, ttl: Duration) -> Result<Self, TlsError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(TlsError::Issue)?;
        let now = SystemTime::now();
        let mut params = validity(now, now + ttl);
        params.distinguished_name.push(DnType::OrganizationName, trust_domain.as_str());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(TlsError::Issue)?;
        Self::from_pem(&certificate.pem(), &key.serialize_pem())
    }

    /// Brings an authority back: the signing certificate, optionally followed by its chain up to the root, and its key.
    ///
    /// # Errors
    /// [`TlsError::Malformed`]; [`TlsError::Authority`] when the certificate is no authority's, the key does not
    /// belong to it, or the chain has no root.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, TlsError> {
        let chain = x509::certificates(certificate_pem)?;
        let signer = chain.first().ok_or_else(|| TlsError::malformed("certificate", "none found"))?;
        // rcgen's message may quote its input, which here is a secret.
        let key =
            KeyPair::from_pem(key_pem).map_err(|_error| TlsError::malformed("private key", "not a PKCS#8 PEM key"))?;
        let not_after = check_signer(signer, &key)?;
        let issuer = Issuer::from_ca_cert_der(signer, key).map_err(TlsError::Issue)?;
        let (mut intermediates, mut roots_pem) = (Vec::new(), String::new());
        for certificate in &chain {
            let pem = x509::encode_pem("CERTIFICATE", certificate);
            let parsed = x509::parse(certificate)?;
            if parsed.subject() == parsed.issuer() {
                roots_pem.push_str(&pem);
            } else {
                intermediates.push(pem);
            }
        }
        if roots_pem.is_empty() {
            return Err(TlsError::Authority("its chain has no root certificate".to_owned()));
        }
        let chain_pem = chain.iter().map(|certificate| x509::encode_pem("CERTIFICATE", certificate)).collect();
        Ok(Self { issuer, not_after, chain_pem, intermediates, roots_pem })
    }

    /// The same authority, whose answers tell clients to trust further roots (PEM) besides its own.
    ///
    /// Two authorities that each name the other's root can replace one another while certificates of both are about.
    ///
    /// # Errors
    /// [`TlsError::Malformed`].
    pub fn trusting(mut self, others_pem: &str) -> Result<Self, TlsError> {
        for certificate in x509::certificates(others_pem)? {
            x509::parse(&certificate)?;
            let pem = x509::encode_pem("CERTIFICATE", &certificate);
            if !self.roots_pem.contains(&pem) {
                self.roots_pem.push_str(&pem);
            }
        }
        Ok(self)
    }

    /// What [`Authority::from_pem`] takes.
    #[must_use]
    pub fn to_pem(&self) -> AuthorityPem {
        AuthorityPem { certificate: self.chain_pem.clone(), key: self.issuer.key().serialize_pem() }
    }

    /// The root certificates that peers must trust, PEM.
    #[must_use]
    pub fn roots_pem(&self) -> &str {
        &self.roots_pem
    }

    /// When the signing certificate ends; nothing that it signs outlives it.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Parses a request and certifies its key for an identity; see [`Authority::sign`].
    ///
    /// # Errors
    /// As [`SigningRequest::parse`] and [`Authority::sign`].
    pub fn sign_csr(&self, csr_pem: &str, identity: &Identity, ttl: Duration) -> Result<Vec<String>, TlsError> {
        self.sign(&SigningRequest::parse(csr_pem)?, identity, ttl, SystemTime::now())
    }

    /// Certifies a request's key for an identity, whatever names the request holds.
    ///
    /// The answer is one PEM per element: the leaf, each intermediate, and last all roots together.
    /// The leaf is valid from two minutes before `now` for `ttl` from `now`, but no longer than the authority itself.
    ///
    /// # Errors
    /// [`TlsError::Authority`] when the authority's own certificate is over, [`TlsError::Issue`] otherwise.
    pub fn sign(
        &self,
        request: &SigningRequest,
        identity: &Identity,
        ttl: Duration,
        now: SystemTime,
    ) -> Result<Vec<String>, TlsError> {
        let mut params = self.leaf(ttl, now)?;
        params.subject_alt_names = vec![uri(identity)?];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params.signed_by(&request.public_key, &self.issuer).map_err(TlsError::Issue)?;
        let mut chain = vec![leaf.pem()];
        chain.extend(self.intermediates.iter().cloned());
        chain.push(self.roots_pem.clone());
        Ok(chain)
    }

    /// Lists certificates of this authority that no longer prove anything, as PEM; `number` grows with every list.
    ///
    /// # Errors
    /// [`TlsError::Malformed`] when one of the texts is no certificate, [`TlsError::Issue`].
    pub fn revocation_list(&self, certificates: &[&str], number: u64, now: SystemTime) -> Result<String, TlsError> {
        let now = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(now);
        let mut revoked_certs = Vec::new();
        for pem in certificates {
            for der in x509::certificates(pem)? {
                let serial_number = SerialNumber::from_slice(x509::parse(&der)?.raw_serial());
                let (reason_code, invalidity_date) = (None, None);
                revoked_certs.push(RevokedCertParams {
                    serial_number,
                    revocation_time: now,
                    reason_code,
                    invalidity_date,
                });
            }
        }
        let list = CertificateRevocationListParams {
            this_update: now,
            next_update: now + LIST_VALIDITY,
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).and_then(|list| list.pem()).map_err(TlsError::Issue)
    }

    /// Makes a key and a certificate for a server that is reached by DNS names or IP addresses.
    ///
    /// # Errors
    /// [`TlsError::Malformed`] for a name that is neither, otherwise as [`Authority::sign`].
    pub fn issue_server(&self, names: &[&str], ttl: Duration) -> Result<ServerCertificate, TlsError> {
        let now = SystemTime::now();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(TlsError::Issue)?;
        let mut params = self.leaf(ttl, now)?;
        for name in names {
            params.subject_alt_names.push(server_name(name)?);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = params.signed_by(&key, &self.issuer).map_err(TlsError::Issue)?;
        let certificate = leaf.pem() + &self.intermediates.concat();
        Ok(ServerCertificate { certificate, key: key.serialize_pem(), not_after: self.clamp(ttl, now) })
    }

    fn leaf(&self, ttl: Duration, now: SystemTime) -> Result<CertificateParams, TlsError> {
        if self.not_after <= now {
            return Err(TlsError::Authority("its own certificate has expired".to_owned()));
        }
        let mut params = validity(now, self.clamp(ttl, now));
        params.use_authority_key_identifier_extension = true;
        params.is_ca = IsCa::ExplicitNoCa;
        Ok(params)
    }

    fn clamp(&self, ttl: Duration, now: SystemTime) -> SystemTime {
        now.checked_add(ttl).map_or(self.not_after, |end| end.min(self.not_after))
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

impl fmt::Debug for AuthorityPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorityPem").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCertificate").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl fmt::Debug for SigningRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningRequest").field("names", &self.names).finish_non_exhaustive()
    }
}

/// A certificate without subject, valid from shortly before `now`.
fn validity(now: SystemTime, not_after: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since_epoch(now).saturating_sub(BACKDATED);
    params.not_after = epoch + since_epoch(not_after);
    params.distinguished_name = DistinguishedName::new();
    let mut serial: [u8; SERIAL_OCTETS] = rand::random();
    // A serial number is positive and has no leading zero octet.
    serial[0] = (serial[0] & 0x7f) | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params
}

fn since_epoch(moment: SystemTime) -> Duration {
    moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Whether a certificate may sign others with this key; its end when it may.
fn check_signer(certificate: &CertificateDer<'_>, key: &KeyPair) -> Result<SystemTime, TlsError> {
    let parsed = x509::parse(certificate)?;
    if !parsed.is_ca() {
        return Err(TlsError::Authority("its certificate is not a certificate authority's".to_owned()));
    }
    if parsed.public_key().raw != key.subject_public_key_info().as_slice() {
        return Err(TlsError::Authority("its key does not belong to its certificate".to_owned()));
    }
    Ok(x509::validity(&parsed)?.1)
}

fn server_name(name: &str) -> Result<SanType, TlsError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let is_dns = rustls::pki_types::DnsName::try_from(name.trim_start_matches("*.").to_owned()).is_ok();
    if !is_dns {
        return Err(TlsError::malformed("server name", format!("{name:?}")));
    }
    name.to_owned().try_into().map(SanType::DnsName).map_err(TlsError::Issue)
}
