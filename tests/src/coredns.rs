//! Name lookups of a captured pod, asked by dig, and answered by the mesh or by a CoreDNS behind it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::support::lab::{Lab, SYSTEM, shop};
use crate::support::program::path_of;
use crate::support::within;

const PODS: &str = include_str!("../fixtures/shop.yaml");

/// A lookup that no server answers is over within this time.
const UNANSWERED: Duration = Duration::from_secs(6);

/// Addresses of the name that has too many for a datagram.
const MANY: usize = 120;

/// What dig says of a lookup.
#[derive(Debug)]
struct Answer {
    status: String,
    flags: Vec<String>,
    /// The records of the answer section, with single spaces.
    records: Vec<String>,
    has_edns: bool,
    transport: String,
    size: usize,
    took: Duration,
}

/// Asks from frontend, as its resolver would but for `words`.
async fn dig(lab: &Lab, words: &str) -> Answer {
    let program: Vec<&str> = ["dig", "+tries=1", "+time=10"].into_iter().chain(words.split_whitespace()).collect();
    let begun = Instant::now();
    let said = lab.must_exec(shop("frontend"), &program).await;
    let took = begun.elapsed();
    let after = |mark: &str| said.split_once(mark).map(|(_, rest)| rest).unwrap_or_default();
    let until = |mark: &str, end: char| after(mark).split(end).next().unwrap_or_default().trim().to_owned();
    let section = after(";; ANSWER SECTION:\n").split("\n\n").next().unwrap_or_default();
    let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    Answer {
        status: until("status: ", ','),
        flags: until(";; flags: ", ';').split_whitespace().map(str::to_owned).collect(),
        records: section.lines().filter(|line| !line.is_empty()).map(line).collect(),
        has_edns: said.contains("; EDNS: version: 0"),
        transport: until(";; SERVER: ", '\n').rsplit(' ').next().unwrap_or_default().to_owned(),
        size: until(";; MSG SIZE  rcvd: ", '\n').parse().unwrap_or_default(),
        took,
    }
}

impl Answer {
    fn is(&self, flag: &str) -> bool {
        self.flags.iter().any(|own| own == flag)
    }

    #[track_caller]
    fn assert(&self, status: &str, records: &[&str]) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.records, records, "{self:?}");
    }
}

/// CoreDNS in a pod outside the mesh, and a ztunnel on the first node that forwards to it.
struct Upstream<'a> {
    lab: &'a Lab,
    _files: TempDir,
}

impl<'a> Upstream<'a> {
    async fn start(lab: &'a Lab) -> Self {
        let control = lab.get(&format!("service aquifer -n {SYSTEM}")).await;
        let files = tempfile::tempdir().unwrap();
        write_zones(files.path(), control["spec"]["clusterIP"].as_str().unwrap());
        lab.kubectl("create namespace outside").await;
        let configuration = files.path().join("Corefile").display().to_string();
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "coredns", "namespace": "outside"},
            "spec": {"nodeName": "node-1", "terminationGracePeriodSeconds": 1, "containers": [{
                "name": "coredns", "image": "coredns", "command": [path_of("coredns"), "-conf", configuration],
                "readinessProbe": {"tcpSocket": {"port": 53}, "periodSeconds": 1},
            }]},
        });
        lab.apply(&pod.to_string()).await;
        lab.kubectl("wait -n outside --for=condition=Ready pod/coredns --timeout=30s").await;
        let pod = lab.get("pod coredns -n outside").await;
        forward_to(lab, pod["status"]["podIP"].as_str().unwrap()).await;
        Self { lab, _files: files }
    }

    async fn log(&self) -> String {
        self.lab.kubectl("logs -n outside coredns").await
    }

    async fn stop(self) {
        self.lab.kubectl("delete pod coredns -n outside").await;
    }
}

