//! Reading certificates: PEM blocks, SPIFFE names, validity and what an admin page shows.

use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use types::Identity;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{Refusal, TlsError};

/// What an operator wants to see of one certificate; nothing of it is secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateDetails {
    /// The serial number in decimal.
    pub serial_number: String,
    /// Valid from this moment.
    pub not_before: SystemTime,
    /// Valid until this moment.
    pub not_after: SystemTime,
    /// The certificate as PEM text.
    pub pem: String,
}

impl CertificateDetails {
    /// Reads them off each certificate of a PEM text.
    ///
    /// # Errors
    /// [`TlsError::Malformed`] when a block is no certificate.
    pub fn from_pem(pem: &str) -> Result<Vec<Self>, TlsError> {
        certificates(pem)?.iter().map(Self::from_der).collect()
    }

    pub(crate) fn from_der(der: &CertificateDer<'_>) -> Result<Self, TlsError> {
        let parsed = parse(der)?;
        let (not_before, not_after) = validity(&parsed)?;
        Ok(Self {
            serial_number: parsed.tbs_certificate.serial.to_string(),
            not_before,
            not_after,
            pem: encode_pem("CERTIFICATE", der),
        })
    }
}

/// Each certificate of a PEM text, in order; other blocks are skipped.
pub(crate) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::malformed("certificate", error))
}

/// The first private key of a PEM text.
pub(crate) fn private_key(pem: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    // The parser's own message may quote its input, which here is a secret.
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_error| TlsError::malformed("private key", "not a PEM key"))
}

pub(crate) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, TlsError> {
    match X509Certificate::from_der(der) {
        Ok(([], parsed)) => Ok(parsed),
        Ok(_) => Err(TlsError::malformed("certificate", "bytes follow the certificate")),
        Err(error) => Err(TlsError::malformed("certificate", error)),
    }
}

/// `notBefore` and `notAfter`.
pub(crate) type Validity = (SystemTime, SystemTime);

/// What the mesh reads in the certificate of a workload.
pub(crate) struct Leaf {
    /// The one workload identity that it proves.
    pub(crate) identity: Identity,
    pub(crate) validity: Validity,
}

impl Leaf {
    /// Reads a certificate.
    ///
    /// One with no identity or with several is refused: [SPIFFE](https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md#2-spiffe-id)
    /// allows exactly one.
    pub(crate) fn parse(der: &CertificateDer<'_>) -> Result<Self, Refusal> {
        let parsed = parse(der).map_err(|error| Refusal::Invalid(error.to_string()))?;
        let validity = validity(&parsed).map_err(|error| Refusal::Invalid(error.to_string()))?;
        Ok(Self { identity: identity(&parsed)?, validity })
    }
}

/// Whether a moment lies within a certificate's validity.
pub(crate) fn check_time((not_before, not_after): Validity, now: UnixTime) -> Result<(), Refusal> {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
    if let Ok(ahead) = not_before.duration_since(now)
        && !ahead.is_zero()
    {
        return Err(Refusal::NotYetValid { ahead });
    }
    match now.duration_since(not_after) {
        Ok(ago) if !ago.is_zero() => Err(Refusal::Expired { ago }),
        _ => Ok(()),
    }
}

/// When a certificate is valid.
pub(crate) fn validity_of(der: &CertificateDer<'_>) -> Result<Validity, Refusal> {
    parse(der).and_then(|parsed| validity(&parsed)).map_err(|error| Refusal::Invalid(error.to_string()))
}

pub(crate) fn validity(certificate: &X509Certificate<'_>) -> Result<Validity, TlsError> {
    let moment = |seconds: i64| {
        // Before 1970 is long past, whatever the exact year.
        let since_epoch = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        SystemTime::UNIX_EPOCH.checked_add(since_epoch)
    };
    let validity = certificate.validity();
    moment(validity.not_before.timestamp())
        .zip(moment(validity.not_after.timestamp()))
        .ok_or_else(|| TlsError::malformed("certificate", "validity out of range"))
}

fn identity(certificate: &X509Certificate<'_>) -> Result<Identity, Refusal> {
    let mut names = uri_names(certificate)?;
    names.retain(|name| is_spiffe(name));
    match names.as_slice() {
        [] => Err(Refusal::NoSpiffeName),
        [name] => name.parse().map_err(|_error| Refusal::MalformedSpiffeName((*name).to_owned())),
        several => Err(Refusal::SeveralSpiffeNames(several.iter().map(|name| (*name).to_owned()).collect())),
    }
}

fn uri_names<'a>(certificate: &'a X509Certificate<'_>) -> Result<Vec<&'a str>, Refusal> {
    let extension = certificate
        .subject_alternative_name()
        .map_err(|error| Refusal::Invalid(format!("subject alternative name: {error}")))?;
    let names = extension.map(|extension| uris(&extension.value.general_names)).unwrap_or_default();
    Ok(names)
}

/// The URIs among alternative names.
pub(crate) fn uris<'a>(names: &[GeneralName<'a>]) -> Vec<&'a str> {
    let uri = |name: &GeneralName<'a>| if let GeneralName::URI(uri) = name { Some(*uri) } else { None };
    names.iter().filter_map(uri).collect()
}

/// The scheme of a URI is case-insensitive (RFC 3986, section 3.1).
fn is_spiffe(uri: &str) -> bool {
    uri.split_once(':').is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("spiffe"))
}

/// PEM as RFC 7468 wants it: lines of 64 characters and a final newline.
pub(crate) fn encode_pem(label: &str, der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const LINE: usize = 64;
    let digit = |bits: u32| ALPHABET.get((bits & 0x3f) as usize).map_or('=', |byte| char::from(*byte));
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut column = 0;
    for group in der.chunks(3) {
        let [a, b, c] = [0, 1, 2].map(|index| u32::from(group.get(index).copied().unwrap_or(0)));
        let bits = (a << 16) | (b << 8) | c;
        text.push(digit(bits >> 18));
        text.push(digit(bits >> 12));
        text.push(if group.len() > 1 { digit(bits >> 6) } else { '=' });
        text.push(if group.len() > 2 { digit(bits) } else { '=' });
        column += 4;
        if column == LINE {
            text.push('\n');
            column = 0;
        }
    }
    if column > 0 {
        text.push('\n');
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_survives_a_round_trip_at_every_length() {
        for length in 0..200_u8 {
            let der: Vec<u8> = (0..length).map(|byte| byte.wrapping_mul(37)).collect();
            let text = encode_pem("CERTIFICATE", &der);
            assert!(text.lines().all(|line| line.len() <= 64), "{text}");
            assert_eq!(certificates(&text).unwrap(), [CertificateDer::from(der)]);
        }
    }

    #[test]
    fn a_broken_key_is_refused_without_being_quoted() {
        let error = private_key("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE").unwrap_err();
        assert!(!error.to_string().contains("c2Vj"), "{error}");
    }
}
