//! How our plugin announces a new pod to the node agent: one HTTP request over a unix socket.
//!
//! Path and body are those of Istio's node agent, whose own plugin and agent could stand at either end.

mod post;

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize};

use crate::result::Assigned;

/// The socket's name in the agent's directory.
pub const SOCKET: &str = "pluginevent.sock";

/// The path of the request.
pub const PATH: &str = "/cmdadd";

/// How long the plugin waits for the agent's answer.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// A pod that has its network and nothing that runs in it yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewPod {
    /// The path of its network namespace, as the runtime sees it.
    #[serde(rename = "Netns")]
    pub netns: String,
    /// Its name.
    #[serde(rename = "PodName")]
    pub name: String,
    /// Its namespace.
    #[serde(rename = "PodNamespace")]
    pub namespace: String,
    /// Its UID, where the runtime says it: our own addition, which others ignore.
    #[serde(rename = "PodUID", default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// What it was given.
    #[serde(rename = "IPs", default, deserialize_with = "list_or_null")]
    pub addresses: Vec<Address>,
}

/// An address as Go's JSON has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Which of the result's interfaces has it.
    #[serde(rename = "Interface", default)]
    pub interface: Option<u32>,
    /// Address and mask.
    #[serde(rename = "Address")]
    pub network: Network,
    /// The next hop; empty if there is none.
    #[serde(rename = "Gateway", default)]
    pub gateway: Option<String>,
}

/// Go's `net.IPNet`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The address.
    #[serde(rename = "IP")]
    pub ip: String,
    /// The mask's bytes in base64.
    #[serde(rename = "Mask")]
    pub mask: String,
}

/// Why the agent did not take a pod in.
#[derive(Debug, thiserror::Error)]
pub enum AnnounceError {
    /// Nobody listens.
    #[error("the node agent is away: {0}")]
    Away(std::io::Error),
    /// It listens and does not answer.
    #[error("the node agent does not answer: {0}")]
    Silent(String),
    /// It said no, and why.
    #[error("{0}")]
    Refused(String),
}

/// Announces a pod and waits until the agent has dealt with it, for [`DEADLINE`] at most.
///
/// # Errors
/// The pod is not in the mesh, and may have to be.
pub fn announce(socket: &Path, pod: &NewPod) -> Result<(), AnnounceError> {
    post::post(socket, serde_json::to_vec(pod).unwrap_or_default(), DEADLINE)
}

impl NewPod {
    /// The addresses; what is not one is left out.
    #[must_use]
    pub fn ips(&self) -> Vec<IpAddr> {
        self.addresses.iter().filter_map(|address| address.network.ip.parse().ok()).collect()
    }
}

impl From<Assigned> for Address {
    fn from(assigned: Assigned) -> Self {
        Self {
            interface: assigned.interface,
            network: Network {
                ip: assigned.address.to_string(),
                mask: STANDARD.encode(mask(assigned.address, assigned.length)),
            },
            gateway: Some(assigned.gateway.map(|gateway| gateway.to_string()).unwrap_or_default()),
        }
    }
}

fn mask(address: IpAddr, length: u8) -> Vec<u8> {
    let shift = |bits: u8| u32::from(bits.saturating_sub(length));
    match address {
        IpAddr::V4(_) => u32::MAX.checked_shl(shift(32)).unwrap_or(0).to_be_bytes().to_vec(),
        IpAddr::V6(_) => u128::MAX.checked_shl(shift(128)).unwrap_or(0).to_be_bytes().to_vec(),
    }
}

/// Go writes an empty list as `null`.
fn list_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Address>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> NewPod {
        let assigned = |text: &str, length, gateway: Option<&str>| Assigned {
            address: text.parse().unwrap(),
            length,
            interface: Some(2),
            gateway: gateway.map(|text| text.parse().unwrap()),
        };
        NewPod {
            netns: "/var/run/netns/cni-1".to_owned(),
            name: "cart".to_owned(),
            namespace: "shop".to_owned(),
            uid: None,
            addresses: vec![
                assigned("10.1.0.5", 24, Some("10.1.0.1")).into(),
                assigned("fd00::2", 64, None).into(),
                assigned("10.1.0.6", 0, None).into(),
            ],
        }
    }

    #[test]
    fn the_body_is_that_of_the_reference() {
        let expected = concat!(
            r#"{"Netns":"/var/run/netns/cni-1","PodName":"cart","PodNamespace":"shop","IPs":["#,
            r#"{"Interface":2,"Address":{"IP":"10.1.0.5","Mask":"////AA=="},"Gateway":"10.1.0.1"},"#,
            r#"{"Interface":2,"Address":{"IP":"fd00::2","Mask":"//////////8AAAAAAAAAAA=="},"Gateway":""},"#,
            r#"{"Interface":2,"Address":{"IP":"10.1.0.6","Mask":"AAAAAA=="},"Gateway":""}]}"#,
        );
        assert_eq!(serde_json::to_string(&pod()).unwrap(), expected);
        assert_eq!(serde_json::from_str::<NewPod>(expected).unwrap(), pod());
    }

    #[test]
    fn what_go_leaves_out_is_read_as_nothing() {
        let text = r#"{"Netns":"/n","PodName":"cart","PodNamespace":"shop","IPs":null,"More":1}"#;
        assert!(serde_json::from_str::<NewPod>(text).unwrap().ips().is_empty());
        let text = r#"{"Netns":"/n","PodName":"p","PodNamespace":"s","IPs":[{"Interface":null,"Address":{"IP":"::1","Mask":""},"Gateway":null}]}"#;
        assert_eq!(serde_json::from_str::<NewPod>(text).unwrap().ips(), ["::1".parse::<IpAddr>().unwrap()]);
    }
}
