//! The commands' side. Each function makes one connection for one request.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use linux::process::{PidFd, Signal as ProcessSignal};
use linux::seqpacket::Connection;
use tokio::io::{AsyncWrite, AsyncWriteExt, Interest};

use super::channel::{Channel, watched};
use super::message::{ExecRequest, LogsRequest, Message, Request, Signal, Target};
use crate::state::{StateDirectory, StateError, process_started};
use crate::status::LabStatus;

/// How long the lab may take to answer what is at hand.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long a lab may take to end before it is killed.
const DOWN_DEADLINE: Duration = Duration::from_secs(15);

/// Why a command did not work.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no such lab, or its directory cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// The lab said no.
    #[error("{0}")]
    Refused(String),
    /// The lab does not answer.
    #[error("the lab does not answer at {path}")]
    Io {
        /// Its socket.
        path: std::path::PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The caller's own output failed.
    #[error("cannot write the output")]
    Output(#[source] io::Error),
}

/// What runs in the lab.
///
/// # Errors
/// When no such lab runs or it does not answer.
pub async fn status(lab: &StateDirectory) -> Result<LabStatus, ClientError> {
    let record = lab.record()?;
    let channel = open(lab, Request::Status).await?;
    let mut text = Vec::new();
    let objects = loop {
        match tokio::time::timeout(DEADLINE, next(lab, &channel)).await.map_err(|_| silent(lab))?? {
            Message::Data(more) => text.extend(more),
            Message::Done(_) => break serde_json::from_slice(&text).map_err(|error| failed(lab, error.into()))?,
            other => return Err(unexpected(lab, other)),
        }
    };
    Ok(LabStatus { record, objects })
}

/// Copies a container's log to `output`, to its end or until the caller drops the future.
///
/// # Errors
/// When no such lab runs, the lab refuses, or the output cannot be written.
pub async fn logs(
    lab: &StateDirectory,
    request: LogsRequest,
    output: &mut (dyn AsyncWrite + Unpin + Send),
) -> Result<(), ClientError> {
    lab.record()?;
    let channel = open(lab, Request::Logs(request)).await?;
    loop {
        // No deadline: a log that is followed ends when its container does.
        match next(lab, &channel).await? {
            Message::Data(bytes) => {
                output.write_all(&bytes).await.map_err(ClientError::Output)?;
                output.flush().await.map_err(ClientError::Output)?;
            }
            Message::Done(_) => return Ok(()),
            other => return Err(unexpected(lab, other)),
        }
    }
}

/// What to run in the lab.
#[derive(Debug)]
pub struct Exec {
    /// Where.
    pub target: Target,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Added to the container's environment.
    pub environment: Vec<(String, String)>,
    /// Standard input, output and error of the program.
    pub standard: [OwnedFd; 3],
}

/// A program that runs in the lab. Dropping it ends the program.
#[derive(Debug)]
pub struct Running {
    channel: Channel,
    lab: StateDirectory,
}

/// Starts a program in the lab.
///
/// # Errors
/// When no such lab runs or it does not answer. That the program cannot be run is said by [`Running::wait`].
pub async fn exec(lab: &StateDirectory, exec: Exec) -> Result<Running, ClientError> {
    lab.record()?;
    let request = ExecRequest { target: exec.target, command: exec.command, environment: exec.environment };
    let channel = open(lab, Request::Exec(request)).await?;
    for descriptor in &exec.standard {
        channel.send(&Message::Descriptor, Some(descriptor)).await.map_err(|source| failed(lab, source))?;
    }
    Ok(Running { channel, lab: lab.clone() })
}

impl Running {
    /// Waits for the program's end; its exit code, or 128 and the number of the signal that ended it. Cancel safe.
    ///
    /// # Errors
    /// When the program could not be run, or the lab ends.
    pub async fn wait(&self) -> Result<i32, ClientError> {
        // No deadline: it is the program's time.
        match next(&self.lab, &self.channel).await? {
            Message::Done(code) => Ok(code),
            other => Err(unexpected(&self.lab, other)),
        }
    }

    /// Passes Ctrl-C on.
    ///
    /// # Errors
    /// When the lab is gone.
    pub async fn interrupt(&self) -> Result<(), ClientError> {
        self.signal(Signal::Interrupt).await
    }

    /// Asks the program to end.
    ///
    /// # Errors
    /// When the lab is gone.
    pub async fn terminate(&self) -> Result<(), ClientError> {
        self.signal(Signal::Terminate).await
    }

    async fn signal(&self, signal: Signal) -> Result<(), ClientError> {
        self.channel.send(&Message::Signal(signal), None).await.map_err(|source| failed(&self.lab, source))
    }
}

/// Ends a lab: asks it to, and kills it when it does not. Returns once all of its processes have ended and its
/// directory is removed.
///
/// # Errors
/// When no such lab runs, or it cannot be killed.
pub async fn down(lab: &StateDirectory) -> Result<(), ClientError> {
    let record = match lab.record() {
        Err(error) => {
            // What a killed lab has left goes now, if there is any and nobody is about to start a new one.
            if let Ok(_claim) = lab.claim() {
                lab.remove()?;
            }
            return Err(error.into());
        }
        found => found?,
    };
    let asked = async {
        let channel = open(lab, Request::Down).await?;
        tokio::time::timeout(DEADLINE, next(lab, &channel)).await.map_err(|_| silent(lab))?
    };
    // The handle cannot come to mean another process; it must not do so from the start either.
    let process = PidFd::open(record.pid).ok();
    let process = process.filter(|_| process_started(record.pid) == Some(record.process_started));
    let kill = || match &process {
        Some(process) => process.signal(ProcessSignal::Kill).map_err(|source| failed(lab, source)),
        None => Ok(()),
    };
    if let Err(error) = asked.await {
        tracing::debug!(%error, "the lab does not answer and is killed");
        kill()?;
    }
    let ended = async {
        if let Some(process) = &process {
            // The first process ends last: the kernel ends all others before it.
            drop(watched(process.as_fd(), Interest::READABLE)?.readable().await?);
        }
        io::Result::Ok(())
    };
    let mut ended = std::pin::pin!(ended);
    let outcome = match tokio::time::timeout(DOWN_DEADLINE, &mut ended).await {
        Ok(outcome) => outcome,
        Err(_) => {
            kill()?;
            tokio::time::timeout(DEADLINE, ended).await.map_err(|_| silent(lab))?
        }
    };
    outcome.map_err(|source| failed(lab, source))?;
    lab.remove()?;
    Ok(())
}

async fn open(lab: &StateDirectory, request: Request) -> Result<Channel, ClientError> {
    let open = async {
        let channel = Channel::new(Connection::connect(&lab.socket())?)?;
        channel.send(&Message::Request(request), None).await?;
        Ok(channel)
    };
    match tokio::time::timeout(DEADLINE, open).await {
        Ok(opened) => opened.map_err(|source| failed(lab, source)),
        Err(_) => Err(silent(lab)),
    }
}

async fn next(lab: &StateDirectory, channel: &Channel) -> Result<Message, ClientError> {
    match channel.receive().await {
        Ok(Some((Message::Failed(why), _))) => Err(ClientError::Refused(why)),
        Ok(Some((message, _))) => Ok(message),
        Ok(None) => Err(ClientError::Refused("the lab has ended".to_owned())),
        Err(source) => Err(failed(lab, source)),
    }
}

fn failed(lab: &StateDirectory, source: io::Error) -> ClientError {
    ClientError::Io { path: lab.socket(), source }
}

fn silent(lab: &StateDirectory) -> ClientError {
    failed(lab, io::ErrorKind::TimedOut.into())
}

fn unexpected(lab: &StateDirectory, message: Message) -> ClientError {
    failed(lab, io::Error::new(io::ErrorKind::InvalidData, format!("unexpected answer {message:?}")))
}
