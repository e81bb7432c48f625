//! The pool: who shares a connection, who waits for whom, and when connections go.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use hbone::client::{Connected, Pool};
use hbone::{DialError, HboneError, Parameters, Status, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::raw::*;
use crate::support::*;

/// A pool and the far ends of the transports that it dials.
struct World {
    pool: Pool<&'static str>,
    dials: Arc<AtomicUsize>,
    transports: mpsc::Receiver<DuplexStream>,
    dial: mpsc::Sender<DuplexStream>,
}

type Dialling = BoxFuture<'static, Result<DuplexStream, DialError>>;

impl World {
    fn new(parameters: Parameters) -> Self {
        let (dial, transports) = mpsc::channel(64);
        Self { pool: Pool::new(parameters), dials: Arc::default(), transports, dial }
    }

    /// Dials that succeed at once.
    fn dial(&self) -> impl Fn() -> Dialling + Send + Sync + use<> {
        let (dials, transports) = (Arc::clone(&self.dials), self.dial.clone());
        move || {
            dials.fetch_add(1, Ordering::SeqCst);
            let transports = transports.clone();
            Box::pin(async move {
                let (near, far) = duplex(PIPE);
                transports.send(far).await.map_err(|_| DialError::connect(io::Error::other("test over")))?;
                Ok(near)
            })
        }
    }

    fn dials(&self) -> usize {
        self.dials.load(Ordering::SeqCst)
    }

    fn open(&self, key: &'static str) -> impl Future<Output = Result<Connected, HboneError>> + Send + use<> {
        let (pool, dial) = (self.pool.clone(), self.dial());
        async move { pool.open(&key, &connect("a:80"), deadline(), dial).await }
    }

    async fn transport(&mut self) -> DuplexStream {
        timeout(DEADLINE, self.transports.recv()).await.expect("nobody dials").unwrap()
    }

    /// Serves every connection that is dialled, answering every request with 200 and echo.
    fn serve_all(&mut self, parameters: Parameters) {
        let (unused, _) = mpsc::channel(1);
        self.dial = unused;
        let (dial, mut transports) = mpsc::channel(64);
        self.dial = dial;
        tokio::spawn(async move {
            while let Some(far) = transports.recv().await {
                tokio::spawn(echo(Served::new(far, parameters.clone())));
            }
        });
    }

    /// Opens a tunnel on a new connection that a server of ours answers.
    async fn first(&mut self, key: &'static str) -> (Stream, Served) {
        let open = tokio::spawn(self.open(key));
        let mut served = Served::new(self.transport().await, Parameters::default());
        served.request().await.accept(None).map(echo_stream).unwrap();
        (open.await.unwrap().unwrap().stream, served)
    }
}

async fn echo(mut served: Served) {
    loop {
        // A client that gave up meanwhile has reset its stream.
        served.request().await.accept(None).map(echo_stream).unwrap_or_default();
    }
}

fn echo_stream(stream: Stream) {
    tokio::spawn(async move {
        let (mut read, mut write) = stream.into_halves();
        while let Ok(Some(chunk)) = read.chunk().await {
            if write.send(chunk).await.is_err() {
                return;
            }
        }
        let _ = write.shutdown().await;
    });
}

async fn expect_echo(stream: &mut Stream) {
    stream.write_all(b"echo").await.unwrap();
    let mut text = [0; 4];
    timeout(DEADLINE, stream.read_exact(&mut text)).await.unwrap().unwrap();
    assert_eq!(&text, b"echo");
}

#[tokio::test]
async fn tunnels_share_a_connection_with_those_of_the_same_key() {
    let mut world = World::new(Parameters::default());
    world.serve_all(Parameters::default());
    let mut streams = Vec::new();
    for _ in 0..5 {
        streams.push(world.open("one").await.unwrap().stream);
    }
    assert_eq!((world.dials(), world.pool.connections(), world.pool.streams()), (1, 1, 5));
    streams.push(world.open("other").await.unwrap().stream);
    assert_eq!((world.dials(), world.pool.connections(), world.pool.streams()), (2, 2, 6));
    for stream in &mut streams {
        expect_echo(stream).await;
    }
}

#[tokio::test]
async fn a_full_connection_is_used_again_once_a_stream_has_ended() {
    let mut world = World::new(Parameters { client_streams: 3, ..Parameters::default() });
    world.serve_all(Parameters::default());
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(world.open("a").await.unwrap().stream);
    }
    assert_eq!(world.dials(), 2);
    for _ in 0..20 {
        // One of the first connection's streams ends; the second connection fills up meanwhile.
        drop(streams.remove(0));
        streams.push(world.open("a").await.unwrap().stream);
    }
    assert_eq!((world.dials(), world.pool.connections()), (2, 2));
}

