//! When the store asks, what it serves meanwhile, and how it takes a refusal.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use identity::{CertificateError, CertificateStore, Clock, DumpState, LocalSigner, SignError};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};

use crate::support::*;

/// Lets every task that can run do so; on paused time nothing else moves.
async fn settle() {
    for _ in 0..100 {
        yield_now().await;
    }
}

fn cause(error: CertificateError) -> Arc<SignError> {
    match error {
        CertificateError::Unavailable { cause, .. } => cause,
        other => panic!("{other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn all_who_want_an_identity_share_one_fetch() {
    let (store, desk) = store(Mood::Gated);
    let callers: Vec<_> = (0..100)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.certificate(&identity("cart")).await.unwrap() })
        })
        .collect();
    settle().await;
    desk.gate.add_permits(1);
    let mut certificates = Vec::new();
    for caller in callers {
        certificates.push(caller.await.unwrap());
    }
    assert!(certificates.iter().all(|certificate| Arc::ptr_eq(certificate, &certificates[0])));
    assert_eq!(desk.asked(), ["cart"]);
}

#[tokio::test(start_paused = true)]
async fn a_warmed_identity_is_there_without_waiting() {
    let (store, desk) = store(Mood::Willing);
    store.warm(&identity("cart"));
    store.warm(&identity("cart"));
    settle().await;
    desk.set(Mood::Hung);
    let certificate = store.certificate(&identity("cart")).await.unwrap();
    assert_eq!(certificate.identity(), &identity("cart"));
    assert_eq!(desk.asked(), ["cart"]);
}

