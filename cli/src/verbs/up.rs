//! `aquifer up`: starts a lab.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use drain::Signals;
use lab::control::client;
use lab::families::Families;
use lab::launch::{self, Lab, Options};
use lab::mesh::SYSTEM_NAMESPACE;
use lab::state::Record;
use tokio::time::Instant;

use crate::lab_name::LabName;
use crate::output;
use crate::program::{INTERRUPTED, command_runtime};

/// How long the mesh's components may take to be ready before `up` says which are not.
const MESH_DEADLINE: Duration = Duration::from_secs(30);

/// How often to look at them.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Start a lab: nodes, an API server and the mesh, on this machine.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  aquifer up                         two nodes; Ctrl-C ends them
  aquifer up --nodes 3 --detach      three nodes, in the background
  aquifer up --ip-family ipv4        no IPv6 addresses
  aquifer up --detach && export KUBECONFIG=$(aquifer kubeconfig --path) && kubectl get pods -A")]
pub(crate) struct UpArgs {
    #[command(flatten)]
    lab: LabName,
    /// How many nodes.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    nodes: u8,
    /// Address families of nodes, pods and Services; `dual` becomes `ipv4` where the machine has no IPv6.
    #[arg(long, value_enum, value_name = "FAMILY", default_value_t = IpFamily::Dual)]
    ip_family: IpFamily,
    /// Return once the lab is up, and leave it running.
    #[arg(long, short)]
    detach: bool,
    /// Port of the Kubernetes API on 127.0.0.1; 0 lets the kernel choose.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    port: u16,
    /// Leave the mesh's own components out: a cluster and nothing else.
    #[arg(long)]
    without_mesh: bool,
    /// What the lab's own processes log.
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: String,
    /// Make the pods' networks with the CNI plugins `ptp` and `host-local` from this directory, such as /usr/lib/cni,
    /// in place of the lab's own.
    #[arg(long, value_name = "DIR")]
    cni_plugins: Option<PathBuf>,
}

/// Which addresses a lab has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum IpFamily {
    /// IPv4 alone.
    Ipv4,
    /// IPv4 and IPv6.
    Dual,
    /// IPv6 alone.
    Ipv6,
}

impl From<IpFamily> for Families {
    fn from(family: IpFamily) -> Self {
        match family {
            IpFamily::Ipv4 => Self::Ipv4,
            IpFamily::Dual => Self::Dual,
            IpFamily::Ipv6 => Self::Ipv6,
        }
    }
}

/// Runs the verb.
pub(crate) fn run(args: &UpArgs) -> Result<ExitCode> {
    let directory = args.lab.directory()?;
    let options = Options {
        directory,
        nodes: args.nodes,
        port: args.port,
        families: args.ip_family.into(),
        mesh: !args.without_mesh,
        detach: args.detach,
        log_filter: args.log.clone(),
        plugins: args.cni_plugins.clone(),
    };
    let mut lab = launch::start(&options)?;
    command_runtime()?.block_on(async {
        let mut signals = Signals::install().context("cannot watch for signals")?;
        let up = tokio::select! {
            up = bring_up(args, &mut lab) => up.map(Some),
            _ = signals.next() => Ok(None),
        };
        let record = match up {
            Ok(Some(record)) => record,
            Ok(None) => {
                lab.stop().await?;
                return Ok(ExitCode::from(INTERRUPTED));
            }
            Err(error) => return Err(error),
        };
        output::write(&summary(args, &lab, &record))?;
        if args.detach {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::select! {
            ended = lab.ended() => {
                ended?;
                output::complain("the lab has ended");
            }
            _ = signals.next() => {
                output::complain("ending the lab");
                lab.stop().await?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn bring_up(args: &UpArgs, lab: &mut Lab) -> Result<Record> {
    let mark = output::good("✔");
    let mut progress = |step: &str| output::complain(&format!("{mark} {step}"));
    let record = lab.ready(&mut progress).await?;
    if !args.without_mesh {
        wait_for_mesh(args, lab).await?;
    }
    Ok(record)
}

/// Waits until every pod of the mesh is ready; says which are not when it takes too long, and goes on.
async fn wait_for_mesh(args: &UpArgs, lab: &Lab) -> Result<()> {
    let deadline = Instant::now() + MESH_DEADLINE;
    // The control plane is one pod, every node has two.
    let expected = usize::from(args.nodes) * 2 + 1;
    loop {
        let status = client::status(lab.directory()).await?;
        let pods: Vec<_> = status.objects.pods.iter().filter(|pod| pod.namespace == SYSTEM_NAMESPACE).collect();
        let waiting: Vec<_> = pods.iter().filter(|pod| pod.ready != "1/1").collect();
        if pods.len() >= expected && waiting.is_empty() {
            output::complain(&format!("{} mesh ready", output::good("✔")));
            return Ok(());
        }
        if Instant::now() > deadline {
            for pod in waiting {
                let mark = output::bad("✘");
                output::complain(&format!(
                    "{mark} {} is not ready ({}); see: aquifer logs {} -n {SYSTEM_NAMESPACE}{}",
                    pod.name,
                    pod.status,
                    pod.name,
                    args.lab.option()
                ));
            }
            return Ok(());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn summary(args: &UpArgs, lab: &Lab, record: &Record) -> String {
    let option = args.lab.option();
    let end = if args.detach { format!("aquifer down{option}") } else { "Ctrl-C".to_owned() };
    format!(
        "lab {:?} is up: {} nodes, Kubernetes API at https://{}\n  \
         kubectl:  export KUBECONFIG={}\n  \
         look:     aquifer status{option}\n  \
         end:      {end}\n",
        record.name,
        record.nodes,
        record.api,
        lab.directory().kubeconfig().display(),
    )
}
