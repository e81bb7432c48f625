//! The configuration dump: one JSON document, written piece by piece, so that a mesh of any size costs little memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use telemetry::Direction;
use telemetry::http::BodySender;

use super::model::{Certificate, Connection, Endpoint, PodState, Policy, Service, Workload, key_text};
use crate::node::Node;
use crate::pods::Standing;

/// How large a piece gets before it is sent.
const PIECE: usize = 32 * 1024;

/// Writes the dump; ends early when the client is gone.
pub(super) async fn write(config: Arc<config::Ztunnel>, node: Arc<Node>, sender: BodySender) {
    // The only failure is a client that went away.
    let _ = Writer { sender, piece: "{\n".to_owned(), is_first_key: true }.write(&config, &node).await;
}

struct Gone;

struct Writer {
    sender: BodySender,
    piece: String,
    is_first_key: bool,
}

impl Writer {
    async fn write(mut self, config: &config::Ztunnel, node: &Node) -> Result<(), Gone> {
        let shared = node.shared();
        let view = &shared.view;
        self.list("workloads", view.workloads().into_iter().map(|workload| Workload::new(&workload))).await?;
        let mut services = view.services();
        services.sort_by(|left, right| left.hostname.cmp(&right.hostname));
        self.list("services", services.into_iter().map(|service| Service::new(view, &service))).await?;
        let policies = policies(node);
        self.list("policies", policies.into_iter().map(|policy| Policy::new(&policy))).await?;
        let staged = view.staged_services().into_iter().map(|key| {
            let endpoints = view.endpoints(&key);
            let endpoints: BTreeMap<String, Endpoint> =
                endpoints.iter().map(|workload| (workload.uid.to_string(), Endpoint::new(workload, &key))).collect();
            (key_text(&key), endpoints)
        });
        self.map("stagedServices", staged).await?;
        self.map("staticConfig", std::iter::empty::<(String, ())>()).await?;
        self.value("version", &version()).await?;
        self.value("config", config).await?;
        let certificates = shared.certificates.dump();
        self.list("certificates", certificates.into_iter().map(|dump| Certificate::new(&dump))).await?;
        self.map("workloadState", pod_states(node).into_iter()).await?;
        self.piece.push_str("\n}\n");
        self.flush().await
    }

    async fn value(&mut self, key: &str, value: &impl Serialize) -> Result<(), Gone> {
        self.key(key);
        self.item(value, "  ");
        self.flush_if_large().await
    }

    async fn list(&mut self, key: &str, items: impl Iterator<Item = impl Serialize>) -> Result<(), Gone> {
        self.key(key);
        let mut separator = "[\n    ";
        let mut items = items.peekable();
        if items.peek().is_none() {
            self.piece.push_str("[]");
            return Ok(());
        }
        for item in items {
            self.piece.push_str(separator);
            self.item(&item, "    ");
            separator = ",\n    ";
            self.flush_if_large().await?;
        }
        self.piece.push_str("\n  ]");
        Ok(())
    }

    async fn map(&mut self, key: &str, items: impl Iterator<Item = (String, impl Serialize)>) -> Result<(), Gone> {
        self.key(key);
        let mut separator = "{\n    ";
        let mut items = items.peekable();
        if items.peek().is_none() {
            self.piece.push_str("{}");
            return Ok(());
        }
        for (name, item) in items {
            self.piece.push_str(separator);
            self.item(&name, "");
            self.piece.push_str(": ");
            self.item(&item, "    ");
            separator = ",\n    ";
            self.flush_if_large().await?;
        }
        self.piece.push_str("\n  }");
        Ok(())
    }

    fn key(&mut self, key: &str) {
        self.piece.push_str(if self.is_first_key { "  " } else { ",\n  " });
        self.is_first_key = false;
        self.item(&key, "");
        self.piece.push_str(": ");
    }

    /// Appends pretty JSON, its further lines indented; strings in it hold no line breaks, JSON escapes them.
    fn item(&mut self, value: &impl Serialize, indent: &str) {
        // Plain data with text keys always serializes.
        let json = serde_json::to_string_pretty(value).unwrap_or_else(|_error| "null".to_owned());
        if indent.is_empty() {
            self.piece.push_str(&json);
        } else {
            self.piece.push_str(&json.replace('\n', &format!("\n{indent}")));
        }
    }

    async fn flush_if_large(&mut self) -> Result<(), Gone> {
        if self.piece.len() < PIECE { Ok(()) } else { self.flush().await }
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        let piece = std::mem::take(&mut self.piece);
        if self.sender.send(piece).await { Ok(()) } else { Err(Gone) }
    }
}

/// Copied, so that nobody who changes policies waits for the client of the dump.
fn policies(node: &Node) -> Vec<Arc<policy::Authorization>> {
    node.shared().policies.borrow().iter().cloned().collect()
}

fn version() -> BTreeMap<&'static str, &'static str> {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    BTreeMap::from([
        ("version", env!("CARGO_PKG_VERSION")),
        ("gitRevision", option_env!("AQUIFER_GIT_REVISION").unwrap_or("unknown")),
        ("rustVersion", env!("CARGO_PKG_RUST_VERSION")),
        ("buildProfile", profile),
        ("buildStatus", "unknown"),
        ("istioVersion", "unknown"),
        ("cryptoProvider", "aws-lc-rs"),
    ])
}

fn pod_states(node: &Node) -> Vec<(String, PodState)> {
    let mut connections = node.shared().live.by_pod();
    let states = node.pods().standings().into_iter().map(|(uid, name, standing)| {
        let live = connections.remove(&uid).unwrap_or_default();
        let of = |direction: Direction| {
            live.iter().filter(move |live| live.direction == direction).filter_map(|live| Connection::new(live))
        };
        let state = PodState::new(
            if standing == Standing::Up { "Up" } else { "Pending" },
            &name,
            of(Direction::Inbound).collect(),
            of(Direction::Outbound).collect(),
        );
        (uid.to_string(), state)
    });
    states.collect()
}
