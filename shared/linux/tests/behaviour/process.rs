//! Processes in namespaces of their own. This program plays the process inside too; see `play`.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use linux::mount::{self, Mount};
use linux::process::{
    self, Confinement, Init, InitProcess, Mounts, NamespaceError, Namespaces, PidFd, Signal, confine, kill,
    mount_namespace_of,
};
use linux::{NetNs, link};
use nix::poll::PollFlags;
use nix::unistd::pipe2;

use super::support::{in_namespace, until, wait_for};

/// What the program inside does, when it is this test program.
const PART: &str = "AQUIFER_TEST_PART";

fn namespaces() -> Namespaces {
    Namespaces { user: true, ..Namespaces::ALL }
}

fn pipe() -> (File, OwnedFd) {
    let (reader, writer) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    (reader.into(), writer)
}

/// Starts this program again, to do what `play` does for `part`, with its output in a pipe.
fn init(part: &str) -> (Init, File) {
    let arguments = ["behaviour::process::play", "--exact", "--nocapture", "--test-threads=1"];
    let mut init = Init::new(arguments.map(OsString::from), namespaces());
    init.environment = vec![(PART.into(), part.into())];
    let (reader, writer) = pipe();
    init.standard[2] = Some(writer);
    (init, reader)
}

/// Starts a shell in new namespaces; process 2 there, with its output in a pipe.
fn shell(script: &str) -> (InitProcess, File) {
    let mut init = Init::new([], namespaces());
    let (reader, writer) = pipe();
    init.program = "/bin/sh".into();
    init.arguments = ["sh", "-c", script].map(OsString::from).to_vec();
    init.standard[1] = Some(writer);
    (init.start().unwrap(), reader)
}

fn output(mut reader: File) -> String {
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    text.trim_end().to_owned()
}

/// The inside of the tests below; does nothing when it is run as a test.
#[test]
fn play() {
    let Some(part) = std::env::var_os(PART) else { return };
    match part.to_str().unwrap() {
        "view" => {
            mount::apply(&[Mount::Proc { target: "/proc".into() }]).unwrap();
            mount::apply(&[Mount::Tmpfs { target: "/run".into(), size: Some(1 << 20), mode: 0o755 }]).unwrap();
            std::fs::write("/run/mine", "x").unwrap();
            let first = std::fs::read_to_string("/proc/1/comm").unwrap();
            let links: Vec<String> = link::list().unwrap().into_iter().map(|link| link.name).collect();
            eprint!(
                "pid {} uid {} privileged {} first {} links {links:?}",
                std::process::id(),
                nix::unistd::getuid(),
                process::is_privileged(),
                first.trim_end(),
            );
        }
        "exec" => {
            mount::apply(&[Mount::Proc { target: "/proc".into() }]).unwrap();
            let status = Command::new("/proc/self/exe").arg("--list").stdout(Stdio::null()).status().unwrap();
            eprint!("{status}");
        }
        "orphan" => {
            mount::apply(&[Mount::Proc { target: "/proc".into() }]).unwrap();
            let started = Command::new("/bin/sh").args(["-c", "sleep 0.2 >&- & echo $!"]).output().unwrap();
            let orphan: u32 = String::from_utf8(started.stdout).unwrap().trim().parse().unwrap();
            wait_for(&PidFd::open(orphan).unwrap(), PollFlags::POLLIN);
            // It has ended; once it is collected, its number is free again.
            until(|| PidFd::open(orphan).is_err());
            let mut child = Command::new("/bin/sh").args(["-c", "exit 5"]).spawn().unwrap();
            wait_for(&PidFd::open(child.id()).unwrap(), PollFlags::POLLIN);
            let mut other = Command::new("/bin/true").spawn().unwrap();
            other.wait().unwrap();
            eprint!("orphan collected, child {}", child.wait().unwrap());
        }
        other => panic!("no part is called {other}"),
    }
}

#[test]
fn the_program_is_root_in_namespaces_of_its_own() {
    let (init, reader) = init("view");
    let mut process = init.start().unwrap();
    let seen = output(reader);
    assert!(seen.contains("pid 2 uid 0 privileged true first init links [\"lo\"]"), "{seen}");
    assert!(process.wait().unwrap().success());
    assert!(!Path::new("/run/mine").exists());
}

#[test]
fn the_program_can_start_itself_after_proc_is_mounted_anew() {
    let (init, reader) = init("exec");
    let mut process = init.start().unwrap();
    assert!(output(reader).contains("exit status: 0"));
    assert!(process.wait().unwrap().success());
}

