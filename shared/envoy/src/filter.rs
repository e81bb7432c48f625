//! What routes say about filters.

use std::collections::HashMap;

use envoy_types::pb::envoy::extensions::filters::http::cors::v3::CorsPolicy as WireCors;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::HttpFault;
use envoy_types::pb::google::protobuf::Any;
use prost::{Message, Name};
use routing::Options;

use crate::place::{Place, Refused};
use crate::{cors, fault};

/// What a route says about filters, by their names.
pub(crate) fn options(place: &Place<'_>, wire: &HashMap<String, Any>) -> Result<Options, Refused> {
    let mut options = Options::default();
    for (name, packed) in wire {
        let place = &place.key("typed_per_filter_config", name);
        match name.as_str() {
            "envoy.filters.http.cors" => options.cors = Some(cors::policy(place, &unpack::<WireCors>(place, packed)?)?),
            "envoy.filters.http.fault" => {
                options.fault = Some(fault::fault(place, &unpack::<HttpFault>(place, packed)?)?);
            }
            _ => return Err(place.refuse("is not supported")),
        }
    }
    Ok(options)
}

/// The message in an `Any`, which has to be of this type.
pub(crate) fn unpack<M: Message + Name + Default>(place: &Place<'_>, packed: &Any) -> Result<M, Refused> {
    let found = packed.type_url.rsplit_once('/').map_or(packed.type_url.as_str(), |(_, name)| name);
    if found != M::full_name() {
        return Err(place.refuse_found(found, &M::full_name()));
    }
    M::decode(packed.value.as_slice()).map_err(|error| place.refuse(error))
}
