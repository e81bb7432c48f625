//! What a route says about faults that are injected on purpose.

use envoy_types::pb::envoy::extensions::filters::common::fault::v3::{self as common, fault_delay::FaultDelaySecifier};
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::{self as wire, fault_abort::ErrorType};
use envoy_types::pb::envoy::r#type::v3::FractionalPercent;
use http::StatusCode;
use routing::{Abort, AbortWith, Delay, Fault, Fraction};

use crate::matcher;
use crate::part::{duration, fraction};
use crate::place::{Place, Refused, refuse_set};

/// An `HTTPFault`.
pub(crate) fn fault(place: &Place<'_>, wire: &wire::HttpFault) -> Result<Fault, Refused> {
    let wire::HttpFault {
        delay,
        abort,
        upstream_cluster,
        headers,
        downstream_nodes,
        max_active_faults,
        response_rate_limit,
        // By these names an operator could change numbers at run time; what is configured holds here.
        delay_percent_runtime: _,
        abort_percent_runtime: _,
        delay_duration_runtime: _,
        abort_http_status_runtime: _,
        max_active_faults_runtime: _,
        response_rate_limit_percent_runtime: _,
        abort_grpc_status_runtime: _,
        // Statistics alone.
        disable_downstream_cluster_stats: _,
        filter_metadata,
    } = wire;
    refuse_set!(place, upstream_cluster, downstream_nodes, response_rate_limit, filter_metadata);
    Ok(Fault {
        delay: delay.as_ref().map(|wire| self::delay(&place.field("delay"), wire)).transpose()?,
        abort: abort.as_ref().map(|wire| self::abort(&place.field("abort"), wire)).transpose()?,
        headers: place.each("headers", headers, matcher::header)?,
        max_active: max_active_faults.map(|max| max.value),
    })
}

fn delay(place: &Place<'_>, wire: &common::FaultDelay) -> Result<(Delay, Fraction), Refused> {
    let common::FaultDelay { percentage, fault_delay_secifier } = wire;
    let delay = match place.field("fault_delay_secifier").need(fault_delay_secifier.as_ref())? {
        FaultDelaySecifier::FixedDelay(wire) => Delay::Fixed(duration(&place.field("fixed_delay"), wire)?),
        FaultDelaySecifier::HeaderDelay(_) => Delay::FromHeader,
    };
    Ok((delay, share(place, percentage.as_ref())?))
}

fn abort(place: &Place<'_>, wire: &wire::FaultAbort) -> Result<(Abort, Fraction), Refused> {
    let wire::FaultAbort { percentage, response_body, error_type } = wire;
    refuse_set!(place, response_body);
    let abort = match place.field("error_type").need(error_type.as_ref())? {
        ErrorType::HttpStatus(status) => {
            let code = u16::try_from(*status).ok().filter(|code| (200..600).contains(code));
            let code = code.and_then(|code| StatusCode::from_u16(code).ok());
            let at = place.field("http_status");
            Abort::With(AbortWith::Http(code.ok_or_else(|| at.refuse_found(status, "200 to 599"))?))
        }
        ErrorType::GrpcStatus(status) => Abort::With(AbortWith::Grpc(*status)),
        ErrorType::HeaderAbort(_) => Abort::FromHeader,
    };
    Ok((abort, share(place, percentage.as_ref())?))
}

/// Nothing unless told otherwise.
fn share(place: &Place<'_>, wire: Option<&FractionalPercent>) -> Result<Fraction, Refused> {
    let share = wire.map(|wire| fraction(&place.field("percentage"), wire));
    Ok(share.transpose()?.unwrap_or_default())
}
