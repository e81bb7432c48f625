//! From the start to the end, at any moment in between.

use std::time::Duration;

use linux::socket::StreamOptions;
use linux::{NetNs, link};
use serde_json::Value;
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::sleep;
use types::PodUid;
use zds::WorkloadInfo;
use zds::agent::{Answer, Listener, Session};

use crate::control::Control;
use crate::machine::{Machine, on_machine, request, within};

pub(crate) async fn agent(machine: &Machine) -> Session {
    let listener = Listener::bind(&machine.path("ztunnel.sock")).unwrap();
    let connection = within(listener.accept()).await.unwrap();
    within(Session::start(connection)).await.unwrap()
}

pub(crate) fn info() -> WorkloadInfo {
    WorkloadInfo { name: "cart".to_owned(), namespace: "shop".to_owned(), service_account: "cart".to_owned() }
}

#[test]
fn the_program_becomes_ready_serves_and_ends_when_asked() {
    on_machine(|machine| async move {
        let control = Control::start().await;
        machine.write("root.pem", &control.roots_pem);
        let program = machine.start(&[]);
        let pending = machine.answer(15021, "/healthz/ready", 500).await;
        assert!(pending.contains("workload proxy manager"), "{pending}");

        let mut agent = agent(&machine).await;
        let pod = NetNs::create().unwrap();
        let uid = PodUid::from("6a1c");
        assert_eq!(within(agent.add(&uid, &info(), &pod)).await.unwrap(), Answer::Acknowledged);
        assert_eq!(within(agent.snapshot_sent()).await.unwrap(), Answer::Acknowledged);
        assert_eq!(machine.answer(15021, "/healthz/ready", 200).await, "ready\n");

        let metrics = machine.answer(15020, "/stats/prometheus", 200).await;
        for sample in [
            "istio_build{component=\"ztunnel\",tag=\"1.32\"} 1",
            "istio_xds_message_total{url=\"type.googleapis.com/istio.workload.Address\"} 1",
            "workload_manager_active_proxy_count 1",
            "workload_manager_proxies_started_total 1",
        ] {
            assert!(metrics.lines().any(|line| line == sample), "{sample} is not in\n{metrics}");
        }
        assert_eq!(request(15021, "POST /healthz/ready").await.unwrap().0, 405);
        assert_eq!(request(15021, "GET /other").await.unwrap().0, 404);
        assert_eq!(request(15000, "GET /quitquitquit").await.unwrap().0, 405);
        assert_eq!(request(15000, "POST /quitquitquit").await.unwrap(), (200, "shutdown now\n".to_owned()));
        within(program.ended).await.unwrap().unwrap();
        assert!(request(15021, "GET /healthz/ready").await.is_none(), "its ports are free");
    });
}

#[test]
fn policies_come_before_the_workloads_that_name_them() {
    on_machine(|machine| async move {
        let control = Control::start().await;
        machine.write("root.pem", &control.roots_pem);
        let _program = machine.start(&[]);
        let mut agent = agent(&machine).await;
        assert_eq!(within(agent.snapshot_sent()).await.unwrap(), Answer::Acknowledged);
        drop(machine.answer(15021, "/healthz/ready", 200).await);
        assert_eq!(control.pushed.types(), [proto::AUTHORIZATION_TYPE, proto::ADDRESS_TYPE]);
    });
}

