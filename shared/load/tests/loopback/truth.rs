//! What is told is what happened: against servers whose behaviour is known.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use load::{Failure, run};
use tokio::time::Instant;

use super::scripted::{Act, serve};
use super::support::{fixed, plan, within};

const MS: Duration = Duration::from_millis(1);

#[tokio::test]
async fn percentiles_are_those_of_the_servers_delays() {
    // Of twenty requests 13 take 50 ms, six 150 ms and one 400 ms. No connection is busy when its turn comes.
    let delay = |n| match n % 20 {
        0..13 => 50,
        13..19 => 150,
        _ => 400,
    };
    let address = serve(move |n| Act::After(MS * delay(n))).await;
    let outcome = within(run(&plan(address, 4_000, fixed(60, 100.0)))).await.unwrap();
    assert_eq!(outcome.answered, 400);
    let summary = outcome.latency.unwrap().summary;
    // Never less than the server waited; more only by what a busy machine adds, which is less than between two of them.
    let is = |found: f64, millis: f64| (millis * 1e3..(millis + 40.0) * 1e3).contains(&found);
    assert!(is(summary.min_us, 50.0) && is(summary.p50_us, 50.0), "{summary:?}");
    assert!(is(summary.p90_us, 150.0) && is(summary.p99_us, 400.0), "{summary:?}");
    assert!(is(summary.mean_us, 97.5), "{summary:?}");
}

#[tokio::test]
async fn a_stall_counts_for_all_that_were_due_in_it() {
    // Whatever arrives in the second after the 200th request is answered at its end.
    let stall = Mutex::new(None);
    let address = serve(move |n| {
        let mut stall = stall.lock().unwrap();
        if n == 200 {
            *stall = Some(Instant::now() + 1_000 * MS);
        }
        stall.map_or(Act::After(Duration::ZERO), Act::At)
    })
    .await;
    let outcome = within(run(&plan(address, 4_000, fixed(2, 200.0)))).await.unwrap();
    assert_eq!((outcome.sent, outcome.answered), (800, 800));
    // 200 of 800 were due in that second; only two of them were sent in it.
    let summary = outcome.latency.as_ref().unwrap().summary;
    assert!(summary.p99_us > 900_000.0 && summary.p90_us > 500_000.0, "{summary:?}");
    assert!(summary.max_us > 990_000.0 && summary.p50_us < 500_000.0, "{summary:?}");
    let waited = 1.0 - share_below(&outcome.latency.unwrap().histogram, 100 * MS);
    assert!(waited > 0.2, "{waited}");
}

/// The part of all durations that is shorter than `limit`.
fn share_below(histogram: &load::Histogram, limit: Duration) -> f64 {
    (0..1000).take_while(|n| histogram.quantile(f64::from(*n) / 1e3) < limit).count() as f64 / 1e3
}

#[tokio::test]
async fn failures_are_told_by_their_reasons() {
    let acts = [
        Act::After(Duration::ZERO),
        Act::SayAndClose(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no".to_vec()),
        Act::Reset,
        Act::Say(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec()),
        Act::Say(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n".to_vec()),
        Act::Silence,
    ];
    let address = serve(move |n| acts[n % 6].clone()).await;
    let mut plan = plan(address, 1_000, fixed(20, 60.0));
    plan.timeout_ms = 400;
    let outcome = within(run(&plan)).await.unwrap();
    let reasons = [Failure::Timeout, Failure::Closed, Failure::Reset, Failure::Status, Failure::Garbage];
    assert_eq!(outcome.failed, reasons.map(|reason| (reason, 10)).into(), "{outcome:?}");
    assert_eq!((outcome.sent, outcome.answered), (60, 10));
    assert!(outcome.invalid.unwrap().starts_with("50 of 60 requests failed: "));
}

#[tokio::test]
async fn hostile_answers_end_with_a_reason() {
    let hostile: [(&[u8], Failure); 5] = [
        // More bytes than the head says.
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n", Failure::Garbage),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551615\r\n\r\n", Failure::Garbage),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Failure::Garbage),
        (&[b'x'; 100_000], Failure::Garbage),
        (b"HTTP/1.1 200 OK\r\n", Failure::Timeout),
    ];
    for (bytes, reason) in hostile {
        let address = serve(move |n| if n == 0 { Act::After(Duration::ZERO) } else { Act::Say(bytes.to_vec()) }).await;
        // A connection for each request: none waits for the time that another one takes.
        let mut plan = plan(address, 300, fixed(6, 20.0));
        plan.timeout_ms = 500;
        let outcome = within(run(&plan)).await.unwrap();
        assert_eq!(outcome.failed, BTreeMap::from([(reason, 5)]), "{}", bytes.escape_ascii());
    }
}

#[tokio::test]
async fn an_endless_head_is_garbage() {
    let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(100_000)).into_bytes();
    let address = serve(move |n| if n == 0 { Act::After(MS) } else { Act::Say(endless.clone()) }).await;
    let outcome = within(run(&plan(address, 300, fixed(2, 20.0)))).await.unwrap();
    assert_eq!(outcome.failed, BTreeMap::from([(Failure::Garbage, 5)]));
}

#[tokio::test]
async fn an_answer_may_come_in_pieces() {
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
    let address = serve(move |_| Act::Drip(answer.to_vec())).await;
    let outcome = within(run(&plan(address, 300, fixed(2, 20.0)))).await.unwrap();
    assert_eq!((outcome.answered, outcome.failed), (6, BTreeMap::new()));
}

#[tokio::test]
async fn what_never_got_its_turn_is_counted() {
    // One connection, 100 ms for each answer, ten times as many are due.
    let address = serve(|_| Act::After(100 * MS)).await;
    let mut plan = plan(address, 500, fixed(1, 100.0));
    plan.timeout_ms = 300;
    let outcome = within(run(&plan)).await.unwrap();
    let unsent = outcome.failed.get(&Failure::Unsent).copied().unwrap_or_default();
    assert_eq!((outcome.answered + unsent, outcome.failed.len()), (50, 1), "{outcome:?}");
    assert!((5..=9).contains(&outcome.answered), "{outcome:?}");
    assert!(outcome.late <= 1, "the connection was free for the first one only");
    assert!(outcome.invalid.is_some());
}
