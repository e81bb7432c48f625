//! `aquifer bench`, in a lab of its own and on a cluster: every mode carries load, numbers are plausible, and nothing
//! stays. How fast it is says no debug build.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;
use tokio::time::timeout;

use crate::support::lab::{Lab, is_refused};
use crate::support::processes::{Signal, alive, all_end, family, send};
use crate::support::program::{has_peers, is_root, text, whole_machine};
use crate::support::{Caller, skip};

/// Tiny measurements of a few modes, with the lab before and after them.
const DEADLINE: Duration = Duration::from_secs(120);

/// So slow is no machine, and so fast is none.
const PLAUSIBLE: [(&str, f64, f64); 5] = [
    ("p50_us", 5.0, 1_000_000.0),
    ("p99_us", 5.0, 5_000_000.0),
    ("max_rps", 20.0, 5_000_000.0),
    ("conns_per_s", 5.0, 1_000_000.0),
    ("bulk_gbps", 0.001, 1_000.0),
];

/// Runs a comparison of tiny measurements.
async fn bench(caller: &Caller, arguments: &str) -> Output {
    let common = "bench --rounds 2 --duration 300ms --qps 50 --conns 4 -o json";
    let words: Vec<&str> = common.split(' ').chain(arguments.split(' ')).collect();
    let running = caller.command(&words).output();
    timeout(DEADLINE, running).await.unwrap_or_else(|_| panic!("it takes longer than {DEADLINE:?}")).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output.stderr)))
}

/// Checks that every mode has plausible numbers.
fn assert_plausible(results: &Value, modes: &[&str]) {
    let found: Vec<&str> =
        results["modes"].as_array().unwrap().iter().filter_map(|mode| mode["mode"].as_str()).collect();
    assert_eq!(found, modes, "left out: {}", results["left_out"]);
    for mode in results["modes"].as_array().unwrap() {
        // A machine that does other things at the same time is late at the fixed rate, and then says so.
        let is_late = mode["valid"] == false;
        if is_late {
            let reason = mode["reason"].as_str().unwrap();
            assert!(reason.starts_with("rate: INVALID") && reason.contains("late") && !reason.contains(';'), "{mode}");
            assert!(mode["p50_us"].is_null() && mode["p99_us"].is_null(), "never a number: {mode}");
        }
        for (field, least, most) in PLAUSIBLE.into_iter().filter(|(field, ..)| !(is_late && field.starts_with('p'))) {
            let number = |part: &str| mode[field][part].as_f64().unwrap_or_else(|| panic!("{field} of {mode}"));
            let [low, median, high] = ["low", "median", "high"].map(number);
            assert!(least <= low && low <= median && median <= high && high <= most, "{field} of {mode}");
        }
        let name = mode["mode"].as_str().unwrap();
        let proxies = mode["proxies"].as_array().unwrap();
        let is_seen = results["proxies_unseen"].is_null();
        assert_eq!(proxies.is_empty(), name.starts_with("none") || !is_seen, "{name}: {proxies:?}");
        for proxy in proxies {
            let used = proxy["cpu_us_per_request"]["median"].as_f64();
            assert!(used.is_some_and(|micros| micros > 0.5), "{name}: {proxy}");
        }
    }
}

#[tokio::test]
async fn the_mesh_is_compared_with_no_mesh() {
    let _place = whole_machine().await;
    let caller = Caller::ordinary();
    let arguments = "--modes ambient-l4,ambient-l4-same-node,relay --measurements rate,saturation,connections,bulk1 \
                     --no-report --budget ambient-l4.rss<=10MB --budget ambient-l4.rss>=1MB";
    let output = bench(&caller, arguments).await;
    if is_refused(&output) {
        return;
    }
    let results = json(&output);
    let modes = ["none", "none-same-node", "ambient-l4", "ambient-l4-same-node", "relay"];
    assert_plausible(&results, &modes);
    let budgets = results["budgets"].as_array().unwrap();
    assert_eq!((&budgets[0]["kept"], &budgets[1]["kept"]), (&Value::Bool(false), &Value::Bool(true)), "{budgets:?}");
    assert!(!output.status.success(), "a budget is violated");
    assert!(text(&output.stderr).contains("budget ambient-l4.rss<=10MB"), "{}", text(&output.stderr));
    assert!(caller.state().is_none_or(|state| !state.exists()), "the lab is gone");
}

