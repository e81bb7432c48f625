//! Identities, names, addresses.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use types::{Authority, Cidr, Identity, NamespacedHostname, NamespacedName, NetworkAddress, TrustDomain};

pub(crate) fn run(bytes: &[u8]) {
    let text = crate::text(bytes);
    again::<Authority>(&text);
    again::<Cidr>(&text);
    again::<Identity>(&text);
    again::<NamespacedHostname>(&text);
    again::<NamespacedName>(&text);
    again::<NetworkAddress>(&text);
    again::<TrustDomain>(&text);
}

/// What is accepted is written in a way that reads as the same.
fn again<T: FromStr + Display + PartialEq + Debug>(text: &str) {
    let Ok(value) = text.parse::<T>() else { return };
    let written = value.to_string();
    assert!(written.parse::<T>().is_ok_and(|read| read == value), "{text:?} is {value:?}, written as {written:?}");
}
