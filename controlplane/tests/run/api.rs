//! A Kubernetes API in memory, no larger than the control plane's use of it: list, watch, create, merge patch, token
//! reviews; it can be broken and mended, and kinds can be absent.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::stream;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;

type Answer = Response<UnsyncBoxBody<Bytes, std::io::Error>>;
type Future = futures::future::BoxFuture<'static, Result<Answer, Infallible>>;

/// Clones are the same API.
#[derive(Clone)]
pub(crate) struct Api {
    state: Arc<Mutex<State>>,
    /// The newest resource version, or 0 while broken: watches wait for it.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    version: u64,
    is_broken: bool,
    absent: BTreeSet<String>,
    /// By resource, namespace and name.
    objects: BTreeMap<(String, String, String), Value>,
    /// What happened, for watches: version, resource, type, object.
    log: Vec<(u64, String, &'static str, Value)>,
    /// Requests other than reads: `POST secrets ns/name`.
    writes: Vec<String>,
    /// How many single Secrets were read.
    secrets_read: usize,
}

/// What a path addresses.
struct Target {
    resource: String,
    namespace: String,
    name: Option<String>,
}

impl Api {
    pub(crate) fn new() -> Self {
        Self { state: Arc::default(), changed: watch::Sender::new(0) }
    }

    pub(crate) fn client(&self) -> kube::Client {
        kube::Client::new(self.clone(), "default")
    }

    /// Adds or replaces an object, as kubectl apply would.
    pub(crate) fn apply(&self, resource: &str, object: Value) {
        let mut state = self.state.lock().unwrap();
        let key = key(resource, &object);
        let is_new = !state.objects.contains_key(&key);
        state.put(key, object, if is_new { "ADDED" } else { "MODIFIED" });
        self.announce(&state);
    }

    /// Applies a merge patch, as kubectl patch would.
    pub(crate) fn patch(&self, resource: &str, namespace: &str, name: &str, patch: &Value) {
        let mut state = self.state.lock().unwrap();
        let key = (resource.to_owned(), namespace.to_owned(), name.to_owned());
        let mut object = state.objects[&key].clone();
        merge(&mut object, patch);
        state.put(key, object, "MODIFIED");
        self.announce(&state);
    }

    /// Takes an object away, as kubectl delete would.
    pub(crate) fn delete(&self, resource: &str, namespace: &str, name: &str) {
        let mut state = self.state.lock().unwrap();
        let key = (resource.to_owned(), namespace.to_owned(), name.to_owned());
        let mut object = state.objects.remove(&key).unwrap();
        state.version += 1;
        let version = state.version;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        state.log.push((version, key.0, "DELETED", object));
        self.announce(&state);
    }

    pub(crate) fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        let key = (resource.to_owned(), namespace.to_owned(), name.to_owned());
        self.state.lock().unwrap().objects.get(&key).cloned()
    }

    pub(crate) fn list(&self, resource: &str) -> Vec<Value> {
        let state = self.state.lock().unwrap();
        state.objects.iter().filter(|((kind, _, _), _)| kind == resource).map(|(_, object)| object.clone()).collect()
    }

    pub(crate) fn writes(&self) -> Vec<String> {
        self.state.lock().unwrap().writes.clone()
    }

    pub(crate) fn secrets_read(&self) -> usize {
        self.state.lock().unwrap().secrets_read
    }

    /// Ends every watch and fails every request, as an API server that is being replaced.
    pub(crate) fn break_down(&self) {
        self.state.lock().unwrap().is_broken = true;
        self.changed.send_replace(0);
    }

    pub(crate) fn mend(&self) {
        let mut state = self.state.lock().unwrap();
        state.is_broken = false;
        self.announce(&state);
    }

    /// Serves a kind, or no longer.
    pub(crate) fn set_absent(&self, resource: &str, is_absent: bool) {
        let mut state = self.state.lock().unwrap();
        if is_absent {
            state.absent.insert(resource.to_owned());
        } else {
            state.absent.remove(resource);
        }
    }

    fn announce(&self, state: &State) {
        self.changed.send_replace(state.version);
    }