#[tokio::test]
async fn a_hundred_streams_fit_a_connection_and_one_more_does_not() {
    let mut world = World::new(Parameters::default());
    world.serve_all(Parameters::default());
    let opened = join_all((0..100).map(|_| world.open("a"))).await;
    let mut streams: Vec<_> = opened.into_iter().map(|opened| opened.unwrap().stream).collect();
    assert_eq!(world.dials(), 1);
    streams.push(world.open("a").await.unwrap().stream);
    assert_eq!(world.dials(), 2);
    for stream in &mut streams {
        expect_echo(stream).await;
    }
}

#[tokio::test]
async fn the_peers_own_limit_is_kept() {
    let mut world = World::new(Parameters::default());
    world.serve_all(Parameters { server_streams: 2, ..Parameters::default() });
    let opened = join_all((0..7).map(|_| world.open("a"))).await;
    let streams: Vec<_> = opened.into_iter().map(|opened| opened.unwrap().stream).collect();
    assert_eq!((world.dials(), streams.len()), (4, 7));
}

#[tokio::test]
async fn concurrent_first_tunnels_wait_for_one_dial() {
    let mut world = World::new(Parameters::default());
    world.serve_all(Parameters::default());
    let opened = join_all((0..50).map(|_| tokio::spawn(world.open("a")))).await;
    assert!(opened.iter().all(|opened| opened.as_ref().unwrap().is_ok()));
    assert_eq!(world.dials(), 1);
}

