//! Starts a lab from the caller's side: opens what must belong to the caller's network, and starts the supervisor in
//! namespaces of its own.
//!
//! Unless it is detached, a lab ends with the thread that called [`start`]: call it on one that lives as long.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use jiff::Timestamp;
use linux::process::{Init, InitProcess, NamespaceError, Namespaces, Signal, is_privileged};
use linux::seqpacket::Connection;
use serde::{Deserialize, Serialize};
use tokio::io::Interest;

use crate::control::{Announcement, Channel, watched};
use crate::fabric::MAX_NODES;
use crate::families::{self, Families};
use crate::state::{Claim, Record, StateDirectory, StateError, process_started};

/// The hidden verb that the supervisor is started with.
pub const SUPERVISOR_VERB: &str = "lab-supervisor";

/// How long a lab may take to come up, and then to end.
const DEADLINE: Duration = Duration::from_secs(30);

/// What the user asks for.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the lab's state goes, and what it is called.
    pub directory: StateDirectory,
    /// How many nodes, 1 to [`MAX_NODES`].
    pub nodes: u8,
    /// Port of the Kubernetes API on 127.0.0.1; 0 lets the kernel choose.
    pub port: u16,
    /// In which address families; both become IPv4 alone where the machine has no IPv6.
    pub families: Families,
    /// Install the mesh's own components.
    pub mesh: bool,
    /// Go on when the caller ends.
    pub detach: bool,
    /// What the lab's own processes log, as the mesh's log filter writes it.
    pub log_filter: String,
    /// A directory with the CNI plugins `ptp` and `host-local`, to be used in place of the lab's own.
    pub plugins: Option<PathBuf>,
}

/// What the supervisor is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) nodes: u8,
    pub(crate) families: Families,
    /// Why the caller's network has no IPv6: then the lab has none either.
    pub(crate) no_ipv6: Option<String>,
    pub(crate) mesh: bool,
    pub(crate) detach: bool,
    pub(crate) api: SocketAddr,
    pub(crate) socket: PathBuf,
    pub(crate) log_filter: String,
    pub(crate) plugins: Option<PathBuf>,
}

