//! Clients that others wrote, through captured pods: between nodes and within one, without a request lost.

use serde_json::{Value, json};

use crate::support::lab::{Lab, Place, shop};
use crate::support::load::h2load;
use crate::support::program::{path_of, text};

const PODS: &str = include_str!("../fixtures/shop.yaml");

/// Requests of one load.
const REQUESTS: u32 = 20_000;

/// The service of gRPC's interoperability tests.
const SERVICE: &str = "grpc.testing.TestService";

/// Who calls cart: from the other node, and from its own.
const CALLERS: [&str; 2] = ["frontend", "payment"];

/// A shop whose pods are captured and know it.
async fn shop_in_the_mesh(peers: &[&str]) -> Option<Lab> {
    let lab = Lab::start(peers).await?;
    lab.open_shop(PODS).await;
    lab.capture().await;
    for caller in CALLERS {
        lab.is_encrypted(caller, "cart", "node-2").await;
    }
    Some(lab)
}

#[tokio::test]
async fn curl_speaks_both_versions_of_http_with_bodies_and_many_at_once() {
    let Some(lab) = shop_in_the_mesh(&["curl"]).await else { return };
    let cart = lab.address("cart").await;
    for caller in CALLERS {
        for (port, flag, version) in [(8080, "--http1.1", "HTTP/1.1"), (8081, "--http2-prior-knowledge", "HTTP/2")] {
            let url = format!("http://{cart}:{port}/");
            let curl = ["curl", "-sS", "--fail", "--max-time", "30", flag];
            let ask = async |more: &[&str]| lab.must_exec(shop(caller), &[&curl[..], more].concat()).await;
            let answer: Value = serde_json::from_str(&ask(&[&url]).await).unwrap();
            assert!(answer["version"].as_str().unwrap().starts_with(version), "{answer}");
            let several = format!("{url}?n=[1-50]");
            // Debian's curl cannot use an HTTP/2 connection without TLS for a second request, with any server.
            if flag == "--http1.1" {
                assert_eq!(ask(&[&several]).await.matches("\"method\": \"GET\"").count(), 50);
            }
            // Many connections at once.
            let at_once = ask(&["--parallel", "--parallel-immediate", "--parallel-max", "50", &several]).await;
            assert_eq!(at_once.matches("\"method\": \"GET\"").count(), 50, "{caller} {version}");
            // Bytes in both directions.
            let size = ["-o", "/dev/null", "-w", "%{size_download}"];
            let large = format!("{url}?size=20m");
            assert_eq!(ask(&[&size[..], &[&large]].concat()).await, (20 << 20).to_string(), "{caller} {version}");
            let body = upload(&lab, shop(caller), flag, &url).await;
            assert_eq!(body, 20 << 20, "{caller} {version}");
        }
    }
}

/// Sends 20 MiB; how many of them the application counted.
async fn upload(lab: &Lab, from: Place<'_>, flag: &str, url: &str) -> u64 {
    let script = "head -c 20971520 /dev/zero | curl -sS --fail --max-time 30 \"$1\" -H Expect: --data-binary @- \"$2\"";
    let answer = lab.must_exec(from, &["sh", "-c", script, "sh", flag, url]).await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    answer["body_bytes"].as_u64().unwrap()
}

#[tokio::test]
async fn h2load_loses_no_request() {
    let Some(lab) = shop_in_the_mesh(&["h2load"]).await else { return };
    let cart = lab.address("cart").await;
    for caller in CALLERS {
        // A hundred streams on each of ten connections.
        let url = format!("http://{cart}:8081/");
        h2load(&lab, shop(caller), &["-c", "10", "-m", "100"], &url, REQUESTS).await;
        // Many connections with one request after the other.
        h2load(&lab, shop(caller), &["--h1", "-c", "200"], "http://cart/", REQUESTS).await;
    }
}