fn write_zones(folder: &Path, control_plane: &str) {
    const START: &str = "@ 60 IN SOA ns hostmaster 1 3600 600 86400 30\n@ 60 IN NS ns\nns 60 IN A 192.0.2.53\n";
    let write = |name: &str, text: String| fs::write(folder.join(name), text).unwrap();
    let many: String = (1..=MANY).map(|last| format!("many 60 IN A 192.0.2.{last}\n")).collect();
    let records = "www 60 IN A 192.0.2.1\nwww 60 IN AAAA 2001:db8::1\n_http._tcp 60 IN SRV 1 2 8080 www\n\
                   txt 60 IN TXT \"some words\" more\n";
    write("outside", format!("$ORIGIN example.org.\n{START}{records}{many}"));
    // What a cluster's own server knows of a headless Service beyond addresses.
    let port = "_http._tcp.cart-headless.shop.svc 5 IN SRV 0 100 8080 10-0-0-9.cart-headless.shop.svc\n";
    write("cluster", format!("$ORIGIN cluster.local.\n{START}{port}"));
    // Node proxies look for the control plane there.
    write("system", format!("$ORIGIN aquifer-system.svc.\n{START}aquifer 60 IN A {control_plane}\n"));
    let file = |name: &str| folder.join(name).display().to_string();
    let (outside, cluster, system) = (file("outside"), file("cluster"), file("system"));
    write(
        "Corefile",
        format!(
            ". {{\n  log\n  file {outside} example.org\n  file {cluster} cluster.local\n  file {system} \
             aquifer-system.svc\n}}\nsilent.test {{\n  log\n  erratic {{\n    drop 1\n  }}\n}}\n"
        ),
    );
}

/// Replaces the first node's proxy by one whose only name server is this.
async fn forward_to(lab: &Lab, server: &str) {
    let name = "ztunnel-node-1";
    let mut pod = lab.get(&format!("pod {name} -n {SYSTEM}")).await;
    pod.as_object_mut().unwrap().remove("status");
    let metadata = pod["metadata"].as_object_mut().unwrap();
    for field in ["uid", "resourceVersion", "creationTimestamp"] {
        metadata.remove(field);
    }
    let push = |list: &mut Value, entry: Value| list.as_array_mut().unwrap().push(entry);
    push(&mut pod["spec"]["volumes"], json!({"name": "resolver", "configMap": {"name": "resolver"}}));
    let mount =
        json!({"name": "resolver", "mountPath": "/etc/resolv.conf", "subPath": "resolv.conf", "readOnly": true});
    push(&mut pod["spec"]["containers"][0]["volumeMounts"], mount);
    let file = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "resolver", "namespace": SYSTEM},
        "data": {"resolv.conf": format!("nameserver {server}\n")},
    });
    lab.apply(&file.to_string()).await;
    lab.kubectl(&format!("delete pod {name} -n {SYSTEM}")).await;
    lab.apply(&pod.to_string()).await;
    lab.kubectl(&format!("wait -n {SYSTEM} --for=condition=Ready pod/{name} --timeout=30s")).await;
}

/// A shop in the mesh, of which frontend's lookups are forwarded to CoreDNS.
async fn shop_with_upstream() -> Option<Lab> {
    let lab = Lab::start(&["dig", "coredns"]).await?;
    lab.open_shop(PODS).await;
    lab.capture().await;
    // The proxy that came with the lab answers; its successor has to as well.
    assert_eq!(dig(&lab, "cart.shop.svc.cluster.local A").await.status, "NOERROR");
    Some(lab)
}

