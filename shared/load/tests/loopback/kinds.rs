//! Each kind of load against the project's own server.

use std::collections::BTreeMap;
use std::time::Duration;

use load::{
    Bulk, Connections, Direction, Failure, Idle, Kind, LoadError, Mixed, Outcome, Pace, Phase, Protocol, Requests, Run,
    run, start,
};

use super::support::{fixed, plan, serve, serve_with, within};

fn answered_all(outcome: &Outcome) {
    assert!(outcome.answered > 0, "{outcome:?}");
    assert_eq!((outcome.answered, &outcome.failed), (outcome.sent, &BTreeMap::new()));
}

#[tokio::test]
async fn every_protocol_carries_bodies_of_any_size_both_ways() {
    let server = serve();
    for protocol in [Protocol::Http1, Protocol::Http2, Protocol::Grpc, Protocol::Tcp] {
        for (request_bytes, response_bytes) in [(0, 0), (1, 5_000), (300_000, 2_000_000)] {
            let mut kind = Requests::new(protocol, 3, Pace::Saturation);
            (kind.request_bytes, kind.response_bytes) = (request_bytes, response_bytes);
            let outcome = within(run(&plan(server.address, 400, Kind::Requests(kind)))).await.unwrap();
            answered_all(&outcome);
            assert_eq!(outcome.latency.unwrap().summary.count, outcome.answered);
        }
    }
}

#[tokio::test]
async fn requests_share_a_connection_of_http2() {
    // A third connection would wait for ever.
    let server = serve_with(|options| (options.max_connections, options.delay) = (2, Duration::from_millis(20)));
    let mut kind = Requests::new(Protocol::Grpc, 2, Pace::Saturation);
    kind.streams = 10;
    let outcome = within(run(&plan(server.address, 1_000, Kind::Requests(kind)))).await.unwrap();
    answered_all(&outcome);
    // Two at a time would be a hundred in a second.
    assert!(outcome.answered > 100, "{outcome:?}");
}

#[tokio::test]
async fn a_fixed_rate_sends_what_is_due_and_nothing_else() {
    let server = serve();
    for protocol in [Protocol::Http1, Protocol::Http2, Protocol::Grpc, Protocol::Tcp] {
        let kind = Kind::Requests(Requests::new(protocol, 4, Pace::Fixed { rate: 200.0 }));
        let mut plan = plan(server.address, 500, kind);
        plan.warm_up_ms = 200;
        let outcome = within(run(&plan)).await.unwrap();
        assert_eq!((outcome.sent, outcome.answered, outcome.elapsed_s), (100, 100, 0.5), "{protocol:?}: {outcome:?}");
        assert_eq!(outcome.lateness.unwrap().count, 100);
        assert!((outcome.rate - 200.0).abs() < 0.1);
    }
}

#[tokio::test]
async fn connections_are_made_anew_and_closed_by_the_server() {
    let server = serve();
    for protocol in [Protocol::Http1, Protocol::Tcp] {
        let kind = Connections { protocol, in_flight: 8, pace: Pace::Saturation };
        let outcome = within(run(&plan(server.address, 300, Kind::Connections(kind)))).await.unwrap();
        answered_all(&outcome);
    }
    for protocol in [Protocol::Http1, Protocol::Http2, Protocol::Tcp] {
        let mut kind = Requests::new(protocol, 4, Pace::Fixed { rate: 100.0 });
        kind.keep_alive = false;
        let outcome = within(run(&plan(server.address, 500, Kind::Requests(kind)))).await.unwrap();
        answered_all(&outcome);
        assert_eq!(outcome.sent, 50, "{protocol:?}");
    }
}

#[tokio::test]
async fn bulk_bytes_are_counted_where_they_arrive() {
    let server = serve();
    for direction in [Direction::Upload, Direction::Download] {
        let kind = Kind::Bulk(Bulk { streams: 3, direction });
        let mut plan = plan(server.address, 500, kind);
        plan.warm_up_ms = 100;
        let outcome = within(run(&plan)).await.unwrap();
        let bulk = outcome.bulk.unwrap();
        assert!(outcome.invalid.is_none() && bulk.bytes > 1 << 20, "{direction:?}: {outcome:?}");
        // The time that was counted is the plan's, but for the wheel of the clock and a busy machine.
        let seconds = bulk.bytes as f64 * 8.0 / bulk.bits_per_second;
        assert!((0.45..0.75).contains(&seconds), "{direction:?}: {seconds}");
    }
}

#[tokio::test]
async fn bulk_that_breaks_is_no_measurement() {
    for direction in [Direction::Upload, Direction::Download] {
        let server = serve();
        let run = start(plan(server.address, 1_000, Kind::Bulk(Bulk { streams: 2, direction }))).unwrap();
        within(run.progress().wait_for(|progress| progress.phase == Phase::Measuring)).await.unwrap();
        drop(server);
        let outcome = within(run.outcome()).await.unwrap();
        assert_eq!(outcome.invalid.as_deref(), Some("2 of 2 bulk streams broke"), "{direction:?}");
    }
}

