//! `aquifer echo`: a peer to test a network with, and its clients.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use ::echo::client::{crowd, load, stream};
use ::echo::{Options, Pod, Server};
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use drain::Signals;
use serde_json::json;
use tokio::io::AsyncReadExt;

use crate::argument::duration;
use crate::output;
use crate::program::command_runtime;

/// Answer over HTTP/1.1, WebSocket, HTTP/2, gRPC, TCP and server-first TCP, and say what was seen.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  aquifer echo                                     listens on 8080, 8081, 9000 and 9001
  curl 'localhost:8080/?delay=100ms&status=503'    a late refusal
  curl 'localhost:8080/?size=10m' -o /dev/null     ten megabytes
  grpcurl -plaintext -d '{\"message\":\"hi\"}' localhost:8081 aquifer.echo.v1.Echo/Echo
  aquifer echo client load --url http://localhost:8080/ --rate 200 --for 3s"
)]
pub(crate) struct EchoArgs {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Put load on a peer, or check a stream through it.
    #[command(subcommand)]
    Client(Client),
}

#[derive(Debug, Subcommand)]
enum Client {
    Load(LoadArgs),
    Stream(StreamArgs),
    Crowd(CrowdArgs),
}

#[derive(Debug, Args)]
struct ServerArgs {
    /// Address to listen on; all of both families without it.
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<IpAddr>,
    /// Port of HTTP/1.1 and WebSocket.
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    http: u16,
    /// Port of HTTP/2 without TLS and of gRPC, with reflection and health.
    #[arg(long, value_name = "PORT", default_value_t = 8081)]
    h2c: u16,
    /// Port that sends back each byte.
    #[arg(long, value_name = "PORT", default_value_t = 9000)]
    tcp: u16,
    /// Port that speaks first, then sends back each byte.
    #[arg(long, value_name = "PORT", default_value_t = 9001)]
    server_first: u16,
    /// Connections that each port serves at a time; more wait.
    #[arg(long, value_name = "N", env = "ECHO_MAX_CONNECTIONS", default_value_t = ::echo::MAX_CONNECTIONS)]
    max_connections: usize,
    /// Go on serving so long after being told to end: whoever sends requests here learns of it a moment later.
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = duration)]
    linger: Duration,
    /// The name that is reported.
    #[arg(long, value_name = "NAME", env = "POD_NAME", default_value = "")]
    pod_name: String,
    /// The namespace that is reported.
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE", default_value = "")]
    pod_namespace: String,
    /// The node that is reported.
    #[arg(long, value_name = "NODE", env = "NODE_NAME", default_value = "")]
    node_name: String,
    /// The address that is reported.
    #[arg(long, value_name = "ADDRESS", env = "POD_IP", default_value = "")]
    pod_ip: String,
    /// The version that is reported.
    #[arg(long, value_name = "TEXT", env = "VERSION", default_value = "")]
    reported_version: String,
    /// The name that is reported when the pod has none.
    #[arg(long, env = "HOSTNAME", default_value = "", hide = true)]
    host_name: String,
}

/// Send requests at a steady rate, a new connection for each, without retries; report as JSON.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  aquifer echo client load --url http://cart/ --rate 200 --for 3s
  aquifer echo client load --url http://cart/ --until-stdin-close --header 'x-user: me'

The first line says that it has begun, the last one is the report.")]
struct LoadArgs {
    /// Where to: http://host:port/path. The name is looked up once.
    #[arg(long, value_name = "URL")]
    url: String,
    /// Requests per second.
    #[arg(long, value_name = "N", default_value_t = 200)]
    rate: u32,
    #[command(flatten)]
    end: End,
    /// A request that takes longer has failed.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    timeout: Duration,
    /// A header of each request; may be given more than once.
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
}

/// Send one long stream through a TCP echo and compare each byte that comes back; report as JSON.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  aquifer echo client stream --to cart:9000 --for 10s
  aquifer echo client stream --to cart:9001 --banner --until-stdin-close

The first line says that the stream stands, the last one is the report.")]
struct StreamArgs {
    /// Where to: host:port.
    #[arg(long, value_name = "HOST:PORT")]
    to: String,
    /// Chunks of 512 bytes per second.
    #[arg(long, value_name = "N", default_value_t = 100)]
    rate: u32,
    /// The peer speaks first, one line.
    #[arg(long)]
    banner: bool,
    #[command(flatten)]
    end: End,
}

/// Hold many connections to a TCP echo, and when all are open exchange bytes on each again; report as JSON.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  aquifer echo client crowd --to cart:9000 --connections 10000 --for 10s