async fn vip(lab: &Lab, service: &str) -> String {
    lab.get(&format!("service {service} -n shop")).await["spec"]["clusterIP"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn dig_gets_what_coredns_has_and_what_the_mesh_knows() {
    let Some(lab) = shop_with_upstream().await else { return };
    let upstream = Upstream::start(&lab).await;
    let www = within(Duration::from_secs(10), "the proxy's successor forwards", async || {
        Some(dig(&lab, "www.example.org A").await).filter(|answer| answer.status == "NOERROR")
    });
    let (www, _) = www.await;
    www.assert("NOERROR", &["www.example.org. 60 IN A 192.0.2.1"]);
    assert!(!www.is("aa") && www.has_edns && www.transport == "(UDP)", "{www:?}");
    dig(&lab, "www.example.org AAAA").await.assert("NOERROR", &["www.example.org. 60 IN AAAA 2001:db8::1"]);
    let port = "_http._tcp.example.org";
    dig(&lab, &format!("{port} SRV"))
        .await
        .assert("NOERROR", &[&format!("{port}. 60 IN SRV 1 2 8080 www.example.org.")]);
    let text = ["txt.example.org. 60 IN TXT \"some words\" \"more\""];
    dig(&lab, "txt.example.org TXT").await.assert("NOERROR", &text);
    dig(&lab, "+tcp txt.example.org TXT").await.assert("NOERROR", &text);
    dig(&lab, "nobody.example.org A").await.assert("NXDOMAIN", &[]);
    dig(&lab, "www.example.org TXT").await.assert("NOERROR", &[]);
    dig(&lab, "elsewhere.test A").await.assert("REFUSED", &[]);

    // The mesh's own names, in both transports; what it does not know of them is forwarded.
    let address = format!("cart.shop.svc.cluster.local. 30 IN A {}", vip(&lab, "cart").await);
    for words in ["cart.shop.svc.cluster.local A", "+tcp cart.shop.svc.cluster.local A", "+search cart A"] {
        let answer = dig(&lab, words).await;
        answer.assert("NOERROR", &[&address]);
        assert!(answer.is("aa"), "{answer:?}");
    }
    dig(&lab, "cart.shop.svc.cluster.local AAAA").await.assert("NOERROR", &[]);
    let pod = format!("cart-headless.shop.svc.cluster.local. 30 IN A {}", lab.address("cart").await);
    dig(&lab, "cart-headless.shop.svc.cluster.local A").await.assert("NOERROR", &[&pod]);
    let port = "_http._tcp.cart-headless.shop.svc.cluster.local";
    let target = "10-0-0-9.cart-headless.shop.svc.cluster.local.";
    dig(&lab, &format!("{port} SRV")).await.assert("NOERROR", &[&format!("{port}. 5 IN SRV 0 100 8080 {target}")]);
    // The server sees the pod itself, as it would without the mesh.
    let (log, frontend) = (upstream.log().await, lab.address("frontend").await);
    assert!(
        log.lines().any(|line| line.contains("www.example.org") && line.contains(&format!(" {frontend}:"))),
        "{log}"
    );

    upstream.stop().await;
    let dead = dig(&lab, "www.example.org A").await;
    dead.assert("SERVFAIL", &[]);
    assert!(dead.took < UNANSWERED, "{dead:?}");
    dig(&lab, "cart.shop.svc.cluster.local A").await.assert("NOERROR", &[&address]);
}

#[tokio::test]
async fn answers_too_long_for_a_datagram_are_cut_and_whole_over_tcp() {
    let Some(lab) = shop_with_upstream().await else { return };
    let _upstream = Upstream::start(&lab).await;
    within(Duration::from_secs(10), "the proxy's successor forwards", async || {
        (dig(&lab, "www.example.org A").await.status == "NOERROR").then_some(())
    })
    .await;
    for (words, limit, has_edns) in [("+noedns", 512, false), ("+bufsize=1232", 1232, true)] {
        let cut = dig(&lab, &format!("{words} +ignore many.example.org A")).await;
        assert!(cut.is("tc") && cut.records.len() < MANY, "{cut:?}");
        assert!(cut.size <= limit && cut.has_edns == has_edns && cut.transport == "(UDP)", "{cut:?}");
    }
    // dig asks again as any resolver does.
    let whole = dig(&lab, "many.example.org A").await;
    assert!(!whole.is("tc") && whole.transport == "(TCP)", "{whole:?}");
    assert_eq!(whole.records.len(), MANY, "{whole:?}");
}

/// Sends 300 lookups that nobody answers from one socket; prints how many bytes came back within a second.
///
/// Each is a query for the address of `x.silent.test` with the identifier `BB`; a refusal repeats its 31 bytes.
const FLOOD: &str = r"exec 3<>/dev/udp/10.96.0.10/53
for ((sent = 0; sent < 300; sent++)); do
  printf 'BB\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01x\x06silent\x04test\x00\x00\x01\x00\x01' >&3
done
timeout 1 cat <&3 | wc -c";

#[tokio::test]
async fn lookups_without_an_answer_fail_in_time_and_hold_up_no_others() {
    let Some(lab) = shop_with_upstream().await else { return };
    let _upstream = Upstream::start(&lab).await;
    let www = async || dig(&lab, "www.example.org A").await;
    let ready = async || (www().await.status == "NOERROR").then_some(());
    within(Duration::from_secs(10), "the proxy's successor forwards", ready).await;
    let silent = dig(&lab, "x.silent.test A").await;
    silent.assert("SERVFAIL", &[]);
    assert!(silent.took < UNANSWERED, "{silent:?}");
    // More than a pod may have under way: those beyond fail at once, and what the mesh knows is answered meanwhile.
    let flood = async { lab.must_exec(shop("frontend"), &["bash", "-c", FLOOD]).await };
    let meanwhile = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        dig(&lab, "cart.shop.svc.cluster.local A").await
    };
    let (bytes, meanwhile) = tokio::join!(flood, meanwhile);
    let refused = bytes.trim().parse::<usize>().unwrap() / 31;
    assert!((10..=44).contains(&refused), "{refused} lookups of 300 failed at once");
    assert_eq!(meanwhile.status, "NOERROR", "{meanwhile:?}");
    assert!(meanwhile.took < Duration::from_secs(1), "{meanwhile:?}");
    within(UNANSWERED, "there is room again", ready).await;
}
