//! Programs behind a WebSocket: their streams, their end, and what becomes of them when the client leaves.

use tokio::process::Command;

use super::*;

type Socket = WebSocketStream<tokio::io::DuplexStream>;

/// No program here takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A shell that runs `script`, and the client of its session.
async fn run(script: &str) -> (Socket, tokio::task::JoinHandle<()>) {
    let mut command = Command::new("sh");
    command.args(["-c", script]).process_group(0).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let server = WebSocketStream::from_raw_socket(theirs, Role::Server, None).await;
    let session = tokio::spawn(carry(server, child));
    (WebSocketStream::from_raw_socket(ours, Role::Client, None).await, session)
}

/// What a program wrote to both streams, and its status.
async fn heard(socket: &mut Socket) -> ([String; 2], Value) {
    let mut written = [Vec::new(), Vec::new()];
    loop {
        let next = tokio::time::timeout(PATIENCE, socket.next()).await.expect("the program says something");
        let Some(Ok(Message::Binary(bytes))) = next else { panic!("{next:?}") };
        match &*bytes {
            [STDOUT, text @ ..] => written[0].extend_from_slice(text),
            [STDERR, text @ ..] => written[1].extend_from_slice(text),
            [STATUS, text @ ..] => {
                let written = written.map(|text| String::from_utf8(text).unwrap());
                return (written, serde_json::from_slice(text).unwrap());
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn streams_and_exit_code_come_through() {
    let (mut socket, session) = run("tr a-z A-Z; echo bad >&2; exit 3").await;
    for part in ["one ", "two"] {
        socket.send(message(STDIN, part.as_bytes())).await.unwrap();
    }
    socket.send(Message::Binary(vec![END, STDIN].into())).await.unwrap();
    let (written, status) = heard(&mut socket).await;
    assert_eq!(written, ["ONE TWO", "bad\n"]);
    assert_eq!(
        (&status["reason"], &status["details"]["causes"][0]["message"]),
        (&"NonZeroExitCode".into(), &"3".into())
    );
    drop(socket);
    tokio::time::timeout(PATIENCE, session).await.unwrap().unwrap();
}

#[tokio::test]
async fn more_than_any_buffer_comes_through() {
    let (mut socket, _session) = run("head -c 3000000 /dev/zero").await;
    let (written, status) = heard(&mut socket).await;
    assert_eq!((written[0].len(), &status["status"]), (3_000_000, &"Success".into()));
}

#[tokio::test]
async fn a_program_ends_with_its_client() {
    let (mut socket, session) = run("sleep 1000 & echo $!; wait").await;
    let Some(Ok(Message::Binary(bytes))) = socket.next().await else { panic!("no number") };
    let number = String::from_utf8(bytes[1..].to_vec()).unwrap();
    let child = format!("/proc/{}/stat", number.trim());
    assert!(std::fs::exists(&child).unwrap());
    drop(socket);
    tokio::time::timeout(PATIENCE, session).await.unwrap().unwrap();
    let is_gone = || std::fs::read_to_string(&child).map_or(true, |stat| stat.contains(") Z "));
    let gone = async {
        while !is_gone() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the program's child ends too");
}

#[test]
fn only_what_is_spoken_is_agreed_on() {
    let headers = |upgrade: &str, protocols: &str| {
        let fields =
            [("upgrade", upgrade), ("sec-websocket-protocol", protocols), ("sec-websocket-key", "dGhlIHNhbXBsZQ==")];
        let fields = fields.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        handshake(&fields.collect::<HeaderMap>()).map(|(protocol, _)| protocol).map_err(|status| status.code)
    };
    assert_eq!(headers("websocket", "v5.channel.k8s.io, v4.channel.k8s.io"), Ok(PROTOCOLS[0]));
    assert_eq!(headers("WebSocket", "v4.channel.k8s.io"), Ok(PROTOCOLS[1]));
    assert_eq!(headers("websocket", "channel.k8s.io"), Err(StatusCode::BAD_REQUEST));
    assert_eq!(headers("SPDY/3.1", "v4.channel.k8s.io"), Err(StatusCode::BAD_REQUEST));
}