The first line says that it has begun, the second one how many are open, the last one is the report.")]
struct CrowdArgs {
    /// Where to: host:port.
    #[arg(long, value_name = "HOST:PORT")]
    to: String,
    /// How many connections.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    connections: usize,
    /// A connection has failed that takes longer to open or to exchange bytes.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    timeout: Duration,
    #[command(flatten)]
    end: End,
}

/// When a client ends; many connections are idle until then.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct End {
    /// End after this time.
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// End when standard input is closed.
    #[arg(long)]
    until_stdin_close: bool,
}

/// Runs the verb.
pub(crate) fn run(args: EchoArgs) -> Result<ExitCode> {
    linux::process::raise_open_files()?;
    let runtime = command_runtime()?;
    let code = match args.role {
        None => runtime.block_on(serve(args.server)),
        Some(Role::Client(Client::Load(args))) => runtime.block_on(Box::pin(put_load(args))),
        Some(Role::Client(Client::Stream(args))) => runtime.block_on(Box::pin(run_stream(args))),
        Some(Role::Client(Client::Crowd(args))) => runtime.block_on(Box::pin(hold_crowd(args))),
    };
    // A read of standard input cannot be given up; the process ends without it.
    runtime.shutdown_background();
    code
}

async fn serve(args: ServerArgs) -> Result<ExitCode> {
    let mut signals = Signals::install().context("cannot watch for signals")?;
    let name = if args.pod_name.is_empty() { args.host_name } else { args.pod_name };
    let pod = Pod {
        name,
        namespace: args.pod_namespace,
        node: args.node_name,
        ip: args.pod_ip,
        version: args.reported_version,
    };
    let options = Options {
        bind: args.bind,
        http: args.http,
        h2c: args.h2c,
        tcp: args.tcp,
        server_first: args.server_first,
        max_connections: args.max_connections,
        pod,
    };
    let server = Server::bind(&options).await?;
    output::print_line(&json!({"listening": server.addresses()}))?;
    server
        .serve(async {
            signals.next().await;
            tokio::select! {
                () = tokio::time::sleep(args.linger) => {}
                // Told twice.
                _ = signals.next() => {}
            }
        })
        .await;
    Ok(ExitCode::SUCCESS)
}

async fn put_load(args: LoadArgs) -> Result<ExitCode> {
    let options = load::Options {
        url: args.url,
        rate: args.rate,
        duration: args.end.duration,
        timeout: args.timeout,
        headers: args.headers.iter().map(|text| header(text)).collect::<Result<_>>()?,
    };
    let report = load::run(&options, started, stop(&args.end)?).await?;
    output::print_line(&report)?;
    Ok(if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn run_stream(args: StreamArgs) -> Result<ExitCode> {
    let options = stream::Options { to: args.to, rate: args.rate, duration: args.end.duration, banner: args.banner };
    let report = Box::pin(stream::run(&options, started, stop(&args.end)?)).await?;
    output::print_line(&report)?;
    Ok(if report.whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn hold_crowd(args: CrowdArgs) -> Result<ExitCode> {
    let CrowdArgs { to, connections, timeout, end } = args;
    let options = crowd::Options { to, connections, duration: end.duration, timeout };
    let opened = |count: usize| drop(output::print_line(&json!({"opened": count})));
    let report = Box::pin(crowd::run(&options, started, opened, stop(&end)?)).await?;
    output::print_line(&report)?;
    Ok(if report.ok == connections { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn header(text: &str) -> Result<(String, String)> {
    match text.split_once(':') {
        Some((name, value)) => Ok((name.trim().to_owned(), value.trim().to_owned())),
        None => bail!("--header {text:?} is not of the form NAME: VALUE"),
    }
}

/// A reader that is gone is no reason not to send: the report is then lost, and the exit code is not.
fn started(address: SocketAddr) {
    let _ = output::print_line(&json!({"started": address}));
}

/// Resolves at the end that was asked for, or when a signal comes.
fn stop(end: &End) -> Result<impl Future<Output = ()> + use<>> {
    let mut signals = Signals::install().context("cannot watch for signals")?;
    let until_close = end.until_stdin_close;
    Ok(async move {
        let closed = async {
            if !until_close {
                std::future::pending::<()>().await;
            }
            let mut input = tokio::io::stdin();
            let mut rest = [0; 1024];
            while matches!(input.read(&mut rest).await, Ok(1..)) {}
        };
        tokio::select! {
            () = closed => {}
            _ = signals.next() => {}
        }
    })
}
