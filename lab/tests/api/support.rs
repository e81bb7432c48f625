//! A server on loopback and a small HTTP client that sends exactly what it is told.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use lab::api::{Client, Options, Server};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// No test waits longer for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A server with the namespace `shop`, its controllers, and listeners with and without TLS.
pub(crate) struct Lab {
    pub(crate) server: Server,
    pub(crate) client: Client,
    pub(crate) plain: SocketAddr,
    pub(crate) tls: SocketAddr,
    controllers: JoinHandle<()>,
}

impl Lab {
    pub(crate) fn start() -> Self {
        let server = Server::new(&Options { namespaces: vec!["shop".into()], ..Options::default() }).unwrap();
        let [plain, tls] = [0, 0].map(|port| TcpListener::bind(("127.0.0.1", port)).unwrap());
        let addresses = (plain.local_addr().unwrap(), tls.local_addr().unwrap());
        server.serve_plain(plain).unwrap();
        server.serve_tls(tls).unwrap();
        let client = server.client();
        let controllers = tokio::spawn(lab::controllers::run(client.clone()));
        Self { server, client, plain: addresses.0, tls: addresses.1, controllers }
    }

    /// A kubeconfig for the TLS listener.
    pub(crate) fn kubeconfig(&self) -> String {
        self.server.kubeconfig(&format!("https://{}", self.tls))
    }

    /// Sends a request as the administrator and reads the whole response.
    pub(crate) async fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.send(method, path, &[("Content-Type", "application/json")], body.as_bytes()).await
    }

    /// As [`Lab::call`], with headers of one's own and any bytes.
    pub(crate) async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, Value) {
        let response = self.raw(method, path, headers, body).await;
        let value = serde_json::from_slice(&response.body)
            .unwrap_or_else(|_| String::from_utf8_lossy(&response.body).into_owned().into());
        (response.status, value)
    }

    pub(crate) async fn raw(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "Authorization") {
            head.push_str(&format!("Authorization: Bearer {}\r\n", self.server.admin_token()));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        let mut stream = TcpStream::connect(self.plain).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        // The server may refuse a large body before all of it was sent.
        let _refused = stream.write_all(body).await;
        tokio::time::timeout(DEADLINE, Response::read(stream)).await.expect("the server must answer")
    }

    /// Ends the server and its controllers.
    pub(crate) async fn stop(self) {
        tokio::time::timeout(DEADLINE, self.server.stop()).await.expect("the server must stop");
        self.controllers.await.unwrap();
    }
}

/// A whole response.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Response {
    async fn read(stream: TcpStream) -> Self {
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).await.unwrap_or(0) == 0 {
                break;
            }
        }
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let mut body = Vec::new();
        if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
            loop {
                let mut size = String::new();
                reader.read_line(&mut size).await.unwrap();
                let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
                if size == 0 {
                    break;
                }
                let mut chunk = vec![0; size + 2];
                reader.read_exact(&mut chunk).await.unwrap();
                body.extend_from_slice(&chunk[..size]);
            }
        } else {
            let _reset = reader.read_to_end(&mut body).await;
        }
        Self { status, head, body }
    }

    /// The events of a watch that has ended.
    pub(crate) fn events(&self) -> Vec<Value> {
        let lines = self.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }
}

/// Waits until a condition holds.
pub(crate) async fn wait_until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("{what} did not come about"));
}
