//! A node proxy's configuration dump, as far as people look at it; what is not named here stays in the raw JSON.
//!
//! Dumps of other ambient node proxies have the same keys, some of them maps instead of lists; both are read.

mod merge;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// One dump, or several merged into one.
#[derive(Debug, Default)]
pub(crate) struct Dump {
    pub(crate) workloads: Vec<Entry<Workload>>,
    pub(crate) services: Vec<Entry<Service>>,
    pub(crate) policies: Vec<Entry<Policy>>,
    pub(crate) certificates: Vec<Entry<Certificate>>,
    /// The pods that the proxies serve, by UID.
    pub(crate) pods: BTreeMap<String, Entry<Pod>>,
    /// Everything else; empty when several were merged.
    pub(crate) rest: Map<String, Value>,
    /// What the merged dumps do not agree on, in words.
    pub(crate) disagreements: BTreeSet<String>,
}

/// One item: what is shown of it, and all that the proxy said.
#[derive(Debug, Clone)]
pub(crate) struct Entry<T> {
    pub(crate) item: T,
    pub(crate) raw: Value,
}

/// A pod or other endpoint.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Workload {
    pub(crate) uid: String,
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) workload_ips: Vec<String>,
    pub(crate) hostname: String,
    pub(crate) node: String,
    pub(crate) protocol: String,
    pub(crate) waypoint: Option<Gateway>,
    /// `namespace/name`.
    pub(crate) authorization_policies: Vec<String>,
}

/// Where a waypoint is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Gateway {
    /// `network/address` or `namespace/hostname`.
    pub(crate) destination: String,
}

/// A service.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) hostname: String,
    /// `network/address`.
    pub(crate) vips: Vec<String>,
    pub(crate) waypoint: Option<Gateway>,
    /// By the workload's UID.
    pub(crate) endpoints: BTreeMap<String, Endpoint>,
}

/// A workload as part of a service.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Endpoint {
    pub(crate) status: String,
}

/// A layer-4 policy.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Policy {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) action: String,
    pub(crate) scope: String,
    pub(crate) dry_run: bool,
}

/// The certificate of one identity.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Certificate {
    pub(crate) identity: String,
    pub(crate) state: String,
    pub(crate) cert_chain: Vec<ChainLink>,
    pub(crate) root_certs: Vec<ChainLink>,
}

/// One certificate of a chain.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ChainLink {
    /// Decimal.
    pub(crate) serial_number: String,
    pub(crate) valid_from: String,
    pub(crate) expiration_time: String,
}

/// A pod that a proxy serves.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Pod {
    pub(crate) info: PodName,
    pub(crate) connections: Connections,
}

/// Who it is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PodName {
    pub(crate) name: String,
    pub(crate) namespace: String,
}

/// The connections that a pod has now.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Connections {
    pub(crate) inbound: Vec<Connection>,
    pub(crate) outbound: Vec<Connection>,
}

/// One connection.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Connection {
    pub(crate) src: String,
    pub(crate) original_dst: Option<String>,
    pub(crate) actual_dst: String,
    pub(crate) protocol: String,
    pub(crate) handshake: Option<Handshake>,
}

/// When and how the client of a tunnel has proven itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Handshake {
    pub(crate) time: Timestamp,
    pub(crate) key_exchange: String,
}

impl Dump {
    /// Reads a dump.
    ///
    /// # Errors
    /// It is not JSON, or not of the form that node proxies give it.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text).context("the dump is not JSON")?;
        let Value::Object(mut all) = value else {
            bail!("the dump is not a JSON object");
        };
        if !all.contains_key("workloads") && !all.contains_key("workloadState") {
            bail!("this is no node proxy's dump: it has neither workloads nor workloadState");
        }
        Ok(Self {
            workloads: list(&mut all, "workloads")?,
            services: list(&mut all, "services")?,
            policies: list(&mut all, "policies")?,
            certificates: list(&mut all, "certificates")?,
            pods: match all.shift_remove("workloadState") {
                Some(Value::Object(pods)) => {
                    let pods = pods.into_iter().map(|(uid, raw)| Ok((uid, entry("workloadState", raw)?)));
                    pods.collect::<Result<_>>()?
                }
                _ => BTreeMap::new(),
            },
            rest: all,
            disagreements: BTreeSet::new(),
        })
    }

    /// The whole as JSON, with the keys of a proxy's dump.
    pub(crate) fn to_json(&self) -> Value {
        let mut all = Map::new();
        all.insert("workloads".to_owned(), raw(&self.workloads));
        all.insert("services".to_owned(), raw(&self.services));
        all.insert("policies".to_owned(), raw(&self.policies));
        all.insert("certificates".to_owned(), raw(&self.certificates));
        all.insert("workloadState".to_owned(), self.pods_json());
        all.extend(self.rest.clone());
        Value::Object(all)
    }

    /// The pods by UID, as JSON.
    pub(crate) fn pods_json(&self) -> Value {
        Value::Object(self.pods.iter().map(|(uid, entry)| (uid.clone(), entry.raw.clone())).collect())
    }
}

/// What the proxies said of each.
pub(crate) fn raw<T>(entries: &[Entry<T>]) -> Value {
    Value::Array(entries.iter().map(|entry| entry.raw.clone()).collect())
}

fn list<T: DeserializeOwned>(all: &mut Map<String, Value>, key: &str) -> Result<Vec<Entry<T>>> {
    let items: Vec<Value> = match all.shift_remove(key) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(items)) => items,
        Some(Value::Object(items)) => items.into_iter().map(|(_, item)| item).collect(),
        Some(_) => bail!("{key} of the dump is neither a list nor a map"),
    };
    items.into_iter().map(|raw| entry(key, raw)).collect()
}

fn entry<T: DeserializeOwned>(key: &str, raw: Value) -> Result<Entry<T>> {
    let item = T::deserialize(&raw).with_context(|| format!("{key} of the dump cannot be read"))?;
    Ok(Entry { item, raw })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_maps_are_read_and_given_back() {
        let text =
            r#"{"workloads": {"a": {"uid": "a", "capacity": 3}}, "policies": [{"name": "p"}], "version": {"x": 1}}"#;
        let dump = Dump::parse(text).unwrap();
        assert_eq!(dump.workloads[0].item.uid, "a");
        let json = dump.to_json();
        assert_eq!(json["workloads"][0]["capacity"], 3);
        assert_eq!(json["policies"][0]["name"], "p");
        assert_eq!(json["version"]["x"], 1);
    }

    #[test]
    fn what_is_no_dump_is_refused_with_the_reason() {
        let why = |text: &str| format!("{:#}", Dump::parse(text).unwrap_err());
        assert!(why("<html>").starts_with("the dump is not JSON"));
        assert_eq!(why("[]"), "the dump is not a JSON object");
        assert!(why(r#"{"items": []}"#).starts_with("this is no node proxy's dump"));
        assert_eq!(why(r#"{"workloads": 3}"#), "workloads of the dump is neither a list nor a map");
        assert!(why(r#"{"workloads": [{"uid": 3}]}"#).starts_with("workloads of the dump cannot be read: "));
    }
}
