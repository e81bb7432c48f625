//! Commands that are confined between fork and exec.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use linux::mount::{self, Mount};
use linux::process::{Confinement, Mounts, Signal, confine, mount_namespace_of};
use linux::{NetNs, link};

use super::support::in_namespace;

/// A shell that is confined, with its output.
fn confined(script: &str, confinement: &Confinement) -> String {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    let report = confine(&mut command, confinement).unwrap();
    let output = command.output().map_err(|error| report.explain(error)).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

#[test]
fn a_confined_command_runs_in_its_network_with_its_name_and_session() {
    in_namespace(|| {
        let network = NetNs::create().unwrap();
        network.run(|| link::add_bridge("inside").unwrap()).unwrap();
        let confinement = Confinement {
            network: Some(network),
            host_name: Some("pod-1".into()),
            directory: Some("/usr/bin".into()),
            new_session: true,
            parent_death: Some(Signal::Kill),
            mounts: Mounts::Inherited,
        };
        let script = "uname -n; pwd; cat /proc/net/dev | grep -c inside; cut -d' ' -f6 /proc/$$/stat; echo $$";
        let seen = confined(script, &confinement);
        let lines: Vec<&str> = seen.lines().collect();
        assert_eq!(&lines[..3], ["pod-1", "/usr/bin", "1"]);
        assert_eq!(lines[3], lines[4], "the shell does not lead its session");
        assert_ne!(nix::unistd::gethostname().unwrap(), "pod-1");
    });
}

#[test]
fn mounts_are_seen_by_the_command_alone() {
    in_namespace(|| {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["source", "target", "ram", "etc", "etc/old"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        std::fs::write(at("source/file"), "shown").unwrap();
        std::fs::write(at("etc/passwd"), "host").unwrap();
        let steps = vec![
            Mount::Tmpfs { target: at("ram"), size: Some(1 << 20), mode: 0o751 },
            Mount::Bind { source: at("source"), target: at("target"), read_only: true },
            Mount::Overlay { directory: at("etc"), scratch: at("ram/scratch") },
            Mount::Directory { path: at("etc/new/deep"), mode: 0o700 },
            Mount::Bind { source: at("source"), target: at("etc/new/deep"), read_only: false },
            Mount::File { path: at("etc/resolv.conf") },
            Mount::Bind { source: at("source/file"), target: at("etc/resolv.conf"), read_only: true },
            Mount::Symlink { path: at("etc/link"), to: "resolv.conf".into() },
        ];
        let script = "cat target/file; echo; (echo x > target/new) 2>/dev/null || echo read-only; stat -c %a ram; \
                      cat etc/passwd; echo; cat etc/new/deep/file; echo; cat etc/link; echo; echo changed > etc/passwd; \
                      echo more > etc/new/deep/more; test -d etc/old && cat etc/passwd; stat -c %a etc/new";
        let confinement = Confinement {
            mounts: Mounts::Private(steps),
            directory: Some(directory.path().to_owned()),
            ..Confinement::default()
        };
        let seen = confined(script, &confinement);
        let expected = ["shown", "read-only", "751", "host", "shown", "shown", "changed", "755"];
        assert_eq!(seen.lines().collect::<Vec<_>>(), expected);
        assert_eq!(std::fs::read_to_string(at("etc/passwd")).unwrap(), "host");
        assert!(!at("etc/new").exists());
        assert!(!at("target/file").exists());
        assert_eq!(std::fs::read_to_string(at("source/more")).unwrap(), "more\n");
    });
}

#[test]
fn a_command_can_have_a_root_of_its_own() {
    in_namespace(|| {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        let mut steps = vec![
            Mount::Directory { path: root.clone(), mode: 0o755 },
            Mount::Tmpfs { target: root.clone(), size: Some(1 << 20), mode: 0o755 },
        ];
        for name in ["bin", "lib", "lib64", "usr", "proc"] {
            let source = Path::new("/").join(name);
            match std::fs::read_link(&source) {
                Ok(to) => steps.push(Mount::Symlink { path: root.join(name), to }),
                Err(_) if source.is_dir() => {
                    steps.push(Mount::Directory { path: root.join(name), mode: 0o755 });
                    steps.push(Mount::Bind { source, target: root.join(name), read_only: true });
                }
                Err(_) => {}
            }
        }
        steps.push(Mount::Directory { path: root.join("data"), mode: 0o755 });
        steps.push(Mount::Root { directory: root.clone() });
        let confinement =
            Confinement { mounts: Mounts::Private(steps), directory: Some("/data".into()), ..Confinement::default() };
        let seen = confined(
            "pwd; test -e /etc || echo no etc; echo x > /data/file; ls /data; grep -c . /proc/self/mounts",
            &confinement,
        );
        let lines: Vec<&str> = seen.lines().collect();
        assert_eq!(&lines[..3], ["/data", "no etc", "file"]);
        assert!(!root.join("data").exists());
    });
}

#[test]
fn the_step_that_fails_is_named() {
    in_namespace(|| {
        let missing = PathBuf::from("/no/such/directory");
        let mounts = Mounts::Private(vec![Mount::Tmpfs { target: missing, size: None, mode: 0o755 }]);
        let mut command = Command::new("/bin/true");
        let report = confine(&mut command, &Confinement { mounts, ..Confinement::default() }).unwrap();
        let error = report.explain(command.status().unwrap_err());
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().starts_with("mounting a tmpfs on /no/such/directory: "), "{error}");

        let mut absent = Command::new("/no/such/program");
        let report = confine(&mut absent, &Confinement::default()).unwrap();
        let error = report.explain(absent.status().unwrap_err());
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{error}");
    });
}

#[test]
fn another_command_can_join_the_mounts_of_a_running_one() {
    in_namespace(|| {
        let directory = tempfile::tempdir().unwrap();
        let ram = directory.path().to_owned();
        let steps = vec![Mount::Tmpfs { target: ram.clone(), size: None, mode: 0o755 }];
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo inside > file; echo ready; read end"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let confinement =
            Confinement { mounts: Mounts::Private(steps), directory: Some(ram.clone()), ..Confinement::default() };
        confine(&mut command, &confinement).unwrap();
        let mut child = command.spawn().unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();

        let joining = Confinement {
            mounts: Mounts::Of(mount_namespace_of(child.id()).unwrap()),
            directory: Some(ram.clone()),
            ..Confinement::default()
        };
        assert_eq!(confined("cat file", &joining), "inside");
        assert!(!ram.join("file").exists());
        child.stdin.take().unwrap().write_all(b"end\n").unwrap();
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn mounts_made_later_in_a_shared_directory_show_up_in_running_commands() {
    in_namespace(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS | nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        mount::make_private().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let shared = directory.path().join("shared");
        let late = shared.join("late");
        std::fs::create_dir(&shared).unwrap();
        mount::apply(&[Mount::Tmpfs { target: shared.clone(), size: None, mode: 0o755 }]).unwrap();
        mount::make_shared(&shared).unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo ready; read go; cat late"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let confinement = Confinement {
            mounts: Mounts::Private(Vec::new()),
            directory: Some(shared.clone()),
            ..Confinement::default()
        };
        confine(&mut command, &confinement).unwrap();
        let mut child = command.spawn().unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
        std::fs::write(&late, "").unwrap();
        let source = directory.path().join("source");
        std::fs::write(&source, "late news").unwrap();
        mount::apply(&[Mount::Bind { source, target: late.clone(), read_only: false }]).unwrap();
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "late news");
        for target in [&late, &shared] {
            mount::unmount(target).unwrap();
            mount::unmount(target).unwrap();
        }
        mount::unmount(Path::new("/no/such/mount")).unwrap();
        assert!(!late.exists());
    });
}
