//! The address families of a lab, and what it does where the machine has no IPv6.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use linux::sysctl;
use serde::{Deserialize, Serialize};

/// The first two groups of all IPv6 addresses of a lab: unique local ones, RFC 4193.
const LAB: [u16; 2] = [0xfd00, 0xa];

/// One address family, as Kubernetes names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// `IPv4`.
    V4,
    /// `IPv6`.
    V6,
}

/// The families in which a lab has addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Families {
    /// IPv4 alone.
    Ipv4,
    /// Both, IPv4 first.
    #[default]
    Dual,
    /// IPv6 alone.
    Ipv6,
}

/// The addresses of one node, pod or server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The address in the lab's first family.
    pub primary: IpAddr,
    /// The address in the other family.
    pub secondary: Option<IpAddr>,
}

impl Family {
    /// The family with this name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "IPv4" => Some(Self::V4),
            "IPv6" => Some(Self::V6),
            _ => None,
        }
    }

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }

    /// `IPv4` or `IPv6`.
    pub fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Families {
    /// The families, the first one first.
    pub fn list(self) -> &'static [Family] {
        match self {
            Self::Ipv4 => &[Family::V4],
            Self::Dual => &[Family::V4, Family::V6],
            Self::Ipv6 => &[Family::V6],
        }
    }

    /// The family of what has one address.
    pub fn primary(self) -> Family {
        if self == Self::Ipv6 { Family::V6 } else { Family::V4 }
    }

    /// Whether there are addresses of that family.
    pub fn has(self, family: Family) -> bool {
        self.list().contains(&family)
    }

    /// One address in each family.
    pub fn addresses(self, address: impl Fn(Family) -> IpAddr) -> Addresses {
        let secondary = (self == Self::Dual).then(|| address(self.primary().other()));
        Addresses { primary: address(self.primary()), secondary }
    }
}

impl Addresses {
    /// All of them, the primary one first.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + use<> {
        std::iter::once(self.primary).chain(self.secondary)
    }

    /// The address of that family.
    pub fn of(&self, family: Family) -> Option<IpAddr> {
        self.iter().find(|address| Family::of(*address) == family)
    }
}

/// The cluster address with this number: below 256 for Services that ask for it.
pub fn service_address(family: Family, number: u16) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from_bits(Ipv4Addr::new(10, 96, 0, 0).to_bits() | u32::from(number)).into(),
        Family::V6 => ipv6([2, 0], number),
    }
}

/// The number of a cluster address; `None` when it is outside the range of its family.
pub fn service_number(address: IpAddr) -> Option<u16> {
    let number = match address {
        IpAddr::V4(address) => {
            let [.., high, low] = address.octets();
            u16::from_be_bytes([high, low])
        }
        IpAddr::V6(address) => {
            let [.., number] = address.segments();
            number
        }
    };
    (service_address(Family::of(address), number) == address).then_some(number)
}

/// The range of cluster addresses, for people.
pub fn service_range(family: Family) -> &'static str {
    match family {
        Family::V4 => "10.96.0.0/16",
        Family::V6 => "fd00:a:2::/112",
    }
}

/// An IPv6 address of the lab: the groups after the lab's own two, and the last one.
pub fn ipv6([third, fourth]: [u16; 2], last: u16) -> IpAddr {
    let [first, second] = LAB;
    Ipv6Addr::new(first, second, third, fourth, 0, 0, 0, last).into()
}

/// Why interfaces of the current network namespace get no IPv6 addresses; `None` when they do.
pub fn why_no_ipv6() -> Option<String> {
    ["net/ipv6/conf/all/disable_ipv6", "net/ipv6/conf/default/disable_ipv6"].into_iter().find_map(|parameter| {
        match sysctl::read(parameter) {
            Ok(value) if value == "0" => None,
            Ok(value) => Some(format!("{} is {value}", parameter.replace('/', "."))),
            Err(_absent) => Some("the kernel has no IPv6".to_owned()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_addresses_have_a_number_in_each_family() {
        for (family, number, text) in [
            (Family::V4, 1, "10.96.0.1"),
            (Family::V4, 256, "10.96.1.0"),
            (Family::V6, 10, "fd00:a:2::a"),
            (Family::V6, u16::MAX, "fd00:a:2::ffff"),
        ] {
            assert_eq!(service_address(family, number).to_string(), text);
            assert_eq!(service_number(text.parse().unwrap()), Some(number));
        }
        for foreign in ["10.97.0.1", "fd00:a:2::1:1", "fd00:a:1::1", "::1"] {
            assert_eq!(service_number(foreign.parse().unwrap()), None, "{foreign}");
        }
    }

    #[test]
    fn a_dual_lab_has_ipv4_first() {
        let addresses = Families::Dual.addresses(|family| service_address(family, 1));
        assert_eq!(addresses.iter().map(|ip| ip.to_string()).collect::<Vec<_>>(), ["10.96.0.1", "fd00:a:2::1"]);
        assert_eq!(addresses.of(Family::V6), addresses.secondary);
        assert_eq!(Families::Ipv6.addresses(|family| service_address(family, 1)).secondary, None);
    }
}
