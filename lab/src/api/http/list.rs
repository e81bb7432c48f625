//! Lists: which revision they show, and in which pages
//! ([semantics](https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions)).

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use http::Response;
use serde::{Deserialize, Serialize};

use super::path::Address;
use super::query::Query;
use super::respond::{self, Body, Listing};
use super::{Call, Shape};
use crate::api::Status;
use crate::api::selector::Selector;
use crate::api::store::{self, Key, Store};
use crate::api::table::Include;

/// Where a list goes on, as the `continue` parameter carries it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    /// The revision that all pages show; absent after that has become too old.
    revision: Option<u64>,
    /// The last object that was seen.
    after: Key,
}

impl Place {
    fn encode(&self) -> String {
        // Text and a number always become JSON; an empty token would end the list.
        BASE64.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    fn decode(token: &str) -> Result<Self, Status> {
        let place = BASE64.decode(token).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        place.ok_or_else(|| Status::bad_request("continue key is not valid: it was not made by this server"))
    }
}

/// Which revision a list is to show.
#[derive(Debug, PartialEq, Eq)]
enum At {
    Newest,
    NotOlderThan(u64),
    Exactly(u64),
}

/// Answers a list.
///
/// # Errors
/// `Invalid` for parameters that exclude each other, `Expired` for a revision that is no longer known, `Timeout` for one
/// that has not come yet.
pub(super) fn serve(
    call: &Call,
    address: &Address,
    selector: &Selector,
    (shape, include): (Shape, Include),
) -> Result<Response<Body>, Status> {
    check(&call.query)?;
    let limit = usize::try_from(call.query.number("limit")?.unwrap_or(0)).unwrap_or(usize::MAX);
    let place = match call.query.text("continue") {
        "" => None,
        token => Some(Place::decode(token)?),
    };
    let (mut objects, revision) = match at(&call.query, place.as_ref(), limit)? {
        At::Exactly(revision) => (at_past(call, address, selector, (revision, place.as_ref()))?, revision),
        at => {
            let (objects, revision) = call.core.list(address.kind, selector);
            match at {
                At::NotOlderThan(asked) if asked > revision => return Err(Status::not_yet(asked, revision)),
                _ => (objects, revision),
            }
        }
    };
    if let Some(place) = &place {
        objects.retain(|object| store::key(object) > place.after);
    }
    let mut listing = Listing { revision, next: None, remaining: None };
    // The newest objects at hand come whole, as from the cache of kube-apiserver.
    let is_paged = limit > 0 && limit < objects.len() && call.query.text("resourceVersion") != "0";
    if let (true, Some(last)) = (is_paged, objects.get(limit.wrapping_sub(1))) {
        let revision = place.is_none_or(|place| place.revision.is_some()).then_some(revision);
        listing.next = Some(Place { revision, after: store::key(last) }.encode());
        // How many remain in a selection is not told, as counting them is what pages shall save.
        listing.remaining = selector.is_everything().then(|| objects.len() - limit);
        objects.truncate(limit);
    }
    Ok(respond::list(address.target(), &objects, &listing, (shape, include)))
}

/// Objects at a revision. When a page's revision is forgotten, the refusal says how to go on.
fn at_past(
    call: &Call,
    address: &Address,
    selector: &Selector,
    (revision, place): (u64, Option<&Place>),
) -> Result<Vec<store::Object>, Status> {
    call.core.list_at(address.kind, selector, revision).map_err(|status| match place {
        Some(place) if status.reason == "Expired" => {
            Status::expired_page(&Place { revision: None, after: place.after.clone() }.encode())
        }
        _ => status,
    })
}

fn at(query: &Query, place: Option<&Place>, limit: usize) -> Result<At, Status> {
    let asked = query.revision()?;
    match (place, asked, query.text("resourceVersionMatch")) {
        (Some(_), Some(1..), _) => {
            Err(Status::bad_request("specifying resource version is not allowed when using continue"))
        }
        (Some(place), ..) => Ok(place.revision.map_or(At::Newest, At::Exactly)),
        (None, None | Some(0), _) => Ok(At::Newest),
        (None, Some(asked), "Exact") => Ok(At::Exactly(asked)),
        // Without a word on how to match, pages show the revision that was named.
        (None, Some(asked), "") if limit > 0 => Ok(At::Exactly(asked)),
        (None, Some(asked), _) => Ok(At::NotOlderThan(asked)),
    }
}

/// Refuses parameters of lists and watches that exclude each other
/// (`k8s.io/apimachinery/pkg/apis/meta/internalversion/validation`).
///
/// # Errors
/// `Invalid`.
pub(super) fn check(query: &Query) -> Result<(), Status> {
    let [version, initial, page] = ["resourceVersion", "sendInitialEvents", "continue"].map(|name| query.text(name));
    let (is_watch, matching) = (query.flag("watch"), query.text("resourceVersionMatch"));
    let broken = match matching {
        _ if !is_watch && !initial.is_empty() => {
            "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"
        }
        "NotOlderThan" if is_watch && initial.is_empty() => {
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is \
             provided"
        }
        "NotOlderThan" if is_watch => return Ok(()),
        _ if is_watch && !initial.is_empty() => {
            "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        }
        "" => return Ok(()),
        "Exact" | "NotOlderThan" if version.is_empty() => {
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"
        }
        "Exact" | "NotOlderThan" if !page.is_empty() => {
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided"
        }
        "Exact" if version == "0" => {
            "resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""
        }
        "Exact" | "NotOlderThan" if !is_watch => return Ok(()),
        _ => "resourceVersionMatch: Unsupported value: supported values: \"Exact\", \"NotOlderThan\"",
    };
    Err(Status::invalid("ListOptions.meta.k8s.io", "", broken))
}

/// Holds a read of one object to the oldest revision that the client bears.
///
/// # Errors
/// `BadRequest`, `Timeout`.
pub(super) fn check_reached(call: &Call) -> Result<(), Status> {
    let asked = call.query.revision()?.unwrap_or(0);
    call.core.read(|store: &Store| store.reached(asked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_that_exclude_each_other_are_refused() {
        for query in [
            "resourceVersionMatch=Exact",
            "resourceVersionMatch=NotOlderThan",
            "resourceVersionMatch=Exact&resourceVersion=0",
            "resourceVersionMatch=Newest&resourceVersion=5",
            "resourceVersionMatch=Exact&resourceVersion=5&continue=x",
            "sendInitialEvents=true",
            "watch=1&resourceVersionMatch=NotOlderThan",
            "watch=1&sendInitialEvents=true",
            "watch=1&sendInitialEvents=true&resourceVersionMatch=Exact&resourceVersion=5",
            "watch=1&resourceVersionMatch=Exact&resourceVersion=5",
        ] {
            assert_eq!(check(&Query::parse(query)).unwrap_err().reason, "Invalid", "{query}");
        }
        for query in [
            "",
            "watch=1",
            "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan",
            "resourceVersion=5&resourceVersionMatch=Exact",
            "resourceVersion=0&resourceVersionMatch=NotOlderThan&limit=2",
        ] {
            assert_eq!(check(&Query::parse(query)), Ok(()), "{query}");
        }
    }

    #[test]
    fn the_query_says_which_revision_is_shown() {
        let place = |revision| Place { revision, after: (String::new(), "a".into()) };
        for (query, page, limit, expected) in [
            ("", None, 0, At::Newest),
            ("resourceVersion=0", None, 2, At::Newest),
            ("resourceVersion=7", None, 0, At::NotOlderThan(7)),
            ("resourceVersion=7", None, 2, At::Exactly(7)),
            ("resourceVersion=7&resourceVersionMatch=NotOlderThan", None, 2, At::NotOlderThan(7)),
            ("resourceVersion=7&resourceVersionMatch=Exact", None, 0, At::Exactly(7)),
            ("", Some(place(Some(5))), 2, At::Exactly(5)),
            ("", Some(place(None)), 2, At::Newest),
        ] {
            assert_eq!(at(&Query::parse(query), page.as_ref(), limit), Ok(expected), "{query}");
        }
        assert!(at(&Query::parse("resourceVersion=7"), Some(&place(Some(5))), 0).is_err());
        assert!(at(&Query::parse("resourceVersion=x"), None, 0).is_err());
    }
}
