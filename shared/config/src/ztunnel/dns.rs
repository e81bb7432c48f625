//! Name lookups of pods.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::Serialize;

use crate::{ConfigError, Knob, Lookup, ProxyConfig, table};

/// The port that the redirection rules know.
const PORT: u16 = 15053;

/// Name lookups of pods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dns {
    /// Where lookups are answered inside pods; empty when they are not.
    pub listen: Vec<SocketAddr>,
    /// The domain below which Services have their names.
    pub cluster_domain: String,
    /// The namespace that is preferred where several define a host name.
    pub preferred_namespace: Option<String>,
}

impl Dns {
    pub(super) fn read(lookup: &Lookup, proxy: &ProxyConfig) -> Result<Self, ConfigError> {
        let metadata = &proxy.proxy_metadata;
        let capture = text(lookup, &table::ISTIO_META_DNS_CAPTURE, metadata, "DNS_CAPTURE")?;
        let is_on = capture.is_none_or(|capture| capture.eq_ignore_ascii_case("true"));
        let address = text(lookup, &table::ISTIO_META_DNS_PROXY_ADDR, metadata, "DNS_PROXY_ADDR")?;
        let listen = match address {
            _ if !is_on => Vec::new(),
            None => loopback(PORT),
            Some(text) => {
                let expected = "localhost:<port> or an IP address with a port";
                let malformed = || ConfigError::malformed("DNS_PROXY_ADDR", text.clone(), expected);
                match text.strip_prefix("localhost:") {
                    Some(port) => loopback(port.parse().map_err(|_| malformed())?),
                    None => vec![text.parse().map_err(|_| malformed())?],
                }
            }
        };
        Ok(Self {
            listen,
            cluster_domain: table::CLUSTER_DOMAIN.read(lookup)?,
            preferred_namespace: table::PREFERED_SERVICE_NAMESPACE.read(lookup)?,
        })
    }
}

/// A variable, or else the entry of the proxy metadata that it overrides.
fn text(
    lookup: &Lookup,
    knob: &Knob<Option<String>>,
    metadata: &BTreeMap<String, String>,
    name: &str,
) -> Result<Option<String>, ConfigError> {
    let entry = || metadata.get(name).filter(|value| !value.is_empty()).cloned();
    Ok(knob.read(lookup)?.or_else(entry))
}

fn loopback(port: u16) -> Vec<SocketAddr> {
    let addresses = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    addresses.map(|ip| SocketAddr::new(ip, port)).to_vec()
}

#[cfg(test)]
mod tests {
    use crate::Ztunnel;

    fn listen(pairs: &[(&str, &str)]) -> Vec<String> {
        let config = Ztunnel::from(&pairs.iter().copied().collect()).unwrap();
        config.dns.listen.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn lookups_are_answered_on_both_loopback_addresses_unless_turned_off() {
        let both = ["127.0.0.1:15053", "[::1]:15053"];
        assert_eq!(listen(&[]), both);
        assert_eq!(listen(&[("ISTIO_META_DNS_CAPTURE", "TRUE")]), both);
        assert!(listen(&[("ISTIO_META_DNS_CAPTURE", "false")]).is_empty());
        assert!(listen(&[("PROXY_CONFIG", "proxyMetadata: {DNS_CAPTURE: \"no\"}")]).is_empty());
        let overridden = [("PROXY_CONFIG", "proxyMetadata: {DNS_CAPTURE: \"no\"}"), ("ISTIO_META_DNS_CAPTURE", "true")];
        assert_eq!(listen(&overridden), both);
    }

    #[test]
    fn the_address_can_be_another() {
        assert_eq!(listen(&[("ISTIO_META_DNS_PROXY_ADDR", "localhost:53")]), ["127.0.0.1:53", "[::1]:53"]);
        assert_eq!(listen(&[("PROXY_CONFIG", "proxyMetadata: {DNS_PROXY_ADDR: \"[::1]:99\"}")]), ["[::1]:99"]);
        let lookup = [("ISTIO_META_DNS_PROXY_ADDR", "here")].into_iter().collect();
        let error = Ztunnel::from(&lookup).unwrap_err().to_string();
        assert!(error.contains("DNS_PROXY_ADDR") && error.contains("localhost:<port>"), "{error}");
    }
}
