//! The certificate authority: who calls, what they may have, and the certificate for it.

mod authenticate;
mod impersonate;
mod issue;
mod root;

pub(crate) use authenticate::{Account, Authenticator, ClusterReviewer, bearer};
pub(crate) use impersonate::Rules;
pub(crate) use issue::CertificateService;
pub(crate) use root::load_or_create;

#[cfg(test)]
mod tests;
