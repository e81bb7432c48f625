//! Callers: a ServiceAccount token goes in, the account and the pod that the token is bound to come out.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo};
use kube::api::PostParams;
use kube::{Api, Client};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tonic::Status;
use tonic::metadata::MetadataMap;
use types::{Identity, NamespacedName, TrustDomain};

/// How long a token that was found good is not asked about again.
///
/// A deleted pod's token may pass that much longer; what it is good for is checked against live pods each time.
const REMEMBERED: Duration = Duration::from_secs(30);
/// How many tokens are remembered; a mesh has one per node and waypoint.
const MOST_REMEMBERED: usize = 20_000;
/// How long a review may take.
const REVIEW_DEADLINE: Duration = Duration::from_secs(5);

const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// Asks whether a token is good.
pub(crate) trait TokenReviewer: Send + Sync {
    /// Reviews a token for any of these audiences.
    fn review(&self, token: &str, audiences: &[String]) -> BoxFuture<'static, kube::Result<TokenReviewStatus>>;
}

/// Asks the API server.
pub(crate) struct ClusterReviewer(pub(crate) Client);

impl TokenReviewer for ClusterReviewer {
    fn review(&self, token: &str, audiences: &[String]) -> BoxFuture<'static, kube::Result<TokenReviewStatus>> {
        let reviews: Api<TokenReview> = Api::all(self.0.clone());
        let spec = TokenReviewSpec { token: token.to_owned(), audiences: Some(audiences.to_vec()) };
        let review = TokenReview { spec, ..TokenReview::default() };
        async move {
            let answer = reviews.create(&PostParams::default(), &review).await?;
            Ok(answer.status.unwrap_or_default())
        }
        .boxed()
    }
}

/// An authenticated ServiceAccount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    /// Namespace and name.
    pub(crate) name: NamespacedName,
    /// Name and UID of the pod that the token is bound to, if it is bound to one.
    pub(crate) pod: Option<(String, String)>,
}

impl Account {
    /// The account's identity.
    pub(crate) fn identity(&self, trust_domain: &TrustDomain) -> Identity {
        Identity::new(
            trust_domain.clone(),
            std::sync::Arc::clone(&self.name.namespace),
            std::sync::Arc::clone(&self.name.name),
        )
    }
}

/// Why a caller is not let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Rejection {
    #[error("no bearer token")]
    NoToken,
    #[error("the token is not valid: {0}")]
    Invalid(String),
    #[error("the token is not for the audience {wanted}")]
    WrongAudience { wanted: String },
    #[error("{0:?} is no ServiceAccount")]
    NotAnAccount(String),
    #[error("the token could not be reviewed")]
    Unavailable(#[source] Option<Box<kube::Error>>),
}

impl From<Rejection> for Status {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Unavailable(_) => Self::unavailable(rejection.to_string()),
            _ => Self::unauthenticated(rejection.to_string()),
        }
    }
}

/// The token of a call.
pub(crate) fn bearer(metadata: &MetadataMap) -> Result<&str, Rejection> {
    let value = metadata.get("authorization").and_then(|value| value.to_str().ok()).ok_or(Rejection::NoToken)?;
    let (scheme, token) = value.split_once(' ').ok_or(Rejection::NoToken)?;
    if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() {
        Ok(token.trim())
    } else {
        Err(Rejection::NoToken)
    }
}

/// Reviews tokens, each once in a while.
pub(crate) struct Authenticator {
    reviewer: Box<dyn TokenReviewer>,
    audiences: Vec<String>,
    /// By the token's hash: no token is kept.
    remembered: Mutex<HashMap<[u8; 32], (Instant, Account)>>,
}

impl Authenticator {
    pub(crate) fn new(reviewer: impl TokenReviewer + 'static, audiences: Vec<String>) -> Self {
        Self { reviewer: Box::new(reviewer), audiences, remembered: Mutex::default() }
    }

    /// The account that a token belongs to.
    pub(crate) async fn account(&self, token: &str) -> Result<Account, Rejection> {
        let key: [u8; 32] = Sha256::digest(token).into();
        if let Some(account) = self.recall(&key) {
            return Ok(account);
        }
        let review = self.reviewer.review(token, &self.audiences);
        let status = match tokio::time::timeout(REVIEW_DEADLINE, review).await {
            Ok(Ok(status)) => status,
            Ok(Err(error)) => return Err(Rejection::Unavailable(Some(Box::new(error)))),
            Err(_elapsed) => return Err(Rejection::Unavailable(None)),
        };
        let account = self.judge(status)?;
        self.remember(key, account.clone());
        Ok(account)
    }

    fn judge(&self, status: TokenReviewStatus) -> Result<Account, Rejection> {
        if status.authenticated != Some(true) {
            return Err(Rejection::Invalid(status.error.unwrap_or_else(|| "not authenticated".to_owned())));
        }
        // An API server that says nothing about audiences has not checked them.
        let is_meant = status.audiences.iter().flatten().any(|audience| self.audiences.contains(audience));
        if !is_meant {
            return Err(Rejection::WrongAudience { wanted: self.audiences.join(" or ") });
        }
        account(status.user.unwrap_or_default())
    }

    fn recall(&self, key: &[u8; 32]) -> Option<Account> {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.get(key).filter(|(until, _)| Instant::now() < *until).map(|(_, account)| account.clone())
    }

    fn remember(&self, key: [u8; 32], account: Account) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= MOST_REMEMBERED {
            let now = Instant::now();
            remembered.retain(|_, (until, _)| now < *until);
        }
        // With still no room the token is simply reviewed again.
        if remembered.len() < MOST_REMEMBERED {
            remembered.insert(key, (Instant::now() + REMEMBERED, account));
        }
    }
}

fn account(user: UserInfo) -> Result<Account, Rejection> {
    let username = user.username.unwrap_or_default();
    let parts: Vec<&str> = username.split(':').collect();
    let ["system", "serviceaccount", namespace, name] = parts.as_slice() else {
        return Err(Rejection::NotAnAccount(username));
    };
    if namespace.is_empty() || name.is_empty() {
        return Err(Rejection::NotAnAccount(username));
    }
    let name = NamespacedName::new(*namespace, *name);
    let extra = |key| user.extra.as_ref().and_then(|extra| extra.get(key)?.first().cloned());
    Ok(Account { name, pod: extra(POD_NAME).zip(extra(POD_UID)) })
}
