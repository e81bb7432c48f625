//! Everything about TLS: the mutual TLS of the mesh, the TLS of control-plane connections, and the certificates of both.
//!
//! It is the only crate that names rustls, rcgen, x509-parser and aws-lc-rs, the only cryptography provider.
//! Records of mesh connections are sealed and opened here, in place; all that rustls does for them is the handshake.
//! It refuses to know where certificates come from, which sockets carry the bytes and what is spoken inside.
//! Its main type is [`WorkloadCertificate`], which [`accept`] and [`connect`] prove to a peer.
//!
//! ```
//! # fn main() -> Result<(), tls::TlsError> {
//! use std::time::Duration;
//! let identity: types::Identity = "spiffe://cluster.local/ns/shop/sa/cart".parse().unwrap();
//! let authority = tls::Authority::self_signed(&identity.trust_domain, Duration::from_secs(3600))?;
//! let request = tls::CertificateRequest::generate(&identity)?;
//! let chain = authority.sign_csr(request.csr_pem(), &identity, Duration::from_secs(600))?;
//! let certificate = request.complete(&chain)?;
//! assert_eq!(certificate.identity(), &identity);
//! # Ok(())
//! # }
//! ```
#![warn(missing_docs)]

mod authority;
mod certificate;
mod control;
mod error;
mod mesh;
mod negotiated;
mod provider;
mod request;
mod revocation;
mod server;
mod session;
mod stream;
mod verify;
mod x509;

pub use authority::{Authority, AuthorityPem, ServerCertificate, SigningRequest};
pub use certificate::WorkloadCertificate;
pub use control::{ControlClient, ControlOptions, RootSource, connect_verified};
pub use error::{Refusal, TlsError};
pub use mesh::{MeshStream, Peer, accept, connect, connect_to_write};
pub use negotiated::Negotiated;
pub use provider::{Alpn, KeyExchange};
pub use request::CertificateRequest;
pub use revocation::RevocationLists;
pub use server::HttpsAcceptor;
pub use session::Place;
pub use stream::TlsStream;
pub use x509::CertificateDetails;
