//! The `aquifer` command: one verb per module, each either a component of the mesh or something that a user does with
//! it.
//!
//! This is the composition root: here configuration is read, logs and runtimes are made, and libraries are put together.

mod admin;
mod argument;
mod bench;
mod cni_plugin;
mod demo;
mod failure;
mod kubernetes;
mod lab_name;
mod output;
mod own_lab;
mod program;
mod sniff;
mod verbs;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use tikv_jemallocator::Jemalloc;

use verbs::{
    bench as bench_verb, completion, controlplane, down, echo, exec, fetch, kubeconfig, load, log, logs, manifest,
    mtls, node,
};
use verbs::{status, supervisor, up, version, ztunnel, ztunnel_config};

/// The allocator of Rust and of the C libraries beside it (docs/decisions/allocator.md).
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// An ambient service mesh: mTLS, identity and policy for pods, without sidecars.
#[derive(Debug, Parser)]
#[command(
    name = "aquifer",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  aquifer demo                      the whole mesh, shown and checked
  aquifer bench                     what it costs, compared with no mesh and with sidecars
  aquifer up                        a lab: two nodes, an API server, the mesh
  aquifer exec cart -n shop -- curl -s http://frontend/
  aquifer zc workloads -n shop      what the node proxies know
  aquifer down                      the end of it, without a trace"
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Demo(demo::DemoArgs),
    Bench(bench_verb::BenchArgs),
    Up(up::UpArgs),
    Down(down::DownArgs),
    Status(status::StatusArgs),
    Exec(exec::ExecArgs),
    Logs(logs::LogsArgs),
    Kubeconfig(kubeconfig::KubeconfigArgs),
    #[command(visible_alias = "zc")]
    ZtunnelConfig(ztunnel_config::ZtunnelConfigArgs),
    Mtls(mtls::MtlsArgs),
    Log(log::LogArgs),
    Version(version::VersionArgs),
    Manifest(manifest::ManifestArgs),
    Completion(completion::CompletionArgs),
    Echo(echo::EchoArgs),
    Load(load::LoadArgs),
    #[command(hide = true)]
    Sniff(sniff::SniffArgs),
    #[command(hide = true)]
    Fetch(fetch::FetchArgs),
    /// Run the node proxy (a component; configured by environment variables).
    Ztunnel,
    /// Run the control plane (a component; configured by environment variables).
    Controlplane,
    /// Run the node agent (a component; configured by environment variables).
    Node,
    /// The lab's own process, started by `up`.
    #[command(name = lab::launch::SUPERVISOR_VERB, hide = true)]
    Supervisor(supervisor::SupervisorArgs),
}

fn main() -> ExitCode {
    // Container runtimes call plugins once or twice for each pod: nothing else is set up for that.
    if cni_plugin::is_called() {
        return cni_plugin::run();
    }
    let outcome = match Cli::parse().verb {
        Verb::Demo(args) => demo::run(&args),
        Verb::Bench(args) => bench_verb::run(args),
        Verb::Up(args) => up::run(&args),
        Verb::Down(args) => down::run(&args),
        Verb::Status(args) => status::run(&args),
        Verb::Exec(args) => exec::run(args),
        Verb::Logs(args) => logs::run(args),
        Verb::Kubeconfig(args) => kubeconfig::run(&args),
        Verb::ZtunnelConfig(args) => ztunnel_config::run(args),
        Verb::Mtls(args) => mtls::run(args),
        Verb::Log(args) => log::run(&args),
        Verb::Manifest(args) => manifest::run(&args),
        Verb::Version(args) => version::run(&args),
        Verb::Completion(args) => completion::run(&args, Cli::command()),
        Verb::Fetch(args) => fetch::run(&args),
        Verb::Echo(args) => echo::run(args),
        Verb::Load(args) => load::run(args),
        Verb::Sniff(args) => sniff::run(&args),
        Verb::Ztunnel => ztunnel::run(),
        Verb::Controlplane => controlplane::run(),
        Verb::Node => node::run(),
        Verb::Supervisor(args) => supervisor::run(&args),
    };
    outcome.unwrap_or_else(|error| failure::report(&error))
}
