//! The modes that are set up, as the rounds see them.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bench::Port;
use bench::mode::Mode;
use bench::results::LeftOut;
use bench::session::Stage;
use bench::usage::Process;
use load::{Connections, Kind, Outcome, Pace, Plan, Protocol};
use tokio::time::Instant;

use super::envoy::{Envoy, INSTALL, NO_ENVOY};
use super::lab::Lab;
use super::places::{self, Place};
use crate::demo::cluster;

/// Discovery may be a moment behind: after this time a mode whose traffic is not what it should be is left out.
const PROOF_DEADLINE: Duration = Duration::from_secs(15);

/// Setting up a mode takes no longer; else it is left out.
const SET_UP_DEADLINE: Duration = Duration::from_secs(60);

/// A lab with the pods of each mode in it.
pub(crate) struct Field<'a> {
    lab: &'a Lab,
    places: BTreeMap<Mode, Place>,
}

impl<'a> Field<'a> {
    /// Sets up what was asked for, and says what could not be.
    pub(crate) async fn set_up(
        lab: &'a Lab,
        modes: &[Mode],
        mut envoy: Option<&mut Envoy>,
        say: &mut dyn FnMut(&str),
    ) -> (Self, Vec<LeftOut>) {
        let mut field = Self { lab, places: BTreeMap::new() };
        let mut left_out = Vec::new();
        for &mode in modes {
            if mode.needs_envoy() && envoy.is_none() {
                left_out.push(LeftOut { mode, reason: NO_ENVOY.to_owned(), advice: INSTALL.to_owned() });
                continue;
            }
            say(&format!("setting up {mode}"));
            let set_up = field.add(mode, envoy.as_deref_mut());
            let outcome = tokio::time::timeout(SET_UP_DEADLINE, set_up).await;
            let outcome = outcome.unwrap_or_else(|_| bail_late());
            if let Err(error) = outcome {
                field.places.remove(&mode);
                let advice = format!("the lab's own log: {}", lab.log().display());
                left_out.push(LeftOut { mode, reason: format!("{error:#}"), advice });
            }
        }
        (field, left_out)
    }

    /// The modes that can be measured.
    pub(crate) fn modes(&self) -> Vec<Mode> {
        self.places.keys().copied().collect()
    }

    async fn add(&mut self, mode: Mode, envoy: Option<&mut Envoy>) -> Result<()> {
        let place = places::set_up(self.lab, mode, envoy).await?;
        self.places.insert(mode, place);
        self.prove(mode).await.with_context(|| format!("{mode} does not carry traffic as it should"))
    }

    /// Sends a little through a mode until every proxy has taken part, and the server's node proxy has seen who called:
    /// a comparison of something else would be worthless.
    async fn prove(&self, mode: Mode) -> Result<()> {
        let place = self.place(mode).context("it is not set up")?;
        let deadline = Instant::now() + PROOF_DEADLINE;
        loop {
            let missing = match self.attempt(mode, place).await {
                Ok(()) => return Ok(()),
                Err(missing) => missing,
            };
            if Instant::now() > deadline {
                return Err(missing);
            }
        }
    }

    async fn attempt(&self, mode: Mode, place: &Place) -> Result<()> {
        let before = place.proxies.iter().map(Process::read).collect::<io::Result<Vec<_>>>()?;
        for port in [Port::Http, Port::Bytes] {
            let protocol = if port == Port::Http { Protocol::Http1 } else { Protocol::Tcp };
            let connections = Connections { protocol, in_flight: 2, pace: Pace::Fixed { rate: 100.0 } };
            let plan = Plan {
                target: self.target(mode, port),
                kind: Kind::Connections(connections),
                warm_up_ms: 0,
                duration_ms: 200,
                timeout_ms: 2_000,
            };
            let outcome = self.lab.load(&place.client, &plan).await?;
            if outcome.answered == 0 {
                bail!("no answer from {}: {:?}", plan.target, outcome.failed);
            }
        }
        for (process, before) in place.proxies.iter().zip(before) {
            if process.read()?.since(&before, &process.name).cpu_s == 0.0 {
                bail!("nothing went through {}", process.name);
            }
        }
        let Some((node, parts)) = &place.proof else { return Ok(()) };
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let found =
            cluster::wait_for_log(self.lab.client()?, &format!("ztunnel-{node}"), Duration::from_secs(1), &parts)
                .await?;
        found.map(|_| ()).with_context(|| format!("the ztunnel of {node} has not seen {}", parts.join(" ")))
    }

    fn place(&self, mode: Mode) -> Option<&Place> {
        self.places.get(&mode)
    }
}

fn bail_late() -> Result<()> {
    bail!("it was not ready within {} s", SET_UP_DEADLINE.as_secs())
}

impl Stage for Field<'_> {
    fn target(&self, mode: Mode, port: Port) -> SocketAddr {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        self.place(mode).map_or(nowhere, |place| match port {
            Port::Http => place.http,
            Port::Bytes => place.bytes,
        })
    }

    fn proxies(&self, mode: Mode) -> io::Result<Vec<Process>> {
        Ok(self.place(mode).map(|place| place.proxies.clone()).unwrap_or_default())
    }

    async fn run(&self, mode: Mode, plan: &Plan) -> Result<Outcome, String> {
        let place = self.place(mode).ok_or("it is not set up")?;
        self.lab.load(&place.client, plan).await.map_err(|error| format!("{error:#}"))
    }
}
