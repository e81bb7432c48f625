//! `aquifer ztunnel-config`: what the node proxies know and carry, read from their configuration dumps.

mod select;
mod tables;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::Value;

use crate::admin::dump::{Dump, raw};
use crate::admin::http::Method;
use crate::admin::{Answer, Proxies};
use crate::failure::Advised;
use crate::output::{self, Format};
use crate::program::command_runtime;
use select::{ConnectionFilters, PolicyFilters, Selected, Selection, ServiceFilters, WorkloadFilters};

/// How many disagreements between proxies are named.
const NAMED: usize = 3;

/// Show what ztunnel knows: workloads, services, policies, certificates, connections.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  aquifer ztunnel-config workloads -n shop           pods, and whether they are captured
  aquifer zc connections -n shop                     who talks to whom now
  aquifer zc certificates --node node-1 -o json      of one node, for programs
  aquifer zc all --file dump.json                    a dump that somebody saved

In a lab every ztunnel is asked and the answers are merged. Elsewhere:
  kubectl port-forward -n aquifer-system pod/ztunnel-x7k2p 15000
  aquifer zc workloads --admin 127.0.0.1:15000")]
pub(crate) struct ZtunnelConfigArgs {
    #[command(subcommand)]
    listing: Listing,
}

#[derive(Debug, Subcommand)]
enum Listing {
    /// Everything.
    #[command(
        after_help = "Examples:\n  aquifer zc all\n  aquifer zc all -n shop --file node-1.json --file node-2.json"
    )]
    All {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        workloads: WorkloadFilters,
        #[command(flatten)]
        services: ServiceFilters,
        #[command(flatten)]
        policies: PolicyFilters,
        #[command(flatten)]
        connections: ConnectionFilters,
    },
    /// Pods and other endpoints, and how they are reached.
    #[command(visible_aliases = ["workload", "w"])]
    #[command(after_help = "Examples:\n  aquifer zc workloads -n shop\n  aquifer zc w --address 10.244.1.2 -o json")]
    Workloads {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        workloads: WorkloadFilters,
    },
    /// Services, their addresses and endpoints.
    #[command(visible_aliases = ["service", "svc", "s"])]
    #[command(after_help = "Examples:\n  aquifer zc services -n shop")]
    Services {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        services: ServiceFilters,
    },
    /// Layer-4 policies in force.
    #[command(visible_aliases = ["policy", "pol", "p"])]
    #[command(after_help = "Examples:\n  aquifer zc policies --policy-namespace istio-system")]
    Policies {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        policies: PolicyFilters,
    },
    /// Certificates of the identities that run on the nodes.
    #[command(visible_aliases = ["certificate", "certs", "cert"])]
    #[command(after_help = "Examples:\n  aquifer zc certificates ztunnel-node-1")]
    Certificates {
        #[command(flatten)]
        common: Common,
    },
    /// Connections that are open now.
    #[command(visible_aliases = ["connection", "cons"])]
    #[command(after_help = "Examples:\n  aquifer zc connections -n shop --direction inbound --raw")]
    Connections {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        connections: ConnectionFilters,
    },
}

