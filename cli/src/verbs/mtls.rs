//! `aquifer mtls check`: whether a service is reached over mutual TLS, from what the node proxies know.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;

use super::ztunnel_config::dumps;
use crate::admin::Proxies;
use crate::admin::dump::{Connection, Dump, Service, Workload};
use crate::failure::Advised;
use crate::output::{self, Format, Table};

/// The policy that the control plane gives to workloads under STRICT; an underscore is in no user's name.
const STATIC_STRICT: &str = "istio_converted_static_strict";
/// How the policies begin that it makes where ports differ.
const BY_PORT: &str = "converted_peer_authentication_";

/// Look at mutual TLS.
#[derive(Debug, Args)]
pub(crate) struct MtlsArgs {
    #[command(subcommand)]
    question: Question,
}

#[derive(Debug, Subcommand)]
enum Question {
    Check(CheckArgs),
}

/// Show whether services are reached over mutual TLS.
#[derive(Debug, Args)]
#[command(after_help = "\
Columns:
  CLIENTS SEEN    addresses with a connection open to a pod of the service now
  MTLS            share of these connections that came over mutual TLS
  MODE            what PeerAuthentication asks for: PERMISSIVE, STRICT, BY PORT or MIXED
  LAST HANDSHAKE  when the youngest of the tunnels that these connections came through was made
  KEX             the key exchanges of these tunnels
  PODS            pods of the service that are captured, and all

What cannot be known is \"-\": a pod that is not captured has no node proxy that sees its connections, and between pods
of one node there is no tunnel.

Examples:
  aquifer mtls check -n shop
  aquifer mtls check svc/cart -n shop -o json")]
struct CheckArgs {
    /// The service, as svc/NAME or NAME; without it, all of the namespace.
    #[arg(value_name = "SERVICE")]
    service: Option<String>,
    /// The service's namespace; without it and without a service, all.
    #[arg(long, short, value_name = "NAMESPACE")]
    namespace: Option<String>,
    #[command(flatten)]
    source: Source,
    /// How to print it.
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

/// Where the answer comes from.
#[derive(Debug, Args)]
struct Source {
    #[command(flatten)]
    lab: crate::lab_name::LabName,
    /// An admin port of a ztunnel that can be reached from here, instead of a lab's; may be given more than once.
    #[arg(long, value_name = "HOST:PORT")]
    admin: Vec<String>,
    /// Read a saved dump instead of asking; may be given more than once.
    #[arg(long, short, value_name = "DUMP", conflicts_with = "admin")]
    file: Vec<PathBuf>,
}

/// One line.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Server {
    server: String,
    captured_pods: usize,
    pods: usize,
    clients_seen: Option<usize>,
    /// Connections that are open now, and how many of them came over mutual TLS.
    connections: Option<usize>,
    mutual_tls_connections: Option<usize>,
    mode: Option<&'static str>,
    /// Of the tunnels that these connections came through.
    last_handshake: Option<Timestamp>,
    key_exchanges: BTreeSet<String>,
}

/// Runs the verb.
pub(crate) fn run(args: MtlsArgs) -> Result<ExitCode> {
    let Question::Check(args) = args.question;
    let (dump, code) = if args.source.file.is_empty() {
        dumps(&Proxies::all(args.source.lab, args.source.admin))?
    } else {
        let dumps = args.source.file.iter().map(|path| {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            Dump::parse(&text).with_context(|| format!("cannot read {}", path.display()))
        });
        (Dump::merged(dumps.collect::<Result<_>>()?), ExitCode::SUCCESS)
    };
    let servers = check(&dump, args.service.as_deref(), args.namespace.as_deref())?;
    output::print(args.output, &servers, |servers| table(servers, Timestamp::now()))?;
    Ok(code)
}

