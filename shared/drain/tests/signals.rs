//! Real signals; alone in its binary, because they are for the whole process.

#![expect(clippy::unwrap_used, reason = "tests may unwrap")]

use std::process::Command;
use std::time::Duration;

use drain::{Signal, Signals};

fn kill(signal: &str) {
    // The shell's own `kill`: a minimal system has no other.
    let script = format!("kill -{signal} {}", std::process::id());
    assert!(Command::new("/bin/sh").args(["-c", &script]).status().unwrap().success());
}

#[tokio::test]
async fn signals_arrive_as_values_also_when_nobody_waits_yet() {
    let mut signals = Signals::install().unwrap();
    for (name, expected) in [("TERM", Signal::Terminate), ("INT", Signal::Interrupt), ("TERM", Signal::Terminate)] {
        kill(name);
        let signal = tokio::time::timeout(Duration::from_secs(10), signals.next()).await.unwrap();
        assert_eq!(signal, expected);
    }
}
