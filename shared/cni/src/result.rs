//! What `ADD` comes to: the addresses that a container has been given.

use std::net::IpAddr;

use serde_json::Value;

/// An address in a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assigned {
    /// The address.
    pub address: IpAddr,
    /// The length of its network's prefix.
    pub length: u8,
    /// Which of the result's interfaces has it.
    pub interface: Option<u32>,
    /// The next hop.
    pub gateway: Option<IpAddr>,
}

/// The addresses of a result, version 0.3.0 or later. What is not an address is left out.
#[must_use]
pub fn addresses(result: &Value) -> Vec<Assigned> {
    let listed = result.get("ips").and_then(Value::as_array);
    listed.into_iter().flatten().filter_map(assigned).collect()
}

fn assigned(entry: &Value) -> Option<Assigned> {
    let (address, length) = entry.get("address")?.as_str()?.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let length: u8 = length.parse().ok()?;
    (length <= longest(address)).then_some(())?;
    Some(Assigned {
        address,
        length,
        interface: entry.get("interface").and_then(Value::as_u64).and_then(|index| u32::try_from(index).ok()),
        gateway: entry.get("gateway").and_then(Value::as_str).and_then(|text| text.parse().ok()),
    })
}

fn longest(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_of_all_versions_are_read() {
        let result = json!({"cniVersion": "0.4.0", "ips": [
            {"version": "4", "interface": 2, "address": "10.1.0.5/16", "gateway": "10.1.0.1"},
            {"address": "2001:db8::2/64"},
            {"address": "10.1.0.5"}, {"address": "10.1.0.5/33"}, {"gateway": "10.1.0.1"}, 7,
        ]});
        let found = addresses(&result);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!((found[0].address.to_string().as_str(), found[0].length), ("10.1.0.5", 16));
        assert_eq!((found[0].interface, found[0].gateway), (Some(2), Some("10.1.0.1".parse().unwrap())));
        assert_eq!((found[1].address.to_string().as_str(), found[1].gateway), ("2001:db8::2", None));
        assert!(addresses(&json!({"cniVersion": "1.0.0"})).is_empty());
    }
}
