//! Which requests a route is for.

use envoy_types::pb::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::{self as wire, route_match::PathSpecifier};
use routing::{PathMatch, QueryMatch, QueryMatchKind, RouteMatch};

use crate::matcher;
use crate::part::{default_fraction, is_on};
use crate::place::{Place, Refused, refuse_set};

/// A `RouteMatch`.
pub(super) fn route_match(place: &Place<'_>, wire: &wire::RouteMatch) -> Result<RouteMatch, Refused> {
    let wire::RouteMatch {
        case_sensitive,
        runtime_fraction,
        headers,
        query_parameters,
        cookies,
        grpc,
        tls_context,
        dynamic_metadata,
        filter_state,
        path_specifier,
    } = wire;
    refuse_set!(place, cookies, tls_context, filter_state);
    let path = match place.field("path_specifier").need(path_specifier.as_ref())? {
        PathSpecifier::Prefix(prefix) => PathMatch::Prefix(prefix.as_str().into()),
        PathSpecifier::Path(path) => PathMatch::Exact(path.as_str().into()),
        PathSpecifier::PathSeparatedPrefix(prefix) => PathMatch::Segments(segments(place, prefix)?),
        PathSpecifier::SafeRegex(regex) => PathMatch::Pattern(matcher::pattern(&place.field("safe_regex"), regex)?),
        PathSpecifier::ConnectMatcher(wire::route_match::ConnectMatcher {}) => PathMatch::Connect,
        PathSpecifier::PathMatchPolicy(_) => return Err(place.field("path_match_policy").refuse("is not supported")),
    };
    let fraction = runtime_fraction.as_ref();
    Ok(RouteMatch {
        path,
        ignores_case: case_sensitive.is_some() && !is_on(*case_sensitive),
        headers: place.each("headers", headers, matcher::header)?,
        query: place.each("query_parameters", query_parameters, query)?,
        is_grpc: grpc.is_some(),
        fraction: fraction.map(|wire| default_fraction(&place.field("runtime_fraction"), wire)).transpose()?.flatten(),
        metadata: place.each("dynamic_metadata", dynamic_metadata, matcher::metadata)?,
    })
}

/// Envoy takes no other prefixes: without a slash at the beginning, with one at the end, or with a query none could match.
fn segments(place: &Place<'_>, prefix: &str) -> Result<Box<str>, Refused> {
    if prefix.starts_with('/') && prefix.len() > 1 && !prefix.ends_with('/') && !prefix.contains(['?', '#']) {
        return Ok(prefix.into());
    }
    Err(place.field("path_separated_prefix").refuse_found(prefix, "/, then a path that does not end with /"))
}

fn query(place: &Place<'_>, wire: &wire::QueryParameterMatcher) -> Result<QueryMatch, Refused> {
    let wire::QueryParameterMatcher { name, query_parameter_match_specifier } = wire;
    let kind = match query_parameter_match_specifier {
        None => QueryMatchKind::Present(true),
        Some(QueryParameterMatchSpecifier::PresentMatch(is_wanted)) => QueryMatchKind::Present(*is_wanted),
        Some(QueryParameterMatchSpecifier::StringMatch(text)) => {
            QueryMatchKind::Text(matcher::text(&place.field("string_match"), text)?)
        }
    };
    Ok(QueryMatch { name: name.as_str().into(), kind })
}
