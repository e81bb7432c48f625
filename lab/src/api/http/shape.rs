//! Which form of a response the client accepts.

use http::{HeaderMap, StatusCode, header};

use crate::api::Status;

/// The form of objects in a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// As they are.
    Plain,
    /// Rows and columns.
    Table,
    /// Only their metadata.
    Partial,
}

impl Shape {
    /// The first accepted form that the server can write.
    ///
    /// # Errors
    /// `NotAcceptable` when there is none.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Status> {
        let mut is_silent = true;
        for range in ranges(headers) {
            is_silent = false;
            let parameter = |name: &str| parameter(range, name);
            let media = range.split(';').next().unwrap_or_default().trim();
            match (media, parameter("as"), parameter("v")) {
                ("application/json", "Table", "v1") => return Ok(Self::Table),
                ("application/json", "PartialObjectMetadata" | "PartialObjectMetadataList", "v1") => {
                    return Ok(Self::Partial);
                }
                ("application/json" | "application/*" | "*/*", "", _) => return Ok(Self::Plain),
                _ => {}
            }
        }
        if is_silent {
            return Ok(Self::Plain);
        }
        let message = "only the following media types are accepted: application/json";
        Err(Status::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message))
    }
}

/// Whether the client wants discovery in one document, and in the version that we write.
pub(super) fn accepts_aggregated(headers: &HeaderMap) -> bool {
    ranges(headers).any(|range| {
        range.trim_start().starts_with("application/json")
            && parameter(range, "as") == "APIGroupDiscoveryList"
            && parameter(range, "v") == "v2"
    })
}

fn ranges(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','))
}

fn parameter<'a>(range: &'a str, name: &str) -> &'a str {
    let pairs = range.split(';').skip(1).filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(found, value)| (found.trim(), value.trim()))
        .find(|(found, _)| *found == name)
        .map_or("", |(_, value)| value)
}
