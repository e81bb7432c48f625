//! Watches over HTTP: one JSON document per line and event.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::path::Address;
use super::respond::{Body, in_version, streamed};
use super::{Call, Shape, list};
use crate::api::Status;
use crate::api::core::Target;
use crate::api::feed::{Feed, From, Step};
use crate::api::kind::Kind;
use crate::api::selector::Selector;
use crate::api::store::{Object, text};
use crate::api::table::{self, Include, partial};

/// A watch ends after so long unless the client says otherwise; clients begin again by themselves.
const LIFETIME: Duration = Duration::from_secs(45 * 60);

/// How often a client that asked for bookmarks gets one.
const BOOKMARK: Duration = Duration::from_secs(60);

struct Watch {
    feed: Feed,
    kind: &'static Kind,
    version: String,
    form: (Shape, Include),
    has_bookmarks: bool,
    /// A bookmark that ends the initial events is still to be sent.
    owes_initial_end: bool,
    next_bookmark: Instant,
    end: Instant,
    is_over: bool,
}

/// Begins a watch.
///
/// # Errors
/// `BadRequest`; `Expired` is sent as the first event, as kube-apiserver does.
pub(super) fn watch(
    call: &Call,
    address: &Address,
    selector: Selector,
    form: (Shape, Include),
) -> Result<Response<Body>, Status> {
    list::check(&call.query)?;
    let wants_initial = call.query.flag("sendInitialEvents");
    let from = match call.query.revision()? {
        // Initial events show what is newest, which is not older than any revision that a client can have.
        _ if wants_initial => From::Everything,
        None if call.query.text("sendInitialEvents") == "false" => From::Now,
        None | Some(0) => From::Everything,
        Some(revision) => From::Revision(revision),
    };
    let lifetime = call.query.number("timeoutSeconds")?.map_or(LIFETIME, Duration::from_secs).min(LIFETIME);
    let now = Instant::now();
    let feed = match Feed::new(Arc::clone(&call.core), address.kind, selector, from) {
        Ok(feed) => feed,
        Err(expired) => {
            let line = line("ERROR", &expired.to_json());
            return Ok(streamed("application/json", futures::stream::once(async { Ok(line) })));
        }
    };
    let watch = Watch {
        feed,
        kind: address.kind,
        version: address.version.clone(),
        form,
        has_bookmarks: call.query.flag("allowWatchBookmarks"),
        owes_initial_end: wants_initial,
        next_bookmark: now + BOOKMARK,
        end: now + lifetime,
        is_over: false,
    };
    let events = futures::stream::unfold(watch, |mut watch| async { watch.next().await.map(|line| (Ok(line), watch)) });
    Ok(streamed("application/json", events))
}

impl Watch {
    async fn next(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        if let (true, Some(revision)) = (self.owes_initial_end, self.feed.reached()) {
            self.owes_initial_end = false;
            return Some(self.bookmark(revision, &json!({"k8s.io/initial-events-end": "true"})));
        }
        loop {
            let wake = if self.has_bookmarks { self.next_bookmark.min(self.end) } else { self.end };
            match tokio::time::timeout_at(wake, self.feed.next()).await {
                Ok(Ok(Some(step))) => return Some(self.event(&step)),
                Ok(Ok(None)) => return None,
                Ok(Err(expired)) => {
                    self.is_over = true;
                    return Some(line("ERROR", &expired.to_json()));
                }
                Err(_elapsed) => {
                    let now = Instant::now();
                    self.next_bookmark = now + BOOKMARK;
                    self.is_over = now >= self.end;
                    match self.feed.reached().filter(|_| self.has_bookmarks) {
                        Some(revision) => return Some(self.bookmark(revision, &Value::Null)),
                        None if self.is_over => return None,
                        None => {}
                    }
                }
            }
        }
    }

    fn event(&self, step: &Step) -> Bytes {
        let (kind, object) = match step {
            Step::Added(object) => ("ADDED", object),
            Step::Modified(object) => ("MODIFIED", object),
            Step::Deleted(object) => ("DELETED", object),
        };
        let target = Target { kind: self.kind, version: &self.version, namespace: "", name: "" };
        line(kind, &self.shaped(in_version(target, object)))
    }

    fn shaped(&self, object: Object) -> Value {
        match self.form {
            (Shape::Plain, _) => Arc::unwrap_or_clone(object),
            (Shape::Partial, _) => partial(&object),
            (Shape::Table, include) => {
                let metadata = json!({"resourceVersion": text(&object, "/metadata/resourceVersion")});
                table::table(self.kind, &[object], include, &metadata)
            }
        }
    }

    fn bookmark(&self, revision: u64, annotations: &Value) -> Bytes {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if let (false, Some(fields)) = (annotations.is_null(), metadata.as_object_mut()) {
            fields.insert("annotations".into(), annotations.clone());
        }
        let mut object = json!({
            "kind": self.kind.kind, "apiVersion": self.kind.api_version(&self.version), "metadata": metadata,
        });
        // The types of some kinds do not bear the absence of a specification.
        if let (Shape::Plain, Some(fields)) = (self.form.0, object.as_object_mut()) {
            fields.insert("spec".into(), json!({}));
        }
        line("BOOKMARK", &self.shaped(object.into()))
    }
}

fn line(kind: &str, object: &Value) -> Bytes {
    let mut line = json!({"type": kind, "object": object}).to_string();
    line.push('\n');
    line.into()
}
