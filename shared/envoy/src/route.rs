//! Routes: which one a request takes, and what becomes of it there.

mod forward;
mod hash;
mod matching;
mod redirect;
mod retry;

use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
use envoy_types::pb::envoy::config::route::v3::{
    Decorator, DirectResponseAction, Route as WireRoute, RouteConfiguration, VirtualHost as WireHost,
    route::Action as WireAction,
};
use http::StatusCode;
use routing::{Action, Route, RouteTable, VirtualHost};

use crate::change::{Lists, changes};
use crate::filter;
use crate::place::{Place, Refused, refuse_set};

/// Longest body of an answer that a route gives itself, in bytes, unless the configuration says otherwise (Envoy's default).
const MAX_BODY: u32 = 4096;

/// The routes of a listener.
///
/// # Errors
/// What Envoy would refuse, and what is not honoured and would change what becomes of a request.
pub fn route_table(configuration: &RouteConfiguration) -> Result<RouteTable, Refused> {
    let place = &Place::root("route_config");
    let RouteConfiguration {
        name: _,
        virtual_hosts,
        vhds,
        internal_only_headers,
        response_headers_to_add,
        response_headers_to_remove,
        request_headers_to_add,
        request_headers_to_remove,
        most_specific_header_mutations_wins,
        // Clusters may come later than routes to them; what then happens is said by each route.
        validate_clusters: _,
        max_direct_response_body_size_bytes,
        cluster_specifier_plugins,
        request_mirror_policies,
        ignore_port_in_host_matching,
        vhost_header,
        ignore_path_parameters_in_path_matching,
        typed_per_filter_config,
        metadata: _,
        route_specifiers,
    } = configuration;
    refuse_set!(
        place,
        vhds,
        internal_only_headers,
        cluster_specifier_plugins,
        request_mirror_policies,
        vhost_header,
        ignore_path_parameters_in_path_matching,
        typed_per_filter_config,
        route_specifiers,
    );
    let max_body = max_direct_response_body_size_bytes.map_or(MAX_BODY, |max| max.value);
    let hosts = place.each("virtual_hosts", virtual_hosts, |place, host| virtual_host(place, host, max_body))?;
    let mut table = RouteTable::new(hosts).map_err(|error| place.field("virtual_hosts").refuse(error))?;
    table.changes = changes(
        place,
        Lists {
            request_headers_to_add,
            request_headers_to_remove,
            response_headers_to_add,
            response_headers_to_remove,
        },
    )?;
    table.ignores_port = *ignore_port_in_host_matching;
    table.most_specific_wins = *most_specific_header_mutations_wins;
    Ok(table)
}

#[expect(deprecated, reason = "fields that newer ones replace have to be refused by name, too")]
fn virtual_host(place: &Place<'_>, host: &WireHost, max_body: u32) -> Result<VirtualHost, Refused> {
    let WireHost {
        name,
        domains,
        routes,
        matcher,
        require_tls,
        // Statistics alone.
        virtual_clusters: _,
        rate_limits,
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        cors,
        typed_per_filter_config,
        include_request_attempt_count,
        include_attempt_count_in_response,
        retry_policy,
        retry_policy_typed_config,
        hedge_policy,
        include_is_timeout_retry_header,
        per_request_buffer_limit_bytes,
        request_body_buffer_limit,
        request_mirror_policies,
        metadata: _,
        route_specifiers,
    } = host;
    refuse_set!(
        place,
        matcher,
        require_tls,
        rate_limits,
        cors,
        typed_per_filter_config,
        include_attempt_count_in_response,
        retry_policy,
        retry_policy_typed_config,
        hedge_policy,
        include_is_timeout_retry_header,
        per_request_buffer_limit_bytes,
        request_body_buffer_limit,
        request_mirror_policies,
        route_specifiers,
    );
    Ok(VirtualHost {
        name: name.as_str().into(),
        domains: domains.iter().map(|domain| domain.as_str().into()).collect(),
        routes: place.each("routes", routes, |place, wire| route(place, wire, max_body))?,
        changes: changes(
            place,
            Lists {
                request_headers_to_add,
                request_headers_to_remove,
                response_headers_to_add,
                response_headers_to_remove,
            },
        )?,
        tells_attempts: *include_request_attempt_count,
    })
}

