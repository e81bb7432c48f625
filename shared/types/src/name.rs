//! Newtypes for strings that mean something, and namespaced pairs of them.
//!
//! All are reference counted: a clone costs one increment, which is what a per-connection path can afford.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ParseError;

macro_rules! text_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(Arc::from(text))
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(Arc::from(text))
            }
        }

        impl From<Arc<str>> for $name {
            fn from(text: Arc<str>) -> Self {
                Self(text)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

text_newtype! {
    /// The primary key of a workload, such as `Kubernetes//Pod/shop/cart-1`.
    WorkloadUid
}

text_newtype! {
    /// The UID that Kubernetes gave to a pod; not the key of a workload in discovery.
    PodUid
}

text_newtype! {
    /// A fully qualified host name without a trailing dot.
    Hostname
}

/// A name inside a namespace, written `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamespacedName {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl NamespacedName {
    /// Puts the two parts together.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for NamespacedName {
    type Err = ParseError;

    /// Splits at the first slash; both parts must be present.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => Ok(Self::new(namespace, name)),
            _ => Err(ParseError::new(text, "namespace/name")),
        }
    }
}

/// A host name as one namespace sees it, written `namespace/hostname`: the key of a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamespacedHostname {
    /// The namespace that defines the host name.
    pub namespace: Arc<str>,
    /// The host name.
    pub hostname: Hostname,
}

impl NamespacedHostname {
    /// Puts the two parts together.
    pub fn new(namespace: impl Into<Arc<str>>, hostname: impl Into<Hostname>) -> Self {
        Self { namespace: namespace.into(), hostname: hostname.into() }
    }
}

impl fmt::Display for NamespacedHostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.hostname)
    }
}

impl FromStr for NamespacedHostname {
    type Err = ParseError;

    /// Splits at the first slash; the rest must not hold another one.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text.split_once('/') {
            Some((namespace, host)) if !namespace.is_empty() && !host.is_empty() && !host.contains('/') => {
                Ok(Self::new(namespace, host))
            }
            _ => Err(ParseError::new(text, "namespace/hostname")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaced_names_survive_a_round_trip() {
        let name: NamespacedName = "shop/deny-all".parse().unwrap();
        assert_eq!((&*name.namespace, &*name.name), ("shop", "deny-all"));
        assert_eq!(name.to_string(), "shop/deny-all");
    }

    #[test]
    fn halves_of_a_namespaced_name_are_refused() {
        for text in ["", "shop", "/x", "shop/"] {
            assert!(text.parse::<NamespacedName>().is_err(), "{text}");
            assert!(text.parse::<NamespacedHostname>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_hostname_with_a_slash_is_refused() {
        assert!("shop/a/b".parse::<NamespacedHostname>().is_err());
    }
}
