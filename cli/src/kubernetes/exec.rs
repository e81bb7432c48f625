//! Programs in pods, run over the Kubernetes API: what `kubectl exec` does, over one WebSocket.
//!
//! The first byte of each binary message says which stream it is of: 0 to 2 are the program's own, 3 is a Status at the
//! program's end, and 255 says that the stream named by the next byte has ended
//! ([KEP 4006](https://github.com/kubernetes/enhancements/tree/master/keps/sig-api-machinery/4006-transition-spdy-to-websockets)).

use anyhow::{Context, Result, bail};
use futures::{SinkExt as _, StreamExt as _};
use http::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::client::Body;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::admin::http::escaped;

/// The one protocol that can say that standard input has ended: Kubernetes 1.30 and later.
const PROTOCOL: &str = "v5.channel.k8s.io";

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const END: u8 = 255;

/// A program to run in a pod.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Program<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) pod: &'a str,
    pub(crate) container: &'a str,
    /// The program and its arguments.
    pub(crate) command: &'a [&'a str],
    /// All of its standard input, some kilobytes at most.
    pub(crate) input: &'a [u8],
}

/// What came of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    /// What it wrote to its standard output.
    pub(crate) output: String,
    /// Why it did not end well, with what it wrote to its standard error.
    pub(crate) failure: Option<String>,
}

/// Runs a program to its end. Whoever calls sets the deadline.
///
/// # Errors
/// The Kubernetes API does not let it run, or the connection breaks.
pub(crate) async fn exec(client: &kube::Client, program: Program<'_>) -> Result<Ended> {
    let mut socket = open(client, program).await?;
    let sent = [message(&[STDIN], program.input), message(&[END, STDIN], &[])];
    for message in sent {
        socket.send(message).await.context("the connection to the pod broke")?;
    }
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    while let Some(message) = socket.next().await {
        let Message::Binary(bytes) = message.context("the connection to the pod broke")? else { continue };
        match &*bytes {
            [STDOUT, bytes @ ..] => output.extend_from_slice(bytes),
            [STDERR, bytes @ ..] => errors.extend_from_slice(bytes),
            [STATUS, bytes @ ..] => {
                let status: Status = serde_json::from_slice(bytes).context("the Kubernetes API sent no Status")?;
                let failure = (status.status.as_deref() != Some("Success")).then(|| {
                    let (why, said) = (status.message.unwrap_or_default(), String::from_utf8_lossy(&errors));
                    format!("{} in pod {}: {why}: {}", program.command.join(" "), program.pod, said.trim())
                });
                let output = String::from_utf8(output).context("the program wrote no text")?;
                return Ok(Ended { output, failure });
            }
            _ => {}
        }
    }
    bail!("the connection to pod {} ended before {} did", program.pod, program.command.join(" "))
}

async fn open(
    client: &kube::Client,
    program: Program<'_>,
) -> Result<WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>> {
    let Program { namespace, pod, container, command, .. } = program;
    let command: String = command.iter().map(|word| format!("&command={}", escaped(word))).collect();
    let query = format!("container={}&stdin=true&stdout=true&stderr=true{command}", escaped(container));
    let request = Request::get(format!("/api/v1/namespaces/{namespace}/pods/{pod}/exec?{query}"))
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, generate_key())
        .header(header::SEC_WEBSOCKET_PROTOCOL, PROTOCOL)
        .body(Body::empty())?;
    let response = client.send(request).await.context("the Kubernetes API does not answer")?;
    let agreed = response.headers().get(header::SEC_WEBSOCKET_PROTOCOL).map(|value| value.as_bytes().to_owned());
    let status = response.status();
    if status != StatusCode::SWITCHING_PROTOCOLS {
        let body = response.into_body().collect_bytes().await.unwrap_or_default();
        let said = serde_json::from_slice::<Status>(&body).ok().and_then(|status| status.message);
        let said = said.unwrap_or_else(|| String::from_utf8_lossy(&body).into_owned());
        bail!("cannot run a program in pod {namespace}/{pod}: the Kubernetes API answered {status}: {}", said.trim());
    }
    if agreed.as_deref() != Some(PROTOCOL.as_bytes()) {
        let found = agreed.map_or_else(|| "none".to_owned(), |found| String::from_utf8_lossy(&found).into_owned());
        bail!("the Kubernetes API speaks {found}, expected {PROTOCOL}: Kubernetes 1.30 or newer is needed");
    }
    let upgraded = hyper::upgrade::on(response).await.context("the connection cannot be upgraded")?;
    Ok(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await)
}

fn message(head: &[u8], bytes: &[u8]) -> Message {
    Message::Binary([head, bytes].concat().into())
}
