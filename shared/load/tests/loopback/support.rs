//! A server of the project's own, and plans.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use load::server::{Options, Server};
use load::{Kind, Pace, Plan, Protocol, Requests};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Longer than anything takes on a machine that has other work.
const LIMIT: Duration = Duration::from_secs(60);

/// A server that runs until it is dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    _end: oneshot::Sender<()>,
}

pub(crate) fn serve() -> Running {
    serve_with(|_| {})
}

pub(crate) fn serve_with(change: impl FnOnce(&mut Options)) -> Running {
    let mut options = Options::new("127.0.0.1:0".parse().unwrap());
    change(&mut options);
    let server = Server::bind(&options).unwrap();
    let address = server.address();
    let (end, ended) = oneshot::channel();
    tokio::spawn(server.serve(async {
        let _ = ended.await;
    }));
    Running { address, _end: end }
}

pub(crate) fn plan(target: SocketAddr, millis: u64, kind: Kind) -> Plan {
    Plan { target, kind, warm_up_ms: 0, duration_ms: millis, timeout_ms: 10_000 }
}

pub(crate) fn fixed(connections: u16, rate: f64) -> Kind {
    Kind::Requests(Requests::new(Protocol::Http1, connections, Pace::Fixed { rate }))
}

/// What `work` makes, in time.
pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    timeout(LIMIT, work).await.expect("it takes too long")
}
