//! The comparison's own lab: brought up, talked to over the Kubernetes API, entered to run load, ended.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use lab::control::Target;
use lab::control::client::{self, Exec};
use lab::families::Families;
use lab::launch::{self, Options};
use lab::state::StateDirectory;
use load::{Outcome, Plan};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

use crate::lab_name;
use crate::own_lab::{self, Up};

/// What the lab is called, with this process's number.
const NAME: &str = "bench";

/// Client on one, server on the other.
const NODES: u8 = 2;

/// A lab that is starting, or up.
pub(crate) struct Lab {
    lab: launch::Lab,
    has_mesh: bool,
    up: Option<Up>,
}

/// A client in a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) namespace: &'static str,
    pub(crate) pod: &'static str,
}

impl Lab {
    /// Starts the lab's processes. Before there is a runtime: namespaces are entered by a copy of this process, which
    /// must not have other threads.
    pub(crate) fn start(runtime_directory: Option<&Path>, has_mesh: bool) -> Result<Self> {
        lab_name::sweep(NAME, runtime_directory);
        let name = format!("{NAME}-{}", std::process::id());
        let options = Options {
            directory: StateDirectory::new(&name, runtime_directory)?,
            nodes: NODES,
            port: 0,
            families: Families::Ipv4,
            mesh: has_mesh,
            detach: false,
            log_filter: "info".to_owned(),
            plugins: None,
        };
        Ok(Self { lab: launch::start(&options)?, has_mesh, up: None })
    }

    /// Waits until the lab and the mesh in it are ready.
    pub(crate) async fn ready(&mut self, progress: &mut (dyn FnMut(&str) + Send)) -> Result<()> {
        self.up = Some(own_lab::ready(&mut self.lab, self.has_mesh, progress).await?);
        Ok(())
    }

    /// The Kubernetes API.
    pub(crate) fn client(&self) -> Result<&kube::Client> {
        Ok(&self.up.as_ref().context("the lab is not up")?.client)
    }

    /// The first process of the lab, of which all others descend.
    pub(crate) fn pid(&self) -> Result<u32> {
        Ok(self.up.as_ref().context("the lab is not up")?.record.pid)
    }

    /// Carries out a plan in a pod.
    pub(crate) async fn load(&self, from: &Client, plan: &Plan) -> Result<Outcome> {
        let (input_theirs, input) = std::io::pipe()?;
        let (output, output_theirs) = std::io::pipe()?;
        let (errors, errors_theirs) = std::io::pipe()?;
        let target = Target::Pod { namespace: from.namespace.to_owned(), pod: from.pod.to_owned(), container: None };
        let command = ["aquifer", "load", "client", "--plan", "--output", "json"].map(str::to_owned).to_vec();
        let standard = [OwnedFd::from(input_theirs), output_theirs.into(), errors_theirs.into()];
        let exec = Exec { target, command, environment: Vec::new(), standard };
        let running = client::exec(self.lab.directory(), exec).await?;
        let mut input = pipe::Sender::from_owned_fd(input.into())?;
        input.write_all(&serde_json::to_vec(plan)?).await?;
        drop(input);
        let mut output = pipe::Receiver::from_owned_fd(output.into())?;
        let mut errors = pipe::Receiver::from_owned_fd(errors.into())?;
        let (mut said, mut complained) = (String::new(), String::new());
        tokio::try_join!(output.read_to_string(&mut said), errors.read_to_string(&mut complained))?;
        let code = running.wait().await?;
        match serde_json::from_str(&said) {
            Ok(outcome) => Ok(outcome),
            Err(_) => bail!("the load generator ended with {code}: {}", complained.trim()),
        }
    }

    /// Ends the lab, and waits until nothing is left of it.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        Ok(self.lab.stop().await?)
    }

    /// Where the lab's processes say what they do.
    pub(crate) fn log(&self) -> PathBuf {
        self.lab.directory().log()
    }
}