/// A line for each service that is meant.
///
/// # Errors
/// None is known.
fn check(dump: &Dump, name: Option<&str>, namespace: Option<&str>) -> Result<Vec<Server>> {
    let name = name.map(|name| {
        let kinds = ["svc/", "service/", "services/"];
        kinds.iter().find_map(|kind| name.strip_prefix(kind)).unwrap_or(name)
    });
    // As kubectl does: a name without a namespace is one of `default`.
    let namespace = namespace.or_else(|| name.map(|_| "default"));
    let meant = dump.services.iter().map(|entry| &entry.item).filter(|service| {
        name.is_none_or(|name| service.name == name) && namespace.is_none_or(|namespace| service.namespace == namespace)
    });
    let servers: Vec<Server> = meant.map(|service| server(dump, service)).collect();
    if servers.is_empty() {
        let what = match (name, namespace) {
            (Some(name), Some(namespace)) => format!("ztunnel knows no service {name:?} in namespace {namespace:?}"),
            (_, Some(namespace)) => format!("ztunnel knows no service in namespace {namespace:?}"),
            _ => "ztunnel knows no service".to_owned(),
        };
        let elsewhere = dump.services.iter().map(|entry| &entry.item).find(|service| name == Some(&*service.name));
        let next = match elsewhere {
            Some(service) => {
                format!("there is one in {0}: aquifer mtls check {1} -n {0}", service.namespace, service.name)
            }
            None => "see those that it knows: aquifer ztunnel-config services".to_owned(),
        };
        bail!(Advised::new(what, next));
    }
    Ok(servers)
}

fn server(dump: &Dump, service: &Service) -> Server {
    let is_endpoint = |workload: &&Workload| service.endpoints.contains_key(&workload.uid);
    let workloads: Vec<&Workload> = dump.workloads.iter().map(|entry| &entry.item).filter(is_endpoint).collect();
    let captured: Vec<&Workload> = workloads.iter().copied().filter(|workload| workload.protocol == "HBONE").collect();
    let serving = |workload: &Workload| {
        let is_it =
            |info: &crate::admin::dump::PodName| info.name == workload.name && info.namespace == workload.namespace;
        dump.pods.values().map(|entry| &entry.item).find(|pod| is_it(&pod.info))
    };
    // A captured pod whose proxy was not asked may have connections that nobody told us about.
    let pods: Option<Vec<_>> = captured.iter().map(|workload| serving(workload)).collect();
    let connections: Option<Vec<&Connection>> =
        pods.filter(|pods| !pods.is_empty()).map(|pods| pods.iter().flat_map(|pod| &pod.connections.inbound).collect());
    let handshakes = || connections.iter().flatten().filter_map(|connection| connection.handshake.as_ref());
    let client = |connection: &&Connection| connection.src.rsplit_once(':').map(|(address, _)| address.to_owned());
    Server {
        server: format!("{}.{}", service.name, service.namespace),
        captured_pods: captured.len(),
        pods: workloads.len(),
        clients_seen: connections.as_ref().map(|all| all.iter().filter_map(client).collect::<BTreeSet<_>>().len()),
        connections: connections.as_ref().map(Vec::len),
        mutual_tls_connections: connections
            .as_ref()
            // What a proxy hands over between two pods of its node proves both identities without a tunnel.
            .map(|all| all.iter().filter(|connection| connection.protocol != "TCP").count()),
        mode: mode(&captured),
        last_handshake: handshakes().map(|handshake| handshake.time).max(),
        key_exchanges: handshakes().map(|handshake| handshake.key_exchange.clone()).collect(),
    }
}

/// What PeerAuthentication asks of these workloads; `None` without any.
fn mode(workloads: &[&Workload]) -> Option<&'static str> {
    let of = |workload: &&Workload| {
        let names =
            || workload.authorization_policies.iter().filter_map(|key| key.split_once('/').map(|(_, name)| name));
        if names().any(|name| name == STATIC_STRICT) {
            "STRICT"
        } else if names().any(|name| name.starts_with(BY_PORT)) {
            "BY PORT"
        } else {
            "PERMISSIVE"
        }
    };
    let modes: BTreeSet<&'static str> = workloads.iter().map(of).collect();
    if modes.len() > 1 { Some("MIXED") } else { modes.first().copied() }
}

fn table(servers: &[Server], now: Timestamp) -> String {
    let mut table = Table::new(["SERVER", "CLIENTS SEEN", "MTLS", "MODE", "LAST HANDSHAKE", "KEX", "PODS"]);
    let unknown = || "-".to_owned();
    for server in servers {
        let kex: Vec<&str> = server.key_exchanges.iter().map(String::as_str).collect();
        let share = match (server.mutual_tls_connections, server.connections) {
            (Some(secure), Some(all)) if all > 0 => format!("{}%", secure * 100 / all),
            _ => unknown(),
        };
        table.row([
            server.server.clone(),
            server.clients_seen.map_or_else(unknown, |count| count.to_string()),
            share,
            server.mode.map_or_else(unknown, str::to_owned),
            server.last_handshake.map_or_else(unknown, |time| ago(time, now)),
            Some(kex.join(",")).filter(|kex| !kex.is_empty()).unwrap_or_else(unknown),
            format!("{}/{}", server.captured_pods, server.pods),
        ]);
    }
    table.to_string()
}

