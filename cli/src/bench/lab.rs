//! The comparison's own lab: nodes on this machine, brought up and ended.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use bench::machine::{Ground, Machine};
use lab::families::Families;
use lab::launch::{self, Options};
use lab::state::StateDirectory;

use super::objects;
use super::site::Site;
use crate::demo::cluster;
use crate::lab_name;
use crate::own_lab::{self, Up};

/// What the lab is called, with this process's number; and its namespace.
const NAME: &str = "bench";

/// The node of clients, and that of servers.
const NODES: [&str; 2] = ["node-1", "node-2"];

/// The same where their proxies are told otherwise.
const NODES_APART: [&str; 2] = ["node-3", "node-4"];

/// How long a pod may take to be ready: there are no images to pull.
const POD_DEADLINE: Duration = Duration::from_secs(20);

/// A lab that is starting, or up.
pub(crate) struct Lab {
    lab: launch::Lab,
    has_mesh: bool,
    has_apart: bool,
    has_ended: bool,
}

impl Lab {
    /// Starts the lab's processes, with two more nodes if it `has_apart`. Before there is a runtime: namespaces are entered
    /// by a copy of this process, which must not have other threads.
    pub(super) fn start(runtime_directory: Option<&Path>, has_mesh: bool, has_apart: bool) -> Result<Self> {
        lab_name::sweep(NAME, runtime_directory);
        let name = format!("{NAME}-{}", std::process::id());
        let options = Options {
            directory: StateDirectory::new(&name, runtime_directory)?,
            nodes: if has_apart { 4 } else { 2 },
            port: 0,
            families: Families::Ipv4,
            mesh: has_mesh,
            detach: false,
            log_filter: "info".to_owned(),
            plugins: None,
        };
        Ok(Self { lab: launch::start(&options)?, has_mesh, has_apart, has_ended: false })
    }

    /// Waits until the lab and the mesh in it are ready.
    pub(super) async fn ready(&mut self, progress: &mut (dyn FnMut(&str) + Send)) -> Result<Site> {
        let up = own_lab::ready(&mut self.lab, self.has_mesh, progress).await;
        // A lab that does not come up is ended by whoever waited for it.
        self.has_ended = up.is_err();
        let Up { record, client } = up?;
        cluster::create(&client, &objects::namespace(NAME, self.has_mesh)).await?;
        let [near, far] = NODES.map(str::to_owned);
        Ok(Site {
            client,
            namespace: NAME.to_owned(),
            near,
            far: Some(far),
            apart: self.has_apart.then(|| NODES_APART.map(str::to_owned)),
            image: "aquifer".to_owned(),
            patience: POD_DEADLINE,
            first_process: Some(record.pid),
            advice: format!("the lab's own log: {}", self.lab.directory().log().display()),
            ground: Ground::Lab(Machine::this()),
        })
    }

    /// Ends the lab, and waits until nothing is left of it.
    pub(super) async fn stop(&mut self) -> Result<()> {
        if !self.has_ended {
            self.lab.stop().await?;
            self.has_ended = true;
        }
        Ok(())
    }
}
