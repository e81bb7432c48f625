//! When requests are sent again.

use std::num::NonZeroU32;

use envoy_types::pb::envoy::config::route::v3 as wire;
use envoy_types::pb::envoy::config::route::v3::retry_policy::{RetryPriority, retry_priority};
use envoy_types::pb::envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;
use prost::Message;
use routing::{BackOff, RateLimitedBackOff, ResetFormat, RetryOn, RetryPolicy};

use crate::matcher;
use crate::part::{duration, optional_duration};
use crate::place::{Place, Refused, refuse_set};

/// Not to send a request to an endpoint again that it was sent to.
const PREVIOUS_HOSTS: &str = "envoy.retry_host_predicates.previous_hosts";
/// To try other priorities first.
const PREVIOUS_PRIORITIES: &str = "envoy.retry_priorities.previous_priorities";

/// A `RetryPolicy`.
pub(super) fn policy(place: &Place<'_>, wire: &wire::RetryPolicy) -> Result<RetryPolicy, Refused> {
    let wire::RetryPolicy {
        retry_on,
        num_retries,
        per_try_timeout,
        per_try_idle_timeout,
        retry_priority,
        retry_host_predicate,
        retry_options_predicates,
        host_selection_retry_max_attempts,
        retriable_status_codes,
        retry_back_off,
        rate_limited_retry_back_off,
        retriable_headers,
        retriable_request_headers,
        refresh_cluster_on_retry,
    } = wire;
    refuse_set!(place, retry_options_predicates, refresh_cluster_on_retry);
    // Envoy takes no offence at names that it does not know, and control planes count on that.
    let (on, _unknown) = RetryOn::parse(retry_on);
    let time = |field, wire: &Option<_>| optional_duration(&place.field(field), wire.as_ref());
    let codes = retriable_status_codes.iter().map(|code| u16::try_from(*code));
    let at = place.field("host_selection_retry_max_attempts");
    let attempts = u32::try_from(*host_selection_retry_max_attempts);
    let default = RetryPolicy::default();
    Ok(RetryPolicy {
        on,
        max_retries: num_retries.map_or(default.max_retries, |number| number.value),
        per_try_timeout: time("per_try_timeout", per_try_timeout)?.unwrap_or_default(),
        per_try_idle_timeout: time("per_try_idle_timeout", per_try_idle_timeout)?.unwrap_or_default(),
        status_codes: codes
            .collect::<Result<_, _>>()
            .map_err(|_| place.field("retriable_status_codes").refuse_found(retriable_status_codes, "statuses"))?,
        headers: place.each("retriable_headers", retriable_headers, matcher::header)?,
        request_headers: place.each("retriable_request_headers", retriable_request_headers, matcher::header)?,
        back_off: retry_back_off
            .as_ref()
            .map_or(Ok(default.back_off), |wire| back_off(&place.field("retry_back_off"), wire))?,
        rate_limited_back_off: rate_limited_retry_back_off
            .as_ref()
            .map(|wire| rate_limited(&place.field("rate_limited_retry_back_off"), wire))
            .transpose()?,
        avoids_previous_hosts: avoids_previous_hosts(place, retry_host_predicate)?,
        host_selection_attempts: attempts
            .map_err(|_| at.refuse_found(host_selection_retry_max_attempts, "a small number"))?
            .max(default.host_selection_attempts),
        avoids_previous_priorities: retry_priority
            .as_ref()
            .map(|wire| priority(&place.field("retry_priority"), wire))
            .transpose()?,
        hedges_on_per_try_timeout: false,
    })
}

fn back_off(place: &Place<'_>, wire: &wire::retry_policy::RetryBackOff) -> Result<BackOff, Refused> {
    let wire::retry_policy::RetryBackOff { base_interval, max_interval } = wire;
    let at = place.field("base_interval");
    let base = duration(&at, at.need(base_interval.as_ref())?)?;
    Ok(BackOff::new(base, optional_duration(&place.field("max_interval"), max_interval.as_ref())?))
}

fn rate_limited(
    place: &Place<'_>,
    wire: &wire::retry_policy::RateLimitedRetryBackOff,
) -> Result<RateLimitedBackOff, Refused> {
    let wire::retry_policy::RateLimitedRetryBackOff { reset_headers, max_interval } = wire;
    let headers = place.each("reset_headers", reset_headers, |place, header| {
        let format = match wire::retry_policy::ResetHeaderFormat::try_from(header.format) {
            Ok(wire::retry_policy::ResetHeaderFormat::Seconds) => ResetFormat::Seconds,
            Ok(wire::retry_policy::ResetHeaderFormat::UnixTimestamp) => ResetFormat::UnixTimestamp,
            Err(_) => return Err(place.field("format").refuse_found(header.format, "a ResetHeaderFormat")),
        };
        Ok((header.name.as_str().into(), format))
    })?;
    let max = optional_duration(&place.field("max_interval"), max_interval.as_ref())?;
    Ok(RateLimitedBackOff { headers, max: max.unwrap_or(RateLimitedBackOff::DEFAULT_MAX) })
}

fn avoids_previous_hosts(
    place: &Place<'_>,
    predicates: &[wire::retry_policy::RetryHostPredicate],
) -> Result<bool, Refused> {
    place.each("retry_host_predicate", predicates, |place, predicate| {
        let is_known = predicate.name == PREVIOUS_HOSTS;
        if is_known { Ok(()) } else { Err(place.field("name").refuse_found(&predicate.name, PREVIOUS_HOSTS)) }
    })?;
    Ok(!predicates.is_empty())
}

fn priority(place: &Place<'_>, wire: &RetryPriority) -> Result<NonZeroU32, Refused> {
    let RetryPriority { name, config_type } = wire;
    if name != PREVIOUS_PRIORITIES {
        return Err(place.field("name").refuse_found(name, PREVIOUS_PRIORITIES));
    }
    let at = place.field("typed_config");
    let retry_priority::ConfigType::TypedConfig(packed) = at.need(config_type.as_ref())?;
    let config = PreviousPrioritiesConfig::decode(packed.value.as_slice()).map_err(|error| at.refuse(error))?;
    let frequency = u32::try_from(config.update_frequency).ok().and_then(NonZeroU32::new);
    frequency.ok_or_else(|| at.field("update_frequency").refuse_found(config.update_frequency, "1 or more"))
}
