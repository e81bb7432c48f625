//! The certificates of the workloads on this node: fetched, renewed and forgotten as workloads come and go.
//!
//! [`CertificateStore`] decides when to ask and what to serve; a [`Signer`] asks: [`CaClient`] a certificate authority
//! over gRPC, [`LocalSigner`] one in this process.
//! The crate refuses to know why a workload needs a certificate, and leaves cryptography to `tls`.
//! Its main type is [`CertificateStore`].

mod ca;
mod clock;
mod error;
mod signer;
mod store;
mod token;

pub use ca::{BoxError, CaClient, CaOptions, ChannelFactory};
pub use clock::Clock;
pub use error::{CertificateError, SignError};
pub use signer::{LocalSigner, Signer};
pub use store::{CertificateStore, Dump, DumpState};
pub use token::TokenSource;
