//! Writes conditions and Events.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kinds::status::IstioCondition;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tracing::{debug, info};

use super::{Report, Verdict};

/// How long one write may take.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);
/// Another try for what failed.
const RETRY: Duration = Duration::from_secs(2);
/// The longest message of an Event that the API server accepts, in bytes.
const LONGEST_MESSAGE: usize = 1024;

/// Who says so.
const COMPONENT: &str = "aquifer-controlplane";

/// Writes what reports say until the publisher is gone.
pub(crate) async fn run(client: Client, mut reports: watch::Receiver<Arc<Vec<Report>>>) {
    // The object's own version that was last written about: the watch shows our own write only a moment later.
    let mut written: HashMap<(Arc<str>, &'static str), Arc<str>> = HashMap::new();
    loop {
        let current = Arc::clone(&reports.borrow_and_update());
        let due: HashSet<_> = current.iter().map(subject).collect();
        written.retain(|subject, _| due.contains(subject));
        let mut has_failed = false;
        for report in current.iter() {
            if written.get(&subject(report)) == Some(&report.resource_version) {
                continue;
            }
            if write(&client, report).await {
                written.insert(subject(report), Arc::clone(&report.resource_version));
            } else {
                has_failed = true;
            }
        }
        let changed = async {
            if has_failed {
                tokio::time::timeout(RETRY, reports.changed()).await.unwrap_or(Ok(()))
            } else {
                reports.changed().await
            }
        };
        if changed.await.is_err() {
            return;
        }
    }
}

fn subject(report: &Report) -> (Arc<str>, &'static str) {
    (Arc::clone(&report.uid), report.condition)
}

/// Whether the matter is settled: written, or the object is gone or has changed.
async fn write(client: &Client, report: &Report) -> bool {
    let writing = async {
        write_condition(client, report).await?;
        if let Some(verdict) = report.verdict.as_ref().filter(|verdict| verdict.is_complaint) {
            write_event(client, report, verdict).await?;
        }
        Ok(())
    };
    match tokio::time::timeout(WRITE_DEADLINE, writing).await {
        Ok(Ok(())) => {
            let reason = report.verdict.as_ref().map(|verdict| verdict.reason);
            debug!(object = %report.key, kind = report.kind.kind, condition = report.condition, reason, "reported");
            true
        }
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => true,
        Ok(Err(error)) => {
            info!(object = %report.key, kind = report.kind.kind, %error, "could not write the status");
            false
        }
        Err(_elapsed) => {
            info!(object = %report.key, kind = report.kind.kind, "writing the status took too long");
            false
        }
    }
}

async fn write_condition(client: &Client, report: &Report) -> kube::Result<()> {
    let version = report.kind.preferred_version();
    let resource = ApiResource {
        group: report.kind.group.to_owned(),
        version: version.to_owned(),
        api_version: report.kind.api_version(version),
        kind: report.kind.kind.to_owned(),
        plural: report.kind.plural.to_owned(),
    };
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &report.key.namespace, &resource);
    let patch = status_patch(report, Timestamp::now());
    api.patch_status(&report.key.name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop)
}

/// Replaces our condition, or takes it away, and keeps everybody else's; a list can only be patched whole.
pub(super) fn status_patch(report: &Report, now: Timestamp) -> Value {
    let old = report.present.iter().find(|present| present.kind == report.condition);
    let new = report.verdict.as_ref().map(|verdict| {
        let status = verdict.status();
        let unchanged_since = old.filter(|old| old.status == status).and_then(|old| old.last_transition_time.clone());
        IstioCondition {
            kind: report.condition.to_owned(),
            status: status.to_owned(),
            reason: verdict.reason.to_owned(),
            message: verdict.message.clone(),
            last_transition_time: Some(unchanged_since.unwrap_or(Time(now))),
            last_probe_time: None,
            observed_generation: report.generation,
        }
    });
    let others = report.present.iter().filter(|present| present.kind != report.condition);
    let conditions: Vec<&IstioCondition> = others.chain(&new).collect();
    // With the version the patch fails if the object changed meanwhile; the next report is about that.
    let mut patch =
        json!({"metadata": {"resourceVersion": &*report.resource_version}, "status": {"conditions": conditions}});
    if let (Some(addresses), Some(status)) =
        (&report.addresses, patch.pointer_mut("/status").and_then(Value::as_object_mut))
    {
        status.insert("addresses".to_owned(), addresses.clone());
    }
    patch
}

async fn write_event(client: &Client, report: &Report, verdict: &Verdict) -> kube::Result<()> {
    let events: Api<Event> = Api::namespaced(client.clone(), &report.key.namespace);
    match events.create(&PostParams::default(), &event(report, verdict, Timestamp::now())).await {
        // Said before, by this replica or another.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        outcome => outcome.map(drop),
    }
}

/// The Event's name follows from what it says, so that saying it again is a conflict instead of a flood.
pub(super) fn event(report: &Report, verdict: &Verdict, now: Timestamp) -> Event {
    let mut message = verdict.message.clone();
    let end = message.floor_char_boundary(LONGEST_MESSAGE.min(message.len()));
    message.truncate(end);
    let said = format!("{}\n{:?}\n{message}", report.uid, report.generation);
    let hash: String = Sha256::digest(said).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{hash}", report.key.name)),
            namespace: Some(report.key.namespace.to_string()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some(report.kind.api_version(report.kind.preferred_version())),
            kind: Some(report.kind.kind.to_owned()),
            namespace: Some(report.key.namespace.to_string()),
            name: Some(report.key.name.to_string()),
            uid: Some(report.uid.to_string()),
            ..ObjectReference::default()
        },
        type_: Some("Warning".to_owned()),
        reason: Some(verdict.reason.to_owned()),
        message: Some(message),
        source: Some(EventSource { component: Some(COMPONENT.to_owned()), host: None }),
        reporting_component: Some(COMPONENT.to_owned()),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        ..Event::default()
    }
}