#[tokio::test]
async fn requests_are_measured_beside_bulk_streams() {
    let server = serve();
    let bulk = Bulk { streams: 1, direction: Direction::Download };
    let requests = Requests::new(Protocol::Http1, 4, Pace::Fixed { rate: 100.0 });
    let outcome = within(run(&plan(server.address, 500, Kind::Mixed(Mixed { requests, bulk })))).await.unwrap();
    assert_eq!(outcome.answered, 50, "{outcome:?}");
    assert!(outcome.bulk.unwrap().bytes > 1 << 20, "{outcome:?}");
    assert!(outcome.latency.is_some());
}

async fn holding(run: &Run, count: u32) {
    let mut progress = run.progress();
    let reached = progress.wait_for(|progress| progress.phase == Phase::Holding);
    assert_eq!(within(reached).await.unwrap().open, count);
}

#[tokio::test]
async fn idle_connections_stand_until_they_are_told_to_end() {
    let server = serve();
    let run = start(plan(server.address, 600_000, Kind::Idle(Idle { connections: 300 }))).unwrap();
    holding(&run, 300).await;
    run.stop();
    let outcome = within(run.outcome()).await.unwrap();
    assert_eq!((outcome.held, outcome.lost, outcome.invalid), (300, 0, None));
}

#[tokio::test]
async fn idle_connections_that_end_by_themselves_are_lost() {
    let server = serve();
    let run = start(plan(server.address, 1_000, Kind::Idle(Idle { connections: 20 }))).unwrap();
    holding(&run, 20).await;
    drop(server);
    let outcome = within(run.outcome()).await.unwrap();
    assert_eq!((outcome.held, outcome.lost), (20, 20));
    assert_eq!(outcome.invalid.as_deref(), Some("20 of 20 connections were lost"));
}

#[tokio::test]
async fn nobody_at_the_target_is_told_at_once() {
    // Bound and not listening any more.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let kinds = [
        fixed(4, 100.0),
        Kind::Requests(Requests::new(Protocol::Http2, 2, Pace::Saturation)),
        Kind::Connections(Connections { protocol: Protocol::Tcp, in_flight: 4, pace: Pace::Saturation }),
        Kind::Bulk(Bulk { streams: 1, direction: Direction::Upload }),
        Kind::Idle(Idle { connections: 2 }),
        Kind::Mixed(Mixed {
            requests: Requests::new(Protocol::Tcp, 1, Pace::Saturation),
            bulk: Bulk { streams: 1, direction: Direction::Upload },
        }),
    ];
    for kind in kinds {
        let plan = plan(address, 60_000, kind);
        let result = within(run(&plan)).await;
        assert!(matches!(result, Err(LoadError::Connect { reason: Failure::Refused, .. })), "{plan:?}: {result:?}");
    }
}

#[tokio::test]
async fn a_run_that_is_told_to_stop_stops() {
    let server = serve();
    let bulk = Bulk { streams: 1, direction: Direction::Download };
    let mixed = Mixed { requests: Requests::new(Protocol::Http1, 1, Pace::Saturation), bulk };
    for kind in [fixed(4, 100.0), Kind::Mixed(mixed)] {
        let run = start(plan(server.address, 600_000, kind)).unwrap();
        within(run.progress().wait_for(|progress| progress.phase == Phase::Measuring)).await.unwrap();
        run.stop();
        assert!(matches!(within(run.outcome()).await, Err(LoadError::Stopped)));
    }
}

#[tokio::test]
async fn a_run_that_nobody_waits_for_closes_its_connections() {
    let server = serve_with(|options| options.max_connections = 4);
    let run = start(plan(server.address, 600_000, fixed(4, 100.0))).unwrap();
    within(run.progress().wait_for(|progress| progress.phase == Phase::Measuring)).await.unwrap();
    drop(run);
    // It is served once the others have gone.
    let outcome = within(load::run(&plan(server.address, 100, fixed(4, 100.0)))).await.unwrap();
    assert_eq!(outcome.answered, 10);
}

#[tokio::test]
async fn several_threads_serve_and_hold_answers_back() {
    let delay = Duration::from_millis(5);
    let server = serve_with(|options| (options.threads, options.delay) = (2, delay));
    for protocol in [Protocol::Http1, Protocol::Http2, Protocol::Tcp] {
        let kind = Kind::Requests(Requests::new(protocol, 8, Pace::Fixed { rate: 100.0 }));
        let outcome = within(run(&plan(server.address, 500, kind))).await.unwrap();
        answered_all(&outcome);
        assert!(outcome.latency.unwrap().summary.min_us >= 5_000.0);
    }
}