/// How long ago something was, in the largest unit that it fills.
fn ago(time: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(time).as_secs_f64().max(0.0);
    match seconds {
        ..60.0 => format!("{seconds:.1}s ago"),
        ..3_600.0 => format!("{:.0}m ago", (seconds / 60.0).floor()),
        ..86_400.0 => format!("{:.0}h ago", (seconds / 3_600.0).floor()),
        _ => format!("{:.0}d ago", (seconds / 86_400.0).floor()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(nodes: &[&str]) -> Dump {
        Dump::merged(nodes.iter().map(|text| Dump::parse(text).unwrap()).collect())
    }

    const NODE_1: &str = include_str!("ztunnel_config/fixtures/node-1.json");
    const NODE_2: &str = include_str!("ztunnel_config/fixtures/node-2.json");

    #[test]
    fn a_service_shows_its_clients_and_what_it_accepts() {
        let dump = recorded(&[NODE_1, NODE_2]);
        let expected = "\
SERVER          CLIENTS SEEN   MTLS   MODE         LAST HANDSHAKE   KEX              PODS
cart.shop       1              100%   PERMISSIVE   1.2s ago         X25519MLKEM768   1/1
frontend.shop   1              0%     PERMISSIVE   -                -                1/1
payment.shop    0              -      STRICT       -                -                1/1
";
        let now: Timestamp = "2026-11-21T10:00:01.2Z".parse().unwrap();
        assert_eq!(table(&check(&dump, None, Some("shop")).unwrap(), now), expected);
        assert_eq!(check(&dump, Some("svc/cart"), Some("shop")).unwrap().len(), 1);
        let outsider = table(&check(&dump, Some("outsider"), Some("street")).unwrap(), now);
        let line = "outsider.street   -              -      -      -                -     0/1";
        assert_eq!(outsider.lines().nth(1).unwrap(), line);
    }

    #[test]
    fn times_are_told_in_the_unit_that_they_fill() {
        let now: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        for (time, words) in [
            ("2026-11-21T10:00:03Z", "0.0s ago"),
            ("2026-11-21T09:59:00.5Z", "59.5s ago"),
            ("2026-11-21T09:58:01Z", "1m ago"),
            ("2026-11-21T08:00:00Z", "2h ago"),
            ("2026-11-18T09:00:00Z", "3d ago"),
        ] {
            assert_eq!(ago(time.parse().unwrap(), now), words);
        }
    }

    #[test]
    fn what_an_unasked_proxy_knows_is_not_invented() {
        let servers = check(&recorded(&[NODE_1]), Some("cart"), Some("shop")).unwrap();
        assert_eq!((servers[0].connections, servers[0].clients_seen), (None, None));
    }

    #[test]
    fn an_unknown_service_is_named_with_the_next_command() {
        let error = check(&recorded(&[NODE_1]), Some("svc/nobody"), None).unwrap_err();
        assert_eq!(error.to_string(), "ztunnel knows no service \"nobody\" in namespace \"default\"");
        assert!(error.downcast_ref::<Advised>().unwrap().next().contains("ztunnel-config services"));
        let error = check(&recorded(&[NODE_1]), Some("svc/cart"), None).unwrap_err();
        let next = "there is one in shop: aquifer mtls check cart -n shop";
        assert_eq!(error.downcast_ref::<Advised>().unwrap().next(), next);
    }

    #[test]
    fn modes_follow_from_the_policies_that_workloads_name() {
        let with = |policies: &[&str]| Workload {
            authorization_policies: policies.iter().map(|&key| key.to_owned()).collect(),
            ..Workload::default()
        };
        let (strict, ports, open) = (
            with(&["istio-system/istio_converted_static_strict", "shop/x"]),
            with(&["shop/converted_peer_authentication_mine"]),
            with(&["shop/x"]),
        );
        assert_eq!(mode(&[&strict]), Some("STRICT"));
        assert_eq!(mode(&[&ports]), Some("BY PORT"));
        assert_eq!(mode(&[&open, &open]), Some("PERMISSIVE"));
        assert_eq!(mode(&[&open, &strict]), Some("MIXED"));
        assert_eq!(mode(&[]), None);
    }
}
