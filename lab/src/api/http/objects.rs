//! Operations on objects: verbs, subresources and their results.

use std::sync::Arc;

use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::path::Address;
use super::respond::{self, Body, Listing, warn};
use super::{Call, Shape, body, exec, list, log, method_not_allowed, review, stream};
use crate::api::collect::Deleted;
use crate::api::core::{Core, Part, Target, Written};
use crate::api::selector::Selector;
use crate::api::store::{Object, key, text};
use crate::api::table::Include;
use crate::api::{DeleteOptions, Status, patch};

impl Address {
    pub(super) fn target(&self) -> Target<'_> {
        Target {
            kind: self.kind,
            version: &self.version,
            namespace: self.namespace.as_deref().unwrap_or_default(),
            name: self.name.as_deref().unwrap_or_default(),
        }
    }
}

/// Carries out a request about objects.
pub(super) async fn serve(call: Call, address: Address) -> Result<Response<Body>, Status> {
    let target = address.target();
    let sub = address.sub.as_deref();
    let part = match sub {
        None => Part::Main,
        Some("status") if target.kind.has_status => Part::Status,
        Some("scale") if target.kind.group == "apps" => return scale(call, target).await,
        Some("log") if target.kind.kind == "Pod" && call.method == Method::GET => {
            return log::serve(&call, target).await;
        }
        Some("exec") if target.kind.kind == "Pod" && [Method::GET, Method::POST].contains(&call.method) => {
            return exec::serve(call, target).await;
        }
        Some("token") if target.kind.kind == "ServiceAccount" && call.method == Method::POST => {
            return review::token(call, target).await;
        }
        Some(_) => return Err(Status::no_such_resource()),
    };
    let has_name = address.name.is_some();
    match call.method {
        Method::GET | Method::HEAD if has_name => fetch(&call, target),
        Method::GET | Method::HEAD => list_or_watch(&call, &address),
        Method::POST if !has_name => create(call, &address).await,
        Method::PUT if has_name => replace(call, target, part).await,
        Method::PATCH if has_name => change(call, target, part).await,
        Method::DELETE if has_name && part == Part::Main => delete(call, target).await,
        Method::DELETE if !has_name => delete_collection(call, &address).await,
        _ => Err(method_not_allowed()),
    }
}

fn fetch(call: &Call, target: Target<'_>) -> Result<Response<Body>, Status> {
    let shape = Shape::of(&call.headers)?;
    list::check_reached(call)?;
    let object = call.core.fetch(target)?;
    Ok(respond::object(target, &object, shape, include(call)))
}

fn include(call: &Call) -> Include {
    match call.query.text("includeObject") {
        "None" => Include::None,
        "Object" => Include::Object,
        _ => Include::Metadata,
    }
}

fn selector(call: &Call, address: &Address) -> Result<Selector, Status> {
    let (labels, fields) = (call.query.text("labelSelector"), call.query.text("fieldSelector"));
    Selector::parse(address.kind, address.namespace.as_deref(), labels, fields)
}

fn list_or_watch(call: &Call, address: &Address) -> Result<Response<Body>, Status> {
    let form = (Shape::of(&call.headers)?, include(call));
    let selector = selector(call, address)?;
    if call.query.flag("watch") {
        return stream::watch(call, address, selector, form);
    }
    list::serve(call, address, &selector, form)
}

