//! Our own side of a connection, as a test drives it.

use std::time::Duration;

use hbone::client::{self, Client};
use hbone::server::{self, Incoming, Request};
use hbone::{HboneError, Parameters, Stream};
use tokio::io::duplex;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::raw::*;

/// Nothing in these tests takes longer, unless it waits for something that does not come.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Bytes that the transport between two peers holds.
pub(crate) const PIPE: usize = 1 << 16;

pub(crate) fn deadline() -> Instant {
    Instant::now() + DEADLINE
}

pub(crate) fn connect(authority: &str) -> client::Connect {
    client::Connect::new(authority.parse().unwrap())
}

/// A server of ours whose frames are moved by a task.
pub(crate) struct Served {
    requests: mpsc::Receiver<Incoming>,
    orders: mpsc::Sender<Order>,
    task: JoinHandle<Result<(), HboneError>>,
}

enum Order {
    Drain,
    Abort,
}

impl Served {
    pub(crate) fn new<T>(io: T, parameters: Parameters) -> Self
    where
        T: ::io::Transport + Send + 'static,
    {
        let (send, requests) = mpsc::channel(1024);
        let (orders, received) = mpsc::channel(1);
        let task = tokio::spawn(serve(io, parameters, send, received));
        Self { requests, orders, task }
    }

    pub(crate) async fn incoming(&mut self) -> Incoming {
        self.next().await.expect("server ended")
    }

    /// As [`Served::incoming`]; `None` when the connection has ended.
    pub(crate) async fn next(&mut self) -> Option<Incoming> {
        timeout(DEADLINE, self.requests.recv()).await.expect("no request arrives")
    }

    pub(crate) async fn request(&mut self) -> Request {
        match self.incoming().await {
            Incoming::Request(request) => request,
            Incoming::Refused(refusal) => panic!("refused: {refusal}"),
        }
    }

    pub(crate) async fn accept(&mut self) -> Stream {
        self.request().await.accept(None).unwrap()
    }

    pub(crate) async fn drain(&self) {
        self.orders.send(Order::Drain).await.unwrap();
    }

    pub(crate) async fn abort(&self) {
        self.orders.send(Order::Abort).await.unwrap();
    }

    /// How the connection ended.
    pub(crate) async fn end(&mut self) -> Result<(), HboneError> {
        timeout(DEADLINE, &mut self.task).await.expect("server goes on").unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve<T>(
    io: T,
    parameters: Parameters,
    requests: mpsc::Sender<Incoming>,
    mut orders: mpsc::Receiver<Order>,
) -> Result<(), HboneError>
where
    T: ::io::Transport + Send + 'static,
{
    let mut server = server::handshake(io, &parameters).await?;
    loop {
        tokio::select! {
            incoming = server.next() => match incoming {
                Some(incoming) => drop(requests.send(incoming?).await),
                None => return Ok(()),
            },
            Some(order) = orders.recv() => match order {
                Order::Drain => server.drain(),
                Order::Abort => server.abort(),
            },
        }
    }
}

/// A client of ours whose frames are moved by a task.
pub(crate) struct Dialled {
    pub(crate) client: Client,
    task: JoinHandle<Result<(), HboneError>>,
}

impl Dialled {
    pub(crate) async fn new<T>(io: T, parameters: &Parameters) -> Self
    where
        T: ::io::Transport + Send + 'static,
    {
        let (client, driver) = timeout(DEADLINE, client::handshake(io, parameters)).await.unwrap().unwrap();
        Self { client, task: tokio::spawn(driver) }
    }

    /// How the connection ended, once all handles are gone.
    pub(crate) async fn end(&mut self) -> Result<(), HboneError> {
        timeout(DEADLINE, &mut self.task).await.expect("client goes on").unwrap()
    }

    pub(crate) async fn open(&self, authority: &str) -> Stream {
        self.client.connect(&connect(authority), deadline()).await.unwrap().stream
    }
}

impl Drop for Dialled {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An accepted stream of our server and the hand-written client at its other end.
pub(crate) async fn accepted() -> (Served, Stream, Raw) {
    let (near, far) = duplex(PIPE);
    let mut served = Served::new(near, Parameters::default());
    let mut raw = Raw::client(far, &[]).await;
    raw.send_connect(1, "a:80").await;
    let stream = served.accept().await;
    raw.next(HEADERS).await;
    (served, stream, raw)
}

/// An open stream of our client and the hand-written server at its other end.
pub(crate) async fn opened() -> (Dialled, Stream, Raw) {
    let (near, far) = duplex(PIPE);
    let dialled = Dialled::new(near, &Parameters::default()).await;
    let answer = async {
        let mut raw = Raw::server(far, &[]).await;
        raw.next(HEADERS).await;
        raw.send(HEADERS, END_HEADERS, 1, STATUS_200).await;
        raw
    };
    let (stream, raw) = tokio::join!(dialled.open("a:80"), answer);
    (dialled, stream, raw)
}

/// Waits until a condition holds; the scheduler gets its turns meanwhile.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let give_up = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < give_up, "{what} does not come");
        sleep(Duration::from_millis(1)).await;
    }
}
