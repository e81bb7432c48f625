//! The certificate authority while an operator replaces it.

use std::collections::VecDeque;

use k8s_openapi::ByteString;
use tls::{Authority, WorkloadCertificate};

use super::*;

/// Short, so that a replacement takes seconds.
const VALIDITY: Duration = Duration::from_secs(4);
const IDENTITY: &str = "spiffe://cluster.local/ns/shop/sa/cart";

fn cacerts(authority: &Authority, revocations: &str) -> Value {
    let pem = authority.to_pem();
    let text = |text: &str| serde_json::to_value(ByteString(text.as_bytes().to_vec())).unwrap();
    let data = json!({"ca-cert.pem": text(&pem.certificate), "ca-key.pem": text(&pem.key), "cert-chain.pem": text(""),
        "root-cert.pem": text(authority.roots_pem()), "ca-crl.pem": text(revocations)});
    json!({"metadata": {"namespace": "aquifer-system", "name": "cacerts"}, "data": data})
}

fn authority() -> Authority {
    Authority::self_signed(&types::TrustDomain::default(), Duration::from_secs(3600)).unwrap()
}

async fn connects(client: &WorkloadCertificate, server: &WorkloadCertificate) -> bool {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let expected = [server.identity().clone()];
    let both = async { tokio::join!(tls::connect(near, client, &expected), tls::accept(far, server)) };
    let (client, server) = both.await;
    client.is_ok() && server.is_ok()
}

/// Gets certificates all the time, over new connections to the control plane, until the roots are these; every two
/// certificates that are valid at a time must connect.
async fn certify_until(mesh: &Mesh, held: &mut VecDeque<(Instant, WorkloadCertificate)>, roots: &str) -> Vec<usize> {
    let deadline = Instant::now() + VALIDITY * 8;
    let mut seen: Vec<usize> = Vec::new();
    loop {
        let channel = mesh.channel().await;
        let seconds = i64::try_from(VALIDITY.as_secs()).unwrap();
        let begun = Instant::now();
        let new = peer::certificate_for(channel, TOKEN, IDENTITY, seconds).await.unwrap();
        // What is over in a moment may be over when the handshake comes.
        held.retain(|(since, _)| since.elapsed() < VALIDITY * 3 / 4);
        for (since, old) in held.iter() {
            let is_mutual = connects(old, &new).await && connects(&new, old).await;
            assert!(is_mutual || since.elapsed() >= VALIDITY, "of {:?} ago: {seen:?}", since.elapsed());
        }
        held.push_back((begun, new));
        let present = mesh.root("shop").unwrap();
        let count = present.matches("BEGIN CERTIFICATE").count();
        if seen.last() != Some(&count) {
            seen.push(count);
        }
        if present == roots {
            return seen;
        }
        assert!(Instant::now() < deadline, "the roots did not become what was wanted: {seen:?}");
        sleep(VALIDITY / 20).await;
    }
}

#[tokio::test]
async fn certificates_always_connect_while_the_operator_replaces_the_authority() {
    let knobs = [("DEFAULT_WORKLOAD_CERT_TTL", "4s")];
    let mesh = Mesh::start_with(cluster(), &knobs).await;
    until("a root certificate", || async { mesh.root("shop").is_some() }).await;
    let made = mesh.root("shop").unwrap();
    let mut held = VecDeque::new();
    assert_eq!(certify_until(&mesh, &mut held, &made).await, [1]);
    let own = authority();
    mesh.api.apply("secrets", cacerts(&own, ""));
    assert_eq!(certify_until(&mesh, &mut held, own.roots_pem()).await, [1, 2, 1], "both roots, then the new one");
    let metrics = mesh.monitor("/metrics").await;
    let expiry = own.not_after().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert!(metrics.contains(&format!("citadel_server_root_cert_expiry_timestamp {expiry}")), "{metrics}");

    // A replica that starts later reads the same from the record, even without the operator's Secret.
    mesh.api.delete("secrets", "aquifer-system", "cacerts");
    mesh.api.delete("secrets", "aquifer-system", "istio-ca-secret");
    let second = Mesh::start_with(mesh.api.clone(), &knobs).await;
    until("ready", || async { second.monitor("/ready").await.contains("200 OK") }).await;
    assert_eq!(certify_until(&second, &mut held, own.roots_pem()).await, [1]);
}

#[tokio::test]
async fn a_secret_that_cannot_be_used_changes_nothing() {
    let mesh = Mesh::start_with(cluster(), &[("DEFAULT_WORKLOAD_CERT_TTL", "4s")]).await;
    until("a root certificate", || async { mesh.root("shop").is_some() }).await;
    let before = mesh.root("shop");
    let mut broken = cacerts(&authority(), "");
    broken["data"]["ca-key.pem"] = cacerts(&authority(), "")["data"]["ca-key.pem"].clone();
    mesh.api.apply("secrets", broken);
    let looks = mesh.api.secrets_read();
    until("two looks at it", || async { mesh.api.secrets_read() >= looks + 4 }).await;
    assert_eq!(mesh.root("shop"), before);
    let own = authority();
    mesh.api.apply("secrets", cacerts(&own, ""));
    let both = || async { mesh.root("shop").is_some_and(|roots| roots.contains(own.roots_pem())) };
    until("the mended one", both).await;
}

#[tokio::test]
async fn revocations_are_distributed_and_taken_back() {
    let api = cluster();
    let own = authority();
    api.apply("secrets", cacerts(&own, "-----BEGIN X509 CRL-----"));
    let mesh = Mesh::start(api).await;
    let revocations = |namespace: &str| mesh.api.get("configmaps", namespace, "istio-ca-crl");
    let text = |namespace: &str| revocations(namespace).map(|found| found["data"]["ca-crl.pem"].clone());
    for namespace in ["aquifer-system", "istio-system", "shop"] {
        until("revocations", || async { text(namespace) == Some(json!("-----BEGIN X509 CRL-----")) }).await;
    }
    mesh.api.apply("secrets", cacerts(&own, "-----BEGIN X509 CRL----- next"));
    until("new revocations", || async { text("shop") == Some(json!("-----BEGIN X509 CRL----- next")) }).await;
    mesh.api.apply("secrets", cacerts(&own, ""));
    until("no revocations", || async { text("shop") == Some(json!("")) }).await;
    let plain = Mesh::ready().await;
    assert_eq!(plain.api.get("configmaps", "shop", "istio-ca-crl"), None, "without revocations there is nothing");
}
