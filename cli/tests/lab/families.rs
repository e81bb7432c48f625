//! Labs of one address family and of both, and what happens where the machine has no IPv6.

use linux::{NetNs, sysctl};
use serde_json::{Value, json};

use crate::support::{Caller, Lab, create, echo, eventually, fetch, unique_name};

/// Says why, where this machine has no IPv6.
fn has_ipv6() -> bool {
    let is_off = sysctl::read("net/ipv6/conf/all/disable_ipv6").map_or(true, |value| value != "0");
    if is_off {
        println!("SKIPPED: no IPv6 on this machine");
    }
    !is_off
}

fn service(name: &str, mut spec: Value) -> Value {
    spec["selector"] = json!({"app": "far"});
    spec["ports"] = json!([{"port": 80, "targetPort": 8080}]);
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
}

/// What the echo behind a URL saw of `from`: the caller's address and its own.
async fn seen(lab: &Lab, from: &str, url: &str) -> (String, String) {
    eventually(&format!("{url} answers {from}"), async || {
        let output = lab.run("exec", &[from, "--", "curl", "--silent", "--max-time", "2", url]);
        let report: Value = serde_json::from_slice(&output.stdout).ok()?;
        let text = |field: &str| report[field].as_str().unwrap().to_owned();
        Some((text("source"), text("local")))
    })
    .await
}

/// The addresses of a pod's status, as URLs write them.
fn addresses(pod: &Value) -> Vec<String> {
    let ips = pod["status"]["podIPs"].as_array().unwrap().iter().map(|ip| ip["ip"].as_str().unwrap());
    ips.map(|ip| if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() }).collect()
}

async fn reach_each_other_over_both(caller: Caller) {
    if !has_ipv6() {
        return;
    }
    let Some(lab) = Lab::start_as(caller) else { return };
    assert_eq!(lab.status()["families"], "dual");
    let client = lab.client().await;
    create(
        &client,
        [
            echo("near", "node-1"),
            echo("far", "node-2"),
            service("both", json!({"ipFamilyPolicy": "RequireDualStack"})),
            service("six", json!({"ipFamilies": ["IPv6"]})),
            service("six-headless", json!({"ipFamilies": ["IPv6"], "clusterIP": "None"})),
        ],
    )
    .await;
    let (near, far) = (lab.ready_pod(&client, "near").await, lab.ready_pod(&client, "far").await);
    let (near, far) = (addresses(&near), addresses(&far));
    assert_eq!((near.len(), far.len()), (2, 2));
    let both = fetch(&client, ("v1", "Service"), "both").await.unwrap();
    let both: Vec<&str> =
        both["spec"]["clusterIPs"].as_array().unwrap().iter().map(|ip| ip.as_str().unwrap()).collect();
    for (url, family) in [
        (format!("http://{}:8080/", far[0]), 0),
        (format!("http://{}:8080/", far[1]), 1),
        (format!("http://{}/", both[0]), 0),
        (format!("http://[{}]/", both[1]), 1),
        ("http://six/".to_owned(), 1),
        ("http://six-headless:8080/".to_owned(), 1),
    ] {
        let (source, local) = seen(&lab, "near", &url).await;
        assert!(source.starts_with(&format!("{}:", near[family])), "{url}: from {source}");
        assert_eq!(local, format!("{}:8080", far[family]), "{url}");
    }
    // Hairpin: the caller's own address would be answered inside the pod.
    let (source, _) = seen(&lab, "far", "http://six/").await;
    assert!(source.starts_with("[fd00:a:1:2::1]:"), "{source}");
}

#[tokio::test]
async fn pods_reach_each_other_over_both_families() {
    reach_each_other_over_both(Caller::own()).await;
}

#[tokio::test]
async fn an_ordinary_users_pods_do_so_over_both_families_too() {
    reach_each_other_over_both(Caller::ordinary()).await;
}

#[tokio::test]
async fn a_lab_of_ipv6_alone_works() {
    if !has_ipv6() {
        return;
    }
    let Some((lab, _)) = Lab::start_with(Caller::own(), &["--ip-family", "ipv6"]) else { return };
    let client = lab.client().await;
    create(&client, [echo("near", "node-1"), echo("far", "node-2"), service("far", json!({}))]).await;
    let near = lab.ready_pod(&client, "near").await;
    assert_eq!(addresses(&near), ["[fd00:a:1:1::2]"]);
    lab.ready_pod(&client, "far").await;
    let (source, local) = seen(&lab, "near", "http://far/").await;
    assert!(source.starts_with("[fd00:a:1:1::2]:") && local == "[fd00:a:1:2::2]:8080", "{source} {local}");
}

#[tokio::test]
async fn a_lab_of_ipv4_alone_has_no_ipv6_anywhere() {
    let Some((lab, said)) = Lab::start_with(Caller::own(), &["--ip-family", "ipv4"]) else { return };
    assert!(!said.contains("no IPv6"), "it was asked for: {said}");
    assert_eq!(lab.status()["families"], "ipv4");
    let client = lab.client().await;
    create(&client, [echo("near", "node-1")]).await;
    let near = lab.ready_pod(&client, "near").await;
    assert_eq!(addresses(&near), ["10.244.1.2"]);
    assert_eq!(lab.exec("near", &["cat", "/proc/net/if_inet6"]), "");
}

#[tokio::test]
async fn where_ipv6_is_off_the_lab_says_so_once_and_works() {
    let Ok(offline) = NetNs::create() else {
        return println!("SKIPPED: network namespaces cannot be made");
    };
    let name = unique_name();
    let caller = Caller::own();
    // The process inherits the network namespace of the thread that starts it.
    let up = |family: &str| {
        offline
            .run(|| caller.run(&["up", "--detach", "--without-mesh", "--name", &name, "--ip-family", family]))
            .unwrap()
    };
    match offline.run(|| sysctl::write("net/ipv6/conf/all/disable_ipv6", "1")).unwrap() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        written => written.unwrap(),
    }
    let refused = up("ipv6");
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.contains("there is no IPv6 here"), "{said}");
    let output = up("dual");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let lab = Lab { caller, name };
    assert_eq!(said.matches("IPv6").count(), 1, "{said}");
    assert!(said.contains("IPv4 alone, for there is no IPv6 here: "), "{said}");
    assert_eq!(lab.status()["families"], "ipv4");
}
