//! The server against clients that are written by hand.

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::Registry;
use crate::http::{Body, json, metrics};

async fn started(router: Router) -> (std::net::SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (end, ended) = oneshot::channel();
    let server = tokio::spawn(serve(listener, router, async {
        let _ = ended.await;
    }));
    (address, end, server)
}

async fn exchange(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
}

#[tokio::test]
async fn paths_and_methods_are_told_apart() {
    let router = Router::new()
        .get("/a", |_request| async { text(StatusCode::OK, "alpha\n") })
        .post("/b", |request| async move { text(StatusCode::OK, request.into_body()) });
    let (address, _end, _server) = started(router).await;
    assert!(exchange(address, &get("/a?x=1")).await.ends_with("\r\n\r\nalpha\n"));
    assert!(exchange(address, &get("/")).await.starts_with("HTTP/1.1 404"));
    let wrong = exchange(address, &get("/b")).await;
    assert!(wrong.starts_with("HTTP/1.1 405") && wrong.contains("allow: POST"), "{wrong}");
    let posted = "POST /b HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi";
    assert!(exchange(address, posted).await.ends_with("\r\n\r\nhi"));
}

#[tokio::test]
async fn a_scrape_names_its_format() {
    let registry = Registry::new();
    registry.counter("a_total", "Things.").increment();
    let router = Router::new().get("/metrics", move |request| {
        let answer = metrics(&registry, &request);
        async { answer }
    });
    let (address, _end, _server) = started(router).await;
    let plain = exchange(address, &get("/metrics")).await;
    assert!(plain.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{plain}");
    assert!(plain.contains("a_total 1\n") && !plain.contains("# EOF"), "{plain}");
    let asked = "GET /metrics HTTP/1.1\r\nhost: x\r\naccept: application/openmetrics-text\r\nconnection: close\r\n\r\n";
    let open = exchange(address, asked).await;
    assert!(open.contains("application/openmetrics-text; version=1.0.0") && open.ends_with("# EOF\n"), "{open}");
}

#[tokio::test]
async fn an_answer_can_be_streamed() {
    let router = Router::new().get("/big", |_request| async {
        let (sender, body) = Body::streamed();
        tokio::spawn(async move {
            for _ in 0..100 {
                if !sender.send(Bytes::from_static(&[b'x'; 1000])).await {
                    return;
                }
            }
        });
        json(body)
    });
    let (address, _end, _server) = started(router).await;
    let answer = exchange(address, &get("/big")).await;
    assert_eq!(answer.matches('x').count(), 100_000);
}

#[tokio::test]
async fn requests_are_bounded() {
    let router = Router::new().post("/", |_request| async { text(StatusCode::OK, "") });
    let (address, _end, _server) = started(router).await;
    let body = format!("POST / HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", BODY_LIMIT + 1);
    let large = exchange(address, &(body + &"y".repeat(BODY_LIMIT + 1))).await;
    assert!(large.starts_with("HTTP/1.1 413"), "{large}");
    let head = exchange(address, &format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(2 * HEAD_LIMIT))).await;
    assert!(head.is_empty() || head.starts_with("HTTP/1.1 431"), "{head}");
    let many: String = (0..=HEADER_COUNT).map(|number| format!("x{number}: y\r\n")).collect();
    let many = exchange(address, &format!("GET / HTTP/1.1\r\n{many}\r\n")).await;
    assert!(many.starts_with("HTTP/1.1 431"), "{many}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_let_go() {
    let (client, server) = tokio::io::duplex(64);
    let (_ending, has_ended) = watch::channel(false);
    let before = tokio::time::Instant::now();
    serve_connection(server, Arc::new(Router::new()), Arc::new(Crowd::default()).enter(), has_ended).await;
    assert!(before.elapsed() <= HEADERS_DEADLINE + Duration::from_secs(1));
    drop(client);
}

#[tokio::test]
async fn connections_that_ask_for_nothing_keep_nobody_out() {
    let router = Router::new().get("/a", |_request| async { text(StatusCode::OK, "alpha\n") });
    let (address, _end, _server) = started(router).await;
    let mut half_open = Vec::new();
    for _ in 0..300 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /a HTTP/1.1\r\nhost").await.unwrap();
        half_open.push(stream);
    }
    let answered = timeout(HEADERS_DEADLINE / 5, exchange(address, &get("/a"))).await.expect("in time");
    assert!(answered.ends_with("alpha\n"), "{answered}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_of_a_streamed_answer_is_let_go() {
    let (produced, mut ended) = tokio::sync::mpsc::channel::<()>(1);
    let router = Router::new().get("/big", move |_request| {
        let produced = produced.clone();
        async move {
            let (sender, body) = Body::streamed();
            tokio::spawn(async move {
                while sender.send(Bytes::from_static(&[b'x'; 1000])).await {}
                let _ = produced.send(()).await;
            });
            json(body)
        }
    });
    let (mut client, server) = tokio::io::duplex(64);
    let (_ending, has_ended) = watch::channel(false);
    client.write_all(get("/big").as_bytes()).await.unwrap();
    let before = tokio::time::Instant::now();
    serve_connection(server, Arc::new(router), Arc::new(Crowd::default()).enter(), has_ended).await;
    assert_eq!(before.elapsed().as_secs(), STALL_DEADLINE.as_secs());
    ended.recv().await.expect("whoever produces the answer is told");
}

#[tokio::test]
async fn who_asks_while_all_answers_are_taken_is_told_so() {
    let (_go, gone) = watch::channel(false);
    let router = Router::new().get("/slow", move |_request| {
        let mut gone = gone.clone();
        async move {
            let _ = gone.wait_for(|go| *go).await;
            text(StatusCode::OK, "done\n")
        }
    });
    let (address, _end, _server) = started(router).await;
    let mut waiting = Vec::new();
    for _ in 0..crate::http::crowd::ANSWERS {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(get("/slow").as_bytes()).await.unwrap();
        waiting.push(stream);
    }
    // Those that came before may not have been looked at yet.
    let refused = async {
        loop {
            let asking = timeout(Duration::from_millis(200), exchange(address, &get("/slow"))).await;
            if asking.is_ok_and(|answer| answer.starts_with("HTTP/1.1 503")) {
                return;
            }
        }
    };
    timeout(Duration::from_secs(20), refused).await.expect("in time");
}

#[tokio::test]
async fn the_end_waits_for_an_answer_under_way() {
    let (asked, mut hears) = tokio::sync::mpsc::channel::<()>(1);
    let (go, gone) = watch::channel(false);
    let router = Router::new().get("/slow", move |_request| {
        let (asked, mut gone) = (asked.clone(), gone.clone());
        async move {
            let _ = asked.send(()).await;
            let _ = gone.wait_for(|go| *go).await;
            text(StatusCode::OK, "done\n")
        }
    });
    let (address, end, server) = started(router).await;
    let client = tokio::spawn(async move { exchange(address, &get("/slow")).await });
    hears.recv().await.unwrap();
    end.send(()).unwrap();
    go.send(true).unwrap();
    assert!(client.await.unwrap().ends_with("done\n"));
    server.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}