#[tokio::test]
async fn the_cold_mode_makes_a_handshake_for_each_connection_and_proves_it() {
    let _place = whole_machine().await;
    let arguments = "--modes ambient-l4,ambient-l4-cold --measurements connections --no-report";
    let output = bench(&Caller::ordinary(), arguments).await;
    if is_refused(&output) {
        return;
    }
    let results = json(&output);
    let [none, warm, cold] = results["modes"].as_array().unwrap().as_slice() else { panic!("{}", results["left_out"]) };
    assert!(none["handshakes_per_connection"].is_null(), "there is no proxy: {none}");
    let median =
        |mode: &Value, field: &str| mode[field]["median"].as_f64().unwrap_or_else(|| panic!("{field}: {mode}"));
    let [shared, own] = [warm, cold].map(|mode| median(mode, "handshakes_per_connection"));
    assert!(shared < 0.5 && (0.99..=1.01).contains(&own), "{shared}, {own}");
    let [kept, made] = [warm, cold].map(|mode| median(mode, "cpu_us_per_connection"));
    assert!(made > kept, "a handshake costs something: {made} and {kept}");
    let proxies: Vec<&Value> = cold["proxies"].as_array().unwrap().iter().map(|proxy| &proxy["name"]).collect();
    assert_eq!(proxies, ["ztunnel-node-3", "ztunnel-node-4"], "those of the other modes are left as they are");
    let conditions = results["conditions"].to_string();
    assert!(conditions.contains("ztunnels have POOL_MAX_STREAMS_PER_CONNECTION=1"), "{conditions}");
}

#[tokio::test]
async fn the_mesh_is_compared_with_sidecars() {
    if !has_peers(&["envoy"]) {
        return;
    }
    let _place = whole_machine().await;
    let caller = Caller::own();
    let folder = tempfile::tempdir().unwrap();
    let arguments = "bench --rounds 1 --duration 300ms --qps 50 --conns 4 -o json \
                     --modes ambient-l7,sidecar,sidecar-l4 --measurements rate,saturation,connections,bulk1";
    let mut command = caller.command(&arguments.split_whitespace().collect::<Vec<_>>());
    let output = timeout(DEADLINE, command.current_dir(folder.path()).output()).await.unwrap().unwrap();
    if is_refused(&output) {
        return;
    }
    let results = json(&output);
    let modes = ["none", "ambient-l7", "sidecar", "sidecar-l4"];
    assert_plausible(&results, &modes);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(results["envoy"].as_array().unwrap().len(), 5, "each Envoy's configuration is told");
    for (mode, envoys) in results["modes"].as_array().unwrap().iter().zip([0, 1, 2, 2]) {
        let tls = &mode["tls"];
        let ciphers = tls["ciphers"].as_object().map(|all| all.values().cloned().collect()).unwrap_or_default();
        let ciphers: Vec<Value> = ciphers;
        assert_eq!((ciphers.len(), &tls["differs"]), (envoys, &Value::Null), "{mode}");
        assert_eq!(tls["resumed"].as_object().map_or(0, serde_json::Map::len), envoys, "{mode}");
        assert!(ciphers.iter().all(|made| made["TLS_AES_128_GCM_SHA256"].as_u64() >= Some(1)), "{mode}");
    }
    let mut files: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    files.sort();
    let [html, json] = files.as_slice() else { panic!("{files:?}") };
    assert!(html.starts_with("bench-2") && html.ends_with(".html") && json.ends_with(".json"), "{files:?}");
}

/// Whether a comparison comes to its first round.
async fn begins(child: &mut Child) -> bool {
    let mut said = BufReader::new(child.stderr.as_mut().unwrap()).lines();
    let begun = async {
        while let Some(line) = said.next_line().await.unwrap() {
            if line.contains("round 1") {
                return true;
            }
        }
        false
    };
    timeout(DEADLINE, begun).await.unwrap()
}

/// The one file of a folder with that ending.
fn report(folder: &Path, ending: &str) -> PathBuf {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|found| found == ending)).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// The namespaces of comparisons that a cluster has.
async fn namespaces(lab: &Lab) -> String {
    lab.kubectl("get namespaces -l aquifer.dev/bench -o name").await
}

/// The flags that lead to a lab as to a cluster that is somebody else's.
async fn cluster_flags(lab: &Lab) -> String {
    let kubeconfig = text(&lab.run("kubeconfig", &["--path"]).await.stdout);
    format!("--kubeconfig {} --context aquifer --image registry.example.com/aquifer:1", kubeconfig.trim())
}

