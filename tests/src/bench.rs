//! `aquifer bench`: every mode carries load, numbers are plausible, and nothing stays. How fast it is says no debug
//! build.

use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

use crate::support::lab::is_refused;
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
        assert_eq!(proxies.is_empty(), name.starts_with("none"), "{name}: {proxies:?}");
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
    let arguments = "--modes ambient-l4,ambient-l4-same-node --measurements rate,saturation,connections,bulk1 \
                     --no-report --budget ambient-l4.rss<=10MB --budget ambient-l4.rss>=1MB";
    let output = bench(&caller, arguments).await;
    if is_refused(&output) {
        return;
    }
    let results = json(&output);
    let modes = ["none", "none-same-node", "ambient-l4", "ambient-l4-same-node"];
    assert_plausible(&results, &modes);
    let budgets = results["budgets"].as_array().unwrap();
    assert_eq!((&budgets[0]["kept"], &budgets[1]["kept"]), (&Value::Bool(false), &Value::Bool(true)), "{budgets:?}");
    assert!(!output.status.success(), "a budget is violated");
    assert!(text(&output.stderr).contains("budget ambient-l4.rss<=10MB"), "{}", text(&output.stderr));
    assert!(caller.state().is_none_or(|state| !state.exists()), "the lab is gone");
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
    let mut files: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    files.sort();
    let [html, json] = files.as_slice() else { panic!("{files:?}") };
    assert!(html.starts_with("bench-2") && html.ends_with(".html") && json.ends_with(".json"), "{files:?}");
}

#[tokio::test]
async fn an_interrupted_comparison_leaves_nothing() {
    if !is_root() {
        return skip("looking into an ordinary user's processes takes root");
    }
    let _place = whole_machine().await;
    let caller = Caller::own();
    let mut child = caller.command(&["bench", "--modes", "none", "--no-report"]).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let begun = async {
        while let Some(line) = said.next_line().await.unwrap() {
            if line.contains("round 1") {
                return true;
            }
        }
        false
    };
    if !timeout(DEADLINE, begun).await.unwrap() {
        return skip("the kernel refuses labs");
    }
    let processes = family(child.id().unwrap());
    assert!(alive(&processes).len() > 3, "the lab runs");
    send(child.id().unwrap(), Signal::Interrupt);
    let status = timeout(Duration::from_secs(30), child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(130));
    all_end(&processes).await;
}
