//! Bearer tokens: signing them, and telling who holds one.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::core::Core;
use super::kind;
use super::store::text;
use super::{Status, Token, TokenRequest, random};

/// Without a wish a token is valid for so long.
const LIFETIME: Duration = Duration::from_secs(3600);

/// Shorter ones are refused, as kube-apiserver does.
const SHORTEST: Duration = Duration::from_secs(600);

/// Longer ones are cut.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// The claims of a ServiceAccount token.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    aud: Vec<String>,
    exp: i64,
    iat: i64,
    nbf: i64,
    iss: String,
    jti: String,
    sub: String,
    #[serde(rename = "kubernetes.io")]
    bound: Bound,
}

#[derive(Debug, Serialize, Deserialize)]
struct Bound {
    namespace: String,
    serviceaccount: Named,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<Named>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Named {
    name: String,
    uid: String,
}

/// Who makes a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Caller {
    pub(crate) username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) uid: String,
    pub(crate) groups: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) extra: BTreeMap<String, Vec<String>>,
}

/// Signs and verifies tokens with a key that never leaves this process.
pub(crate) struct Signer {
    key: [u8; 32],
    issuer: String,
    pub(crate) admin: String,
}

impl Signer {
    pub(crate) fn new(cluster_domain: &str) -> Self {
        let issuer = format!("https://kubernetes.default.svc.{cluster_domain}");
        Self { key: rand::random(), issuer, admin: random::secret() }
    }

    fn sign(&self, claims: &Claims) -> Result<String, serde_json::Error> {
        let header = BASE64.encode(json!({"alg": "HS256", "typ": "JWT"}).to_string());
        let signed = format!("{header}.{}", BASE64.encode(serde_json::to_vec(claims)?));
        let signature = BASE64.encode(hmac(&self.key, signed.as_bytes()));
        Ok(format!("{signed}.{signature}"))
    }

    fn verify(&self, token: &str) -> Result<Claims, &'static str> {
        let (signed, signature) = token.rsplit_once('.').ok_or("it is no JWT")?;
        let signature = BASE64.decode(signature).map_err(|_invalid| "its signature is not base64")?;
        // Comparing keyed digests of both keeps the time of the comparison from telling anything about the signature.
        let expected = hmac(&self.key, signed.as_bytes());
        if hmac(&self.key, &expected) != hmac(&self.key, &signature) {
            return Err("it was not signed by this server");
        }
        let (_, claims) = signed.split_once('.').ok_or("it is no JWT")?;
        let claims = BASE64.decode(claims).map_err(|_invalid| "its claims are not base64")?;
        serde_json::from_slice(&claims).map_err(|_invalid| "its claims cannot be read")
    }
}

/// HMAC (RFC 2104) with SHA-256; the key is not longer than a block.
fn hmac(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let pad = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().into()
}