#[test]
fn a_dump_shows_what_the_proxy_knows() {
    on_machine(|machine| async move {
        let control = Control::start().await;
        machine.write("root.pem", &control.roots_pem);
        let program = machine.start(&[]);
        let mut agent = agent(&machine).await;
        let pod = NetNs::create().unwrap();
        assert_eq!(within(agent.add(&PodUid::from("6a1c"), &info(), &pod)).await.unwrap(), Answer::Acknowledged);
        let with_certificate = async {
            loop {
                let (_, text) = request(15000, "GET /config_dump").await.unwrap();
                let dump: Value = serde_json::from_str(&text).unwrap();
                if dump["certificates"][0]["state"] == "Available" {
                    return (dump, text);
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        let (dump, text) = within(with_certificate).await;
        let keys: Vec<&str> = dump.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            [
                "workloads",
                "services",
                "policies",
                "stagedServices",
                "staticConfig",
                "version",
                "config",
                "certificates",
                "workloadState"
            ]
        );
        let workload = &dump["workloads"][0];
        assert_eq!(workload["uid"], "testing//Pod/shop/cart");
        assert_eq!((&workload["protocol"], &workload["status"]), (&"HBONE".into(), &"Healthy".into()));
        assert_eq!(workload["workloadIps"][0], "10.244.0.2");
        assert_eq!(dump["policies"][0]["name"], "deny-all");
        assert_eq!(dump["policies"][0]["action"], "Allow");
        let certificate = &dump["certificates"][0];
        assert_eq!(certificate["identity"], "spiffe://cluster.local/ns/shop/sa/cart");
        for key in ["pem", "serialNumber", "validFrom", "expirationTime"] {
            assert!(certificate["certChain"][0][key].is_string(), "{key}");
        }
        assert!(certificate["rootCerts"][0]["pem"].is_string());
        let state = &dump["workloadState"]["6a1c"];
        assert_eq!((&state["state"], &state["info"]["name"]), (&"Up".into(), &"cart".into()));
        assert_eq!(dump["config"]["own"]["nodeName"], "node-1");
        assert!(!text.contains("let-me-in") && !text.contains("PRIVATE KEY"), "no secrets");
        assert!(text.starts_with("{\n  \"workloads\": [\n    {\n      \""), "pretty: {}", &text[..80]);
        program.trigger.force();
        within(program.ended).await.unwrap().unwrap();
    });
}

#[test]
fn policies_follow_the_control_plane() {
    on_machine(|machine| async move {
        let control = Control::start().await;
        machine.write("root.pem", &control.roots_pem);
        let program = machine.start(&[]);
        let policies = |wanted: usize| async move {
            loop {
                if let Some((200, text)) = request(15000, "GET /config_dump").await
                    && serde_json::from_str::<Value>(&text).unwrap()["policies"].as_array().unwrap().len() == wanted
                {
                    return;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        within(policies(1)).await;
        control.push(2);
        within(policies(0)).await;
        let mut told = control.server.told();
        within(told.wait_for(|version| *version == 2)).await.unwrap();
        control.push(3);
        within(policies(1)).await;
        program.trigger.force();
        within(program.ended).await.unwrap().unwrap();
    });
}

#[test]
fn on_demand_a_workload_is_known_when_somebody_needs_it() {
    on_machine(|machine| async move {
        let control = Control::start().await;
        machine.write("root.pem", &control.roots_pem);
        let program = machine.start(&[("XDS_ON_DEMAND", "true"), ("ISTIO_META_DNS_CAPTURE", "false")]);
        let mut agent = agent(&machine).await;
        let pod = NetNs::create().unwrap();
        pod.run(|| link::set_up("lo").unwrap()).unwrap();
        assert_eq!(within(agent.add(&PodUid::from("6a1c"), &info(), &pod)).await.unwrap(), Answer::Acknowledged);
        assert_eq!(within(agent.snapshot_sent()).await.unwrap(), Answer::Acknowledged);
        assert_eq!(machine.answer(15021, "/healthz/ready", 200).await, "ready\n");
        let workloads = || async {
            let (_, text) = request(15000, "GET /config_dump").await.unwrap();
            serde_json::from_str::<Value>(&text).unwrap()["workloads"].as_array().unwrap().clone()
        };
        assert!(workloads().await.is_empty());
        // Whoever speaks to the pod needs its certificate, and so its identity.
        let target = "127.0.0.1:15008".parse().unwrap();
        let socket = pod.run(|| linux::socket::stream(target, &StreamOptions::default())).unwrap().unwrap();
        let _stream = within(TcpSocket::from_std_stream(socket).connect(target)).await.unwrap();
        let known = async {
            loop {
                let all = workloads().await;
                if !all.is_empty() {
                    return all;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        assert_eq!(within(known).await[0]["uid"], "testing//Pod/shop/cart");
        program.trigger.force();
        within(program.ended).await.unwrap().unwrap();
    });
}

#[test]
fn a_rotated_root_is_picked_up_without_a_restart() {
    on_machine(|machine| async move {
        let control = Control::start().await;
        let other = tls::Authority::self_signed(&"cluster.local".parse().unwrap(), Duration::from_secs(60)).unwrap();
        machine.write("root.pem", other.roots_pem());
        let program = machine.start(&[]);
        let pending = machine.answer(15021, "/healthz/ready", 500).await;
        assert_eq!(pending, "not ready, pending: state manager, workload proxy manager\n");
        let failures =
            async { while !machine.answer(15020, "/metrics", 200).await.contains("reason=\"ConnectionError\"} 3") {} };
        within(failures).await;
        machine.write("root.pem", &control.roots_pem);
        let found = async { while machine.answer(15021, "/healthz/ready", 500).await.contains("state manager") {} };
        within(found).await;
        program.trigger.force();
        within(program.ended).await.unwrap().unwrap();
    });
}

#[test]
fn the_end_may_come_before_anything_has_worked() {
    on_machine(|machine| async move {
        // Nobody listens; and once more with somebody who accepts and says nothing.
        for _ in 0..2 {
            let program = machine.start(&[]);
            machine.answer(15021, "/healthz/ready", 500).await;
            program.trigger.start(Duration::from_secs(600));
            within(program.ended).await.unwrap().unwrap();
            let silent = TcpListener::bind("127.0.0.1:15012").await;
            tokio::task::spawn_local(async move {
                let Ok(silent) = silent else { return };
                let mut connections = Vec::new();
                while let Ok(connection) = silent.accept().await {
                    connections.push(connection);
                }
            });
        }
        // Before it was even polled.
        let program = machine.start(&[]);
        program.trigger.start(Duration::from_secs(600));
        within(program.ended).await.unwrap().unwrap();
    });
}

#[test]
fn an_agent_that_breaks_the_protocol_ends_the_program_with_an_error() {
    on_machine(|machine| async move {
        let control = Control::start().await;
        machine.write("root.pem", &control.roots_pem);
        let program = machine.start(&[]);
        let mut agent = agent(&machine).await;
        assert_eq!(within(agent.snapshot_sent()).await.unwrap(), Answer::Acknowledged);
        assert!(within(agent.snapshot_sent()).await.is_err());
        let error = within(program.ended).await.unwrap().unwrap_err();
        assert!(error.to_string().contains("a second snapshot"), "{error}");
    });
}

/// The version that the program on the machine that answers says it has.
async fn version(machine: &Machine) -> String {
    let metrics = machine.answer(15020, "/metrics", 200).await;
    let line = metrics.lines().find(|line| line.starts_with("istio_build")).unwrap();
    line.split("tag=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

async fn eventually_version(machine: &Machine, wanted: &str) {
    within(async {
        while version(machine).await != wanted {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[test]
fn a_successor_gets_the_ports_of_the_program_too() {
    on_machine(|machine| async move {
        let control = Control::start().await;
        machine.write("root.pem", &control.roots_pem);
        let listener = Listener::bind(&machine.path("ztunnel.sock")).unwrap();
        let accept = async || {
            let connection = within(listener.accept()).await.unwrap();
            let mut session = within(Session::start(connection)).await.unwrap();
            assert_eq!(within(session.snapshot_sent()).await.unwrap(), Answer::Acknowledged);
            session
        };
        let old = machine.start(&[("ISTIO_META_ISTIO_VERSION", "old")]);
        let _old_session = accept().await;
        assert_eq!(machine.answer(15021, "/healthz/ready", 200).await, "ready\n");
        assert_eq!(version(&machine).await, "old");
        let new = machine.start(&[("ISTIO_META_ISTIO_VERSION", "new")]);
        eventually_version(&machine, "new").await;
        // From now on only the newer one answers, ready or not, also for admin requests.
        sleep(Duration::from_millis(600)).await;
        for _ in 0..20 {
            assert_eq!(version(&machine).await, "new");
        }
        let _new_session = accept().await;
        machine.answer(15021, "/healthz/ready", 200).await;
        assert_eq!(request(15000, "POST /quitquitquit").await.unwrap(), (200, "shutdown now\n".to_owned()));
        within(new.ended).await.unwrap().unwrap();
        eventually_version(&machine, "old").await;
        old.trigger.start(Duration::from_secs(600));
        within(old.ended).await.unwrap().unwrap();
        assert!(request(15021, "GET /healthz/ready").await.is_none(), "its ports are free");
    });
}

#[test]
fn a_port_that_is_taken_is_an_error_that_names_it() {
    on_machine(|machine| async move {
        let _taken = TcpListener::bind("0.0.0.0:15020").await.unwrap();
        let program = machine.start(&[]);
        let error = within(program.ended).await.unwrap().unwrap_err();
        assert!(error.to_string().contains("15020"), "{error}");
    });
}
