//! Drains, tasks and readiness on a paused clock.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::oneshot;

use super::*;

mod supervise;

const GRACE: Duration = Duration::from_secs(5);

/// How long something takes on the paused clock.
async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let output = future.await;
    (output, start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn everyone_hears_of_the_start_also_those_who_ask_later() {
    let (trigger, watch) = new();
    let early = tokio::spawn({
        let watch = watch.clone();
        async move { watch.draining().await }
    });
    assert!(!watch.is_draining());
    trigger.start(GRACE);
    early.await.unwrap();
    watch.draining().await;
    assert!(watch.is_draining());
    assert_eq!(watch.deadline(), Some(Instant::now() + GRACE));
}

#[tokio::test(start_paused = true)]
async fn a_drain_without_work_is_over_at_once() {
    let (trigger, _watch) = new();
    trigger.start(GRACE);
    assert_eq!(timed(trigger.finished()).await, (Drained::Complete, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_drain_is_over_with_its_last_piece_of_work() {
    let (trigger, watch) = new();
    let guard = watch.guard();
    let worker = watch.spawn(tokio::time::sleep(Duration::from_secs(2)));
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(guard);
    });
    assert_eq!(watch.live(), 2);
    trigger.start(GRACE);
    assert_eq!(timed(trigger.finished()).await, (Drained::Complete, Duration::from_secs(2)));
    assert_eq!(worker.await.unwrap(), Some(()));
}

#[tokio::test(start_paused = true)]
async fn work_that_comes_while_draining_counts_too() {
    let (trigger, watch) = new();
    let first = watch.guard();
    trigger.start(GRACE);
    let second = watch.guard();
    drop(first);
    let finished = tokio::spawn({
        let trigger = trigger.clone();
        async move { trigger.finished().await }
    });
    tokio::task::yield_now().await;
    assert!(!finished.is_finished());
    drop(second);
    assert_eq!(finished.await.unwrap(), Drained::Complete);
}

#[tokio::test(start_paused = true)]
async fn work_that_does_not_end_is_given_up_after_the_deadline() {
    let (trigger, watch) = new();
    let _guard = watch.guard();
    trigger.start(GRACE);
    assert_eq!(timed(trigger.finished()).await, (Drained::Forced { left: 1 }, GRACE + LAST_WORD));
}

/// Tells when it is dropped.
struct Bomb(Option<oneshot::Sender<()>>);

impl Drop for Bomb {
    fn drop(&mut self) {
        let _ = self.0.take().unwrap().send(());
    }
}

#[tokio::test(start_paused = true)]
async fn a_spawned_task_hears_of_the_deadline_and_is_dropped_if_it_does_not_care() {
    let (trigger, watch) = new();
    let (bomb, dropped) = oneshot::channel();
    let deaf = watch.spawn(async move {
        let _bomb = Bomb(Some(bomb));
        std::future::pending::<()>().await;
    });
    let obedient = watch.spawn({
        let watch = watch.clone();
        async move {
            watch.deadline_passed().await;
            "closed because of drain"
        }
    });
    trigger.start(GRACE);
    assert_eq!(timed(obedient).await.1, GRACE);
    assert_eq!(timed(deaf).await.1, LAST_WORD);
    dropped.await.unwrap();
    assert_eq!(trigger.finished().await, Drained::Complete);
}

#[tokio::test(start_paused = true)]
async fn the_earliest_deadline_counts() {
    let (trigger, watch) = new();
    trigger.start_without_deadline();
    assert!(watch.is_draining());
    assert_eq!(watch.deadline(), None);
    let passed = tokio::spawn({
        let watch = watch.clone();
        async move { timed(watch.deadline_passed()).await.1 }
    });
    tokio::task::yield_now().await;
    trigger.start(GRACE * 2);
    tokio::task::yield_now().await;
    trigger.start(GRACE);
    trigger.start(GRACE * 3);
    trigger.start_without_deadline();
    assert_eq!(passed.await.unwrap(), GRACE);
}

#[tokio::test(start_paused = true)]
async fn force_is_a_deadline_that_has_passed() {
    let (trigger, watch) = new();
    let _guard = watch.guard();
    trigger.start_without_deadline();
    trigger.force();
    assert_eq!(timed(watch.deadline_passed()).await.1, Duration::ZERO);
    assert_eq!(trigger.finished().await, Drained::Forced { left: 1 });
}

#[tokio::test(start_paused = true)]
async fn waiting_on_others_ends_with_the_start_of_a_drain() {
    let (trigger, watch) = new();
    assert_eq!(watch.unless_draining(async { 7 }).await, Some(7));
    let is_dropped = Arc::new(AtomicBool::new(false));
    let (bomb, dropped) = oneshot::channel();
    let waiting = tokio::spawn({
        let (watch, is_dropped) = (watch.clone(), Arc::clone(&is_dropped));
        async move {
            let output = watch
                .unless_draining(async {
                    let _bomb = Bomb(Some(bomb));
                    std::future::pending::<()>().await;
                })
                .await;
            is_dropped.store(true, Ordering::SeqCst);
            output
        }
    });
    tokio::task::yield_now().await;
    assert!(!is_dropped.load(Ordering::SeqCst));
    trigger.start(GRACE);
    assert_eq!(waiting.await.unwrap(), None);
    dropped.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_inner_drain_is_part_of_the_outer_one() {
    let (outer, outer_watch) = new();
    let (pod, pod_watch) = outer_watch.child();
    let (_other, other_watch) = outer_watch.child();
    let guard = pod_watch.guard();
    assert_eq!((outer_watch.live(), pod_watch.live(), other_watch.live()), (1, 1, 0));

    pod.start_without_deadline();
    assert!(pod_watch.is_draining());
    assert!(!outer_watch.is_draining() && !other_watch.is_draining(), "a pod leaves alone");

    outer.start(GRACE);
    assert!(other_watch.is_draining());
    assert_eq!(pod_watch.deadline(), Some(Instant::now() + GRACE), "the outer deadline binds the inner drain");
    let (_late, late_watch) = pod_watch.child();
    assert_eq!(late_watch.deadline(), pod_watch.deadline(), "also one that is made later");

    let (drained, took) = timed(async {
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(guard);
        });
        outer.finished().await
    })
    .await;
    assert_eq!((drained, took), (Drained::Complete, Duration::from_secs(1)));
    assert_eq!(pod.finished().await, Drained::Complete);
}

#[tokio::test(start_paused = true)]
async fn an_inner_deadline_may_be_earlier() {
    let (outer, outer_watch) = new();
    let (pod, pod_watch) = outer_watch.child();
    pod.start(GRACE);
    outer.start(GRACE * 2);
    assert_eq!(timed(pod_watch.deadline_passed()).await.1, GRACE);
    assert_eq!(timed(outer_watch.deadline_passed()).await.1, GRACE);
}

#[tokio::test]
async fn inner_drains_that_are_gone_are_forgotten() {
    let (_outer, watch) = new();
    for _ in 0..1000 {
        let _pod = watch.child();
    }
    assert!(watch.level.remembered() <= 2, "{}", watch.level.remembered());
}

#[tokio::test]
async fn ready_when_no_task_is_pending() {
    let readiness = Readiness::new();
    assert!(readiness.is_ready());
    let state = readiness.task("state manager");
    let first = readiness.task("dns proxy");
    let second = readiness.task("dns proxy");
    let ready = tokio::spawn({
        let readiness = readiness.clone();
        async move { readiness.ready().await }
    });
    assert_eq!(readiness.pending(), ["dns proxy".into(), "state manager".into()] as [Arc<str>; 2]);
    first.complete();
    state.complete();
    assert_eq!(readiness.pending(), ["dns proxy".into()] as [Arc<str>; 1]);
    tokio::task::yield_now().await;
    assert!(!ready.is_finished());
    second.complete();
    ready.await.unwrap();
    assert!(readiness.is_ready());
}

#[test]
fn a_task_that_was_given_up_stays_pending_and_one_that_was_lost_becomes_so_again() {
    let readiness = Readiness::new();
    drop(readiness.task("given up"));
    let mut agent = readiness.task("agent");
    agent.settle();
    agent.settle();
    assert_eq!(readiness.pending(), ["given up".into()] as [Arc<str>; 1]);
    agent.pend();
    agent.pend();
    assert_eq!(readiness.pending().len(), 2);
    agent.complete();
    assert_eq!(readiness.pending().len(), 1);
}
