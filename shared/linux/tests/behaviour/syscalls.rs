//! System calls that are counted are the ones that were made. This program plays the one that makes them; see `caller`.

use std::fs;
use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};

use linux::syscalls::SystemCalls;

use super::support::until;

/// Set in the process that makes the calls.
const CALLER: &str = "AQUIFER_TEST_CALLER";

/// The inside of the test below; does nothing when it is run as a test.
///
/// For each eight bytes it makes as many calls as they say and answers with a byte; with the highest bit, on a thread of
/// its own.
#[test]
fn caller() {
    if std::env::var_os(CALLER).is_none() {
        return;
    }
    let calls = |count: u64| (0..count).for_each(|_| _ = nix::unistd::getppid());
    let mut number = [0; 8];
    loop {
        // The harness writes to standard output.
        io::stderr().write_all(b".").unwrap();
        if io::stdin().read_exact(&mut number).is_err() {
            return;
        }
        let number = u64::from_ne_bytes(number);
        match number.checked_sub(1 << 63) {
            None => calls(number),
            Some(number) => std::thread::spawn(move || calls(number)).join().unwrap(),
        }
    }
}

/// Waits until it has answered and every thread of it sleeps: nothing is on the way any more.
fn settle(child: &mut Child) {
    child.stderr.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    let sleeps = |entry: io::Result<fs::DirEntry>| {
        let text = fs::read_to_string(entry?.path().join("stat"))?;
        Ok::<_, io::Error>(text.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S')))
    };
    let folder = format!("/proc/{}/task", child.id());
    // A thread that has just ended is not there any more.
    until(|| fs::read_dir(&folder).unwrap().all(|entry| sleeps(entry).unwrap_or(false)));
}

#[test]
fn as_many_are_counted_as_were_made() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["behaviour::syscalls::caller", "--exact", "--nocapture", "--test-threads=1"]).env(CALLER, "1");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    settle(&mut child);
    let counter = match SystemCalls::of(child.id()) {
        Ok(counter) => counter,
        Err(error) => {
            println!("SKIPPED: {error}");
            drop(child.stdin.take());
            child.wait().unwrap();
            return;
        }
    };
    assert_eq!(counter.count().unwrap(), 0);
    let mut made = |number: u64| {
        let before = counter.count().unwrap();
        child.stdin.as_mut().unwrap().write_all(&number.to_ne_bytes()).unwrap();
        settle(&mut child);
        counter.count().unwrap() - before
    };
    // The answer and the next read.
    assert_eq!(made(0), 2);
    assert_eq!(made(12_345), 12_347);
    // What a thread needs to begin and to end is not always the same: memory is mapped, or is there already.
    made(1 << 63);
    let (idle, busy) = (made(1 << 63), made((1 << 63) + 5_000));
    assert!((4_990..5_010).contains(&(busy - idle)), "{idle}, {busy}");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}
