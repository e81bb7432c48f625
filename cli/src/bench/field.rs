//! The modes that are set up, as the rounds see them.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bench::envoy::{Handshakes, STATS, Tls};
use bench::machine::Ground;
use bench::mode::Mode;
use bench::results::LeftOut;
use bench::session::Stage;
use bench::usage::Process;
use bench::{Opened, Port};
use load::{Connections, Kind, Outcome, Pace, Plan, Protocol};
use serde_json::Value;
use tokio::time::Instant;

use super::envoy::{self, Envoy};
use super::places::{self, Place};
use super::site::Site;

/// Discovery may be a moment behind: after this time a mode whose traffic is not what it should be is left out.
const PROOF_DEADLINE: Duration = Duration::from_secs(15);

/// Setting up a mode takes no longer than so many pods one after the other; else it is left out.
const MOST_PODS: u32 = 3;

/// A site with the pods of each mode in it.
pub(crate) struct Field<'a> {
    site: &'a Site,
    places: BTreeMap<Mode, Place>,
}

impl<'a> Field<'a> {
    /// Sets up what was asked for, and says what could not be.
    pub(crate) async fn set_up(
        site: &'a Site,
        modes: &[Mode],
        mut envoy: Option<&mut Envoy>,
        say: &mut dyn FnMut(&str),
    ) -> (Self, Vec<LeftOut>) {
        let mut field = Self { site, places: BTreeMap::new() };
        let mut left_out = Vec::new();
        for &mode in modes {
            if let Some(reason) = why_not(site, mode, envoy.is_some()) {
                left_out.push(reason);
                continue;
            }
            say(&format!("setting up {mode}"));
            let deadline = site.patience * MOST_PODS;
            let set_up = tokio::time::timeout(deadline, Box::pin(field.add(mode, envoy.as_deref_mut()))).await;
            let late = |_elapsed| bail!("it was not ready within {} s", deadline.as_secs());
            if let Err(error) = set_up.unwrap_or_else(late) {
                field.places.remove(&mode);
                left_out.push(LeftOut { mode, reason: format!("{error:#}"), advice: site.advice.clone() });
            }
        }
        (field, left_out)
    }

    /// The modes that can be measured.
    pub(crate) fn modes(&self) -> Vec<Mode> {
        self.places.keys().copied().collect()
    }

    /// What each Envoy says of the connections that it has encrypted so far.
    pub(crate) async fn tls(&self) -> BTreeMap<Mode, Tls> {
        let mut found = BTreeMap::new();
        for (mode, place) in self.places.iter().filter(|(_, place)| !place.envoys.is_empty()) {
            let mut said = BTreeMap::new();
            for (proxy, admin) in &place.envoys {
                let stats = self.site.fetch(&place.client, *admin, STATS).await;
                let handshakes = stats.map(|stats| Handshakes::read(&stats)).map_err(|error| format!("{error:#}"));
                said.insert(proxy.clone(), handshakes);
            }
            found.insert(*mode, Tls::judge(said));
        }
        found
    }

    /// Which Envoy runs, as one of them says itself.
    pub(crate) async fn envoy_version(&self) -> Option<String> {
        let (place, admin) = self.places.values().find_map(|place| Some((place, place.envoys.first()?.1)))?;
        let said = self.site.fetch(&place.client, admin, "/server_info").await.ok()?;
        let said: Value = serde_json::from_str(&said).ok()?;
        envoy::version_in(said.get("version")?.as_str()?)
    }

    async fn add(&mut self, mode: Mode, envoy: Option<&mut Envoy>) -> Result<()> {
        let place = Box::pin(places::set_up(self.site, mode, envoy)).await?;
        self.places.insert(mode, place);
        self.prove(mode).await.with_context(|| format!("{mode} does not carry traffic as it should"))
    }

    /// Sends a little through a mode until every proxy that is seen has taken part, and the server's node proxy has seen
    /// who called: a comparison of something else would be worthless.
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
            let outcome = self.site.load(&place.client, &plan).await?;
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
        if !self.site.has_logged(node, parts).await? {
            bail!("the node proxy of {node} has not logged a line with {}", parts.join(" and "));
        }
        Ok(())
    }

    fn place(&self, mode: Mode) -> Option<&Place> {
        self.places.get(&mode)
    }
}

/// What is known beforehand to be impossible here, and what to do about it.
fn why_not(site: &Site, mode: Mode, has_envoy: bool) -> Option<LeftOut> {
    let left_out =
        |reason: &str, advice: &str| Some(LeftOut { mode, reason: reason.to_owned(), advice: advice.to_owned() });
    let is_lab = matches!(site.ground, Ground::Lab(_));
    let is_near = matches!(mode, Mode::NoneSameNode | Mode::AmbientL4SameNode);
    if site.far.is_none() && !is_near {
        return left_out("it takes two nodes, and one takes pods", "name two: --nodes A,B");
    }
    if mode == Mode::AmbientL7 && !is_lab {
        return left_out(
            "its waypoint needs a certificate of the mesh's authority, whose key is read in a lab of this command's own only",
            "compare it there: aquifer bench --modes ambient-l7",
        );
    }
    if !mode.proxy_settings().is_empty() && site.apart.is_none() {
        return left_out(
            "its node proxies have settings of their own, which a lab of this command's own gives them",
            "compare it there: aquifer bench --modes ambient-l4-cold",
        );
    }
    match (mode.needs_envoy() && !has_envoy, is_lab) {
        (true, true) => left_out(envoy::NO_ENVOY, envoy::INSTALL),
        (true, false) => left_out("no image of Envoy is named", "add --envoy-image IMAGE, one with envoy in it"),
        (false, _) => None,
    }
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

    fn opened(&self, mode: Mode) -> io::Result<Option<Opened>> {
        self.place(mode).and_then(|place| place.agent.as_ref()).map(Process::opened).transpose()
    }

    async fn run(&self, mode: Mode, plan: &Plan) -> Result<Outcome, String> {
        let place = self.place(mode).ok_or("it is not set up")?;
        self.site.load(&place.client, plan).await.map_err(|error| format!("{error:#}"))
    }
}