/// A gRPC server on cart's node that says by reflection what it offers.
async fn start_grpc_server(lab: &Lab) -> String {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "grpc", "namespace": "shop"},
        "spec": {"nodeName": "node-2", "terminationGracePeriodSeconds": 1, "containers": [{
            "name": "grpc", "image": "grpc", "command": [path_of("grpc-server"), "0.0.0.0:9100"],
            "readinessProbe": {"tcpSocket": {"port": 9100}, "periodSeconds": 1},
        }]},
    });
    lab.apply(&pod.to_string()).await;
    lab.pods_are_ready("shop").await;
    lab.wait_for_redirection("pod grpc", true).await;
    lab.address("grpc").await
}

/// The messages that grpcurl prints, one after the other.
fn messages(said: &str) -> Vec<Value> {
    serde_json::Deserializer::from_str(said).into_iter().map(Result::unwrap).collect()
}

#[tokio::test]
async fn grpcurl_calls_and_streams_in_both_directions() {
    let Some(lab) = shop_in_the_mesh(&["grpcurl", "grpc-server"]).await else { return };
    let ip = start_grpc_server(&lab).await;
    let (program, target, cart) = (path_of("grpcurl"), format!("{ip}:9100"), lab.address("cart").await);
    // Five bytes in base64, as JSON has them.
    let hello = r#"{"payload": {"body": "aGVsbG8="}, "response_size": 5}"#;
    let payload = r#"{"payload": {"body": "aGVsbG8="}}"#;
    let failure = r#"{"response_status": {"code": 5, "message": "nothing there"}}"#;
    let sizes = r#"{"response_parameters": [{"size": 3}, {"size": 4, "interval_us": 50000}]}"#;
    for caller in CALLERS {
        let grpcurl = [program.as_str(), "-plaintext", "-max-time", "20"];
        let run = async |words: &[&str]| lab.exec(shop(caller), &[&grpcurl[..], words].concat()).await;
        let call = async |body: &str, method: &str| {
            let answer = run(&["-d", body, &target, &format!("{SERVICE}/{method}")]).await;
            assert!(answer.status.success(), "{caller} {method}: {answer:?}");
            messages(&text(&answer.stdout))
        };
        let services = text(&run(&[&target, "list"]).await.stdout);
        assert!(services.lines().any(|line| line == SERVICE), "{services}");
        assert_eq!(call(hello, "UnaryCall").await[0]["payload"]["body"], "AAAAAAA=");
        assert_eq!(call(sizes, "StreamingOutputCall").await.len(), 2);
        assert_eq!(call(&payload.repeat(3), "StreamingInputCall").await[0]["aggregatedPayloadSize"], 15);
        assert_eq!(call(&sizes.repeat(3), "FullDuplexCall").await.len(), 6);
        // A failure is the server's own, in its trailers.
        let failed = run(&["-d", failure, &target, &format!("{SERVICE}/UnaryCall")]).await;
        let said = text(&failed.stderr);
        assert!(said.contains("Code: NotFound") && said.contains("nothing there"), "{failed:?}");
        // The test application's own, which is another implementation.
        let echo = async |body: &str, method: &str| {
            let method = format!("aquifer.echo.v1.Echo/{method}");
            let answer = run(&["-d", body, &format!("{cart}:8081"), &method]).await;
            assert!(answer.status.success(), "{caller} {method}: {answer:?}");
            messages(&text(&answer.stdout))
        };
        assert_eq!(echo(r#"{"message": "hello"}"#, "Echo").await[0]["message"], "hello");
        assert_eq!(echo(r#"{"message": "hello", "count": 100}"#, "Repeat").await.len(), 100);
        assert_eq!(echo(&r#"{"message": "hello"}"#.repeat(5), "Chat").await.len(), 5);
        let client = format!("src.identity=\"spiffe://cluster.local/ns/shop/sa/{caller}\"");
        lab.wait_for_log("node-2", &[&client, "dst.workload=\"grpc\"", "direction=\"inbound\""]).await;
    }
}
