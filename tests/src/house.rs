//! Labs with the mesh in them come, go, are killed and come again.

use crate::support::lab::{Lab, REDIRECTION, is_refused, shop};
use crate::support::load::burst;
use crate::support::processes::{Signal, alive, all_end, family, interfaces, mounts, send};
use crate::support::program::{is_root, text};
use crate::support::{Caller, skip};

const PODS: &str = include_str!("../fixtures/shop.yaml");

async fn shop_works(lab: &Lab) {
    lab.open_shop(PODS).await;
    lab.capture().await;
    let burst = burst(lab, shop("frontend"), "http://cart/").await;
    assert!(burst.ok > 0 && burst.failed == 0, "{burst:?}");
}

#[tokio::test]
async fn down_takes_the_mesh_with_it_and_a_name_is_taken_until_then() {
    let (mounts_before, interfaces_before) = (mounts(), interfaces());
    let Some(lab) = Lab::start(&[]).await else { return };
    shop_works(&lab).await;
    assert_eq!(mounts(), mounts_before, "mounts stay in the lab");
    assert_eq!(interfaces(), interfaces_before, "interfaces stay in the lab");

    let second = lab.caller.run(&["up", "--detach", "--name", &lab.name]).await;
    let said = text(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    assert!(said.contains("runs already") && said.contains(&format!("aquifer down --name {}", lab.name)), "{said}");

    let family = family(lab.pid().await);
    assert!(family.len() >= 10, "its own, five of the mesh, three pods: {family:?}");
    let state = text(&lab.run("kubeconfig", &["--path"]).await.stdout);
    let down = lab.run("down", &[]).await;
    assert!(down.status.success(), "{down:?}");
    assert_eq!(alive(&family), Vec::<u32>::new());
    assert!(!std::path::Path::new(state.trim()).parent().unwrap().exists());
    assert_eq!(mounts(), mounts_before);
    assert_eq!(interfaces(), interfaces_before);
}

#[tokio::test]
async fn a_killed_supervisor_takes_everything_along_and_the_name_can_be_used_again() {
    let Some(lab) = Lab::start(&[]).await else { return };
    shop_works(&lab).await;
    let family = family(lab.pid().await);
    send(lab.pid().await, Signal::Kill);
    all_end(&family).await;
    let up = lab.caller.run(&["up", "--detach", "--name", &lab.name]).await;
    assert!(up.status.success(), "{up:?}");
    let namespaces = lab.kubectl("get namespaces -o name").await;
    assert!(!namespaces.contains("namespace/shop"), "the new lab knows nothing of the old one: {namespaces}");
    shop_works(&lab).await;
}

#[tokio::test]
async fn an_ordinary_user_gets_the_same_lab() {
    if !is_root() {
        return skip("whoever runs the tests is an ordinary user already");
    }
    let Some(lab) = Lab::start_as(Caller::ordinary(), &[]).await else { return };
    shop_works(&lab).await;
    let pods = lab.kubectl("get pods -n shop -o yaml").await;
    assert_eq!(pods.matches(&format!("{REDIRECTION}: enabled")).count(), 3);
    let family = family(lab.pid().await);
    let down = lab.run("down", &[]).await;
    assert!(down.status.success(), "{down:?}");
    assert_eq!(alive(&family), Vec::<u32>::new());
}

#[tokio::test]
async fn a_command_about_a_lab_that_does_not_run_says_what_to_type() {
    let caller = Caller::own();
    for verb in [&["status"][..], &["kubeconfig"], &["exec", "cart", "--", "true"], &["logs", "cart"], &["down"]] {
        let output =
            caller.run(&[verb[..1].to_vec(), vec!["--name", "no-such-lab"], verb[1..].to_vec()].concat()).await;
        let said = text(&output.stderr);
        assert!(!output.status.success() && !is_refused(&output), "{verb:?}: {output:?}");
        assert!(said.contains("no lab \"no-such-lab\" runs"), "{verb:?}: {said}");
        assert!(said.contains("aquifer up --name no-such-lab"), "{verb:?}: {said}");
    }
}