/// Why a lab does not start.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The lab's directory cannot be used, or a lab of that name runs.
    #[error(transparent)]
    State(#[from] StateError),
    /// Too many nodes, or none.
    #[error("a lab has 1 to {MAX_NODES} nodes, not {0}")]
    Nodes(u8),
    /// The API's port is taken.
    #[error("cannot serve the Kubernetes API on 127.0.0.1:{port}")]
    Port {
        /// The port that was asked for.
        port: u16,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The kernel refuses namespaces.
    #[error(transparent)]
    Namespaces(#[from] NamespaceError),
    /// The supervisor said why it cannot go on.
    #[error("the lab did not come up: {0}")]
    Failed(String),
    /// The supervisor ended without a word.
    #[error("the lab's supervisor ended before the lab was up; its log is {log}")]
    Ended {
        /// Where it logs.
        log: PathBuf,
    },
    /// The kernel refused something small.
    #[error("cannot start the lab")]
    Io(#[from] io::Error),
}

/// A lab that is coming up, or is up.
#[derive(Debug)]
pub struct Lab {
    directory: StateDirectory,
    api: SocketAddr,
    nodes: u8,
    process: InitProcess,
    words: Option<Connection>,
    kept: Option<Channel>,
}

/// Starts a lab; [`Lab::ready`] waits until it is up.
///
/// # Errors
/// When the name is taken, the port is taken, or the kernel refuses.
pub fn start(options: &Options) -> Result<Lab, LaunchError> {
    if !(1..=MAX_NODES).contains(&options.nodes) {
        return Err(LaunchError::Nodes(options.nodes));
    }
    let claim = options.directory.claim()?;
    let directory = claim.directory.clone();
    let started = start_claimed(options, claim);
    if started.is_err() {
        directory.remove()?;
    }
    started
}

fn start_claimed(options: &Options, claim: Claim) -> Result<Lab, LaunchError> {
    let Claim { directory, lock } = claim;
    let refused = |source| LaunchError::Port { port: options.port, source };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).map_err(refused)?;
    let api = listener.local_addr().map_err(refused)?;
    let (words, theirs) = Connection::pair()?;
    let log = std::fs::OpenOptions::new().create(true).append(true).open(directory.log())?;
    let spec = Spec {
        nodes: options.nodes,
        families: options.families,
        no_ipv6: families::why_no_ipv6(),
        mesh: options.mesh,
        detach: options.detach,
        api,
        socket: directory.socket(),
        log_filter: options.log_filter.clone(),
        plugins: options.plugins.clone(),
    };
    let text = serde_json::to_string(&spec).map_err(io::Error::from)?;
    let namespaces = if is_privileged() { Namespaces::AS_ROOT } else { Namespaces::ALL };
    let mut init = Init::new([SUPERVISOR_VERB.into(), text.into()], namespaces);
    let nothing = std::fs::File::open("/dev/null")?;
    init.standard = [Some(nothing.into()), Some(log.try_clone()?.into()), Some(log.into())];
    init.files = vec![listener.into(), OwnedFd::from(theirs), lock.into()];
    init.dies_with_parent = !options.detach;
    init.new_session = true;
    let process = init.start()?;
    Ok(Lab { directory, api, nodes: options.nodes, process, words: Some(words), kept: None })
}

impl Lab {
    /// Where the Kubernetes API is served.
    pub fn api(&self) -> SocketAddr {
        self.api
    }

    /// Where the lab's state is.
    pub fn directory(&self) -> &StateDirectory {
        &self.directory
    }

    /// Waits until the lab is up and writes what other commands need to know. `progress` hears of each step.
    ///
    /// # Errors
    /// What the supervisor said, or that it ended; the lab's processes are gone then.
    pub async fn ready(&mut self, progress: &mut (dyn FnMut(&str) + Send)) -> Result<Record, LaunchError> {
        let Some(words) = self.words.take() else {
            return Err(LaunchError::Failed("it was waited for before".to_owned()));
        };
        let channel = Channel::new(words)?;
        let came_up = async {
            loop {
                match channel.announcement().await? {
                    Some(Announcement::Progress(step)) => progress(&step),
                    Some(Announcement::Ready { kubeconfig, families }) => return Ok((kubeconfig, families)),
                    Some(Announcement::Failed(why)) => return Err(LaunchError::Failed(why)),
                    None => return Err(LaunchError::Ended { log: self.directory.log() }),
                }
            }
        };
        let came_up = tokio::time::timeout(DEADLINE, came_up)
            .await
            .unwrap_or_else(|_| Err(LaunchError::Failed(format!("it took longer than {} s", DEADLINE.as_secs()))));
        let (kubeconfig, families) = match came_up {
            Ok(up) => up,
            Err(error) => {
                self.process.signal(Signal::Kill)?;
                self.process.wait()?;
                return Err(error);
            }
        };
        let record = Record {
            name: self.directory.name().to_owned(),
            pid: self.process.id(),
            process_started: process_started(self.process.id()).unwrap_or_default(),
            api: self.api,
            nodes: self.nodes,
            families,
            started: crate::kubelet::time(Timestamp::now()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        self.directory.write(&record, &kubeconfig)?;
        // An attached lab ends when this side of the channel closes.
        self.kept = Some(channel);
        Ok(record)
    }

    /// Waits until the lab has ended by itself or by another command. Cancel safe.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        {
            let watched = watched(self.process.as_fd(), Interest::READABLE)?;
            // No deadline: a lab runs as long as its user likes.
            drop(watched.readable().await?);
        }
        let status = self.process.wait()?;
        self.directory.remove().map_err(io::Error::other)?;
        Ok(status)
    }

    /// Ends the lab: asks it to, and kills it when it does not. Returns once all its processes have ended.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn stop(&mut self) -> io::Result<()> {
        self.process.signal(Signal::Terminate)?;
        if tokio::time::timeout(DEADLINE, self.ended()).await.is_err() {
            self.process.signal(Signal::Kill)?;
            self.process.wait()?;
            self.directory.remove().map_err(io::Error::other)?;
        }
        Ok(())
    }
}