#[tokio::test]
async fn a_cluster_is_measured_and_left_as_it_was() {
    let Some(lab) = Lab::start_alone(&[]).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let run = async |arguments: &str| {
        let words: Vec<&str> = arguments.split_whitespace().collect();
        let running = lab.caller.command(&words).current_dir(folder.path()).output();
        timeout(DEADLINE, running).await.unwrap_or_else(|_| panic!("longer than {DEADLINE:?}: {arguments}")).unwrap()
    };
    let modes = ["none", "ambient-l4"];
    let output = run(&format!(
        "bench {} --modes none,ambient-l4,ambient-l7,sidecar --quick --rounds 1 --qps 50 --conns 4 -o json \
         --measurements rate,saturation,connections,bulk1 --budget ambient-l4.rss<=1MB",
        cluster_flags(&lab).await
    ))
    .await;
    let results = json(&output);
    assert_plausible(&results, &modes);
    assert_eq!((&results["machine"], &results["cluster"]["nodes"][0]["name"]), (&Value::Null, &"node-1".into()));
    let unseen = results["proxies_unseen"].as_str().unwrap();
    assert!(results["modes"][1]["cpu_us_per_request"].is_null() && unseen.contains("/proc"), "{unseen}");
    assert_eq!(results["budgets"][0]["found"], format!("no number: {unseen}"));
    let why: Vec<&str> =
        results["left_out"].as_array().unwrap().iter().filter_map(|one| one["reason"].as_str()).collect();
    assert!(why.len() == 2 && why[0].contains("authority") && why[1] == "no image of Envoy is named", "{why:?}");
    assert_eq!(namespaces(&lab).await, "", "nothing stays: {}", text(&output.stderr));

    let written = report(folder.path(), "json");
    let again = run(&format!("bench --replay {} --no-report -o json", written.display())).await;
    let again = json(&again);
    assert_plausible(&again, &modes);
    assert_eq!((&again["arguments"], &again["command"]), (&results["arguments"], &results["command"]));
    assert_eq!(namespaces(&lab).await, "");
    let refused = run(&format!("bench --replay {}", report(folder.path(), "html").display())).await;
    assert!(text(&refused.stderr).contains("is no report of aquifer bench: it is not JSON"), "{refused:?}");
}

#[tokio::test]
async fn an_interrupted_comparison_leaves_nothing_on_a_cluster() {
    let Some(lab) = Lab::start_alone(&[]).await else { return };
    let arguments = format!("bench {} --modes none --no-report", cluster_flags(&lab).await);
    let mut child = lab.caller.command(&arguments.split_whitespace().collect::<Vec<_>>()).spawn().unwrap();
    assert!(begins(&mut child).await, "it begins");
    let made = namespaces(&lab).await;
    assert!(made.starts_with("namespace/aquifer-bench-") && made.lines().count() == 1, "{made:?}");
    send(child.id().unwrap(), Signal::Interrupt);
    let status = timeout(DEADLINE, child.wait()).await.unwrap().unwrap();
    assert_eq!((status.code(), namespaces(&lab).await.as_str()), (Some(130), ""));
}

#[tokio::test]
async fn what_fails_on_a_cluster_is_told_and_leaves_nothing() {
    let Some(lab) = Lab::start_alone(&[]).await else { return };
    let flags = cluster_flags(&lab).await;
    let run = async |arguments: String| {
        let output = lab.caller.run(&arguments.split_whitespace().collect::<Vec<_>>()).await;
        assert!(!output.status.success(), "{arguments}: {output:?}");
        text(&output.stderr)
    };
    let said = run(format!("bench {flags} --modes none --no-report --nodes node-1,node-9")).await;
    assert!(said.contains("the cluster has no node \"node-9\"") && said.contains("node-1, node-2"), "{said}");
    lab.kubectl("cordon node-2").await;
    let said = run(format!("bench {flags} --modes none --no-report --nodes node-1,node-2")).await;
    assert!(said.contains("node node-2 takes no pods: it is cordoned"), "{said}");
    let said = run(format!("bench {flags} --modes sidecar --no-report --envoy-image envoy")).await;
    assert!(said.contains("no mode can be measured: none: it takes two nodes, and one takes pods"), "{said}");
    assert!(said.contains("deleting namespace aquifer-bench-"), "{said}");
    assert_eq!(namespaces(&lab).await, "");
}

#[tokio::test]
async fn an_interrupted_comparison_leaves_nothing() {
    if !is_root() {
        return skip("looking into an ordinary user's processes takes root");
    }
    let _place = whole_machine().await;
    let caller = Caller::own();
    let mut child = caller.command(&["bench", "--modes", "none", "--no-report"]).spawn().unwrap();
    if !begins(&mut child).await {
        return skip("the kernel refuses labs");
    }
    let processes = family(child.id().unwrap());
    assert!(alive(&processes).len() > 3, "the lab runs");
    send(child.id().unwrap(), Signal::Interrupt);
    let status = timeout(Duration::from_secs(30), child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(130));
    all_end(&processes).await;
}
