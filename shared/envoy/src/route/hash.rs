//! What consistent hashing looks at.

use envoy_types::pb::envoy::config::route::v3::route_action as wire;
use envoy_types::pb::envoy::config::route::v3::route_action::hash_policy::{self, PolicySpecifier};
use routing::{CookieSource, HashPolicy, HashSource};

use crate::matcher;
use crate::part::optional_duration;
use crate::place::{Place, Refused};

/// A `HashPolicy`.
pub(super) fn policy(place: &Place<'_>, wire: &wire::HashPolicy) -> Result<HashPolicy, Refused> {
    let wire::HashPolicy { terminal, policy_specifier } = wire;
    let source = match place.field("policy_specifier").need(policy_specifier.as_ref())? {
        PolicySpecifier::Header(header) => source_header(&place.field("header"), header)?,
        PolicySpecifier::Cookie(cookie) => source_cookie(&place.field("cookie"), cookie)?,
        PolicySpecifier::QueryParameter(parameter) => HashSource::QueryParameter(parameter.name.as_str().into()),
        PolicySpecifier::ConnectionProperties(properties) if properties.source_ip => HashSource::SourceIp,
        PolicySpecifier::ConnectionProperties(_) => {
            return Err(place.field("connection_properties").refuse("names no property, expected source_ip"));
        }
        PolicySpecifier::FilterState(_) => return Err(place.field("filter_state").refuse("is not supported")),
    };
    Ok(HashPolicy { source, is_terminal: *terminal })
}

fn source_header(place: &Place<'_>, wire: &hash_policy::Header) -> Result<HashSource, Refused> {
    let hash_policy::Header { header_name, regex_rewrite } = wire;
    let rewrite = regex_rewrite.as_ref();
    let rewrite = rewrite.map(|wire| matcher::substitution(&place.field("regex_rewrite"), wire)).transpose()?;
    Ok(HashSource::Header { name: header_name.as_str().into(), rewrite })
}

fn source_cookie(place: &Place<'_>, wire: &hash_policy::Cookie) -> Result<HashSource, Refused> {
    let hash_policy::Cookie { name, ttl, path, attributes } = wire;
    let attributes = attributes.iter();
    Ok(HashSource::Cookie(CookieSource {
        name: name.as_str().into(),
        ttl: optional_duration(&place.field("ttl"), ttl.as_ref())?,
        path: path.as_str().into(),
        attributes: attributes.map(|wire| (wire.name.as_str().into(), wire.value.as_str().into())).collect(),
    }))
}
