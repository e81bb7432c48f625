//! Plans over a small host in a temporary directory.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

/// A host with `/etc/hosts`, `/var/run -> /run`, a dangling `/etc/resolv.conf` and `/bin -> usr/bin`.
fn host() -> tempfile::TempDir {
    let host = tempfile::tempdir().unwrap();
    for directory in ["etc", "usr/bin", "var/lib", "run/secret", "data"] {
        fs::create_dir_all(host.path().join(directory)).unwrap();
    }
    fs::write(host.path().join("etc/hosts"), "").unwrap();
    symlink("/run", host.path().join("var/run")).unwrap();
    symlink("../run/resolve/stub.conf", host.path().join("etc/resolv.conf")).unwrap();
    symlink("usr/bin", host.path().join("bin")).unwrap();
    symlink("loop-b", host.path().join("loop-a")).unwrap();
    symlink("loop-a", host.path().join("loop-b")).unwrap();
    host
}

fn planner(host: &Path) -> Planner<'_> {
    Planner::new(host, "/r".into(), "/scratch".into()).unwrap()
}

fn directory(target: &str) -> Shown {
    Shown { source: "/source".into(), target: target.into(), read_only: false, is_directory: true }
}

/// What a target adds to the plan, one word per step.
fn added(shown: &[Shown]) -> Vec<String> {
    let host = host();
    let mut planner = planner(host.path());
    let before = planner.steps.len();
    for shown in shown {
        planner.show(shown).unwrap();
    }
    planner.steps[before..]
        .iter()
        .map(|step| match step {
            Mount::Directory { path, .. } => format!("mkdir {}", path.display()),
            Mount::File { path } => format!("touch {}", path.display()),
            Mount::Bind { target, .. } => format!("bind {}", target.display()),
            Mount::Overlay { directory, scratch } => format!("overlay {} {}", directory.display(), scratch.display()),
            other => format!("{other:?}"),
        })
        .collect()
}

#[test]
fn the_root_shows_the_host_except_for_run() {
    let host = host();
    let plan = planner(host.path()).finish();
    let etc = Mount::Bind { source: host.path().join("etc"), target: "/r/etc".into(), read_only: true };
    assert!(plan.contains(&etc));
    assert!(plan.contains(&Mount::Symlink { path: "/r/bin".into(), to: "usr/bin".into() }));
    assert!(plan.contains(&Mount::Directory { path: "/r/run".into(), mode: 0o755 }));
    let binds_run = |step: &Mount| matches!(step, Mount::Bind { source, .. } if source.ends_with("run"));
    assert!(!plan.iter().any(binds_run));
    assert_eq!(plan.last(), Some(&Mount::Root { directory: "/r".into() }));
}

#[test]
fn what_exists_is_covered() {
    assert_eq!(added(&[directory("/data")]), ["bind /r/data"]);
    let hosts = Shown { is_directory: false, ..directory("/etc/hosts") };
    assert_eq!(added(&[hosts]), ["bind /r/etc/hosts"]);
}

#[test]
fn a_link_leads_into_the_containers_own_run() {
    assert_eq!(
        added(&[directory("/var/run/secrets/tokens"), directory("/run/secret")]),
        ["mkdir /r/run/secrets/tokens", "bind /r/run/secrets/tokens", "mkdir /r/run/secret", "bind /r/run/secret"],
        "the host's own /run/secret does not show"
    );
    let file = Shown { is_directory: false, ..directory("/etc/resolv.conf") };
    assert_eq!(
        added(&[file]),
        ["mkdir /r/run/resolve", "touch /r/run/resolve/stub.conf", "bind /r/run/resolve/stub.conf"]
    );
}

#[test]
fn a_new_top_level_directory_needs_no_overlay() {
    assert_eq!(added(&[directory("/config/a")]), ["mkdir /r/config/a", "bind /r/config/a"]);
}

#[test]
fn a_missing_directory_gets_one_overlay_on_its_ancestor() {
    assert_eq!(
        added(&[directory("/etc/istio/a"), directory("/etc/istio/b")]),
        [
            "overlay /r/etc /scratch/overlay-0",
            "mkdir /r/etc/istio/a",
            "bind /r/etc/istio/a",
            "mkdir /r/etc/istio/b",
            "bind /r/etc/istio/b"
        ]
    );
    assert_eq!(added(&[directory("/bin/x")])[0], "overlay /r/usr/bin /scratch/overlay-0");
}

#[test]
fn a_volume_inside_a_volume_needs_no_overlay() {
    assert_eq!(
        added(&[directory("/data"), directory("/data/inner")]),
        ["bind /r/data", "mkdir /r/data/inner", "bind /r/data/inner"]
    );
}

#[test]
fn loops_and_relative_paths_are_refused() {
    let host = host();
    let mut planner = planner(host.path());
    assert!(planner.show(&directory("/loop-a/x")).unwrap_err().to_string().contains("too many links"));
    assert!(planner.show(&directory("data")).unwrap_err().to_string().contains("must be absolute"));
}

#[test]
fn no_path_leads_out_of_the_root() {
    assert_eq!(added(&[directory("/../../data")]), ["bind /r/data"]);
}
