//! SPIFFE identities: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::ParseError;

/// The trust domain of a mesh; `cluster.local` unless configured.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TrustDomain {
    fn default() -> Self {
        Self(Arc::from("cluster.local"))
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TrustDomain {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.is_empty() || text.contains('/') {
            return Err(ParseError::new(text, "a trust domain"));
        }
        Ok(Self(Arc::from(text)))
    }
}

/// Who a workload is, as its certificate proves it.
///
/// ```
/// let identity: types::Identity = "spiffe://cluster.local/ns/shop/sa/cart".parse().unwrap();
/// assert_eq!(&*identity.service_account, "cart");
/// assert_eq!(identity.to_string(), "spiffe://cluster.local/ns/shop/sa/cart");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// The mesh that vouches for the workload.
    pub trust_domain: TrustDomain,
    /// The Kubernetes namespace.
    pub namespace: Arc<str>,
    /// The Kubernetes ServiceAccount.
    pub service_account: Arc<str>,
}

impl Identity {
    /// Puts the parts together.
    pub fn new(
        trust_domain: TrustDomain,
        namespace: impl Into<Arc<str>>,
        service_account: impl Into<Arc<str>>,
    ) -> Self {
        Self { trust_domain, namespace: namespace.into(), service_account: service_account.into() }
    }

    /// The identity without its `spiffe://` prefix: the form in which policies name principals.
    #[must_use]
    pub fn principal(&self) -> String {
        format!("{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.service_account)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.service_account)
    }
}

impl FromStr for Identity {
    type Err = ParseError;

    /// Accepts exactly five non-empty parts after the scheme, with `ns` and `sa` in their places.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let expected = "spiffe://<trust domain>/ns/<namespace>/sa/<service account>";
        let rest = text.strip_prefix("spiffe://").ok_or_else(|| ParseError::new(text, expected))?;
        let mut parts = rest.split('/');
        let five = [parts.next(), parts.next(), parts.next(), parts.next(), parts.next()];
        match (five, parts.next()) {
            ([Some(domain), Some("ns"), Some(namespace), Some("sa"), Some(account)], None)
                if !domain.is_empty() && !namespace.is_empty() && !account.is_empty() =>
            {
                Ok(Self::new(domain.parse()?, namespace, account))
            }
            _ => Err(ParseError::new(text, expected)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_identities_are_refused() {
        for text in [
            "cluster.local/ns/a/sa/b",
            "spiffe://cluster.local/ns/a/sa",
            "spiffe://cluster.local/ns/a/sa/b/c",
            "spiffe://cluster.local/namespace/a/sa/b",
            "spiffe:///ns/a/sa/b",
            "spiffe://cluster.local/ns//sa/b",
        ] {
            assert!(text.parse::<Identity>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_principal_has_no_scheme() {
        let identity = Identity::new(TrustDomain::default(), "shop", "cart");
        assert_eq!(identity.principal(), "cluster.local/ns/shop/sa/cart");
    }
}