    fn answer(&self, method: &Method, uri: &http::Uri, body: &[u8]) -> Answer {
        let mut state = self.state.lock().unwrap();
        let target = target(uri.path());
        if state.is_broken {
            return failure(StatusCode::SERVICE_UNAVAILABLE, "the API server is away");
        }
        if state.absent.contains(&target.resource) {
            return failure(StatusCode::NOT_FOUND, "the server could not find the requested resource");
        }
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        if *method != Method::GET && target.resource != "tokenreviews" {
            let name = target.name.as_deref().or_else(|| body["metadata"]["name"].as_str()).unwrap_or_default();
            state.writes.push(format!("{method} {} {}/{name}", target.resource, target.namespace));
        }
        state.secrets_read += usize::from(*method == Method::GET && target.resource == "secrets");
        let answer = match *method {
            Method::POST if target.resource == "tokenreviews" => review(&body),
            Method::POST => state.create(&target, body),
            Method::PATCH => state.merge_patch(&target, &body),
            _ if query(uri, "watch").is_some() => return self.watch(&target, uri),
            _ => state.read(&target, uri),
        };
        self.announce(&state);
        answer
    }

    fn watch(&self, target: &Target, uri: &http::Uri) -> Answer {
        let since = query(uri, "resourceVersion").and_then(|text| text.parse().ok()).unwrap_or(0);
        let (resource, name) = (target.resource.clone(), selected_name(uri));
        let api = self.clone();
        let events = stream::unfold((api, self.changed.subscribe(), since), move |(api, mut changed, since)| {
            let (resource, name) = (resource.clone(), name.clone());
            async move {
                loop {
                    if *changed.borrow_and_update() == 0 {
                        return None;
                    }
                    let (lines, newest) = api.events(&resource, name.as_deref(), since);
                    if !lines.is_empty() {
                        return Some((Ok(http_body::Frame::data(Bytes::from(lines))), (api, changed, newest)));
                    }
                    changed.changed().await.ok()?;
                }
            }
        });
        Response::new(StreamBody::new(events).boxed_unsync())
    }

    fn events(&self, resource: &str, name: Option<&str>, since: u64) -> (String, u64) {
        let state = self.state.lock().unwrap();
        let of_interest = state.log.iter().filter(|(version, kind, _, object)| {
            *version > since && kind == resource && name.is_none_or(|name| object["metadata"]["name"] == name)
        });
        let lines = of_interest.map(|(_, _, kind, object)| json!({"type": kind, "object": object}).to_string() + "\n");
        (lines.collect(), state.version)
    }
}

impl State {
    fn put(&mut self, key: (String, String, String), mut object: Value, kind: &'static str) {
        self.version += 1;
        let old = self.objects.get(&key);
        let generation = old.map_or(0, |old| old["metadata"]["generation"].as_i64().unwrap_or(0));
        let is_same = old.is_some_and(|old| old["spec"] == object["spec"]);
        let uid = old.map_or_else(|| json!(format!("uid-{}", self.version)), |old| old["metadata"]["uid"].clone());
        let metadata = &mut object["metadata"];
        metadata["resourceVersion"] = json!(self.version.to_string());
        metadata["generation"] = json!(generation + i64::from(!is_same));
        if metadata["uid"].is_null() {
            metadata["uid"] = uid;
        }
        self.objects.insert(key.clone(), object.clone());
        self.log.push((self.version, key.0, kind, object));
    }

    fn create(&mut self, target: &Target, mut object: Value) -> Answer {
        object["metadata"]["namespace"] = json!(target.namespace);
        let key = key(&target.resource, &object);
        if self.objects.contains_key(&key) {
            return failure(StatusCode::CONFLICT, "it exists already");
        }
        self.put(key.clone(), object, "ADDED");
        success(&self.objects[&key])
    }

    fn merge_patch(&mut self, target: &Target, patch: &Value) -> Answer {
        let key = (target.resource.clone(), target.namespace.clone(), target.name.clone().unwrap_or_default());
        let Some(mut object) = self.objects.get(&key).cloned() else {
            return failure(StatusCode::NOT_FOUND, "no such object");
        };
        for precondition in ["uid", "resourceVersion"] {
            let wanted = &patch["metadata"][precondition];
            if !wanted.is_null() && *wanted != object["metadata"][precondition] {
                return failure(StatusCode::CONFLICT, "the object has changed");
            }
        }
        merge(&mut object, patch);
        self.put(key.clone(), object, "MODIFIED");
        success(&self.objects[&key])
    }

