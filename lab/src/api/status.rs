//! Failures as Kubernetes tells them: the `Status` object with code, reason and a message that kubectl users know.

use http::StatusCode;
use serde_json::{Value, json};

/// A refusal: an HTTP status, a machine-readable reason and a message.
/// [API conventions](https://github.com/kubernetes/community/blob/main/contributors/devel/sig-architecture/api-conventions.md#response-status-kind).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// The HTTP status.
    pub code: StatusCode,
    /// The reason, such as `NotFound`.
    pub reason: &'static str,
    /// The sentence shown to the user.
    pub message: String,
    /// Fields of the `Status` object beyond those: `details`, `metadata`.
    more: Option<Box<Value>>,
}

impl Status {
    /// A refusal without details.
    pub fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), more: None }
    }

    /// 400: the request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// 401: no token, or one that is unknown, expired or revoked.
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    /// 403: `resource` may not be acted on, because of `why`.
    pub fn forbidden(resource: &str, name: &str, why: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", format!("{resource} {name:?} is forbidden: {why}"))
            .about(resource, name)
    }

    /// 404 for an object; `resource` is the plural name with its group (`deployments.apps`).
    pub fn not_found(resource: &str, name: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", format!("{resource} {name:?} not found")).about(resource, name)
    }

    /// 404 for a path that is no resource.
    pub fn no_such_resource() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", "the server could not find the requested resource")
    }

    /// 409: an object of this name exists.
    pub fn already_exists(resource: &str, name: &str) -> Self {
        Self::new(StatusCode::CONFLICT, "AlreadyExists", format!("{resource} {name:?} already exists"))
            .about(resource, name)
    }

    /// 409: the object is not as the caller believes.
    pub fn conflict(resource: &str, name: &str, why: impl std::fmt::Display) -> Self {
        let message = format!("Operation cannot be fulfilled on {resource} {name:?}: {why}");
        Self::new(StatusCode::CONFLICT, "Conflict", message).about(resource, name)
    }

    /// 410: the resource version is older than the kept history; the client must list anew.
    pub fn expired(asked: u64, oldest: u64) -> Self {
        Self::new(StatusCode::GONE, "Expired", format!("too old resource version: {asked} ({oldest})"))
    }

    /// 410: the revision at which a list began is no longer known. The rest can be had with `token`, as it is now.
    pub(crate) fn expired_page(token: &str) -> Self {
        let message = "The provided continue parameter is too old to display a consistent list result. You can start \
                       a new list without the continue parameter, or use the continue token in this response to \
                       retrieve the remainder of the results. Continuing with the provided token results in an \
                       inconsistent list - objects that were created, modified, or deleted between the time the first \
                       chunk was returned and now may show up in the list.";
        Self::new(StatusCode::GONE, "Expired", message).with("metadata", json!({"continue": token}))
    }

    /// 504: the resource version has not come yet, or is another server's.
    pub(crate) fn not_yet(asked: u64, current: u64) -> Self {
        let message = format!("Too large resource version: {asked}, current: {current}");
        let cause = json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
        Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message)
            .with("details", json!({"causes": [cause], "retryAfterSeconds": 1}))
    }

    /// 415: a body of this media type is not read.
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    /// 422: the object breaks a rule; `resource` is the kind with its group (`Deployment.apps`).
    pub fn invalid(resource: &str, name: &str, why: impl std::fmt::Display) -> Self {
        let why = why.to_string();
        let message = format!("{resource} {name:?} is invalid: {why}");
        let mut status = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message).about(resource, name);
        // kubectl shows nothing but the causes.
        let (field, said) = why.split_once(": ").filter(|(field, _)| !field.contains(' ')).unwrap_or(("", &why));
        let cause = json!({"reason": "FieldValueInvalid", "field": field, "message": said});
        if let Some(Value::Object(details)) = status.more.as_deref_mut().and_then(|more| more.get_mut("details")) {
            details.insert("causes".into(), json!([cause]));
        }
        status
    }

    /// 503: what would answer is not there yet.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
    }

    /// Whether the object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.reason == "NotFound"
    }

    /// Whether an object of this name exists already.
    pub fn is_already_exists(&self) -> bool {
        self.reason == "AlreadyExists"
    }

    /// Whether the object changed since it was read: read it again and retry.
    pub fn is_conflict(&self) -> bool {
        self.reason == "Conflict"
    }

    /// The `Status` object.
    pub fn to_json(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code.as_u16(),
        });
        if let (Some(Value::Object(more)), Some(object)) = (self.more.as_deref(), status.as_object_mut()) {
            object.extend(more.clone());
        }
        status
    }

    fn with(mut self, field: &str, value: Value) -> Self {
        self.more = Some(Box::new(json!({field: value})));
        self
    }

    /// Adds the resource (`plural.group`) and the name to the details.
    fn about(self, resource: &str, name: &str) -> Self {
        let (kind, group) = resource.split_once('.').unwrap_or((resource, ""));
        let mut details = json!({"name": name, "kind": kind});
        if let (false, Some(object)) = (group.is_empty(), details.as_object_mut()) {
            object.insert("group".into(), group.into());
        }
        self.with("details", details)
    }
}