#[derive(Debug, Clone, Args)]
struct Common {
    #[command(flatten)]
    proxies: Proxies,
    /// Only this namespace.
    #[arg(long, short, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Read a saved dump instead of asking; may be given more than once.
    #[arg(long, short, value_name = "DUMP", conflicts_with_all = ["pod", "node", "admin"])]
    file: Vec<PathBuf>,
    /// How to print it.
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

/// What of the dump is printed.
#[derive(Debug, Clone, Copy)]
enum Part {
    All,
    Workloads,
    Services,
    Policies,
    Certificates,
    Connections,
}

/// Runs the verb; fails when a proxy that was asked does not answer, after printing what the others said.
pub(crate) fn run(args: ZtunnelConfigArgs) -> Result<ExitCode> {
    let (part, common, mut selection) = args.listing.parts();
    selection.namespace = common.namespace.clone();
    let (dump, code) = if common.file.is_empty() {
        dumps(&common.proxies)?
    } else {
        let dumps: Vec<Dump> = common.file.iter().map(read).collect::<Result<_>>()?;
        (Dump::merged(dumps), ExitCode::SUCCESS)
    };
    let selected = selection.of(dump);
    match common.output {
        Format::Table => output::write(&table(part, &selected, selection.connections.raw, Timestamp::now()))?,
        format => output::print(format, &json(part, &selected.dump), Value::to_string)?,
    }
    note(&selected.dump);
    Ok(code)
}

impl Listing {
    fn parts(self) -> (Part, Common, Selection) {
        let mut selection = Selection::default();
        match self {
            Self::All { common, workloads, services, policies, connections } => {
                (Part::All, common, Selection { namespace: None, workloads, services, policies, connections })
            }
            Self::Workloads { common, workloads } => {
                selection.workloads = workloads;
                (Part::Workloads, common, selection)
            }
            Self::Services { common, services } => {
                selection.services = services;
                (Part::Services, common, selection)
            }
            Self::Policies { common, policies } => {
                selection.policies = policies;
                (Part::Policies, common, selection)
            }
            Self::Certificates { common } => (Part::Certificates, common, selection),
            Self::Connections { common, connections } => {
                selection.connections = connections;
                (Part::Connections, common, selection)
            }
        }
    }
}

/// What the proxies say, merged; those that do not answer are named, and make the exit code one of failure.
///
/// # Errors
/// None answers.
pub(super) fn dumps(proxies: &Proxies) -> Result<(Dump, ExitCode)> {
    let answers = command_runtime()?.block_on(proxies.ask(Method::Get, "/config_dump"))?;
    let mut dumps = Vec::new();
    let mut failures = Vec::new();
    for Answer { from, text } in answers {
        match text.and_then(|text| Dump::parse(&text)) {
            Ok(dump) => dumps.push(dump),
            Err(error) => failures.push(format!("{from}: {error:#}")),
        }
    }
    if dumps.is_empty() {
        let next = format!("see whether they run: aquifer status{}", proxies.lab.option());
        bail!(Advised::new(failures.join("; "), next));
    }
    for failure in &failures {
        output::complain(&format!("{} {failure}", output::bad("error:")));
    }
    let code = if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    Ok((Dump::merged(dumps), code))
}

fn read(path: &PathBuf) -> Result<Dump> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Dump::parse(&text).with_context(|| format!("cannot read {}", path.display()))
}

fn table(part: Part, selected: &Selected, raw: bool, now: Timestamp) -> String {
    let Selected { dump, names } = selected;
    match part {
        Part::All => {
            let all = [Part::Workloads, Part::Services, Part::Policies, Part::Certificates, Part::Connections];
            all.map(|part| table(part, selected, raw, now)).join("\n")
        }
        Part::Workloads => tables::workloads(&dump.workloads, names),
        Part::Services => tables::services(&dump.services, names),
        Part::Policies => tables::policies(&dump.policies),
        Part::Certificates => tables::certificates(&dump.certificates, now),
        Part::Connections => tables::connections(&dump.pods, names, raw),
    }
}

fn json(part: Part, dump: &Dump) -> Value {
    match part {
        Part::All => dump.to_json(),
        Part::Workloads => raw(&dump.workloads),
        Part::Services => raw(&dump.services),
        Part::Policies => raw(&dump.policies),
        Part::Certificates => raw(&dump.certificates),
        Part::Connections => dump.pods_json(),
    }
}

/// Says on standard error that the proxies do not know the same.
fn note(dump: &Dump) {
    let all = &dump.disagreements;
    if all.is_empty() {
        return;
    }
    let mut named: Vec<&str> = all.iter().take(NAMED).map(String::as_str).collect();
    if all.len() > NAMED {
        named.push("…");
    }
    output::complain(&format!(
        "note: the ztunnels do not agree on {} of these: {}; compare with --node",
        all.len(),
        named.join(", ")
    ));
}

#[cfg(test)]
mod tests;
