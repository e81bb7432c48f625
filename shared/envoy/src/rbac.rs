//! Who may do what.

use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::config::rbac::v3::principal::{Authenticated, Identifier};
use envoy_types::pb::envoy::config::rbac::v3::{
    self as wire, MetadataSource, Permission, Principal, SourcedMetadata, permission::Rule, rbac,
};
use envoy_types::pb::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use envoy_types::pb::envoy::r#type::matcher::v3::{FilterStateMatcher, filter_state_matcher::Matcher};
use envoy_types::pb::envoy::r#type::v3::Int32Range;
use routing::MetadataMatch;
use routing::rbac::{Action, Condition, PathTemplate, Policy, Rules};

use crate::filter::unpack;
use crate::place::{Place, Refused, refuse_set};
use crate::{matcher, part};

/// The rules of an RBAC filter, for requests or for connections.
///
/// # Errors
/// What Envoy would refuse, and what is not honoured and would change who may do what.
pub fn rules(wire: &wire::Rbac) -> Result<Rules, Refused> {
    let place = &Place::root("rules");
    let wire::Rbac { action, policies, audit_logging_options } = wire;
    refuse_set!(place, audit_logging_options);
    let action = match rbac::Action::try_from(*action) {
        Ok(rbac::Action::Allow) => Action::Allow,
        Ok(rbac::Action::Deny) => Action::Deny,
        Ok(rbac::Action::Log) => Action::Log,
        Err(_) => return Err(place.field("action").refuse_found(action, "ALLOW, DENY or LOG")),
    };
    let policies = policies.iter().map(|(name, wire)| {
        let policy = policy(&place.key("policies", name), wire)?;
        Ok((name.as_str().into(), policy))
    });
    Ok(Rules { action, policies: policies.collect::<Result<_, _>>()? })
}

fn policy(place: &Place<'_>, wire: &wire::Policy) -> Result<Policy, Refused> {
    let wire::Policy { permissions, principals, condition, checked_condition, cel_config } = wire;
    refuse_set!(place, condition, checked_condition, cel_config);
    Ok(Policy {
        permissions: place.each("permissions", permissions, permission)?,
        principals: place.each("principals", principals, principal)?,
    })
}

#[expect(deprecated, reason = "control planes still send the field that sourced_metadata replaces")]
fn permission(place: &Place<'_>, wire: &Permission) -> Result<Condition, Refused> {
    let Permission { rule } = wire;
    Ok(match place.field("rule").need(rule.as_ref())? {
        Rule::AndRules(set) => Condition::And(place.field("and_rules").each("rules", &set.rules, permission)?),
        Rule::OrRules(set) => Condition::Or(place.field("or_rules").each("rules", &set.rules, permission)?),
        Rule::NotRule(rule) => Condition::Not(Box::new(permission(&place.field("not_rule"), rule)?)),
        Rule::Any(any) => anything(&place.field("any"), *any)?,
        Rule::Header(wire) => Condition::Header(matcher::header(&place.field("header"), wire)?),
        Rule::UrlPath(wire) => Condition::UrlPath(matcher::path(&place.field("url_path"), wire)?),
        Rule::DestinationIp(wire) => Condition::DestinationIp(part::range(&place.field("destination_ip"), wire)?),
        Rule::DestinationPort(port) => {
            let port = self::port(&place.field("destination_port"), i64::from(*port))?;
            Condition::DestinationPort(port..=port)
        }
        Rule::DestinationPortRange(range) => ports(&place.field("destination_port_range"), *range)?,
        Rule::Metadata(wire) => Condition::Metadata(matcher::metadata(&place.field("metadata"), wire)?),
        Rule::SourcedMetadata(wire) => Condition::Metadata(sourced(&place.field("sourced_metadata"), wire)?),
        Rule::RequestedServerName(wire) => {
            Condition::RequestedServerName(matcher::text(&place.field("requested_server_name"), wire)?)
        }
        Rule::UriTemplate(wire) => template(&place.field("uri_template"), wire)?,
        Rule::Matcher(_) => return Err(place.field("matcher").refuse("is not supported")),
    })
}

