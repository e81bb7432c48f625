//! A container that ends as planned, in time that passes only while everybody waits.

use std::sync::{Arc, Mutex};

use super::*;

/// Runs for the planned times, ends with the planned codes, and writes down what it was told and when.
struct Planned {
    runs: Vec<(Duration, Result<i32, &'static str>)>,
    began: Instant,
    starts: Vec<u64>,
    told: Mutex<Vec<String>>,
    events: Arc<Mutex<Vec<String>>>,
}

impl Planned {
    fn new(runs: &[(u64, Result<i32, &'static str>)]) -> Self {
        Self {
            runs: runs.iter().rev().map(|(seconds, end)| (Duration::from_secs(*seconds), *end)).collect(),
            began: Instant::now(),
            starts: Vec::new(),
            told: Mutex::default(),
            events: Arc::default(),
        }
    }

    /// Runs until the plan is at its end.
    async fn play(&mut self, policy: RestartPolicy) {
        let (_never, stop) = watch::channel(None);
        let all = run(self, policy, stop);
        // What has nothing left to do waits for ever.
        let _ = tokio::time::timeout(Duration::from_secs(100_000), all).await;
    }
}

impl Runs for Planned {
    async fn run_once(&mut self, state: &mut ContainerState) -> Result<Ended, Refusal> {
        let Some((time, end)) = self.runs.pop() else { std::future::pending().await };
        self.starts.push(self.began.elapsed().as_secs());
        let message = match end {
            Ok(exit_code) => {
                state.phase = Phase::Running { since: jiff::Timestamp::UNIX_EPOCH };
                self.tell(state).await;
                tokio::time::sleep(time).await;
                let (started, finished) = (jiff::Timestamp::UNIX_EPOCH, jiff::Timestamp::UNIX_EPOCH);
                return Ok(Ended { exit_code, reason: "Error", started, finished });
            }
            Err(message) => message.to_owned(),
        };
        Err(Refusal { reason: "CreateContainerConfigError", message })
    }

    async fn tell(&self, state: &ContainerState) {
        let phase = match &state.phase {
            Phase::Waiting { reason, .. } => reason.clone(),
            Phase::Running { .. } => "Running".to_owned(),
            Phase::Terminated(ended) => format!("Terminated {}", ended.exit_code),
        };
        let last = state.last.as_ref().map(|ended| ended.exit_code.to_string()).unwrap_or_default();
        self.told.lock().unwrap().push(format!("{phase} r{} l{last}", state.restarts));
    }

    fn record(&self, _: EventType, reason: &str, message: &str) {
        self.events.lock().unwrap().push(format!("{reason}: {message}"));
    }

    fn names(&self) -> (String, String) {
        ("app".to_owned(), "cart_shop(u)".to_owned())
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_that_crashes_starts_at_once_and_then_ever_later() {
    let mut container = Planned::new(&[(1, Ok(1)); 9]);
    container.play(RestartPolicy::Always).await;
    // Each run takes a second, and the waits between them are 0, 10, 20, 40, 80, 160, 300 and 300 s.
    assert_eq!(container.starts, [0, 1, 12, 33, 74, 155, 316, 617, 918]);
    assert_eq!(
        container.events.lock().unwrap()[0],
        "BackOff: Back-off restarting failed container app in pod cart_shop(u)"
    );
}

#[tokio::test(start_paused = true)]
async fn ten_minutes_of_work_are_forgiven_everything() {
    let mut container = Planned::new(&[(1, Ok(1)), (1, Ok(1)), (600, Ok(1)), (1, Ok(1)), (1, Ok(1))]);
    container.play(RestartPolicy::Always).await;
    assert_eq!(container.starts, [0, 1, 12, 612, 623]);
}

#[tokio::test(start_paused = true)]
async fn the_status_counts_restarts_and_keeps_the_last_end() {
    let mut container = Planned::new(&[(1, Ok(1)), (1, Ok(7)), (1, Ok(0))]);
    container.play(RestartPolicy::OnFailure).await;
    let expected = [
        "Running r0 l",
        "Terminated 1 r0 l",
        "Running r1 l1",
        "Terminated 7 r1 l1",
        "CrashLoopBackOff r1 l7",
        "Running r2 l7",
        "Terminated 0 r2 l7",
    ];
    assert_eq!(*container.told.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn the_policy_says_who_runs_again() {
    for (policy, code, runs) in [
        (RestartPolicy::Never, 1, 1),
        (RestartPolicy::Never, 0, 1),
        (RestartPolicy::OnFailure, 0, 1),
        (RestartPolicy::OnFailure, 1, 2),
        (RestartPolicy::Always, 0, 2),
    ] {
        let mut container = Planned::new(&[(1, Ok(code)); 2]);
        container.play(policy).await;
        assert_eq!(container.starts.len(), runs, "{policy:?} {code}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_is_looked_for_each_second_and_said_once() {
    let mut container = Planned::new(&[(0, Err("no secret")), (0, Err("no secret")), (5, Ok(0))]);
    container.play(RestartPolicy::Never).await;
    assert_eq!(container.starts, [0, 1, 2]);
    assert_eq!(*container.events.lock().unwrap(), ["Failed: Error: no secret"]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_wait() {
    let mut container = Planned::new(&[(1, Ok(1)); 4]);
    let (stop, stopped) = watch::channel(None);
    let begun = Instant::now();
    let end = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        stop.send_replace(Some(Duration::ZERO));
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = run(&mut container, RestartPolicy::Always, stopped) => {}
        () = end => unreachable!(),
    }
    assert_eq!((begun.elapsed().as_secs(), container.starts.len()), (5, 2));
}
