//! Processes in namespaces of their own. This program plays the process inside too; see `play`.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};

use linux::mount::{self, Mount};
use linux::process::{self, Init, InitProcess, NamespaceError, Namespaces, PidFd, Signal, kill};
use linux::{link, sysctl};
use nix::poll::PollFlags;
use nix::unistd::pipe2;

use super::support::{until, wait_for};

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
    // The harness inside has its own report, which is not for this one's readers.
    init.standard[1] = Some(File::create("/dev/null").unwrap().into());
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
            let script = "exec 3<&0; (read line <&3) >/dev/null 2>&1 & echo $!";
            let mut shell = Command::new("/bin/sh");
            let mut shell = shell.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let hold = shell.stdin.take().unwrap();
            let started = shell.wait_with_output().unwrap();
            let orphan: u32 = String::from_utf8(started.stdout).unwrap().trim().parse().unwrap();
            let pidfd = PidFd::open(orphan).unwrap();
            drop(hold);
            wait_for(&pidfd, PollFlags::POLLIN);
            // It has ended; once it is collected, its number is free again.
            until(|| PidFd::open(orphan).is_err());
            let mut child = Command::new("/bin/sh").args(["-c", "exit 5"]).spawn().unwrap();
            wait_for(&PidFd::open(child.id()).unwrap(), PollFlags::POLLIN);
            let mut other = Command::new("/bin/true").spawn().unwrap();
            other.wait().unwrap();
            eprint!("orphan collected, child {}", child.wait().unwrap());
        }
        "inherited" => {
            let [file] = process::inherited().unwrap();
            File::from(file).write_all(b"taken").unwrap();
            assert!(process::inherited::<1>().unwrap_err().to_string().contains("taken before"));
        }
        "not-inherited" => {
            // The harness may have left gaps: now 3 is surely open, and ours.
            let files: Vec<File> = (0..8).map(|_| File::open("/dev/null").unwrap()).collect();
            let refused = process::inherited::<1>().unwrap_err().to_string();
            drop(files);
            eprint!("{refused}");
        }
        "refused" => {
            // The limit belongs to the user namespace that this process is root of.
            sysctl::write("user/max_user_namespaces", "0").unwrap();
            eprint!("{}", Init::new([], namespaces()).start().unwrap_err());
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
fn a_setting_that_forbids_namespaces_is_named() {
    let (init, errors) = init("refused");
    let mut process = init.start().unwrap();
    let refused = output(errors);
    assert!(
        refused.contains("user.max_user_namespaces is 0; run as root, or set it with: sudo sysctl -w"),
        "{refused}"
    );
    assert!(process.wait().unwrap().success());
}

#[test]
fn a_program_takes_the_files_it_was_started_with() {
    let (mut init, _errors) = init("inherited");
    let (reader, writer) = pipe();
    init.files = vec![writer];
    let mut process = init.start().unwrap();
    assert_eq!(output(reader), "taken");
    assert!(process.wait().unwrap().success());
}

#[test]
fn a_program_does_not_take_its_own_files_for_inherited_ones() {
    let (init, errors) = init("not-inherited");
    let mut process = init.start().unwrap();
    let refused = output(errors);
    assert!(refused.contains("descriptor 3 was not inherited"), "{refused}");
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
