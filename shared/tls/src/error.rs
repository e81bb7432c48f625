//! What can go wrong, told apart by whose fault it is.

use std::error::Error as StdError;
use std::time::Duration;

use rustls::{CertificateError, Error as RustlsError};
use types::{Identity, TrustDomain};

/// Why a TLS connection or a certificate did not come about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The peer's certificate was looked at and turned down, by us.
    #[error("peer refused: {0}")]
    Peer(#[from] Refusal),
    /// The peer sent an alert: it turned us down.
    #[error("refused by peer: alert {0}")]
    Alert(String),
    /// The two sides have no version, cipher suite, key exchange or application protocol in common, or the peer broke
    /// the protocol.
    #[error("handshake failed: {0}")]
    Handshake(#[source] RustlsError),
    /// The peer settled on no application protocol, or on another than was offered.
    #[error("peer negotiated application protocol {found:?} instead of {expected:?}")]
    Alpn {
        /// What was offered.
        expected: &'static str,
        /// What the peer chose; empty when it chose none.
        found: String,
    },
    /// The transport failed before the handshake was through.
    #[error("transport failed: {0}")]
    Io(#[source] std::io::Error),
    /// Text that should have been PEM, or DER that should have been a certificate, key or request, was not.
    #[error("{what} is malformed: {reason}")]
    Malformed {
        /// Which input: "certificate", "private key", ….
        what: &'static str,
        /// What the parser said.
        reason: String,
    },
    /// The certificate authority's answer cannot be used.
    #[error("certificate response is unusable: {0}")]
    Response(String),
    /// The own certificate and key do not make a TLS configuration.
    #[error("certificate cannot be used: {0}")]
    Configuration(#[source] RustlsError),
    /// Signing or key generation failed.
    #[error("cannot issue certificate: {0}")]
    Issue(#[source] rcgen::Error),
    /// The authority's own certificate is no longer valid, or not a certificate authority's.
    #[error("certificate authority cannot sign: {0}")]
    Authority(String),
    /// Roots could not be read.
    #[error("cannot read roots from {source_name}: {reason}")]
    Roots {
        /// The file, `SYSTEM` or `inline PEM`.
        source_name: String,
        /// What went wrong.
        reason: String,
    },
}

/// Why a peer's certificate was turned down; each has its own words, so that a log line tells.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// `notAfter` has passed.
    #[error("certificate expired {} s ago", .ago.as_secs())]
    Expired {
        /// For how long.
        ago: Duration,
    },
    /// `notBefore` lies ahead.
    #[error("certificate not valid for another {} s", .ahead.as_secs())]
    NotYetValid {
        /// For how long.
        ahead: Duration,
    },
    /// No path leads to a root that came with the own certificate.
    #[error("certificate does not chain to a known root")]
    UnknownRoot,
    /// A signature does not fit the key that it should be of.
    #[error("bad signature: certificate of another root of the same name, or forged")]
    BadSignature,
    /// Extended key usage lacks what this side of the connection needs.
    #[error("certificate is not meant for this purpose: {0}")]
    WrongPurpose(String),
    /// The certificate was revoked.
    #[error("certificate revoked")]
    Revoked,
    /// The peer sent no certificate.
    #[error("no certificate presented")]
    NoCertificate,
    /// The identity belongs to another trust domain.
    #[error("other trust domain: expected {expected}, got {found}")]
    OtherTrustDomain {
        /// The own trust domain.
        expected: TrustDomain,
        /// The whole identity of the peer.
        found: Identity,
    },
    /// No URI name with the `spiffe` scheme.
    #[error("certificate has no SPIFFE name")]
    NoSpiffeName,
    /// More than one: which counts would be a guess.
    #[error("certificate has several SPIFFE names: {}", .0.join(", "))]
    SeveralSpiffeNames(Vec<String>),
    /// A name with the `spiffe` scheme that is no workload identity.
    #[error("certificate has a malformed SPIFFE name {0:?}")]
    MalformedSpiffeName(String),
    /// Another workload than the one that was dialled.
    #[error("identity mismatch: expected {}, got {found}", list(.expected))]
    IdentityMismatch {
        /// Who would have been accepted.
        expected: Vec<Identity>,
        /// Who answered.
        found: Identity,
    },
    /// Anything else: bad encoding, bad signature, unknown critical extension, other server name.
    #[error("certificate invalid: {0}")]
    Invalid(String),
}

impl TlsError {
    pub(crate) fn malformed(what: &'static str, reason: impl ToString) -> Self {
        Self::Malformed { what, reason: reason.to_string() }
    }

    /// Sorts what tokio-rustls reports as an `io::Error`.
    pub(crate) fn from_io(error: std::io::Error) -> Self {
        let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<RustlsError>()) else {
            return Self::Io(error);
        };
        Self::from_rustls(inner)
    }

    pub(crate) fn from_rustls(error: &RustlsError) -> Self {
        match error {
            RustlsError::InvalidCertificate(reason) => Self::Peer(Refusal::from_rustls(reason)),
            RustlsError::NoCertificatesPresented => Self::Peer(Refusal::NoCertificate),
            RustlsError::AlertReceived(alert) => Self::Alert(format!("{alert:?}")),
            other => Self::Handshake(other.clone()),
        }
    }
}

impl Refusal {
    /// Reads our own verdict back out of rustls's error, or translates that of its verifier.
    pub(crate) fn from_rustls(error: &CertificateError) -> Self {
        use std::ops::Deref;
        match error {
            CertificateError::ExpiredContext { time, not_after } => {
                let ago = time.as_secs().saturating_sub(not_after.as_secs());
                Self::Expired { ago: Duration::from_secs(ago) }
            }
            CertificateError::NotValidYetContext { time, not_before } => {
                let ahead = not_before.as_secs().saturating_sub(time.as_secs());
                Self::NotYetValid { ahead: Duration::from_secs(ahead) }
            }
            CertificateError::Expired => Self::Expired { ago: Duration::ZERO },
            CertificateError::NotValidYet => Self::NotYetValid { ahead: Duration::ZERO },
            CertificateError::UnknownIssuer => Self::UnknownRoot,
            CertificateError::BadSignature => Self::BadSignature,
            CertificateError::Revoked => Self::Revoked,
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Self::WrongPurpose(error.to_string())
            }
            CertificateError::Other(other) => {
                let cause: &(dyn StdError + 'static) = other.0.deref();
                cause.downcast_ref::<Self>().cloned().unwrap_or_else(|| Self::Invalid(cause.to_string()))
            }
            other => Self::Invalid(other.to_string()),
        }
    }

    /// Carries the verdict through rustls, which answers the peer with an alert that gives nothing away.
    pub(crate) fn into_rustls(self) -> RustlsError {
        RustlsError::InvalidCertificate(CertificateError::Other(rustls::OtherError(std::sync::Arc::new(self))))
    }
}

fn list(identities: &[Identity]) -> String {
    match identities {
        [] => "nobody".to_owned(),
        [one] => one.to_string(),
        several => {
            let names: Vec<_> = several.iter().map(Identity::to_string).collect();
            format!("one of {}", names.join(", "))
        }
    }
}
