//! Questions about identities: TokenReview and its kin, and the `token` subresource of ServiceAccounts.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::respond::{self, Body};
use super::{Call, body, method_not_allowed};
use crate::api::core::Target;
use crate::api::store::{items, text};
use crate::api::{Status, TokenRequest};

/// Answers a review.
pub(super) async fn serve(call: Call, kind: &'static str) -> Result<Response<Body>, Status> {
    if call.method != Method::POST {
        return Err(method_not_allowed());
    }
    let review = body::object(&call.headers, call.body).await?;
    let status = match kind {
        "TokenReview" => return Ok(respond::json(StatusCode::CREATED, &call.core.review(&review))),
        "SelfSubjectReview" => json!({"userInfo": call.caller}),
        // Whoever is authenticated may act.
        _ => json!({"allowed": true}),
    };
    let group = if kind == "SelfSubjectReview" { "authentication.k8s.io/v1" } else { "authorization.k8s.io/v1" };
    let answer = json!({
        "apiVersion": group, "kind": kind, "metadata": {}, "spec": review.get("spec"), "status": status,
    });
    Ok(respond::json(StatusCode::CREATED, &answer))
}

/// Signs a token for a ServiceAccount.
pub(super) async fn token(call: Call, target: Target<'_>) -> Result<Response<Body>, Status> {
    let core = Arc::clone(&call.core);
    let asked = body::object(&call.headers, call.body).await?;
    let seconds = asked.pointer("/spec/expirationSeconds").and_then(Value::as_i64).filter(|seconds| *seconds != 0);
    let reference = asked.pointer("/spec/boundObjectRef").filter(|reference| !reference.is_null());
    let pod = match reference.map(|reference| text(reference, "/kind")) {
        None => None,
        Some("Pod") => {
            let field = |name: &str| text(&asked, &format!("/spec/boundObjectRef/{name}")).to_owned();
            Some((field("name"), field("uid")))
        }
        Some(other) => return Err(Status::bad_request(format!("cannot bind token to a {other:?} object"))),
    };
    let request = TokenRequest {
        audiences: items(&asked, "/spec/audiences").filter_map(Value::as_str).map(str::to_owned).collect(),
        lifetime: seconds.map(|seconds| Duration::from_secs(seconds.try_into().unwrap_or(0))),
        pod,
    };
    let token = core.create_token(target.namespace, target.name, &request)?;
    let expires = token.expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let answer = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "metadata": {"name": target.name, "namespace": target.namespace},
        "spec": asked.get("spec"), "status": {"token": token.token, "expirationTimestamp": expires},
    });
    Ok(respond::json(StatusCode::CREATED, &answer))
}
