//! Probes of containers that start late or fail, in time that passes only while everybody waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::*;
use crate::probe::Action;

fn plan(delay: u64, period: u64, failure_threshold: u32) -> Plan {
    Plan {
        action: Action::Tcp { port: 1 },
        initial_delay: Duration::from_secs(delay),
        period: Duration::from_secs(period),
        timeout: Duration::from_secs(1),
        success_threshold: 1,
        failure_threshold,
    }
}

/// A probe of what works from `up` milliseconds after now on until `down`; and how often it was tried.
fn probe(kind: Kind, plan: Plan, up: u64, down: u64) -> (Probe, Arc<AtomicU32>) {
    let (begun, attempts) = (Instant::now(), Arc::new(AtomicU32::new(0)));
    let counter = Arc::clone(&attempts);
    let attempt: Attempt = Box::new(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        let now = u64::try_from(begun.elapsed().as_millis()).unwrap();
        let outcome = if (up..down).contains(&now) { Ok(()) } else { Err("refused".to_owned()) };
        Box::pin(async move { outcome })
    });
    (Probe { kind, plan, attempt }, attempts)
}

const EVER: u64 = u64::MAX;

/// The verdicts within `seconds`, each with the milliseconds after which it came.
async fn verdicts(probes: Vec<Probe>, seconds: u64) -> Vec<(Kind, bool, u128)> {
    let begun = Instant::now();
    let mut probing = start(probes, begun);
    let mut found = Vec::new();
    let all = async {
        while let Some(report) = probing.next().await {
            if let Report::Verdict(kind, is_success) = report {
                found.push((kind, is_success, begun.elapsed().as_millis()));
            }
        }
    };
    // Probes go on as long as their container does.
    let _ = tokio::time::timeout(Duration::from_secs(seconds), all).await;
    found
}

#[tokio::test(start_paused = true)]
async fn a_container_that_listens_a_moment_late_is_not_killed() {
    let (liveness, attempts) = probe(Kind::Liveness, plan(0, 1, 1), 500, EVER);
    assert_eq!(verdicts(vec![liveness], 60).await, []);
    assert!(attempts.load(Ordering::Relaxed) >= 59);
}

#[tokio::test(start_paused = true)]
async fn a_container_that_does_not_answer_any_more_fails_its_liveness_probe_once() {
    let (liveness, _) = probe(Kind::Liveness, plan(0, 2, 3), 0, 5000);
    assert_eq!(verdicts(vec![liveness], 60).await, [(Kind::Liveness, false, 10_000)]);
}

#[tokio::test(start_paused = true)]
async fn readiness_is_looked_for_at_once() {
    let (readiness, _) = probe(Kind::Readiness, plan(0, 10, 3), 0, EVER);
    assert_eq!(verdicts(vec![readiness], 60).await, [(Kind::Readiness, true, 0)]);
}

#[tokio::test(start_paused = true)]
async fn the_others_wait_for_the_startup_probe() {
    let (startup, looks) = probe(Kind::Startup, plan(0, 5, 30), 12_000, EVER);
    let (readiness, asked) = probe(Kind::Readiness, plan(0, 1, 1), 12_000, EVER);
    // It would fail at once if it did not wait.
    let (liveness, _) = probe(Kind::Liveness, plan(0, 1, 1), 12_000, EVER);
    let found = verdicts(vec![liveness, readiness, startup], 20).await;
    assert_eq!(found, [(Kind::Startup, true, 15_000), (Kind::Readiness, true, 15_000)]);
    assert_eq!(looks.load(Ordering::Relaxed), 4, "a startup probe ends with its success");
    assert!(asked.load(Ordering::Relaxed) <= 6);
}

#[tokio::test(start_paused = true)]
async fn a_container_has_all_the_periods_of_its_startup_probe() {
    let (startup, _) = probe(Kind::Startup, plan(0, 10, 3), 29_000, EVER);
    assert_eq!(verdicts(vec![startup], 100).await, [(Kind::Startup, true, 30_000)]);
    let (startup, _) = probe(Kind::Startup, plan(0, 10, 3), EVER, EVER);
    let (liveness, asked) = probe(Kind::Liveness, plan(0, 1, 1), EVER, EVER);
    assert_eq!(verdicts(vec![startup, liveness], 100).await, [(Kind::Startup, false, 30_000)]);
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn delays_count_from_the_start_of_the_container() {
    let (startup, _) = probe(Kind::Startup, plan(0, 8, 3), 1000, EVER);
    let (readiness, _) = probe(Kind::Readiness, plan(20, 1, 1), 0, EVER);
    let found = verdicts(vec![startup, readiness], 60).await;
    assert_eq!(found, [(Kind::Startup, true, 8000), (Kind::Readiness, true, 20_000)]);
}

#[tokio::test(start_paused = true)]
async fn a_reason_is_told_once_in_a_row() {
    let (readiness, _) = probe(Kind::Readiness, plan(0, 1, 3), 5500, EVER);
    let mut probing = start(vec![readiness], Instant::now());
    assert_eq!(probing.next().await, Some(Report::Unhealthy(Kind::Readiness, "refused".to_owned())));
    assert_eq!(probing.next().await, Some(Report::Verdict(Kind::Readiness, true)));
}
