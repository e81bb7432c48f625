//! What is compared: no mesh, the ambient mesh in its forms, and sidecars.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One way from the client to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// No proxy, two nodes.
    None,
    /// No proxy, client and server on one node.
    NoneSameNode,
    /// Two node proxies, two nodes.
    AmbientL4,
    /// One node proxy between two pods of its node.
    AmbientL4SameNode,
    /// Two node proxies that make a connection between them for each connection of a client, two nodes.
    AmbientL4Cold,
    /// Two node proxies and a waypoint, two nodes.
    AmbientL7,
    /// A proxy in either pod that reads HTTP, two nodes.
    Sidecar,
    /// A proxy in either pod that copies bytes, two nodes.
    SidecarL4,
    /// A relay in either pod that does nothing else, two nodes.
    Relay,
}

/// No such mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no mode {found:?}; there are: {}", Mode::ALL.map(Mode::name).join(", "))]
pub struct UnknownMode {
    found: String,
}

impl Mode {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 9] = [
        Self::None,
        Self::NoneSameNode,
        Self::AmbientL4,
        Self::AmbientL4SameNode,
        Self::AmbientL4Cold,
        Self::AmbientL7,
        Self::Sidecar,
        Self::SidecarL4,
        Self::Relay,
    ];

    /// Those of a run that asks for none in particular.
    pub const DEFAULT: [Self; 7] = [
        Self::None,
        Self::NoneSameNode,
        Self::AmbientL4,
        Self::AmbientL4SameNode,
        Self::AmbientL7,
        Self::Sidecar,
        Self::SidecarL4,
    ];

    /// As flags, budgets and reports write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::NoneSameNode => "none-same-node",
            Self::AmbientL4 => "ambient-l4",
            Self::AmbientL4SameNode => "ambient-l4-same-node",
            Self::AmbientL4Cold => "ambient-l4-cold",
            Self::AmbientL7 => "ambient-l7",
            Self::Sidecar => "sidecar",
            Self::SidecarL4 => "sidecar-l4",
            Self::Relay => "relay",
        }
    }

    /// What stands between client and server.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::None => "no proxy; two nodes",
            Self::NoneSameNode => "no proxy; one node",
            Self::AmbientL4 => "the ztunnels of two nodes, HBONE between them",
            Self::AmbientL4SameNode => "one ztunnel between two pods of its node",
            Self::AmbientL4Cold => "the ztunnels of two more nodes, a TLS handshake for each connection",
            Self::AmbientL7 => "two ztunnels and an Envoy as waypoint that reads HTTP",
            Self::Sidecar => "an Envoy in either pod that reads HTTP, mutual TLS between them; two nodes",
            Self::SidecarL4 => "an Envoy in either pod that copies bytes, mutual TLS between them; two nodes",
            Self::Relay => "a relay in either pod that copies bytes, without encryption, identity or policy; two nodes",
        }
    }

    /// What its overhead is relative to: the same nodes without proxy.
    #[must_use]
    pub fn baseline(self) -> Option<Self> {
        match self {
            Self::None | Self::NoneSameNode => None,
            Self::AmbientL4SameNode => Some(Self::NoneSameNode),
            Self::AmbientL4 | Self::AmbientL4Cold | Self::AmbientL7 | Self::Sidecar | Self::SidecarL4 | Self::Relay => {
                Some(Self::None)
            }
        }
    }

    /// What does the same work between the same nodes, or is the least that such work takes.
    #[must_use]
    pub fn rivals(self) -> &'static [Self] {
        match self {
            Self::AmbientL4 => &[Self::Sidecar, Self::SidecarL4, Self::Relay],
            Self::AmbientL4Cold => &[Self::SidecarL4],
            Self::AmbientL7 => &[Self::Sidecar],
            Self::Sidecar | Self::SidecarL4 => &[Self::Relay],
            _ => &[],
        }
    }

    /// Whether every connection of a client begins with a TLS handshake between its proxies, also where they could do with
    /// one for many.
    #[must_use]
    pub fn is_cold(self) -> bool {
        self == Self::AmbientL4Cold
    }

    /// What its node proxies are told beyond what those of the other modes are.
    ///
    /// A tunnel carries one connection, and is no longer there for another as soon as it stands.
    #[must_use]
    pub fn proxy_settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::AmbientL4Cold => &[("POOL_MAX_STREAMS_PER_CONNECTION", "1"), ("POOL_UNUSED_RELEASE_TIMEOUT", "0s")],
            _ => &[],
        }
    }

    /// Whether an Envoy takes part.
    #[must_use]
    pub fn needs_envoy(self) -> bool {
        matches!(self, Self::AmbientL7 | Self::Sidecar | Self::SidecarL4)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        let found = Self::ALL.into_iter().find(|mode| mode.name() == text);
        found.ok_or_else(|| UnknownMode { found: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_is_found_by_the_name_that_it_is_written_with() {
        for mode in Mode::ALL {
            assert_eq!(mode.name().parse(), Ok(mode));
            assert_eq!(serde_json::to_value(mode).unwrap(), mode.name());
        }
        let default: Vec<Mode> = Mode::ALL.into_iter().filter(|mode| !mode.is_cold() && *mode != Mode::Relay).collect();
        assert_eq!(default, Mode::DEFAULT, "in the same order, without what has to be asked for");
        let error = "ambient".parse::<Mode>().unwrap_err().to_string();
        assert!(error.starts_with("no mode \"ambient\"; there are: none, none-same-node, ambient-l4,"), "{error}");
    }
}
