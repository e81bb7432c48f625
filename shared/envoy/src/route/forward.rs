//! Where a route sends requests, and how.

use std::sync::Arc;

use envoy_types::pb::envoy::config::route::v3::route_action::{
    ClusterNotFoundResponseCode, ClusterSpecifier, HostRewriteSpecifier, MaxStreamDuration, UpgradeConfig,
};
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::{self, ClusterWeight};
use envoy_types::pb::envoy::config::route::v3::{RouteAction, WeightedCluster as WireWeighted, route_action};
use http::HeaderName;
use routing::{
    ClusterChoice, Denominator, Forward, Fraction, HostRewrite, Mirror, MissingCluster, PathRewrite, TimeoutPolicy,
    Upgrade, WeightedCluster, WeightedClusters,
};

use super::{hash, retry};
use crate::change::{Lists, changes};
use crate::matcher;
use crate::part::{default_fraction, is_on, optional_duration};
use crate::place::{Place, Refused, refuse_set};

/// A `RouteAction`.
#[expect(deprecated, reason = "fields that newer ones replace have to be refused by name, too")]
pub(super) fn forward(place: &Place<'_>, wire: &RouteAction) -> Result<Forward, Refused> {
    let RouteAction {
        cluster_not_found_response_code,
        metadata_match,
        prefix_rewrite,
        regex_rewrite,
        path_rewrite_policy,
        path_rewrite,
        append_x_forwarded_host,
        timeout,
        idle_timeout,
        flush_timeout,
        early_data_policy,
        retry_policy,
        retry_policy_typed_config,
        request_mirror_policies,
        priority,
        rate_limits,
        include_vh_rate_limits,
        hash_policy,
        cors,
        max_grpc_timeout,
        grpc_timeout_offset,
        upgrade_configs,
        internal_redirect_policy,
        internal_redirect_action,
        max_internal_redirects,
        hedge_policy,
        max_stream_duration,
        cluster_specifier,
        host_rewrite_specifier,
    } = wire;
    refuse_set!(
        place,
        metadata_match,
        path_rewrite_policy,
        path_rewrite,
        flush_timeout,
        early_data_policy,
        retry_policy_typed_config,
        priority,
        rate_limits,
        include_vh_rate_limits,
        cors,
        internal_redirect_policy,
        internal_redirect_action,
        max_internal_redirects,
        hedge_policy,
    );
    let time = |field, wire: &Option<_>| optional_duration(&place.field(field), wire.as_ref());
    let mut forward = Forward::to(cluster(place, cluster_specifier.as_ref())?);
    forward.missing_cluster = missing_cluster(place, *cluster_not_found_response_code)?;
    forward.path_rewrite = rewrite(place, prefix_rewrite, regex_rewrite.as_ref())?;
    forward.host_rewrite = host_rewrite_specifier.as_ref().map(|wire| host(place, wire)).transpose()?.flatten();
    forward.appends_forwarded_host = *append_x_forwarded_host;
    forward.timeouts = TimeoutPolicy {
        route: time("timeout", timeout)?.unwrap_or(Forward::DEFAULT_TIMEOUT),
        max_grpc: time("max_grpc_timeout", max_grpc_timeout)?,
        grpc_offset: time("grpc_timeout_offset", grpc_timeout_offset)?.unwrap_or_default(),
        ..TimeoutPolicy::default()
    };
    forward.idle_timeout = time("idle_timeout", idle_timeout)?;
    if let Some(wire) = max_stream_duration {
        stream_duration(&place.field("max_stream_duration"), wire, &mut forward)?;
    }
    forward.hash = place.each("hash_policy", hash_policy, hash::policy)?;
    let retry = retry_policy.as_ref().map(|wire| retry::policy(&place.field("retry_policy"), wire));
    forward.retry = retry.transpose()?.map(Arc::new);
    forward.mirrors = place.each("request_mirror_policies", request_mirror_policies, mirror)?;
    forward.upgrades = place.each("upgrade_configs", upgrade_configs, upgrade)?;
    Ok(forward)
}

fn cluster(place: &Place<'_>, wire: Option<&ClusterSpecifier>) -> Result<ClusterChoice, Refused> {
    let refuse = |field: &str| Err(place.field(field).refuse("is not supported"));
    match place.field("cluster_specifier").need(wire)? {
        ClusterSpecifier::Cluster(name) => Ok(ClusterChoice::One(name.as_str().into())),
        ClusterSpecifier::ClusterHeader(name) => Ok(ClusterChoice::FromHeader(name.as_str().into())),
        ClusterSpecifier::WeightedClusters(wire) => {
            Ok(ClusterChoice::Weighted(weighted(&place.field("weighted_clusters"), wire)?))
        }
        ClusterSpecifier::ClusterSpecifierPlugin(_) => refuse("cluster_specifier_plugin"),
        ClusterSpecifier::InlineClusterSpecifierPlugin(_) => refuse("inline_cluster_specifier_plugin"),
    }
}

#[expect(deprecated, reason = "the field that sums up the weights says nothing that they do not")]
fn weighted(place: &Place<'_>, wire: &WireWeighted) -> Result<WeightedClusters, Refused> {
    let WireWeighted { clusters, total_weight: _, runtime_key_prefix: _, random_value_specifier } = wire;
    refuse_set!(place, random_value_specifier);
    let clusters = place.each("clusters", clusters, weighted_cluster)?;
    WeightedClusters::new(clusters).map_err(|error| place.field("clusters").refuse(error))
}

