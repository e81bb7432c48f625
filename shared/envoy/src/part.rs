//! Small parts that many messages have.

use std::net::IpAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{CidrRange, RuntimeFractionalPercent};
use envoy_types::pb::envoy::r#type::v3::{FractionalPercent, fractional_percent::DenominatorType};
use envoy_types::pb::google::protobuf as wire;
use routing::Fraction;
use types::Cidr;

use crate::place::{Place, Refused};

/// A time that may be zero, and not negative.
pub(crate) fn duration(place: &Place<'_>, duration: &wire::Duration) -> Result<Duration, Refused> {
    let wire::Duration { seconds, nanos } = *duration;
    let seconds = u64::try_from(seconds).ok();
    let nanos = u32::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    match (seconds, nanos) {
        (Some(seconds), Some(nanos)) => Ok(Duration::new(seconds, nanos)),
        _ => Err(place.refuse_found(duration, "a time of zero or more")),
    }
}

/// A time, if it is set.
pub(crate) fn optional_duration(place: &Place<'_>, wire: Option<&wire::Duration>) -> Result<Option<Duration>, Refused> {
    wire.map(|wire| duration(place, wire)).transpose()
}

/// Whether a switch is on that is off where it is unset.
pub(crate) fn is_on(switch: Option<wire::BoolValue>) -> bool {
    switch.is_some_and(|switch| switch.value)
}

/// A part of all requests.
pub(crate) fn fraction(place: &Place<'_>, wire: &FractionalPercent) -> Result<Fraction, Refused> {
    let FractionalPercent { numerator, denominator } = *wire;
    let denominator = match DenominatorType::try_from(denominator) {
        Ok(DenominatorType::Hundred) => routing::Denominator::Hundred,
        Ok(DenominatorType::TenThousand) => routing::Denominator::TenThousand,
        Ok(DenominatorType::Million) => routing::Denominator::Million,
        Err(_) => return Err(place.field("denominator").refuse_found(denominator, "HUNDRED, TEN_THOUSAND or MILLION")),
    };
    Ok(Fraction { numerator, denominator })
}

/// A part of all requests that an operator could change at run time, which is what it is by default here.
pub(crate) fn default_fraction(
    place: &Place<'_>,
    wire: &RuntimeFractionalPercent,
) -> Result<Option<Fraction>, Refused> {
    let RuntimeFractionalPercent { default_value, runtime_key: _ } = wire;
    default_value.as_ref().map(|value| fraction(&place.field("default_value"), value)).transpose()
}

/// A range of addresses; bits behind its length make no difference.
pub(crate) fn range(place: &Place<'_>, wire: &CidrRange) -> Result<Cidr, Refused> {
    let CidrRange { address_prefix, prefix_len } = wire;
    let at = place.field("address_prefix");
    let address: IpAddr = address_prefix.parse().map_err(|_| at.refuse_found(address_prefix, "an IP address"))?;
    // Without a length it is Envoy's default, zero: every address.
    let length = prefix_len.map_or(0, |length| length.value);
    let at = place.field("prefix_len");
    u8::try_from(length)
        .ok()
        .and_then(|length| Cidr::new(address, length).ok())
        .ok_or_else(|| at.refuse_found(length, "at most the length of an address"))
}
