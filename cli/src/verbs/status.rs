//! `aquifer status`: what runs in a lab.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use lab::control::client;
use lab::status::LabStatus;

use crate::lab_name::LabName;
use crate::output::{self, Format, Table};
use crate::program::command_runtime;

/// Show what runs in a lab.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  aquifer status
  aquifer status -o json")]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    lab: LabName,
    /// How to print it.
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

/// Runs the verb.
pub(crate) fn run(args: &StatusArgs) -> Result<ExitCode> {
    let directory = args.lab.directory()?;
    let status = command_runtime()?.block_on(client::status(&directory))?;
    output::print(args.output, &status, table)?;
    Ok(ExitCode::SUCCESS)
}

fn table(status: &LabStatus) -> String {
    let record = &status.record;
    let mut lab = Table::new(["LAB", "NODES", "API", "PROCESS", "STARTED"]);
    lab.row([
        record.name.clone(),
        record.nodes.to_string(),
        format!("https://{}", record.api),
        record.pid.to_string(),
        record.started.clone(),
    ]);
    let mut nodes = Table::new(["NODE", "ADDRESS", "PODS", "READY"]);
    for node in &status.objects.node_list {
        nodes.row([node.name.clone(), node.address.clone(), node.pod_range.clone(), node.ready.to_string()]);
    }
    let mut pods = Table::new(["NAMESPACE", "POD", "NODE", "IP", "READY", "STATUS", "RESTARTS"]);
    for pod in &status.objects.pods {
        pods.row([
            pod.namespace.clone(),
            pod.name.clone(),
            pod.node.clone(),
            pod.ip.clone(),
            pod.ready.clone(),
            pod.status.clone(),
            pod.restarts.to_string(),
        ]);
    }
    format!("{lab}\n{nodes}\n{pods}")
}

#[cfg(test)]
mod tests {
    use lab::state::Record;
    use lab::status::{Objects, PodRow};

    use super::*;

    #[test]
    fn the_table_has_a_line_per_pod() {
        let record = Record {
            name: "default".to_owned(),
            pid: 7,
            process_started: 1,
            api: ([127, 0, 0, 1], 6443).into(),
            nodes: 1,
            families: lab::families::Families::Dual,
            started: "2026-01-01T00:00:00Z".to_owned(),
            version: "0.1.0".to_owned(),
        };
        let pod = PodRow { name: "cart".to_owned(), namespace: "shop".to_owned(), ..PodRow::default() };
        let status = LabStatus { record, objects: Objects { node_list: vec![], pods: vec![pod] } };
        let text = table(&status);
        assert!(text.contains("LAB       NODES   API                      PROCESS   STARTED\n"), "{text}");
        assert!(text.contains("\nshop        cart"), "{text}");
    }
}
