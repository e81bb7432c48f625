//! The rules of objects, through the in-process client.

mod deletion;
mod dual_stack;
mod objects;
mod tokens;
mod watching;

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Client, DeleteOptions, Options, Patch, Selection, Server, Status};

/// A server with the namespace `shop`.
fn server() -> Server {
    Server::new(&Options { namespaces: vec!["shop".into()], ..Options::default() }).unwrap()
}

/// An object of a typed kind from its JSON.
fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

/// A pod of the namespace `shop`, on a node if that is named.
fn pod(name: &str, node: Option<&str>) -> k8s_openapi::api::core::v1::Pod {
    object(json!({
        "metadata": {"namespace": "shop", "name": name, "labels": {"app": name}},
        "spec": {"nodeName": node, "containers": [{"name": "app", "image": "aquifer"}]},
    }))
}

/// What comes within a second.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(1), future).await.expect("it must come soon")
}
