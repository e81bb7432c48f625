//! What is changed about headers.

use envoy_types::pb::envoy::config::core::v3::{
    HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction,
};
use routing::{AppendAction, Changes, Format, HeaderAddition, HeaderChanges};

use crate::place::{Place, Refused};

/// The four lists of changes that messages about routes have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lists<'a> {
    pub(crate) request_headers_to_add: &'a [HeaderValueOption],
    pub(crate) request_headers_to_remove: &'a [String],
    pub(crate) response_headers_to_add: &'a [HeaderValueOption],
    pub(crate) response_headers_to_remove: &'a [String],
}

/// What becomes of requests and responses.
pub(crate) fn changes(place: &Place<'_>, lists: Lists<'_>) -> Result<Changes, Refused> {
    let request = ("request_headers_to_add", lists.request_headers_to_add);
    let response = ("response_headers_to_add", lists.response_headers_to_add);
    Ok(Changes {
        request: one_way(place, request, ("request_headers_to_remove", lists.request_headers_to_remove))?,
        response: one_way(place, response, ("response_headers_to_remove", lists.response_headers_to_remove))?,
    })
}

fn one_way(
    place: &Place<'_>,
    (add_field, add): (&str, &[HeaderValueOption]),
    (remove_field, remove): (&str, &[String]),
) -> Result<HeaderChanges, Refused> {
    let add = place.each(add_field, add, addition)?;
    let remove = remove.iter().map(String::as_str);
    HeaderChanges::new(add, remove).map_err(|error| place.field(remove_field).refuse(error))
}

#[expect(deprecated, reason = "control planes may still send the field that append_action replaces")]
fn addition(place: &Place<'_>, wire: &HeaderValueOption) -> Result<HeaderAddition, Refused> {
    let HeaderValueOption { header, append, append_action, keep_empty_value } = wire;
    let at = place.field("header");
    let HeaderValue { key, value, raw_value } = at.need(header.as_ref())?;
    at.field("raw_value").need_unset(raw_value)?;
    let action = match append {
        Some(append) if append.value => AppendAction::AppendIfExistsOrAdd,
        Some(_) => AppendAction::OverwriteIfExistsOrAdd,
        None => action_of(&place.field("append_action"), *append_action)?,
    };
    let value = Format::parse(value).map_err(|error| at.field("value").refuse(error))?;
    HeaderAddition::new(key, value, action, *keep_empty_value).map_err(|error| at.field("key").refuse(error))
}

fn action_of(place: &Place<'_>, action: i32) -> Result<AppendAction, Refused> {
    Ok(match HeaderAppendAction::try_from(action) {
        Ok(HeaderAppendAction::AppendIfExistsOrAdd) => AppendAction::AppendIfExistsOrAdd,
        Ok(HeaderAppendAction::AddIfAbsent) => AppendAction::AddIfAbsent,
        Ok(HeaderAppendAction::OverwriteIfExistsOrAdd) => AppendAction::OverwriteIfExistsOrAdd,
        Ok(HeaderAppendAction::OverwriteIfExists) => AppendAction::OverwriteIfExists,
        Err(_) => return Err(place.refuse_found(action, "a HeaderAppendAction")),
    })
}