#[test]
fn exit_statuses_come_through() {
    for (script, code) in [("exit 0", 0), ("exit 42", 42), ("kill -9 $$", 137)] {
        let (mut process, _reader) = shell(script);
        assert_eq!(process.wait().unwrap().code(), Some(code), "{script}");
        assert_eq!(process.try_wait().unwrap().unwrap().code(), Some(code));
    }
}

#[test]
fn signals_reach_the_program() {
    let (mut process, mut reader) =
        shell("trap 'echo terminated; exit 7' TERM; echo ready; while :; do sleep 60 & wait; done");
    reader.read_exact(&mut [0; 6]).unwrap();
    assert_eq!(process.try_wait().unwrap(), None);
    process.signal(Signal::Terminate).unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(7));
    process.signal(Signal::Terminate).unwrap();
}

#[test]
fn orphans_are_collected_and_children_are_not_stolen() {
    let (init, reader) = init("orphan");
    let mut process = init.start().unwrap();
    let seen = output(reader);
    assert!(seen.contains("orphan collected, child exit status: 5"), "{seen}");
    assert!(process.wait().unwrap().success());
}

#[test]
fn root_needs_no_user_namespace() {
    if !process::is_privileged() {
        println!("SKIPPED: not root");
        return;
    }
    let (mut init, reader) = init("view");
    init.namespaces = Namespaces::AS_ROOT;
    let mut process = init.start().unwrap();
    let seen = output(reader);
    assert!(seen.contains("pid 2 uid 0 privileged true first init"), "{seen}");
    assert!(process.wait().unwrap().success());
}

#[test]
fn all_processes_inside_end_with_the_program() {
    let (mut process, mut reader) = shell("sleep 1000 & echo started");
    let mut text = String::new();
    // The sleeper holds the pipe open too: its end is the end of the last process.
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "started\n");
    assert!(process.wait().unwrap().success());
}

#[test]
fn killing_process_one_ends_everything() {
    let (mut process, mut reader) = shell("sleep 1000 & echo started; wait");
    reader.read_exact(&mut [0; 8]).unwrap();
    process.signal(Signal::Kill).unwrap();
    assert_eq!(output(reader), "");
    assert!(!process.wait().unwrap().success());
}

#[test]
fn the_program_dies_with_the_thread_that_started_it() {
    let starter = std::thread::spawn(|| {
        let mut init = Init::new([], namespaces());
        let (reader, writer) = pipe();
        init.program = "/bin/sleep".into();
        init.arguments = ["sleep", "1000"].map(OsString::from).to_vec();
        init.standard[1] = Some(writer);
        init.dies_with_parent = true;
        (init.start().unwrap(), reader)
    });
    let (mut process, reader) = starter.join().unwrap();
    assert_eq!(output(reader), "");
    assert!(!process.wait().unwrap().success());
}

#[test]
fn files_are_handed_over_in_order() {
    let (first, first_writer) = pipe();
    let (second, second_writer) = pipe();
    let mut init = Init::new([], namespaces());
    init.program = "/bin/sh".into();
    init.arguments = ["sh", "-c", "echo three >&3; echo four >&4"].map(OsString::from).to_vec();
    init.files = vec![first_writer, second_writer];
    let mut process = init.start().unwrap();
    assert_eq!((output(first), output(second)), ("three".into(), "four".into()));
    assert!(process.wait().unwrap().success());
}

#[test]
fn a_program_that_does_not_exist_is_named() {
    let mut init = Init::new([], namespaces());
    init.program = "/no/such/program".into();
    let error = init.start().unwrap_err();
    assert!(matches!(&error, NamespaceError::Start { source, .. } if source.kind() == io::ErrorKind::NotFound));
    assert_eq!(error.to_string(), "starting /no/such/program in new namespaces");
}

#[test]
fn a_pidfd_signals_its_process_and_tells_its_end() {
    let mut child = Command::new("/bin/sleep").arg("1000").spawn().unwrap();
    let pidfd = PidFd::open(child.id()).unwrap();
    pidfd.signal(Signal::Terminate).unwrap();
    wait_for(&pidfd, PollFlags::POLLIN);
    assert!(!child.wait().unwrap().success());
    pidfd.signal(Signal::Terminate).unwrap();
    assert_eq!(PidFd::open(child.id()).unwrap_err().kind(), io::ErrorKind::NotFound);
    kill(child.id(), Signal::Kill).unwrap();
    assert_eq!(kill(0, Signal::Kill).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(kill(u32::MAX, Signal::Kill).unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn open_files_are_raised_to_the_hard_limit() {
    let limit = process::raise_open_files().unwrap();
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let numbers: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers, [limit.to_string(), limit.to_string()]);
}

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
