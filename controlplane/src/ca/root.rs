//! The authority that an operator wants: their own in Secret `cacerts`, else the one made here and kept in
//! `istio-ca-secret`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use tls::{Authority, AuthorityPem, TlsError};
use tracing::info;
use types::TrustDomain;

use super::rotation::RecordError;

/// An operator's own authority, usually an intermediate one.
const PLUGGED_IN: &str = "cacerts";
/// The authority that the first replica made.
const SELF_SIGNED: &str = "istio-ca-secret";

const CERTIFICATE: &str = "ca-cert.pem";
const PRIVATE_KEY: &str = "ca-key.pem";
const CHAIN: &str = "cert-chain.pem";
const ROOT: &str = "root-cert.pem";
const REVOCATIONS: &str = "ca-crl.pem";

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootError {
    #[error("Secret {secret} lacks the key {key}")]
    Incomplete { secret: &'static str, key: &'static str },
    #[error("Secret {secret} cannot be used")]
    Unusable {
        secret: &'static str,
        #[source]
        source: TlsError,
    },
    #[error("the record of the authority cannot be used")]
    Record(#[source] RecordError),
    #[error("a new root cannot be made")]
    Make(#[source] TlsError),
    #[error("Secrets cannot be read or written")]
    Api(#[from] Box<kube::Error>),
    #[error("reading or writing Secrets took too long")]
    Slow,
    #[error("others kept writing the record of the authority")]
    Contended,
}

impl RootError {
    /// Whether trying again can help; what is stored does not change by itself.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Self::Api(_) | Self::Slow | Self::Contended)
    }
}

/// An authority as an operator gives it.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// The Secret.
    pub(crate) secret: &'static str,
    /// The signing certificate, its chain and its root, each certificate once.
    pub(crate) pem: AuthorityPem,
    /// Revocations, PEM.
    pub(crate) revocations: Option<Arc<str>>,
}

/// The authority that is wanted; `None` if neither Secret is there.
pub(super) async fn wanted(secrets: &Api<Secret>) -> Result<Option<Wanted>, RootError> {
    for name in [PLUGGED_IN, SELF_SIGNED] {
        if let Some(secret) = secrets.get_opt(name).await.map_err(Box::new)? {
            return read(name, &secret).map(Some);
        }
    }
    Ok(None)
}

/// Makes the first authority of a mesh.
pub(super) async fn create(
    secrets: &Api<Secret>,
    trust_domain: &TrustDomain,
    ttl: Duration,
) -> Result<AuthorityPem, RootError> {
    let pem = Authority::self_signed(trust_domain, ttl).map_err(RootError::Make)?.to_pem();
    match secrets.create(&PostParams::default(), &secret(&pem)).await {
        Ok(_) => {
            info!(secret = SELF_SIGNED, "made the certificate authority of a new mesh");
            Ok(pem)
        }
        // Another replica was first: its key is the mesh's.
        Err(kube::Error::Api(status)) if status.code == 409 => {
            Ok(read(SELF_SIGNED, &secrets.get(SELF_SIGNED).await.map_err(Box::new)?)?.pem)
        }
        Err(error) => Err(Box::new(error).into()),
    }
}

fn secret(pem: &AuthorityPem) -> Secret {
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    Secret {
        metadata: ObjectMeta { name: Some(SELF_SIGNED.to_owned()), ..ObjectMeta::default() },
        type_: Some("istio.io/ca-root".to_owned()),
        data: Some(BTreeMap::from([
            (CERTIFICATE.to_owned(), bytes(&pem.certificate)),
            (PRIVATE_KEY.to_owned(), bytes(&pem.key)),
        ])),
        ..Secret::default()
    }
}

/// Puts the signing certificate, its chain and its root together, each certificate once.
pub(super) fn read(name: &'static str, secret: &Secret) -> Result<Wanted, RootError> {
    let text = |key: &str| {
        let data = secret.data.as_ref()?.get(key)?;
        String::from_utf8(data.0.clone()).ok().filter(|text| !text.trim().is_empty())
    };
    let required = |key| text(key).ok_or(RootError::Incomplete { secret: name, key });
    let (certificate, key) = (required(CERTIFICATE)?, required(PRIVATE_KEY)?);
    let mut chain = String::new();
    let parts = [Some(certificate), text(CHAIN), text(ROOT)];
    for certificate in parts.iter().flatten().flat_map(|pem| certificates(pem)) {
        if !chain.contains(certificate) {
            chain.push_str(certificate);
            chain.push('\n');
        }
    }
    let authority = Authority::from_pem(&chain, &key);
    let authority = authority.map_err(|source| RootError::Unusable { secret: name, source })?;
    // Written anew, so that another layout of the same is no other authority.
    Ok(Wanted { secret: name, pem: authority.to_pem(), revocations: text(REVOCATIONS).map(Arc::from) })
}

/// The certificates of a PEM text, as they are written.
pub(super) fn certificates(pem: &str) -> impl Iterator<Item = &str> {
    const END: &str = "-----END CERTIFICATE-----";
    pem.split_inclusive(END).filter_map(|part| part.get(part.find("-----BEGIN CERTIFICATE-----")?..))
}