async fn create(call: Call, address: &Address) -> Result<Response<Body>, Status> {
    let target = address.target();
    if target.kind.namespaced && address.namespace.is_none() {
        return Err(method_not_allowed());
    }
    let write = call.query.write()?;
    let object = body::object(&call.headers, call.body).await?;
    let written = call.core.create(target, object, write)?;
    let mut response = written_object(target, &written);
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

fn written_object(target: Target<'_>, written: &Written) -> Response<Body> {
    let mut response = respond::object(target, &written.object, Shape::Plain, Include::None);
    warn(&mut response, &written.warnings);
    response
}

async fn replace(call: Call, target: Target<'_>, part: Part) -> Result<Response<Body>, Status> {
    let write = call.query.write()?;
    let object = body::object(&call.headers, call.body).await?;
    let written = call.core.modify(target, part, write, |current| {
        *current = object;
        Ok(())
    })?;
    Ok(written_object(target, &written))
}

async fn change(call: Call, target: Target<'_>, part: Part) -> Result<Response<Body>, Status> {
    let write = call.query.write()?;
    let patch = body::patch(&call.headers, call.body).await?;
    let written = call.core.modify(target, part, write, |current| patch::apply(target.kind, current, &patch))?;
    Ok(written_object(target, &written))
}

async fn delete(call: Call, target: Target<'_>) -> Result<Response<Body>, Status> {
    let core = Arc::clone(&call.core);
    let (options, is_dry_run) = body::delete_options(call).await?;
    Ok(match core.delete(target, &options, is_dry_run)? {
        Deleted::Marked(object) => respond::object(target, &object, Shape::Plain, Include::None),
        Deleted::Gone(object) => {
            let details = json!({
                "name": target.name, "group": target.kind.group, "kind": target.kind.plural,
                "uid": text(&object, "/metadata/uid"),
            });
            let status =
                json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
            respond::json(StatusCode::OK, &status)
        }
    })
}

async fn delete_collection(call: Call, address: &Address) -> Result<Response<Body>, Status> {
    let selector = selector(&call, address)?;
    let core = Arc::clone(&call.core);
    let (options, is_dry_run) = body::delete_options(call).await?;
    let (objects, revision) = core.list(address.kind, &selector);
    for object in &objects {
        delete_one(&core, address, object, &options, is_dry_run)?;
    }
    let listing = Listing { revision, next: None, remaining: None };
    Ok(respond::list(address.target(), &objects, &listing, (Shape::Plain, Include::None)))
}

fn delete_one(
    core: &Core,
    address: &Address,
    object: &Object,
    options: &DeleteOptions,
    is_dry_run: bool,
) -> Result<(), Status> {
    let (namespace, name) = key(object);
    let target = Target { namespace: &namespace, name: &name, ..address.target() };
    match core.delete(target, options, is_dry_run) {
        Err(status) if !status.is_not_found() => Err(status),
        _ => Ok(()),
    }
}

/// The [Scale](https://kubernetes.io/docs/reference/kubernetes-api/autoscaling-resources/scale-v1/) of a Deployment or
/// ReplicaSet.
async fn scale(call: Call, target: Target<'_>) -> Result<Response<Body>, Status> {
    let (core, write) = (Arc::clone(&call.core), call.query.write()?);
    let current = core.fetch(target)?;
    let mut scale = scale_of(&current);
    match call.method {
        Method::GET => return Ok(respond::json(StatusCode::OK, &scale)),
        Method::PUT => scale = body::object(&call.headers, call.body).await?,
        Method::PATCH => {
            let patch = body::patch(&call.headers, call.body).await?;
            patch::apply(target.kind, &mut scale, &patch)?;
        }
        _ => return Err(method_not_allowed()),
    }
    let Some(replicas) = scale.pointer("/spec/replicas").and_then(Value::as_i64) else {
        return Err(Status::invalid("Scale.autoscaling", target.name, "spec.replicas: Required value"));
    };
    let version = text(&scale, "/metadata/resourceVersion").to_owned();
    let written = core.modify(target, Part::Main, write, |object| {
        let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"replicas": replicas}});
        patch::apply(target.kind, object, &crate::api::Patch::Merge(patch))
    })?;
    Ok(respond::json(StatusCode::OK, &scale_of(&written.object)))
}

fn scale_of(object: &Value) -> Value {
    let metadata = |field: &str| text(object, &format!("/metadata/{field}")).to_owned();
    let labels = object.pointer("/spec/selector/matchLabels").and_then(Value::as_object).into_iter().flatten();
    let selector: Vec<_> = labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": metadata("name"), "namespace": metadata("namespace"), "uid": metadata("uid"),
            "resourceVersion": metadata("resourceVersion"), "creationTimestamp": metadata("creationTimestamp"),
        },
        "spec": {"replicas": object.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0)},
        "status": {
            "replicas": object.pointer("/status/replicas").and_then(Value::as_i64).unwrap_or(0),
            "selector": selector.join(","),
        },
    })
}
