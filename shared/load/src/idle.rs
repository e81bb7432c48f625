//! Connections that are held open.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::client::{broken, connect};
use crate::outcome::{Failure, Outcome};
use crate::plan::{Idle, Plan};
use crate::preamble::Purpose;
use crate::run::{LoadError, Phase, Reporter};

/// How many are being made at a time: fewer than any backlog holds.
const AT_A_TIME: usize = 64;

/// Connections that stand.
#[derive(Debug)]
pub(crate) struct Held {
    asked: u32,
    failed: BTreeMap<Failure, u64>,
    /// Each tells whether it was lost.
    standing: JoinSet<bool>,
    /// Dropped, all of them end.
    end: watch::Sender<()>,
}

/// Opens all of them.
pub(crate) async fn open(plan: &Plan, idle: &Idle, reporter: &Reporter) -> Result<Held, LoadError> {
    let places = Arc::new(Semaphore::new(AT_A_TIME));
    let mut opening = JoinSet::new();
    for _ in 0..idle.connections {
        let (places, target, limit) = (places.clone(), plan.target, plan.timeout());
        opening.spawn(async move {
            let _place = places.acquire().await;
            timeout(limit, exchange(target)).await.unwrap_or(Err(Failure::Timeout))
        });
    }
    let mut failed: BTreeMap<Failure, u64> = BTreeMap::new();
    let (end, ending) = watch::channel(());
    let mut standing = JoinSet::new();
    while let Some(opened) = opening.join_next().await {
        match opened.map_err(io::Error::other)? {
            Ok(connection) => {
                reporter.opened();
                standing.spawn(hold(connection, ending.clone()));
            }
            Err(reason) => *failed.entry(reason).or_default() += 1,
        }
    }
    if let (true, Some((&reason, _))) = (standing.is_empty(), failed.first_key_value()) {
        return Err(LoadError::Connect { target: plan.target, reason });
    }
    Ok(Held { asked: idle.connections, failed, standing, end })
}

impl Held {
    /// Holds them until `stop`, or for the time of the plan, and tells how many stood and how many were lost.
    pub(crate) async fn hold(
        self,
        plan: &Plan,
        reporter: &Reporter,
        stop: impl Future<Output = ()>,
    ) -> Result<Outcome, LoadError> {
        let Self { asked, failed, mut standing, end } = self;
        let held = u32::try_from(standing.len()).unwrap_or(u32::MAX);
        reporter.phase(Phase::Holding);
        let began = Instant::now();
        // Nothing else is to be done in that time.
        let _ = timeout(plan.duration(), stop).await;
        let elapsed_s = began.elapsed().as_secs_f64();
        reporter.phase(Phase::Ending);
        drop(end);
        let mut lost = 0;
        while let Some(ended) = standing.join_next().await {
            lost += u32::from(ended.map_err(io::Error::other)?);
        }
        let invalid = complaint(asked, held, lost, &failed);
        let (sent, answered) = (u64::from(asked), u64::from(held));
        Ok(Outcome { invalid, sent, answered, failed, held, lost, elapsed_s, ..Outcome::default() })
    }
}

fn complaint(asked: u32, held: u32, lost: u32, failed: &BTreeMap<Failure, u64>) -> Option<String> {
    if held < asked {
        let reasons: Vec<String> = failed.iter().map(|(failure, count)| format!("{count} {failure}")).collect();
        return Some(format!("only {held} of {asked} connections were made: {}", reasons.join(", ")));
    }
    (lost > 0).then(|| format!("{lost} of {held} connections were lost"))
}

async fn exchange(target: SocketAddr) -> Result<TcpStream, Failure> {
    let mut connection = connect(target).await?;
    connection.write_all(&Purpose::Hold.encode()).await.map_err(|error| broken(&error))?;
    connection.read_u8().await.map_err(|error| broken(&error))?;
    Ok(connection)
}

/// Whether the peer ended it, or sent something, before everything ended.
async fn hold(mut connection: TcpStream, mut ending: watch::Receiver<()>) -> bool {
    tokio::select! {
        // What happened before the end counts.
        biased;
        _ = connection.read_u8() => true,
        // Fails once the sender is gone, which is the end.
        _ = ending.changed() => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_connections_are_no_measurement() {
        let failed = BTreeMap::from([(Failure::Refused, 2), (Failure::Reset, 1)]);
        let reason = complaint(10, 7, 0, &failed).unwrap();
        assert_eq!(reason, "only 7 of 10 connections were made: 2 refused, 1 reset");
        assert_eq!(complaint(10, 10, 1, &BTreeMap::new()).unwrap(), "1 of 10 connections were lost");
        assert_eq!(complaint(10, 10, 0, &BTreeMap::new()), None);
    }
}