#[expect(deprecated, reason = "fields that newer ones replace have to be refused by name, too")]
fn route(place: &Place<'_>, wire: &WireRoute, max_body: u32) -> Result<Route, Refused> {
    let WireRoute {
        name,
        r#match,
        // Where the route comes from, for people.
        metadata: _,
        decorator,
        typed_per_filter_config,
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        tracing,
        per_request_buffer_limit_bytes,
        // Statistics alone.
        stat_prefix: _,
        request_body_buffer_limit,
        route_specifiers,
        action,
    } = wire;
    refuse_set!(place, tracing, per_request_buffer_limit_bytes, request_body_buffer_limit, route_specifiers);
    let at = place.field("match");
    let matches = matching::route_match(&at, at.need(r#match.as_ref())?)?;
    let action = match place.field("action").need(action.as_ref())? {
        WireAction::Route(wire) => Action::Forward(Box::new(forward::forward(&place.field("route"), wire)?)),
        WireAction::Redirect(wire) => Action::Redirect(redirect::redirect(&place.field("redirect"), wire)?),
        WireAction::DirectResponse(wire) => respond(&place.field("direct_response"), wire, max_body)?,
        WireAction::FilterAction(_) => return Err(place.field("filter_action").refuse("is not supported")),
        WireAction::NonForwardingAction(_) => {
            return Err(place.field("non_forwarding_action").refuse("is not supported"));
        }
    };
    let mut route = Route::new(name, matches, action);
    route.changes = changes(
        place,
        Lists {
            request_headers_to_add,
            request_headers_to_remove,
            response_headers_to_add,
            response_headers_to_remove,
        },
    )?;
    route.operation = decorator.as_ref().and_then(operation);
    route.options = filter::options(place, typed_per_filter_config)?;
    Ok(route)
}

fn operation(wire: &Decorator) -> Option<Box<str>> {
    // Whether the name travels on in a header is nothing that a waypoint does.
    let Decorator { operation, propagate: _ } = wire;
    (!operation.is_empty()).then(|| operation.as_str().into())
}

fn respond(place: &Place<'_>, wire: &DirectResponseAction, max_body: u32) -> Result<Action, Refused> {
    let DirectResponseAction { status, body, body_format } = wire;
    refuse_set!(place, body_format);
    let at = place.field("status");
    let code = u16::try_from(*status).ok().filter(|code| (200..600).contains(code));
    let code = code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = code.ok_or_else(|| at.refuse_found(status, "200 to 599"))?;
    let at = place.field("body");
    let body = body.as_ref().map(|body| inline(&at, body)).transpose()?.unwrap_or_default();
    if u32::try_from(body.len()).is_ok_and(|length| length <= max_body) {
        Ok(Action::Respond { status, body: body.into() })
    } else {
        Err(at.refuse(format_args!("has {} bytes, expected at most {max_body}", body.len())))
    }
}

/// What stands in the message itself: files and the environment are not for a control plane to read.
fn inline<'a>(place: &Place<'_>, source: &'a DataSource) -> Result<&'a [u8], Refused> {
    let DataSource { watched_directory, specifier } = source;
    refuse_set!(place, watched_directory);
    match place.field("specifier").need(specifier.as_ref())? {
        Specifier::InlineBytes(bytes) => Ok(bytes),
        Specifier::InlineString(text) => Ok(text.as_bytes()),
        Specifier::Filename(_) => Err(place.field("filename").refuse("is not supported")),
        Specifier::EnvironmentVariable(_) => Err(place.field("environment_variable").refuse("is not supported")),
    }
}

#[cfg(test)]
mod tests;
