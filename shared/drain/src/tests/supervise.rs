//! The life of a program.

use tokio::sync::mpsc;

use super::*;

fn signals() -> (mpsc::Sender<Signal>, Signals) {
    let (sender, script) = mpsc::channel(8);
    (sender, Signals::scripted(script))
}

#[tokio::test(start_paused = true)]
async fn a_program_may_end_by_itself() {
    let (_sender, signals) = signals();
    let (trigger, _watch) = new();
    assert_eq!(supervise(signals, trigger, GRACE, async { 7 }).await, Ending::Finished(7));
}

#[tokio::test(start_paused = true)]
async fn a_signal_during_the_start_up_ends_the_program_promptly() {
    for signal in [Signal::Terminate, Signal::Interrupt] {
        let (sender, signals) = signals();
        let (trigger, watch) = new();
        // Even one that came before anything was polled.
        sender.send(signal).await.unwrap();
        let program = async {
            let started = watch.unless_draining(std::future::pending::<()>()).await;
            if started.is_none() { "stopped early" } else { "served" }
        };
        let ending = timed(supervise(signals, trigger, GRACE, program)).await;
        assert_eq!(ending, (Ending::Finished("stopped early"), Duration::ZERO));
    }
}

#[tokio::test(start_paused = true)]
async fn a_signal_drains_and_the_program_ends_with_its_last_connection() {
    let (sender, signals) = signals();
    let (trigger, watch) = new();
    sender.send(Signal::Terminate).await.unwrap();
    // Another SIGTERM changes nothing.
    sender.send(Signal::Terminate).await.unwrap();
    let connection = watch.spawn(tokio::time::sleep(Duration::from_secs(3)));
    let program = async {
        watch.draining().await;
        trigger.finished().await
    };
    let ending = timed(supervise(signals, trigger.clone(), GRACE, program)).await;
    assert_eq!(ending, (Ending::Finished(Drained::Complete), Duration::from_secs(3)));
    connection.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_sigint_while_draining_gives_up_at_once() {
    for first in [Signal::Terminate, Signal::Interrupt] {
        let (sender, signals) = signals();
        let (trigger, watch) = new();
        let _guard = watch.guard();
        sender.send(first).await.unwrap();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            sender.send(Signal::Interrupt).await.unwrap();
            std::future::pending::<()>().await;
        });
        let program = async { trigger.finished().await };
        let ending = timed(supervise(signals, trigger.clone(), GRACE, program)).await;
        assert_eq!(ending, (Ending::Interrupted, Duration::from_secs(1)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_somebody_else_started_keeps_its_deadline_and_may_be_interrupted() {
    let (sender, signals) = signals();
    let (trigger, watch) = new();
    let _guard = watch.guard();
    trigger.start(GRACE * 10);
    tokio::spawn(async move {
        tokio::time::sleep(GRACE * 2).await;
        sender.send(Signal::Interrupt).await.unwrap();
        std::future::pending::<()>().await;
    });
    let ending = timed(supervise(signals, trigger, GRACE, std::future::pending::<()>())).await;
    assert_eq!(ending, (Ending::Interrupted, GRACE * 2));
}

#[tokio::test(start_paused = true)]
async fn a_program_that_outlives_its_drain_is_dropped() {
    let (sender, signals) = signals();
    let (trigger, watch) = new();
    let _guard = watch.guard();
    sender.send(Signal::Terminate).await.unwrap();
    let (ending, took) = timed(supervise(signals, trigger, GRACE, std::future::pending::<()>())).await;
    assert_eq!(ending, Ending::Overdue { left: 1 });
    assert!(took > GRACE && took < GRACE * 2, "{took:?}");
}
