//! `aquifer load`: the load of `aquifer bench`, for use alone.

mod arguments;
mod report;

use std::future::Future;
use std::io::Read as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use ::load::agent::Agent;
use ::load::relay::Relay;
use ::load::server::{Options, Server};
use ::load::{Outcome, Plan};
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use drain::Signals;
use serde_json::json;

use crate::argument::duration;
use crate::output::{self, Format};
use crate::program::{INTERRUPTED, command_runtime};

/// Longest plan that is read from standard input, in bytes.
const MOST_PLAN: u64 = 64 << 10;

/// Put load on a server and measure latency, throughput and connections without omitting what waits.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    Server(ServerArgs),
    Client(arguments::ClientArgs),
    Relay(RelayArgs),
    Agent(AgentArgs),
}

/// Answer whatever load asks for: HTTP/1.1, HTTP/2, gRPC and raw TCP on one port.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  aquifer load server                                     on port 8080 of all addresses
  aquifer load server --listen 127.0.0.1:0 --delay 5ms    where the first line says; each answer 5 ms late
  curl 'localhost:8080/?size=1000' -o /dev/null           a thousand bytes")]
struct ServerArgs {
    /// Address and port to listen on; port 0 lets the system choose.
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:8080")]
    listen: SocketAddr,
    /// Threads, each with connections of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
    /// How long each answer is held back.
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = duration)]
    delay: Duration,
    /// Connections at a time; more wait.
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    max_connections: usize,
}

/// Carry each connection to another address: what any proxy in user space costs at least.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  aquifer load relay --to 10.0.0.1:8080                   from port 8081 of all addresses
  aquifer load relay --listen 127.0.0.1:0 --to 10.0.0.1:8080 --threads 2

It encrypts nothing, asks nobody and counts nothing.")]
struct RelayArgs {
    /// Address and port to listen on; port 0 lets the system choose.
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:8081")]
    listen: SocketAddr,
    /// Where connections lead.
    #[arg(long, value_name = "ADDRESS")]
    to: SocketAddr,
    /// Threads, each with connections of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
}

/// Carry out plans that arrive over HTTP, one at a time: POST /run, POST /stop, GET /status.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  aquifer load agent                                      on 127.0.0.1:8085
  curl -d '{\"target\": \"10.0.0.1:8080\", \"duration_ms\": 1000, \"kind\": {\"type\": \"connections\",
    \"protocol\": \"http1\", \"in_flight\": 16, \"pace\": \"saturation\"}}' localhost:8085/run

Whoever reaches it can make it send load anywhere.")]
struct AgentArgs {
    /// Address and port to listen on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8085")]
    listen: SocketAddr,
}

/// Runs the verb.
pub(crate) fn run(args: LoadArgs) -> Result<ExitCode> {
    linux::process::raise_open_files()?;
    let runtime = command_runtime()?;
    let code = match args.role {
        Role::Server(args) => runtime.block_on(serve(&args)),
        Role::Relay(args) => runtime.block_on(relay(&args)),
        Role::Agent(args) => runtime.block_on(serve_agent(args.listen)),
        Role::Client(args) => runtime.block_on(measure(&args)),
    };
    // Looking a name up cannot be given up; the process ends without it.
    runtime.shutdown_background();
    code
}

async fn serve(args: &ServerArgs) -> Result<ExitCode> {
    let end = signalled()?;
    let options = Options {
        threads: usize::from(args.threads),
        delay: args.delay,
        max_connections: args.max_connections,
        ..Options::new(args.listen)
    };
    let server = Server::bind(&options).with_context(|| format!("cannot listen on {}", args.listen))?;
    output::print_line(&json!({"listening": server.address()}))?;
    server.serve(end).await.context("cannot serve")?;
    Ok(ExitCode::SUCCESS)
}

async fn relay(args: &RelayArgs) -> Result<ExitCode> {
    let end = signalled()?;
    let relay = Relay::bind(args.listen, args.to, usize::from(args.threads));
    let relay = relay.with_context(|| format!("cannot listen on {}", args.listen))?;
    output::print_line(&json!({"listening": relay.address()}))?;
    relay.serve(end).await.context("cannot relay")?;
    Ok(ExitCode::SUCCESS)
}

async fn serve_agent(listen: SocketAddr) -> Result<ExitCode> {
    let end = signalled()?;
    let agent = Agent::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    output::print_line(&json!({"listening": agent.address()}))?;
    agent.serve(end).await;
    Ok(ExitCode::SUCCESS)
}

async fn measure(args: &arguments::ClientArgs) -> Result<ExitCode> {
    let plan = if args.plan { read_plan()? } else { args.to_plan().await? };
    let run = ::load::start(plan.clone())?;
    let control = run.control();
    let interrupted = signalled()?;
    let mut outcome = std::pin::pin!(run.outcome());
    let outcome = tokio::select! {
        outcome = &mut outcome => outcome?,
        () = interrupted => {
            control.stop();
            // Connections that were held tell how they were; everything else has nothing to say.
            match outcome.await {
                Ok(outcome) => outcome,
                Err(::load::LoadError::Stopped) => return Ok(ExitCode::from(INTERRUPTED)),
                Err(error) => return Err(error.into()),
            }
        }
    };
    print(args.output, &plan, &outcome)?;
    Ok(if outcome.invalid.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(format: Format, plan: &Plan, outcome: &Outcome) -> Result<()> {
    output::print(format, outcome, |outcome| report::text(plan, outcome))?;
    if let Some(reason) = &outcome.invalid {
        output::complain(&format!("{}: {reason}", output::bad("INVALID")));
    }
    Ok(())
}

fn read_plan() -> Result<Plan> {
    let mut text = String::new();
    std::io::stdin().lock().take(MOST_PLAN).read_to_string(&mut text).context("cannot read the plan")?;
    serde_json::from_str(&text).context("standard input is no plan")
}

/// Resolves when a signal says that it is enough.
fn signalled() -> Result<impl Future<Output = ()>> {
    let mut signals = Signals::install().context("cannot watch for signals")?;
    Ok(async move {
        signals.next().await;
    })
}