impl Core {
    /// Signs a token for a ServiceAccount.
    ///
    /// # Errors
    /// As [`super::Client::create_token`].
    pub(crate) fn create_token(&self, namespace: &str, account: &str, request: &TokenRequest) -> Result<Token, Status> {
        let lifetime = request.lifetime.unwrap_or(LIFETIME).min(LONGEST);
        if lifetime < SHORTEST {
            let why = "spec.expirationSeconds: Invalid value: may not specify a duration less than 10 minutes";
            return Err(Status::invalid("TokenRequest.authentication.k8s.io", account, why));
        }
        let bound = self.bind(namespace, account, request.pod.as_ref())?;
        let now = jiff::Timestamp::now();
        let expires = now.saturating_add(lifetime).unwrap_or(jiff::Timestamp::MAX);
        let audiences = match request.audiences.as_slice() {
            [] => vec![self.signer.issuer.clone()],
            asked => asked.to_vec(),
        };
        let claims = Claims {
            aud: audiences,
            exp: expires.as_second(),
            iat: now.as_second(),
            nbf: now.as_second(),
            iss: self.signer.issuer.clone(),
            jti: random::uid(),
            sub: format!("system:serviceaccount:{namespace}:{account}"),
            bound,
        };
        let token = self.signer.sign(&claims).map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Token { token, expires })
    }

    fn bind(&self, namespace: &str, account: &str, pod: Option<&(String, String)>) -> Result<Bound, Status> {
        self.read(|store| {
            let found = store.fetch(kind::of::<ServiceAccount>(), namespace, account);
            let found = found.ok_or_else(|| Status::not_found("serviceaccounts", account))?;
            let uid = text(found, "/metadata/uid").to_owned();
            let mut bound = Bound {
                namespace: namespace.to_owned(),
                serviceaccount: Named { name: account.to_owned(), uid },
                pod: None,
            };
            let Some((name, uid)) = pod else { return Ok(bound) };
            let found = store.fetch(kind::of::<Pod>(), namespace, name);
            let found = found.ok_or_else(|| Status::not_found("pods", name))?;
            let runs_as = text(found, "/spec/serviceAccountName");
            if runs_as != account {
                let why = format!("cannot bind token for serviceaccount {account:?} to pod running with {runs_as:?}");
                return Err(Status::bad_request(why));
            }
            let is = text(found, "/metadata/uid");
            if !uid.is_empty() && uid != is {
                let why =
                    format!("the UID in the bound object reference ({uid}) does not match the UID in record ({is})");
                return Err(Status::conflict("pods", name, why));
            }
            bound.pod = Some(Named { name: name.clone(), uid: is.to_owned() });
            Ok(bound)
        })
    }

    /// Who holds a token, and which of `audiences` it is for. No audiences mean the API server itself.
    ///
    /// # Errors
    /// Why the token proves nothing.
    pub(crate) fn authenticate(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<(Caller, Vec<String>), &'static str> {
        let own = [self.signer.issuer.clone()];
        let wanted = if audiences.is_empty() { &own[..] } else { audiences };
        if hmac(&self.signer.key, token.as_bytes()) == hmac(&self.signer.key, self.signer.admin.as_bytes()) {
            let groups = ["system:masters", "system:authenticated"].map(str::to_owned).to_vec();
            let admin = Caller { username: "kubernetes-admin".into(), groups, ..Caller::default() };
            return Ok((admin, wanted.to_vec()));
        }
        let claims = self.signer.verify(token)?;
        let now = jiff::Timestamp::now().as_second();
        if claims.exp <= now || claims.nbf > now {
            return Err("it has expired, or is not valid yet");
        }
        let audiences: Vec<_> = wanted.iter().filter(|wanted| claims.aud.contains(wanted)).cloned().collect();
        if audiences.is_empty() {
            return Err("it is for another audience");
        }
        self.check_bound(&claims.bound)?;
        Ok((caller(claims), audiences))
    }

    /// A token ends with the account and the pod that it is bound to.
    fn check_bound(&self, bound: &Bound) -> Result<(), &'static str> {
        let lives = |kind, named: &Named| {
            let uid = self.read(|store| {
                store.fetch(kind, &bound.namespace, &named.name).map(|found| text(found, "/metadata/uid").to_owned())
            });
            uid.as_deref() == Some(&named.uid)
        };
        if !lives(kind::of::<ServiceAccount>(), &bound.serviceaccount) {
            return Err("its ServiceAccount is gone");
        }
        if bound.pod.as_ref().is_some_and(|pod| !lives(kind::of::<Pod>(), pod)) {
            return Err("its pod is gone");
        }
        Ok(())
    }

    /// Answers a [TokenReview](https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-review-v1/).
    pub(crate) fn review(&self, review: &Value) -> Value {
        let asked = review.pointer("/spec/audiences").and_then(Value::as_array).into_iter().flatten();
        let audiences: Vec<_> = asked.filter_map(Value::as_str).map(str::to_owned).collect();
        let status = match self.authenticate(text(review, "/spec/token"), &audiences) {
            Ok((user, audiences)) => json!({"authenticated": true, "user": user, "audiences": audiences}),
            Err(why) => json!({"authenticated": false, "error": format!("invalid bearer token: {why}")}),
        };
        json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "metadata": {}, "spec": review.get("spec"), "status": status,
        })
    }
}

/// As a real API server names the holder
/// ([extra](https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#schema-for-service-account-private-claims)).
fn caller(claims: Claims) -> Caller {
    let groups = vec![
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{}", claims.bound.namespace),
        "system:authenticated".to_owned(),
    ];
    let mut extra = BTreeMap::from([(
        "authentication.kubernetes.io/credential-id".to_owned(),
        vec![format!("JTI={}", claims.jti)],
    )]);
    if let Some(pod) = claims.bound.pod {
        extra.insert("authentication.kubernetes.io/pod-name".into(), vec![pod.name]);
        extra.insert("authentication.kubernetes.io/pod-uid".into(), vec![pod.uid]);
    }
    Caller { username: claims.sub, uid: claims.bound.serviceaccount.uid, groups, extra }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_agrees_with_rfc_4231_test_case_2_padded() {
        // HMAC-SHA256("Jefe", "what do ya want for nothing?"): keys are padded with zeros to the block.
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        let hex: String =
            hmac(&key, b"what do ya want for nothing?").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
}