#[expect(deprecated, reason = "control planes still send the fields that newer ones replace")]
fn principal(place: &Place<'_>, wire: &Principal) -> Result<Condition, Refused> {
    let Principal { identifier } = wire;
    Ok(match place.field("identifier").need(identifier.as_ref())? {
        Identifier::AndIds(set) => Condition::And(place.field("and_ids").each("ids", &set.ids, principal)?),
        Identifier::OrIds(set) => Condition::Or(place.field("or_ids").each("ids", &set.ids, principal)?),
        Identifier::NotId(id) => Condition::Not(Box::new(principal(&place.field("not_id"), id)?)),
        Identifier::Any(any) => anything(&place.field("any"), *any)?,
        Identifier::Authenticated(Authenticated { principal_name }) => {
            let place = place.field("authenticated").field("principal_name").to_string();
            let place = Place::root(&place);
            Condition::Authenticated(principal_name.as_ref().map(|wire| matcher::text(&place, wire)).transpose()?)
        }
        Identifier::SourceIp(wire) => Condition::SourceIp(part::range(&place.field("source_ip"), wire)?),
        Identifier::DirectRemoteIp(wire) => Condition::SourceIp(part::range(&place.field("direct_remote_ip"), wire)?),
        Identifier::RemoteIp(wire) => Condition::RemoteIp(part::range(&place.field("remote_ip"), wire)?),
        Identifier::Header(wire) => Condition::Header(matcher::header(&place.field("header"), wire)?),
        Identifier::UrlPath(wire) => Condition::UrlPath(matcher::path(&place.field("url_path"), wire)?),
        Identifier::Metadata(wire) => Condition::Metadata(matcher::metadata(&place.field("metadata"), wire)?),
        Identifier::SourcedMetadata(wire) => Condition::Metadata(sourced(&place.field("sourced_metadata"), wire)?),
        Identifier::FilterState(wire) => filter_state(&place.field("filter_state"), wire)?,
        Identifier::Custom(_) => return Err(place.field("custom").refuse("is not supported")),
    })
}

/// Envoy knows no "nothing" here.
fn anything(place: &Place<'_>, any: bool) -> Result<Condition, Refused> {
    if any { Ok(Condition::Any) } else { Err(place.refuse_found(any, "true")) }
}

fn port(place: &Place<'_>, port: i64) -> Result<u16, Refused> {
    u16::try_from(port).map_err(|_| place.refuse_found(port, "a port"))
}

/// Ports from a first one to before a last one.
fn ports(place: &Place<'_>, wire: Int32Range) -> Result<Condition, Refused> {
    let Int32Range { start, end } = wire;
    if start >= end {
        return Err(place.refuse_found((start, end), "a start before the end"));
    }
    let first = port(&place.field("start"), i64::from(start))?;
    let last = port(&place.field("end"), i64::from(end) - 1)?;
    Ok(Condition::DestinationPort(first..=last))
}

/// Metadata of requests alone: what is written at routes is not kept.
fn sourced(place: &Place<'_>, wire: &SourcedMetadata) -> Result<MetadataMatch, Refused> {
    let SourcedMetadata { metadata_matcher, metadata_source } = wire;
    let source = place.field("metadata_source");
    if *metadata_source != i32::from(MetadataSource::Dynamic) {
        return Err(source.refuse_found(metadata_source, "DYNAMIC"));
    }
    let place = place.field("metadata_matcher");
    matcher::metadata(&place, place.need(metadata_matcher.as_ref())?)
}

fn filter_state(place: &Place<'_>, wire: &FilterStateMatcher) -> Result<Condition, Refused> {
    let FilterStateMatcher { key, matcher } = wire;
    match place.field("matcher").need(matcher.as_ref())? {
        Matcher::StringMatch(wire) => {
            let text = matcher::text(&place.field("string_match"), wire)?;
            Ok(Condition::FilterState { key: key.as_str().into(), text })
        }
        Matcher::AddressMatch(_) => Err(place.field("address_match").refuse("is not supported")),
    }
}

fn template(place: &Place<'_>, wire: &TypedExtensionConfig) -> Result<Condition, Refused> {
    let TypedExtensionConfig { name: _, typed_config } = wire;
    let place = place.field("typed_config");
    let wire: UriTemplateMatchConfig = unpack(&place, place.need(typed_config.as_ref())?)?;
    let template = PathTemplate::parse(&wire.path_template);
    Ok(Condition::UriTemplate(template.map_err(|error| place.field("path_template").refuse(error))?))
}