#[tokio::test]
async fn the_first_request_does_not_wait_for_the_peers_settings() {
    let mut world = World::new(Parameters::default());
    let open = tokio::spawn(world.open("a"));
    let mut io = world.transport().await;
    // Preface and our SETTINGS and WINDOW_UPDATE, then HEADERS, while the server has said nothing.
    let mut seen = vec![0; PREFACE.len()];
    io.read_exact(&mut seen).await.unwrap();
    loop {
        let mut header = [0; 9];
        timeout(DEADLINE, io.read_exact(&mut header)).await.expect("no request before SETTINGS").unwrap();
        let length = usize::from(header[1]) << 8 | usize::from(header[2]);
        io.read_exact(&mut vec![0; length]).await.unwrap();
        if header[3] == HEADERS {
            break;
        }
    }
    open.abort();
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_learn_of_a_failure_at_once() {
    let world = World::new(Parameters::default());
    let dials = Arc::new(AtomicUsize::new(0));
    let start = Instant::now();
    for round in 1..=2 {
        let opened = join_all((0..50).map(|_| {
            let (pool, dials) = (world.pool.clone(), Arc::clone(&dials));
            tokio::spawn(async move {
                let refused = || {
                    dials.fetch_add(1, Ordering::SeqCst);
                    async {
                        sleep(Duration::from_secs(1)).await;
                        Err::<DuplexStream, _>(DialError::connect(io::Error::from(io::ErrorKind::ConnectionRefused)))
                    }
                };
                pool.open(&"a", &connect("a:80"), deadline(), refused).await
            })
        }))
        .await;
        for opened in opened {
            let error = opened.unwrap().unwrap_err();
            assert!(matches!(error, HboneError::Dial(DialError::Connect(_))), "{error}");
            assert!(error.permits_another_endpoint());
        }
        assert_eq!((dials.load(Ordering::SeqCst), start.elapsed().as_secs()), (round, round as u64));
    }
    assert_eq!(world.pool.connections(), 0);
}

#[tokio::test]
async fn a_connection_that_breaks_before_settings_fails_all_who_wait() {
    // As when the server turns the client's certificate down: in TLS 1.3 that comes after the client's handshake.
    let mut world = World::new(Parameters::default());
    let waiting: Vec<_> = (0..20).map(|_| tokio::spawn(world.open("a"))).collect();
    drop(world.transport().await);
    let outcomes = timeout(DEADLINE, join_all(waiting)).await.unwrap();
    assert!(outcomes.into_iter().all(|outcome| outcome.unwrap().is_err()));
    assert_eq!(world.dials(), 1);
}

#[tokio::test]
async fn one_who_gives_up_does_not_spoil_the_dial_for_others() {
    let mut world = World::new(Parameters::default());
    let first = tokio::spawn(world.open("a"));
    let transport = world.transport().await;
    let second = tokio::spawn(world.open("a"));
    eventually("a dial", || world.dials() == 1).await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    tokio::spawn(echo(Served::new(transport, Parameters::default())));
    second.await.unwrap().unwrap();
    assert_eq!(world.dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dial_that_hangs_ends_in_time() {
    let world = World::new(Parameters::default());
    let start = Instant::now();
    let hang = || std::future::pending::<Result<DuplexStream, DialError>>();
    let soon = start + Duration::from_secs(3);
    let error = world.pool.open(&"a", &connect("a:80"), soon, hang).await.unwrap_err();
    assert!(matches!(error, HboneError::Timeout("a connection")), "{error}");
    assert_eq!(start.elapsed().as_secs(), 3);
    // One who is more patient joins the same dial, which has a limit of its own.
    let error = world.pool.open(&"a", &connect("a:80"), deadline(), hang).await.unwrap_err();
    assert!(matches!(error, HboneError::Timeout(_)), "{error}");
    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_peer_without_settings_is_given_up() {
    let mut world = World::new(Parameters::default());
    let start = Instant::now();
    let waiting: Vec<_> = (0..5).map(|_| tokio::spawn(world.open("a"))).collect();
    let _silent = world.transport().await;
    for outcome in join_all(waiting).await {
        outcome.unwrap().unwrap_err();
    }
    assert_eq!((start.elapsed().as_secs(), world.pool.connections()), (10, 0));
}

#[tokio::test]
async fn a_connection_whose_peer_leaves_takes_no_more_and_finishes_its_streams() {
    let mut world = World::new(Parameters::default());
    let (mut stream, served) = world.first("a").await;
    served.drain().await;
    eventually("GOAWAY", || !world.pool.has_room(&"a")).await;
    let (mut second, _other) = world.first("a").await;
    assert_eq!(world.dials(), 2);
    expect_echo(&mut stream).await;
    expect_echo(&mut second).await;
}

#[tokio::test]
async fn a_broken_connection_is_replaced() {
    let mut world = World::new(Parameters::default());
    let (mut stream, served) = world.first("a").await;
    drop(served);
    assert!(stream.read_u8().await.is_err());
    let (mut second, _served) = world.first("a").await;
    expect_echo(&mut second).await;
    assert_eq!(world.dials(), 2);
}

#[tokio::test]
async fn a_request_that_meets_a_closing_connection_is_sent_again() {
    let mut world = World::new(Parameters::default());
    let open = tokio::spawn(world.open("a"));
    let mut raw = Raw::server(world.transport().await, &[]).await;
    raw.next(HEADERS).await;
    raw.send(HEADERS, END_HEADERS, 1, STATUS_200).await;
    let _stream = open.await.unwrap().unwrap();
    raw.send(PING, 0, 0, &[0; 8]).await;
    raw.next(PING).await;

    let again = tokio::spawn(world.open("a"));
    raw.next(HEADERS).await;
    raw.send(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]).await;
    tokio::spawn(echo(Served::new(world.transport().await, Parameters::default())));
    again.await.unwrap().unwrap();
    assert_eq!(world.dials(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_peer_fell_silent_over_a_request_takes_no_more() {
    let mut world = World::new(Parameters::default());
    let (_stream, mut served) = world.first("a").await;
    let patience = |world: &World, seconds| {
        let (pool, dial) = (world.pool.clone(), world.dial());
        let until = Instant::now() + Duration::from_secs(seconds);
        tokio::spawn(async move { pool.open(&"a", &connect("a:80"), until, dial).await })
    };
    // This peer is slow, but it is there: it answers the PING meanwhile.
    let open = patience(&world, 12);
    let _unanswered = served.request().await;
    assert!(matches!(open.await.unwrap().unwrap_err(), HboneError::Timeout(_)));
    assert!(world.pool.has_room(&"a"));
    // This one is not heard of at all.
    let open = patience(&world, 3);
    let _unanswered = served.request().await;
    assert!(matches!(open.await.unwrap().unwrap_err(), HboneError::Timeout(_)));
    assert!(!world.pool.has_room(&"a"));
    let (mut second, _other) = world.first("a").await;
    expect_echo(&mut second).await;
}

#[tokio::test]
async fn waiting_for_a_tunnel_and_holding_one_cost_little_memory() {
    let world = World::new(Parameters::default());
    let open = size_of_val(&world.open("a"));
    assert!(open <= 2048, "{open} bytes while waiting");
    let stream = size_of::<Stream>();
    assert!(stream <= 192, "{stream} bytes while open");
}

#[tokio::test]
async fn a_verdict_is_final_and_costs_nothing() {
    let mut world = World::new(Parameters::default());
    let (_stream, mut served) = world.first("a").await;
    for status in [Status::Denied, Status::Unavailable, Status::BadRequest] {
        let open = tokio::spawn(world.open("a"));
        served.request().await.refuse(status);
        let error = open.await.unwrap().unwrap_err();
        assert!(matches!(error, HboneError::Status(code) if code == status.code()), "{error}");
    }
    assert_eq!((world.dials(), world.pool.connections(), world.pool.streams()), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_streams_is_closed_after_five_minutes() {
    let mut world = World::new(Parameters::default());
    let (mut stream, mut served) = world.first("a").await;
    // It answers PING, as it is driven; with a stream it stays.
    sleep(Duration::from_secs(3600)).await;
    expect_echo(&mut stream).await;
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    drop(stream);
    sleep(Duration::from_secs(299)).await;
    assert_eq!(world.pool.connections(), 1);
    let start = Instant::now();
    let _ = served.end().await;
    assert_eq!((start.elapsed().as_secs(), world.pool.connections()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_not_kept_ends_with_its_last_stream() {
    let mut world = World::new(Parameters { idle_timeout: Duration::ZERO, ..Parameters::default() });
    let (mut first, mut served) = world.first("a").await;
    sleep(Duration::from_secs(60)).await;
    let open = tokio::spawn(world.open("a"));
    echo_stream(served.accept().await);
    let second = open.await.unwrap().unwrap().stream;
    drop(second);
    expect_echo(&mut first).await;
    drop(first);
    // Not even somebody who was quicker than its end gets it.
    assert!(!world.pool.has_room(&"a"));
    let start = Instant::now();
    let _ = served.end().await;
    assert_eq!((start.elapsed().as_millis(), world.pool.connections()), (0, 0));
    // One that nobody wanted after all does not stay.
    let waiting = tokio::spawn(world.open("a"));
    let transport = world.transport().await;
    waiting.abort();
    let mut unwanted = Served::new(transport, Parameters::default());
    let _ = unwanted.end().await;
    assert!(start.elapsed() <= Duration::from_secs(1));
    assert_eq!(world.pool.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn use_starts_the_idle_time_anew() {
    let mut world = World::new(Parameters::default());
    let (stream, mut served) = world.first("a").await;
    drop(stream);
    for _ in 0..5 {
        sleep(Duration::from_secs(200)).await;
        let open = tokio::spawn(world.open("a"));
        echo_stream(served.accept().await);
        expect_echo(&mut open.await.unwrap().unwrap().stream).await;
    }
    assert_eq!(world.dials(), 1);
}

#[tokio::test]
async fn a_dropped_pool_closes_its_connections_after_their_last_stream() {
    let mut world = World::new(Parameters::default());
    let (mut stream, _served) = world.first("a").await;
    let waiting = tokio::spawn(world.open("never answered"));
    let mut transport = world.transport().await;
    waiting.abort();
    let _ = waiting.await;
    drop(world);
    timeout(DEADLINE, transport.read_to_end(&mut Vec::new())).await.expect("transport stays open").unwrap();
    expect_echo(&mut stream).await;
}

#[tokio::test]
async fn what_was_written_arrives_though_the_pool_is_dropped_at_once() {
    let mut world = World::new(Parameters::default());
    let open = tokio::spawn(world.open("a"));
    let mut served = Served::new(world.transport().await, Parameters::default());
    let mut peer = served.accept().await;
    let mut stream = open.await.unwrap().unwrap().stream;
    peer.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    stream.write_all(&[7; 100_000]).await.unwrap();
    stream.shutdown().await.unwrap();
    drop(stream);
    drop(world);
    let mut received = Vec::new();
    timeout(DEADLINE, peer.read_to_end(&mut received)).await.expect("no end").expect("cut instead of ended");
    assert_eq!(received.len(), 100_000);
}

#[tokio::test]
async fn a_crowd_that_comes_and_goes_is_served() {
    let mut world = World::new(Parameters { client_streams: 7, ..Parameters::default() });
    world.serve_all(Parameters { server_streams: 7, ..Parameters::default() });
    let crowd = (0..60).map(|visitor| {
        let opens: Vec<_> = (0..10).map(|_| world.open(if visitor % 2 == 0 { "even" } else { "odd" })).collect();
        tokio::spawn(async move {
            for open in opens {
                let mut stream = open.await.unwrap().stream;
                expect_echo(&mut stream).await;
                if visitor % 3 == 0 {
                    stream.shutdown().await.unwrap();
                    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
                }
            }
        })
    });
    for outcome in timeout(DEADLINE, join_all(crowd)).await.unwrap() {
        outcome.unwrap();
    }
    // Sixty visitors of two keys at seven a connection need at least ten, and never more than one each.
    assert!((2..=60).contains(&world.dials()), "{} dials", world.dials());
    eventually("the end of all streams", || world.pool.streams() == 0).await;
}