fn weighted_cluster(place: &Place<'_>, wire: &ClusterWeight) -> Result<WeightedCluster, Refused> {
    let ClusterWeight {
        name,
        cluster_header,
        weight,
        metadata_match,
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        typed_per_filter_config,
        host_rewrite_specifier,
    } = wire;
    refuse_set!(place, cluster_header, metadata_match, typed_per_filter_config);
    let host_rewrite = host_rewrite_specifier.as_ref();
    let lists = Lists {
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
    };
    Ok(WeightedCluster {
        name: name.as_str().into(),
        weight: place.field("weight").need(weight.as_ref())?.value,
        changes: changes(place, lists)?,
        host_rewrite: host_rewrite.map(|wire| {
            let weighted_cluster::cluster_weight::HostRewriteSpecifier::HostRewriteLiteral(host) = wire;
            host.as_str().into()
        }),
    })
}

fn missing_cluster(place: &Place<'_>, code: i32) -> Result<MissingCluster, Refused> {
    Ok(match ClusterNotFoundResponseCode::try_from(code) {
        Ok(ClusterNotFoundResponseCode::ServiceUnavailable) => MissingCluster::Unavailable,
        Ok(ClusterNotFoundResponseCode::NotFound) => MissingCluster::NotFound,
        Ok(ClusterNotFoundResponseCode::InternalServerError) => MissingCluster::InternalError,
        Err(_) => {
            let place = place.field("cluster_not_found_response_code");
            return Err(place.refuse_found(code, "a ClusterNotFoundResponseCode"));
        }
    })
}

fn rewrite(
    place: &Place<'_>,
    prefix: &str,
    regex: Option<&envoy_types::pb::envoy::r#type::matcher::v3::RegexMatchAndSubstitute>,
) -> Result<Option<PathRewrite>, Refused> {
    match (prefix, regex) {
        ("", None) => Ok(None),
        (prefix, None) => Ok(Some(PathRewrite::Prefix(prefix.into()))),
        ("", Some(wire)) => {
            let (pattern, substitution) = matcher::substitution(&place.field("regex_rewrite"), wire)?;
            Ok(Some(PathRewrite::Pattern { pattern, substitution }))
        }
        (_, Some(_)) => Err(place.field("regex_rewrite").refuse("is set beside prefix_rewrite, expected one of them")),
    }
}

fn host(place: &Place<'_>, wire: &HostRewriteSpecifier) -> Result<Option<HostRewrite>, Refused> {
    Ok(match wire {
        HostRewriteSpecifier::HostRewriteLiteral(host) => {
            (!host.is_empty()).then(|| HostRewrite::Literal(host.as_str().into()))
        }
        HostRewriteSpecifier::HostRewriteHeader(name) => {
            let at = place.field("host_rewrite_header");
            let name = HeaderName::try_from(name).map_err(|_| at.refuse_found(name, "the name of a header"))?;
            Some(HostRewrite::FromHeader(name))
        }
        HostRewriteSpecifier::HostRewritePathRegex(wire) => {
            let (pattern, substitution) = matcher::substitution(&place.field("host_rewrite_path_regex"), wire)?;
            Some(HostRewrite::FromPath { pattern, substitution })
        }
        HostRewriteSpecifier::AutoHostRewrite(switch) if !switch.value => None,
        HostRewriteSpecifier::AutoHostRewrite(_) => {
            return Err(place.field("auto_host_rewrite").refuse("is not supported"));
        }
        HostRewriteSpecifier::HostRewrite(_) => return Err(place.field("host_rewrite").refuse("is not supported")),
    })
}

/// The limits of a stream, and those of gRPC that are set in newer fields.
fn stream_duration(place: &Place<'_>, wire: &MaxStreamDuration, forward: &mut Forward) -> Result<(), Refused> {
    let MaxStreamDuration { max_stream_duration, grpc_timeout_header_max, grpc_timeout_header_offset } = wire;
    // These limit the stream and not the wait for a response, which is another thing.
    refuse_set!(place, grpc_timeout_header_max, grpc_timeout_header_offset);
    forward.max_stream_duration = optional_duration(&place.field("max_stream_duration"), max_stream_duration.as_ref())?;
    // It takes the place of the limit of a response, as Envoy has it.
    forward.timeouts.is_replaced = forward.max_stream_duration.is_some();
    Ok(())
}

fn mirror(place: &Place<'_>, wire: &route_action::RequestMirrorPolicy) -> Result<Mirror, Refused> {
    let route_action::RequestMirrorPolicy {
        cluster,
        cluster_header,
        runtime_fraction,
        // Copies are in no trace of ours.
        trace_sampled: _,
        disable_shadow_host_suffix_append,
        request_headers_mutations,
        host_rewrite_literal,
    } = wire;
    refuse_set!(place, cluster_header, request_headers_mutations, host_rewrite_literal);
    let fraction = runtime_fraction.as_ref();
    let fraction = fraction.map(|wire| default_fraction(&place.field("runtime_fraction"), wire)).transpose()?;
    Ok(Mirror {
        cluster: cluster.as_str().into(),
        fraction: fraction.flatten().unwrap_or(Fraction { numerator: 100, denominator: Denominator::Hundred }),
        appends_shadow_to_host: !disable_shadow_host_suffix_append,
    })
}

fn upgrade(place: &Place<'_>, wire: &UpgradeConfig) -> Result<Upgrade, Refused> {
    let UpgradeConfig { upgrade_type, enabled, connect_config } = wire;
    refuse_set!(place, connect_config);
    let is_enabled = enabled.is_none() || is_on(*enabled);
    Ok(Upgrade { protocol: upgrade_type.as_str().into(), is_enabled })
}