#[tokio::test(start_paused = true)]
async fn at_most_eight_fetches_run_and_a_waiting_connection_goes_first() {
    let (store, desk) = store(Mood::Willing);
    store.certificate(&identity("renewed")).await.unwrap();
    desk.set(Mood::Gated);
    sleep(HOUR / 2 - SECOND).await;
    for index in 0..8 {
        store.warm(&identity(&format!("filler-{index}")));
    }
    settle().await;
    // All places are taken; now come a renewal, then warm-ups, then connections.
    sleep(SECOND).await;
    store.warm(&identity("warm-1"));
    store.warm(&identity("warm-2"));
    let waiting = {
        let store = store.clone();
        tokio::spawn(async move {
            let (late, warmed) = (identity("late"), identity("warm-2"));
            tokio::join!(store.certificate(&late), store.certificate(&warmed))
        })
    };
    settle().await;
    assert_eq!((desk.asked().len(), desk.running()), (9, 8));
    desk.gate.add_permits(100);
    settle().await;
    // Those that somebody waits for first, in whatever order; then the warm-up; the renewal last.
    let mut order = desk.asked().split_off(9);
    order[..2].sort();
    assert_eq!(order, ["late", "warm-2", "warm-1", "renewed"]);
    assert_eq!(desk.most_at_once(), 8);
    let (late, warmed) = waiting.await.unwrap();
    late.unwrap();
    warmed.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_renewed_after_half_of_what_remained() {
    let (store, desk) = store(Mood::Willing);
    let start = Instant::now();
    let first = store.certificate(&identity("cart")).await.unwrap();
    sleep(HOUR / 2 - SECOND).await;
    assert!(Arc::ptr_eq(&first, &store.certificate(&identity("cart")).await.unwrap()));
    sleep(2 * SECOND).await;
    let second = store.certificate(&identity("cart")).await.unwrap();
    assert!(second.not_after() > first.not_after());
    sleep(HOUR).await;
    // Certificates have whole seconds, so halves may be half a second early; times add up.
    let times = desk.times(start);
    assert_eq!(times.len(), 4);
    for (index, time) in times.iter().enumerate() {
        let ideal = HOUR / 2 * u32::try_from(index).unwrap();
        assert!(*time <= ideal && ideal - *time < 2 * SECOND, "{index}: {time:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_lived_certificate_is_not_renewed_more_than_once_a_second() {
    let (store, desk) = store(Mood::Willing);
    *desk.ttl.lock().unwrap() = 2 * SECOND;
    store.warm(&identity("cart"));
    sleep(10 * SECOND).await;
    let calls = desk.asked().len();
    assert!((9..=12).contains(&calls), "{calls}");
}

#[tokio::test(start_paused = true)]
async fn a_valid_certificate_is_served_while_renewal_fails_and_no_longer() {
    let (store, desk) = store(Mood::Willing);
    let first = store.certificate(&identity("cart")).await.unwrap();
    desk.set(Mood::Unwilling);
    sleep(HOUR - 2 * SECOND).await;
    assert!(desk.asked().len() > 5, "renewal was not tried again");
    assert!(Arc::ptr_eq(&first, &store.certificate(&identity("cart")).await.unwrap()));
    // The attempt at its very end fails as well; it is made without anybody asking.
    sleep(3 * SECOND).await;
    assert!(matches!(store.dump()[0].state, DumpState::Unavailable(_)), "nothing was tried at the end");
    let error = store.certificate(&identity("cart")).await.unwrap_err();
    assert!(error.to_string().contains("spiffe://cluster.local/ns/shop/sa/cart unavailable: malformed"), "{error}");
    desk.set(Mood::Willing);
    sleep(160 * SECOND).await;
    store.certificate(&identity("cart")).await.unwrap();
}

/// An hour without the authority, which does not answer or says no.
#[tokio::test(start_paused = true)]
async fn an_hour_without_the_authority_costs_nothing_while_certificates_last() {
    for away in [Mood::Unwilling, Mood::Hung] {
        let (store, desk) = store(Mood::Willing);
        *desk.ttl.lock().unwrap() = 2 * HOUR;
        let first = store.certificate(&identity("cart")).await.unwrap();
        sleep(HOUR * 5 / 6).await;
        desk.set(away);
        for _minute in 0..60 {
            sleep(60 * SECOND).await;
            let served = store.certificate(&identity("cart")).await.unwrap();
            assert!(Arc::ptr_eq(&first, &served), "{away:?}");
        }
        // A pod that is new has none, and is told why in time.
        let asked = Instant::now();
        let error = store.certificate(&identity("new")).await.unwrap_err();
        assert!(asked.elapsed() <= 15 * SECOND && error.to_string().contains("/sa/new"), "{away:?}: {error}");
        desk.set(Mood::Willing);
        sleep(200 * SECOND).await;
        let renewed = store.certificate(&identity("cart")).await.unwrap();
        assert!(renewed.not_after() > first.not_after(), "{away:?}: not renewed on return");
        store.certificate(&identity("new")).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn certificates_that_ended_meanwhile_are_there_again_as_soon_as_the_authority_is() {
    let (store, desk) = store(Mood::Willing);
    store.certificate(&identity("cart")).await.unwrap();
    desk.set(Mood::Unwilling);
    sleep(HOUR + 600 * SECOND).await;
    store.certificate(&identity("cart")).await.unwrap_err();
    desk.set(Mood::Willing);
    store.retry();
    sleep(SECOND / 10).await;
    store.certificate(&identity("cart")).await.unwrap();
    // What did not fail is left as it was planned.
    let calls = desk.asked().len();
    store.retry();
    sleep(SECOND).await;
    assert_eq!(desk.asked().len(), calls);
}

#[tokio::test(start_paused = true)]
async fn an_unavailable_identity_fails_at_once_and_is_tried_with_growing_pauses() {
    let (store, desk) = store(Mood::Unwilling);
    let start = Instant::now();
    cause(store.certificate(&identity("cart")).await.unwrap_err());
    for _ in 0..1000 {
        cause(store.certificate(&identity("cart")).await.unwrap_err());
    }
    assert_eq!((start.elapsed(), desk.asked().len()), (Duration::ZERO, 1));

    sleep(HOUR).await;
    let times = desk.times(start);
    let pauses: Vec<_> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
    let ideals = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];
    for (pause, ideal) in pauses.iter().zip(ideals) {
        assert!((ideal * 0.79..=ideal * 1.21).contains(pause), "{pause} instead of {ideal}");
    }
    assert!(pauses[8..].iter().all(|pause| (119.0..=150.1).contains(pause)), "{pauses:?}");
    let exact = pauses.iter().zip(ideals).filter(|(pause, ideal)| (*pause - ideal).abs() < 0.002).count();
    assert!(exact < 4, "pauses are not spread: {pauses:?}");

    desk.set(Mood::Willing);
    sleep(151 * SECOND).await;
    store.certificate(&identity("cart")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_hangs_ends_and_does_not_hold_up_others() {
    let (store, desk) = store(Mood::Hung);
    let start = Instant::now();
    let error = store.certificate(&identity("stuck")).await.unwrap_err();
    assert!(matches!(*cause(error), SignError::Timeout(_)));
    assert_eq!(start.elapsed(), 10 * SECOND);
    desk.set(Mood::Willing);
    store.certificate(&identity("cart")).await.unwrap();
    assert_eq!(start.elapsed(), 10 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_caller_behind_a_hung_queue_is_told_in_time() {
    let (store, _desk) = store(Mood::Hung);
    for index in 0..16 {
        let store = store.clone();
        tokio::spawn(async move { store.certificate(&identity(&format!("stuck-{index}"))).await });
    }
    settle().await;
    let start = Instant::now();
    let error = store.certificate(&identity("cart")).await.unwrap_err();
    assert!(matches!(error, CertificateError::Timeout(_)), "{error}");
    assert_eq!(start.elapsed(), 15 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_signer_that_panics_costs_one_attempt() {
    let (store, desk) = store(Mood::Broken);
    let error = store.certificate(&identity("cart")).await.unwrap_err();
    assert!(matches!(*cause(error), SignError::Broken(_)));
    desk.set(Mood::Willing);
    sleep(2 * SECOND).await;
    store.certificate(&identity("cart")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_is_over_when_it_comes_is_none() {
    let (store, desk) = store(Mood::Willing);
    *desk.ttl.lock().unwrap() = Duration::ZERO;
    let error = store.certificate(&identity("cart")).await.unwrap_err();
    assert!(matches!(*cause(error), SignError::Expired));
}

#[tokio::test(start_paused = true)]
async fn after_the_machine_slept_an_expired_certificate_is_not_served() {
    let skew = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let base = SystemTime::now();
    let clock = {
        let skew = Arc::clone(&skew);
        Clock::custom(move || base + Duration::from_secs(skew.load(std::sync::atomic::Ordering::SeqCst)))
    };
    let (store, desk) = store_with(Mood::Willing, clock);
    let first = store.certificate(&identity("cart")).await.unwrap();
    // Timers stand still while the machine sleeps; the time of day does not.
    skew.store(2 * 3600, std::sync::atomic::Ordering::SeqCst);
    let second = store.certificate(&identity("cart")).await.unwrap();
    assert!(second.not_after() > first.not_after());
    assert_eq!(desk.asked().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_identity_is_not_renewed() {
    let (store, desk) = store(Mood::Willing);
    store.certificate(&identity("cart")).await.unwrap();
    store.certificate(&identity("payment")).await.unwrap();
    store.forget(&identity("cart"));
    store.forget(&identity("never seen"));
    sleep(HOUR).await;
    assert!(desk.asked()[2..].iter().all(|account| account == "payment"), "{:?}", desk.asked());
    assert_eq!(store.dump().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_queued_identity_is_told_when_it_is_forgotten() {
    let (store, _desk) = store(Mood::Gated);
    for index in 0..8 {
        store.warm(&identity(&format!("filler-{index}")));
    }
    settle().await;
    let waiting = {
        let store = store.clone();
        tokio::spawn(async move { store.certificate(&identity("cart")).await })
    };
    settle().await;
    store.forget(&identity("cart"));
    assert!(matches!(waiting.await.unwrap().unwrap_err(), CertificateError::Forgotten(_)));
}

#[tokio::test(start_paused = true)]
async fn an_identity_that_is_forgotten_during_its_fetch_goes_when_that_ends() {
    let (store, desk) = store(Mood::Gated);
    store.warm(&identity("gone"));
    store.warm(&identity("back"));
    settle().await;
    for account in ["gone", "back"] {
        store.forget(&identity(account));
    }
    assert!(store.dump().is_empty());
    store.warm(&identity("back"));
    desk.gate.add_permits(2);
    settle().await;
    assert_eq!(desk.asked().len(), 2, "the running fetch was not shared");
    let known: Vec<_> = store.dump().into_iter().map(|dump| dump.identity).collect();
    assert_eq!(known, [identity("back")]);
    desk.set(Mood::Willing);
    sleep(HOUR).await;
    assert!(desk.asked()[2..].iter().all(|account| account == "back"), "{:?}", desk.asked());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_store_ends_its_fetches() {
    let (store, desk) = store(Mood::Hung);
    store.warm(&identity("cart"));
    settle().await;
    assert_eq!(desk.running(), 1);
    let clone = store.clone();
    drop(store);
    settle().await;
    assert_eq!(desk.running(), 1);
    drop(clone);
    settle().await;
    assert_eq!((desk.running(), Arc::strong_count(&desk)), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_dump_tells_state_chain_and_roots() {
    let (store, desk) = store(Mood::Willing);
    let certificate = store.certificate(&identity("b")).await.unwrap();
    desk.set(Mood::Unwilling);
    store.certificate(&identity("c")).await.unwrap_err();
    desk.set(Mood::Hung);
    store.warm(&identity("a"));
    settle().await;
    let dump = store.dump();
    let states: Vec<_> = dump.iter().map(|dump| (dump.identity.clone(), dump.state.clone())).collect();
    assert_eq!(
        states,
        [
            (identity("a"), DumpState::Initializing),
            (identity("b"), DumpState::Available),
            (identity("c"), DumpState::Unavailable("malformed request on a bad day".into())),
        ]
    );
    assert_eq!((&dump[1].chain, &dump[1].roots), (&certificate.chain(), &certificate.roots()));
    assert!(dump[0].chain.is_empty() && dump[2].roots.is_empty());
}

#[tokio::test]
async fn an_authority_of_this_process_signs() {
    let store = CertificateStore::new(LocalSigner::new(authority(), HOUR), Clock::system());
    let certificate = timeout(10 * SECOND, store.certificate(&identity("cart"))).await.unwrap().unwrap();
    assert!(certificate.is_valid_at(SystemTime::now()));
}
