//! What a route says about requests of pages that another origin served.

use envoy_types::pb::envoy::config::core::v3::RuntimeFractionalPercent;
use envoy_types::pb::envoy::extensions::filters::http::cors::v3 as wire;
use http::HeaderValue;
use routing::{CorsPolicy, Fraction};

use crate::matcher;
use crate::part::{default_fraction, is_on};
use crate::place::{Place, Refused};

/// A `CorsPolicy`.
pub(crate) fn policy(place: &Place<'_>, wire: &wire::CorsPolicy) -> Result<CorsPolicy, Refused> {
    let wire::CorsPolicy {
        allow_origin_string_match,
        allow_methods,
        allow_headers,
        expose_headers,
        max_age,
        allow_credentials,
        filter_enabled,
        // What would be allowed is counted by nobody.
        shadow_enabled: _,
        allow_private_network_access,
        forward_not_matching_preflights,
    } = wire;
    let header = |field: &str, text: &str| -> Result<Option<HeaderValue>, Refused> {
        let at = place.field(field);
        let value = HeaderValue::from_str(text).map_err(|_| at.refuse_found(text, "the value of a header"))?;
        Ok((!text.is_empty()).then_some(value))
    };
    Ok(CorsPolicy {
        origins: place.each("allow_origin_string_match", allow_origin_string_match, matcher::text)?,
        methods: header("allow_methods", allow_methods)?,
        headers: header("allow_headers", allow_headers)?,
        exposed: header("expose_headers", expose_headers)?,
        max_age: header("max_age", max_age)?,
        allows_credentials: is_on(*allow_credentials),
        forwards_unmatched_preflights: forward_not_matching_preflights.is_none_or(|switch| switch.value),
        allows_private_network: is_on(*allow_private_network_access),
        enabled: enabled(&place.field("filter_enabled"), filter_enabled.as_ref())?,
    })
}

/// Everything unless told otherwise, and nothing where that is told without a number.
fn enabled(place: &Place<'_>, wire: Option<&RuntimeFractionalPercent>) -> Result<Fraction, Refused> {
    wire.map_or(Ok(Fraction::ALL), |wire| Ok(default_fraction(place, wire)?.unwrap_or_default()))
}