    fn read(&self, target: &Target, uri: &http::Uri) -> Answer {
        if let Some(name) = &target.name {
            let key = (target.resource.clone(), target.namespace.clone(), name.clone());
            return self.objects.get(&key).map_or_else(|| failure(StatusCode::NOT_FOUND, "no such object"), success);
        }
        let name = selected_name(uri);
        let items = self.objects.iter().filter(|((resource, _, object), _)| {
            *resource == target.resource && name.as_ref().is_none_or(|name| name == object)
        });
        // As in real lists, items do not say what they are.
        let items = items.map(|(_, object)| {
            let mut object = object.clone();
            object.as_object_mut().unwrap().retain(|field, _| field != "apiVersion" && field != "kind");
            object
        });
        success(&json!({"kind": "List", "apiVersion": "v1",
            "metadata": {"resourceVersion": self.version.max(1).to_string()}, "items": items.collect::<Vec<_>>()}))
    }
}

/// Tokens are written `namespace/account[/pod/uid]`.
fn review(review: &Value) -> Answer {
    let token = review["spec"]["token"].as_str().unwrap_or_default();
    let parts: Vec<&str> = token.split('/').collect();
    let (namespace, account, extra) = match parts.as_slice() {
        [namespace, account] => (namespace, account, json!({})),
        [namespace, account, pod, uid] => (
            namespace,
            account,
            json!({"authentication.kubernetes.io/pod-name": [pod], "authentication.kubernetes.io/pod-uid": [uid]}),
        ),
        _ => return success(&json!({"metadata": {}, "spec": {"token": ""}, "status": {"authenticated": false}})),
    };
    success(&json!({"metadata": {}, "spec": {"token": ""}, "status": {
        "authenticated": true,
        "audiences": review["spec"]["audiences"],
        "user": {"username": format!("system:serviceaccount:{namespace}:{account}"), "extra": extra},
    }}))
}

impl tower_service::Service<Request<Body>> for Api {
    type Response = Answer;
    type Error = Infallible;
    type Future = Future;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Future {
        let api = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            Ok(api.answer(&head.method, &head.uri, &body))
        })
    }
}

fn target(path: &str) -> Target {
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let rest = if segments[0] == "api" { &segments[2..] } else { &segments[3..] };
    let text = |segment: &&str| (*segment).to_owned();
    match rest {
        ["namespaces", namespace, resource, name @ ..] => {
            Target { resource: text(resource), namespace: text(namespace), name: name.first().map(text) }
        }
        [resource, name @ ..] => {
            Target { resource: text(resource), namespace: String::new(), name: name.first().map(text) }
        }
        [] => panic!("nothing is asked for at {path}"),
    }
}

fn key(resource: &str, object: &Value) -> (String, String, String) {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (resource.to_owned(), text("namespace"), text("name"))
}

fn query(uri: &http::Uri, wanted: &str) -> Option<String> {
    let pairs = uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.into_iter().find(|(name, _)| *name == wanted)?.1;
    Some(value.replace("%3D", "="))
}

fn selected_name(uri: &http::Uri) -> Option<String> {
    query(uri, "fieldSelector")?.strip_prefix("metadata.name=").map(str::to_owned)
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let object = target.as_object_mut().unwrap();
    for (name, value) in fields {
        if value.is_null() {
            object.remove(name);
        } else {
            merge(object.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

fn success(object: &Value) -> Answer {
    Response::new(full(object))
}

fn failure(code: StatusCode, message: &str) -> Answer {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message,
        "reason": code.canonical_reason().unwrap_or_default().replace(" ", ""), "code": code.as_u16()});
    let mut answer = Response::new(full(&status));
    *answer.status_mut() = code;
    answer
}

fn full(body: &Value) -> UnsyncBoxBody<Bytes, std::io::Error> {
    Full::new(Bytes::from(body.to_string())).map_err(|never| match never {}).boxed_unsync()
}
