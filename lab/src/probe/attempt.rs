//! One attempt: on a connection made in the node's network namespace, as a kubelet's is, or a program in the container.

use std::io;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use linux::NetNs;
use linux::socket::StreamOptions;
use tokio::net::{TcpSocket, TcpStream};

use super::{Action, Plan, exec};
use crate::kubelet::Process;

/// Whom a probe asks.
#[derive(Debug)]
pub(crate) struct Target {
    /// Where connections come from.
    pub(crate) node: NetNs,
    /// The pod's address.
    pub(crate) address: IpAddr,
    /// The container, unless it had ended when it was looked at.
    pub(crate) process: Option<Process>,
}

/// Makes one attempt; `Err` says why it failed, in words for the pod's events.
pub(crate) async fn attempt(plan: &Plan, target: &Target) -> Result<(), String> {
    let Target { node, address, process } = target;
    let within = async {
        match &plan.action {
            Action::Tcp { port } => connect(node, (*address, *port).into()).await.map(drop),
            Action::Http { port, path, headers } => request(node, (*address, *port).into(), path, headers).await,
            Action::Exec { command } => exec::run(command, process.as_ref()).await,
        }
    };
    let timed_out = || match &plan.action {
        Action::Exec { command } => {
            format!("command {:?} timed out after {} s", command.join(" "), plan.timeout.as_secs())
        }
        _ => format!("no answer within {} s", plan.timeout.as_secs()),
    };
    tokio::time::timeout(plan.timeout, within).await.unwrap_or_else(|_| Err(timed_out()))
}

async fn connect(node: &NetNs, target: SocketAddr) -> Result<TcpStream, String> {
    let open = || -> io::Result<TcpSocket> {
        let stream = node.run(|| linux::socket::stream(target, &StreamOptions::default()))??;
        Ok(TcpSocket::from_std_stream(stream))
    };
    let failed = |error: io::Error| format!("dial tcp {target}: {error}");
    open().map_err(failed)?.connect(target).await.map_err(failed)
}

async fn request(node: &NetNs, target: SocketAddr, path: &str, headers: &[(String, String)]) -> Result<(), String> {
    let stream = connect(node, target).await?;
    let failed = |error: hyper::Error| format!("Get \"http://{target}{path}\": {error}");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let mut request = Request::get(path);
    let has_host = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
    if !has_host {
        request = request.header("host", target.to_string());
    }
    request = request.header("user-agent", "kube-probe/1.36").header("accept", "*/*").header("connection", "close");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| format!("the probe's request: {error}"))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        let status = response.status();
        if (200..400).contains(&status.as_u16()) {
            Ok(())
        } else {
            Err(format!("HTTP probe failed with statuscode: {}", status.as_u16()))
        }
    };
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        answered = answer.as_mut() => return answered,
        _ = connection => {}
    }
    answer.await
}
