//! What becomes of pods: restarts, exit codes, logs, probes, deletion, pods that cannot run.

use serde_json::{Value, json};

use crate::support::{Lab, create, delete_pod, eventually, fetch, list, pod};

const POD: (&str, &str) = ("v1", "Pod");

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

fn shell(script: &str) -> Value {
    json!({"image": "host", "command": ["sh", "-c", script]})
}

#[tokio::test]
async fn exec_returns_output_and_exit_code_and_reads_standard_input() {
    let Some(lab) = Lab::start() else { return };
    let client = lab.client().await;
    create(&client, [pod("p", "node-1", shell("exec sleep infinity"))]).await;
    lab.ready_pod(&client, "p").await;
    let output =
        lab.run("exec", &["p", "--env", "A=b", "--", "sh", "-c", "echo $A $HOSTNAME; hostname; echo no >&2; exit 7"]);
    assert_eq!((text(&output.stdout).as_str(), text(&output.stderr).as_str()), ("b p\np\n", "no\n"));
    assert_eq!(output.status.code(), Some(7));
    let mut child = lab
        .caller
        .command(&["exec", "--name", &lab.name, "p", "--", "cat"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"through\n").unwrap();
    assert_eq!(text(&child.wait_with_output().unwrap().stdout), "through\n");
    let refused = lab.run("exec", &["absent", "--", "true"]);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(
        text(&refused.stderr),
        "error: no pod \"absent\" runs in namespace \"default\"\n  see what runs: aquifer status\n"
    );
    let refused = lab.run("exec", &["p", "--", "no-such-program"]);
    assert!(text(&refused.stderr).contains("command \"no-such-program\" is not a program of the host"), "{refused:?}");
}

#[tokio::test]
async fn a_container_that_ends_is_restarted_and_its_last_log_is_kept() {
    let Some(lab) = Lab::start() else { return };
    let client = lab.client().await;
    create(&client, [pod("p", "node-1", shell("echo run; exit 3"))]).await;
    let found = eventually("two restarts", async || {
        let found = fetch(&client, POD, "p").await?;
        (found["status"]["containerStatuses"][0]["restartCount"].as_i64()? >= 2).then_some(found)
    })
    .await;
    let status = &found["status"]["containerStatuses"][0];
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 3, "{status}");
    assert_eq!(text(&lab.log("p", &["--previous"]).stdout), "run\n");
    eventually("the back-off shows", async || {
        let found = fetch(&client, POD, "p").await?;
        (found["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_is_not_restarted_ends_with_its_containers() {
    let Some(lab) = Lab::start() else { return };
    let client = lab.client().await;
    for (name, script) in [("good", "echo done"), ("bad", "exit 1")] {
        let mut once = pod(name, "node-2", shell(script));
        once["spec"]["restartPolicy"] = json!("Never");
        create(&client, [once]).await;
    }
    for (name, phase) in [("good", "Succeeded"), ("bad", "Failed")] {
        eventually(&format!("{name} is {phase}"), async || {
            (fetch(&client, POD, name).await?["status"]["phase"] == phase).then_some(())
        })
        .await;
    }
    assert_eq!(text(&lab.log("good", &[]).stdout), "done\n");
}

#[tokio::test]
async fn init_containers_run_first_and_one_after_the_other() {
    let Some(lab) = Lab::start() else { return };
    let client = lab.client().await;
    let mount = json!([{"name": "v", "mountPath": "/shared"}]);
    let init = |name: &str| json!({"name": name, "image": "host", "command": ["sh", "-c", format!("echo {name} >> /shared/order")], "volumeMounts": mount});
    let mut with_init = pod("p", "node-1", shell("cat /shared/order; exec sleep infinity"));
    with_init["spec"]["containers"][0]["volumeMounts"] = mount.clone();
    with_init["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
    with_init["spec"]["initContainers"] = json!([init("one"), init("two")]);
    create(&client, [with_init]).await;
    lab.ready_pod(&client, "p").await;
    eventually("the order", async || (text(&lab.log("p", &["-c", "app"]).stdout) == "one\ntwo\n").then_some(())).await;
}

#[tokio::test]
async fn a_failed_liveness_probe_restarts_the_container() {
    let Some(lab) = Lab::start() else { return };
    let client = lab.client().await;
    let container = json!({
        "image": "aquifer/echo",
        "livenessProbe": {"httpGet": {"path": "/?status=500", "port": 8080}, "periodSeconds": 1, "failureThreshold": 1},
    });
    create(&client, [pod("p", "node-1", container)]).await;
    eventually("a restart", async || {
        (fetch(&client, POD, "p").await?["status"]["containerStatuses"][0]["restartCount"].as_i64()? >= 1).then_some(())
    })
    .await;
    eventually("an event that says why", async || {
        let events = list(&client, ("v1", "Event")).await;
        let said = |reason: &str, words: &str| {
            events.iter().any(|event| event["reason"] == reason && event["message"].as_str().unwrap().contains(words))
        };
        (said("Unhealthy", "statuscode: 500") && said("Killing", "failed liveness probe")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_cannot_run_says_why() {
    let Some(lab) = Lab::start() else { return };
    let client = lab.client().await;
    create(
        &client,
        [
            pod("image", "node-1", json!({"image": "nginx"})),
            pod("program", "node-1", json!({"image": "x", "command": ["no-such-program"]})),
            pod("map", "node-1", json!({"image": "aquifer/echo", "envFrom": [{"configMapRef": {"name": "absent"}}]})),
        ],
    )
    .await;
    for (name, reason, words) in [
        ("image", "ErrImageNeverPull", "image \"nginx\" needs a `command`"),
        ("program", "CreateContainerError", "command \"no-such-program\" is not a program of the host"),
        ("map", "CreateContainerConfigError", "configmap \"absent\" not found"),
    ] {
        let waiting = eventually(&format!("{name} waits"), async || {
            let found = fetch(&client, POD, name).await?;
            let waiting = found["status"]["containerStatuses"][0]["state"]["waiting"].clone();
            waiting["message"].is_string().then_some(waiting)
        })
        .await;
        assert_eq!(waiting["reason"], reason);
        assert!(waiting["message"].as_str().unwrap().contains(words), "{waiting}");
    }
    // What was missing may come later.
    create(&client, [json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "absent"}, "data": {}})])
        .await;
    lab.ready_pod(&client, "map").await;
}

#[tokio::test]
async fn a_deleted_pod_gets_its_time_and_leaves_nothing() {
    let Some(lab) = Lab::start() else { return };
    let client = lab.client().await;
    let script = "trap 'echo bye; sleep 0.3; exit 0' TERM; echo up; while :; do sleep 0.05; done";
    create(&client, [pod("p", "node-1", shell(script))]).await;
    let found = lab.ready_pod(&client, "p").await;
    let uid = found["metadata"]["uid"].as_str().unwrap();
    let namespaces = "/run/aquifer/nodes/node-1/run/aquifer/netns";
    let kept = || text(&lab.run("exec", &["--node", "node-1", "--", "ls", namespaces]).stdout);
    assert_eq!(kept().trim(), uid);
    let follower = lab
        .caller
        .command(&["logs", "--name", &lab.name, "p", "--follow"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    eventually("the follower reads", async || (text(&lab.log("p", &[]).stdout) == "up\n").then_some(())).await;
    delete_pod(&client, "p").await;
    eventually("the pod is gone", async || fetch(&client, POD, "p").await.is_none().then_some(())).await;
    assert_eq!(text(&follower.wait_with_output().unwrap().stdout), "up\nbye\n", "it had time to say goodbye");
    assert_eq!(kept(), "");
    let links = text(&lab.run("exec", &["--node", "node-1", "--", "ls", "/proc/self/net/dev_snmp6"]).stdout);
    assert!(!links.contains("veth"), "{links}");
}
