//! The certificate authority: who calls, what they may have, and the certificate for it.

mod authenticate;
mod impersonate;
mod issue;
mod keeper;
mod root;
mod rotation;

pub(crate) use authenticate::{Account, Authenticator, ClusterReviewer, bearer};
pub(crate) use impersonate::Rules;
pub(crate) use issue::CertificateService;
pub(crate) use keeper::{Issuing, Keeper, Kept, Signing};

#[cfg(test)]
mod tests;
