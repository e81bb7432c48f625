//! The agent over HTTP.

use std::net::SocketAddr;

use load::agent::Agent;
use load::{Idle, Kind, Outcome};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::support::{fixed, plan, serve, within};

async fn agent() -> SocketAddr {
    let agent = Agent::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = agent.address();
    tokio::spawn(agent.serve(std::future::pending()));
    address
}

/// Status and body.
async fn ask(agent: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(agent).await.unwrap();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: agent\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

async fn status(agent: SocketAddr) -> Value {
    serde_json::from_str(&ask(agent, "GET", "/status", "").await.1).unwrap()
}

/// Asks until the status is as expected.
async fn until(agent: SocketAddr, is_reached: impl Fn(&Value) -> bool) {
    within(async {
        while !is_reached(&status(agent).await) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn plans_are_carried_out_one_at_a_time() {
    let (agent, server) = (agent().await, serve());
    let idle = serde_json::to_string(&plan(server.address, 600_000, Kind::Idle(Idle { connections: 30 }))).unwrap();
    let quick = serde_json::to_string(&plan(server.address, 100, fixed(2, 100.0))).unwrap();
    assert_eq!(status(agent).await, serde_json::json!({"running": false}));
    assert_eq!(ask(agent, "POST", "/stop", "").await.0, 409);

    let held = tokio::spawn(async move { ask(agent, "POST", "/run", &idle).await });
    until(agent, |status| status["phase"] == "holding" && status["open"] == 30).await;
    assert_eq!(ask(agent, "POST", "/run", &quick).await.0, 409);
    assert_eq!(ask(agent, "POST", "/stop", "").await.0, 204);
    let (code, body) = within(held).await.unwrap();
    let outcome: Outcome = serde_json::from_str(&body).unwrap();
    assert_eq!((code, outcome.held, outcome.lost), (200, 30, 0));

    let (code, body) = ask(agent, "POST", "/run", &quick).await;
    let outcome: Outcome = serde_json::from_str(&body).unwrap();
    assert_eq!((code, outcome.answered), (200, 10));
}

#[tokio::test]
async fn a_plan_ends_with_the_connection_of_whoever_asked_for_it() {
    let (agent, server) = (agent().await, serve());
    let idle = serde_json::to_string(&plan(server.address, 600_000, Kind::Idle(Idle { connections: 1 }))).unwrap();
    let mut stream = TcpStream::connect(agent).await.unwrap();
    let request = format!("POST /run HTTP/1.1\r\nhost: agent\r\ncontent-length: {}\r\n\r\n{idle}", idle.len());
    stream.write_all(request.as_bytes()).await.unwrap();
    until(agent, |status| status["phase"] == "holding").await;
    drop(stream);
    until(agent, |status| status["running"] == false).await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_a_reason() {
    let agent = agent().await;
    let refused = plan(([127, 0, 0, 1], 1).into(), 0, fixed(2, 100.0));
    let (code, body) = ask(agent, "POST", "/run", &serde_json::to_string(&refused).unwrap()).await;
    assert_eq!((code, body.as_str()), (400, r#"{"error":"duration_ms is 0; expected 1 ms to an hour"}"#));
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, body) =
        ask(agent, "POST", "/run", &serde_json::to_string(&plan(nobody, 9, fixed(1, 1.0))).unwrap()).await;
    assert_eq!((code, body), (502, format!(r#"{{"error":"cannot connect to {nobody}: refused"}}"#)));
    assert_eq!(ask(agent, "POST", "/run", "{}").await.0, 400);
    assert_eq!(ask(agent, "GET", "/run", "").await.0, 405);
    assert_eq!(ask(agent, "GET", "/", "").await.0, 404);
}
