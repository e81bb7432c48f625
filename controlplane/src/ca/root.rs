//! The authority's key: an operator's own in Secret `cacerts`, else one made here and kept in `istio-ca-secret`.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tls::{Authority, AuthorityPem, TlsError};
use tracing::{info, warn};
use types::TrustDomain;

/// An operator's own authority, usually an intermediate one.
const PLUGGED_IN: &str = "cacerts";
/// The authority that the first replica made.
const SELF_SIGNED: &str = "istio-ca-secret";

const CERTIFICATE: &str = "ca-cert.pem";
const PRIVATE_KEY: &str = "ca-key.pem";
const CHAIN: &str = "cert-chain.pem";
const ROOT: &str = "root-cert.pem";

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long one call may take.
const CALL_DEADLINE: Duration = Duration::from_secs(10);

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
    #[error("a new root cannot be made")]
    Make(#[source] TlsError),
    #[error("Secrets cannot be read or written")]
    Api(#[from] Box<kube::Error>),
    #[error("reading or writing Secrets took too long")]
    Slow,
}

impl RootError {
    /// Whether trying again can help; what is stored does not change by itself.
    fn is_passing(&self) -> bool {
        matches!(self, Self::Api(_) | Self::Slow)
    }
}

/// Loads the authority, or makes the first one; tries until it has one or finds that it never will.
///
/// # Errors
/// When what is stored cannot be used. It is never replaced: every certificate of the mesh hangs on it.
pub(crate) async fn load_or_create(
    client: &Client,
    namespace: &str,
    trust_domain: &TrustDomain,
    ttl: Duration,
) -> Result<Authority, RootError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let mut pause = FIRST_PAUSE;
    loop {
        let attempt = attempt(&secrets, trust_domain, ttl);
        match tokio::time::timeout(CALL_DEADLINE, attempt).await.unwrap_or(Err(RootError::Slow)) {
            Err(error) if error.is_passing() => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                warn!(%error, cause, "no certificate authority yet");
            }
            outcome => return outcome,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn attempt(secrets: &Api<Secret>, trust_domain: &TrustDomain, ttl: Duration) -> Result<Authority, RootError> {
    if let Some(secret) = secrets.get_opt(PLUGGED_IN).await.map_err(Box::new)? {
        info!(secret = PLUGGED_IN, "using the operator's certificate authority");
        return read(PLUGGED_IN, &secret);
    }
    if let Some(secret) = secrets.get_opt(SELF_SIGNED).await.map_err(Box::new)? {
        return read(SELF_SIGNED, &secret);
    }
    let authority = Authority::self_signed(trust_domain, ttl).map_err(RootError::Make)?;
    match secrets.create(&PostParams::default(), &secret(&authority.to_pem())).await {
        Ok(_) => {
            info!(secret = SELF_SIGNED, "made the certificate authority of a new mesh");
            Ok(authority)
        }
        // Another replica was first: its key is the mesh's.
        Err(kube::Error::Api(status)) if status.code == 409 => {
            read(SELF_SIGNED, &secrets.get(SELF_SIGNED).await.map_err(Box::new)?)
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
pub(super) fn read(name: &'static str, secret: &Secret) -> Result<Authority, RootError> {
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
    Authority::from_pem(&chain, &key).map_err(|source| RootError::Unusable { secret: name, source })
}

/// The certificates of a PEM text, as they are written.
fn certificates(pem: &str) -> impl Iterator<Item = &str> {
    const END: &str = "-----END CERTIFICATE-----";
    pem.split_inclusive(END).filter_map(|part| part.get(part.find("-----BEGIN CERTIFICATE-----")?..))
}
