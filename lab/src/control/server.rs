//! The lab's side: one task per connection, one request per connection.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use linux::NetNs;
use linux::process::{Signal as ProcessSignal, kill_group};
use linux::seqpacket::{Connection, Listener};
use tokio::io::Interest;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::channel::{Channel, watched};
use super::message::{ExecRequest, LogsRequest, Message, Request, Signal, Target};
use crate::api::{Client, LogRequest, PodLogs};
use crate::fabric::Node;
use crate::kubelet::{self, Process, Roster};
use crate::status;

/// Connections at a time; further ones wait.
const MAX_CONNECTIONS: usize = 64;

/// A command must have sent its request by then, and take an answer that is at hand.
const DEADLINE: Duration = Duration::from_secs(10);

/// Wait after a failed accept, so that the loop does not spin.
const PAUSE: Duration = Duration::from_millis(50);

/// What requests are answered from.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) roster: Arc<Roster>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) fabric: NetNs,
    /// Ends the lab.
    pub(crate) shutdown: CancellationToken,
}

/// A program that is running for a command, and what its messages say about it.
enum Heard {
    Signal(ProcessSignal),
    Gone,
}

/// Serves until its task is ended.
///
/// # Errors
/// When the socket cannot be used.
pub(crate) async fn serve(listener: Listener, context: Arc<Context>) -> io::Result<()> {
    let listener = watched(listener, Interest::READABLE)?;
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        while connections.try_join_next().is_some() {}
        match listener.async_io(Interest::READABLE, Listener::accept).await {
            Ok(connection) => {
                let context = Arc::clone(&context);
                connections.spawn(async move {
                    if let Err(error) = answer(connection, &context).await {
                        tracing::debug!(%error, "a command's connection ended early");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a command's connection cannot be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    Ok(())
}

async fn answer(connection: Connection, context: &Context) -> io::Result<()> {
    let channel = Channel::new(connection)?;
    let Some((Message::Request(request), _)) = within(channel.receive()).await? else {
        return channel.send(&Message::Failed("a request was expected".into()), None).await;
    };
    let outcome = match request {
        Request::Status => {
            let text = serde_json::to_vec(&status::collect(&context.client)).map_err(io::Error::from)?;
            within(channel.send_data(&text)).await.map(|()| Ok(0))
        }
        Request::Down => {
            within(channel.send(&Message::Done(0), None)).await?;
            context.shutdown.cancel();
            return Ok(());
        }
        Request::Logs(request) => logs(&channel, context, request).await,
        Request::Exec(request) => exec(&channel, context, request).await,
    };
    let last = match outcome? {
        Ok(code) => Message::Done(code),
        Err(why) => Message::Failed(why),
    };
    within(channel.send(&last, None)).await
}

async fn within<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(DEADLINE, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn logs(channel: &Channel, context: &Context, request: LogsRequest) -> io::Result<Result<i32, String>> {
    let pod = match context.client.fetch::<Pod>(Some(&request.namespace), &request.pod) {
        Ok(pod) => pod,
        Err(status) => return Ok(Err(status.message)),
    };
    let wanted = LogRequest {
        container: request.container,
        follow: request.follow,
        previous: request.previous,
        timestamps: request.timestamps,
        tail_lines: request.tail,
        ..LogRequest::default()
    };
    let mut stream = match context.roster.open(&pod, wanted).await {
        Ok(stream) => stream,
        Err(status) => return Ok(Err(status.message)),
    };
    loop {
        // No deadline: whoever follows a log waits as long as they like, and is heard when they leave.
        let chunk = tokio::select! {
            chunk = stream.next() => chunk,
            heard = channel.receive() => match heard? {
                None => return Ok(Ok(0)),
                Some(_) => continue,
            },
        };
        match chunk {
            Some(chunk) => channel.send_data(&chunk?).await?,
            None => return Ok(Ok(0)),
        }
    }
}

async fn exec(channel: &Channel, context: &Context, request: ExecRequest) -> io::Result<Result<i32, String>> {
    let mut standard = Vec::new();
    while standard.len() < 3 {
        match within(channel.receive()).await? {
            Some((Message::Descriptor, Some(descriptor))) => standard.push(descriptor),
            _ => return Ok(Err("three descriptors were expected".into())),
        }
    }
    let Ok(standard) = <[OwnedFd; 3]>::try_from(standard) else { return Ok(Err("three descriptors".into())) };
    let (network, inside) = match place(context, &request.target) {
        Ok(place) => place,
        Err(why) => return Ok(Err(why)),
    };
    let ExecRequest { command, environment, .. } = request;
    let standard = standard.map(Stdio::from);
    let run = move || kubelet::run_program(&command, environment, &network, inside.as_ref(), standard);
    let started = tokio::task::spawn_blocking(run).await;
    let mut child = match started.map_err(io::Error::other)? {
        Ok(child) => child,
        Err(why) => return Ok(Err(why)),
    };
    let Some(pid) = child.id() else { return Ok(Err("the program ended before it began".into())) };
    loop {
        // No deadline: the program runs as long as the command that asked for it stays.
        let heard = tokio::select! {
            ended = child.wait() => {
                let status = ended?;
                return Ok(Ok(status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(255)));
            }
            message = channel.receive() => heard(message),
        };
        match heard {
            Heard::Signal(signal) => kill_group(pid, signal)?,
            Heard::Gone => {
                kill_group(pid, ProcessSignal::Kill)?;
                return Ok(Ok(255));
            }
        }
    }
}

fn heard(message: io::Result<Option<(Message, Option<OwnedFd>)>>) -> Heard {
    match message {
        Ok(Some((Message::Signal(signal), _))) => Heard::Signal(match signal {
            Signal::Interrupt => ProcessSignal::Interrupt,
            Signal::Terminate => ProcessSignal::Terminate,
            Signal::Hangup => ProcessSignal::Hangup,
        }),
        _ => Heard::Gone,
    }
}

/// The network to run in, and the container to enter if it is one.
fn place(context: &Context, target: &Target) -> Result<(NetNs, Option<Process>), String> {
    match target {
        Target::Fabric => Ok((context.fabric.clone(), None)),
        Target::Node(name) => {
            let found = context.nodes.iter().find(|node| node.plan.name == *name);
            let names = || context.nodes.iter().map(|node| node.plan.name.as_str()).collect::<Vec<_>>().join(", ");
            let node = found.ok_or_else(|| format!("no node {name:?}; the lab has: {}", names()))?;
            Ok((node.network.clone(), None))
        }
        Target::Pod { namespace, pod, container } => {
            let process = context.roster.process(namespace, pod, container.as_deref())?;
            Ok((process.network.clone(), Some(process)))
        }
    }
}
