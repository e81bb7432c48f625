//! Why there is no certificate.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use types::Identity;

use crate::ca::BoxError;

/// Why one attempt to get a certificate failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// There is no connection to the certificate authority.
    #[error("cannot reach the certificate authority: {0}")]
    Channel(#[source] BoxError),
    /// The token that proves who is asking cannot be read.
    #[error("cannot read the token: {0}")]
    Token(#[source] io::Error),
    /// The authority said no, or the call failed on its way.
    #[error("certificate authority answered {:?}: {}", .0.code(), .0.message())]
    Refused(#[source] Box<tonic::Status>),
    /// The key could not be made, or the authority's answer cannot be used.
    #[error(transparent)]
    Certificate(#[from] tls::TlsError),
    /// The authority sent a certificate that is no longer valid.
    #[error("the certificate had expired when it came")]
    Expired,
    /// A configured header, identity or token cannot be sent.
    #[error("malformed {0}")]
    Malformed(String),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The signer failed in a way that it should not.
    #[error("signer failed: {0}")]
    Broken(String),
}

/// Why a caller gets no certificate.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// The last attempt failed; the next one is made in the background.
    #[error("certificate of {identity} unavailable: {cause}")]
    Unavailable {
        /// Whose certificate.
        identity: Identity,
        /// Why the last attempt failed.
        #[source]
        cause: Arc<SignError>,
    },
    /// The first attempt has not come to an end in time.
    #[error("timed out while waiting for the certificate of {0}")]
    Timeout(Identity),
    /// The identity was given up while the caller waited.
    #[error("{0} is no longer used on this node")]
    Forgotten(Identity),
}
