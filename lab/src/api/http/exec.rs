//! The `exec` subresource of pods: a program's standard streams over one WebSocket.
//!
//! The first byte of each binary message says which stream it is of: 0 to 2 are the program's own, 3 is a Status at the
//! program's end, and 255 says that the stream named by the next byte has ended
//! ([KEP 4006](https://github.com/kubernetes/enhancements/tree/master/keps/sig-api-machinery/4006-transition-spdy-to-websockets)).

use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use linux::process::{Signal, kill_group};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use super::respond::Body;
use super::{Call, container};
use crate::api::core::Target;
use crate::api::{PodPrograms, ProgramRequest, Status};

/// What is spoken, best first: only the first can say that standard input has ended.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const END: u8 = 255;

/// How long the kubelet may take to start a program, and the client to change over to WebSocket.
const DEADLINE: Duration = Duration::from_secs(10);

/// Bytes of a message at most.
const CHUNK: usize = 32 << 10;

/// Messages that wait to be sent; the program waits when there are more.
const QUEUE: usize = 8;

/// Runs a program in a container.
///
/// # Errors
/// `NotFound`; `BadRequest` for another container, without WebSocket, or for a terminal, which the lab does not have.
pub(super) async fn serve(call: Call, target: Target<'_>) -> Result<Response<Body>, Status> {
    let pod = container::bound(&call, target)?;
    let name = container::asked_for(&call, &pod)?;
    if call.query.flag("tty") {
        return Err(Status::bad_request("the lab gives programs no terminal: leave out --tty"));
    }
    let command = call.query.texts("command");
    if command.is_empty() {
        return Err(Status::bad_request("you must specify at least 1 command for the container"));
    }
    let programs = call.core.programs.get().map(Arc::clone);
    let programs: Arc<dyn PodPrograms> = programs.ok_or_else(|| Status::unavailable("no kubelet runs programs yet"))?;
    let (protocol, accept) = handshake(&call.headers)?;
    let wanted = |name: &str| if call.query.flag(name) { Stdio::piped() } else { Stdio::null() };
    let request = ProgramRequest { container: name, command, standard: ["stdin", "stdout", "stderr"].map(wanted) };
    let upgrade = call.upgrade.ok_or_else(|| Status::bad_request("this connection cannot be upgraded"))?;
    let started = programs.start(&container::typed(&pod)?, request);
    let stopped = call.core.stopped.clone();
    call.core.sessions.spawn(async move {
        tokio::select! {
            () = stopped.cancelled() => {}
            () = session(upgrade, started) => {}
        }
    });
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    Ok(response)
}

/// Starts a program once the connection is a WebSocket, where its client hears why if that fails.
async fn session(upgrade: OnUpgrade, started: BoxFuture<'static, Result<Child, Status>>) {
    // A client that never changes over has left.
    let Ok(Ok(upgraded)) = tokio::time::timeout(DEADLINE, upgrade).await else { return };
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
    let late = |_elapsed| Err(Status::unavailable("the kubelet did not answer in time"));
    match tokio::time::timeout(DEADLINE, started).await.unwrap_or_else(late) {
        Ok(child) => carry(socket, child).await,
        Err(status) => {
            // Nobody hears a status that cannot be sent.
            let _ = socket.send(message(STATUS, status.to_json().to_string().as_bytes())).await;
            let _ = socket.send(goodbye()).await;
            let rest = async { while let Some(Ok(_)) = socket.next().await {} };
            let _ = tokio::time::timeout(DEADLINE, rest).await;
        }
    }
}

/// The protocol that both know, and the proof that the handshake was understood.
fn handshake(headers: &HeaderMap) -> Result<(&'static str, HeaderValue), Status> {
    let refused = || {
        let known = PROTOCOLS.join(" or ");
        Status::bad_request(format!("programs are run over WebSocket with protocol {known}, not over SPDY"))
    };
    let offered: Vec<&str> = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(str::trim))
        .collect();
    let is_websocket =
        headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let protocol = PROTOCOLS.into_iter().find(|known| offered.contains(known)).filter(|_| is_websocket);
    let key = headers.get(header::SEC_WEBSOCKET_KEY).ok_or_else(refused)?;
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes())).map_err(|_invalid| refused())?;
    Ok((protocol.ok_or_else(refused)?, accept))
}

/// Carries a program's streams until it has ended, or the client has left; then the program ends too.
///
/// No deadline: a program runs as long as the client stays.
async fn carry<S>(socket: WebSocketStream<S>, mut child: Child)
where
    S: AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let pid = child.id();
    let (mut sink, mut source) = socket.split();
    let (send, mut queue) = mpsc::channel(QUEUE);
    let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let program = async move {
        tokio::join!(forward(output, STDOUT, &send), forward(errors, STDERR, &send));
        let status = ended(child.wait().await).to_string();
        // Nobody hears a status that cannot be sent.
        let _ = send.send(message(STATUS, status.as_bytes())).await;
    };
    let write = async {
        while let Some(message) = queue.recv().await {
            if sink.send(message).await.is_err() {
                return;
            }
        }
        let _ = sink.send(goodbye()).await;
    };
    let mut left = pin!(async {
        let mut input = input;
        while let Some(Ok(message)) = source.next().await {
            match message {
                Message::Binary(bytes) => feed(&mut input, &bytes).await,
                Message::Close(_) => return,
                _ => {}
            }
        }
    });
    let is_over = tokio::select! {
        _ = async { tokio::join!(program, write) } => true,
        () = &mut left => false,
    };
    if is_over {
        // What is still unread would end the connection before the client has heard everything.
        let _ = tokio::time::timeout(DEADLINE, left).await;
    }
    // The program's own children are of its session.
    if let Some(pid) = pid {
        let _ = kill_group(pid, Signal::Kill);
    }
}

/// Sends what a program writes, to its end.
async fn forward(stream: Option<impl AsyncRead + Unpin>, channel: u8, send: &mpsc::Sender<Message>) {
    let Some(mut stream) = stream else { return };
    let mut buffer = vec![0; CHUNK];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        let Some(bytes) = buffer.get(..length) else { return };
        if send.send(message(channel, bytes)).await.is_err() {
            return;
        }
    }
}

/// Gives a program what the client sent, or the end of it. A program that does not read it any more is not disturbed.
async fn feed(input: &mut Option<ChildStdin>, bytes: &[u8]) {
    match bytes {
        [STDIN, bytes @ ..] => {
            if let Some(open) = input
                && open.write_all(bytes).await.is_err()
            {
                *input = None;
            }
        }
        [END, STDIN] => *input = None,
        _ => {}
    }
}

/// The end of a session as kubectl wants it.
fn goodbye() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))
}

fn message(channel: u8, bytes: &[u8]) -> Message {
    Message::Binary([&[channel], bytes].concat().into())
}

/// How a program ended, as kubectl reads it.
fn ended(status: std::io::Result<ExitStatus>) -> Value {
    use std::os::unix::process::ExitStatusExt as _;
    let status = match status {
        Ok(status) if status.success() => return json!({"metadata": {}, "status": "Success"}),
        Ok(status) => status,
        Err(error) => {
            let message = format!("the program cannot be waited for: {error}");
            return json!({"metadata": {}, "status": "Failure", "reason": "InternalError", "message": message});
        }
    };
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(255);
    let causes = [json!({"reason": "ExitCode", "message": code.to_string()})];
    json!({
        "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "details": {"causes": causes},
    })
}

#[cfg(test)]
mod tests;
