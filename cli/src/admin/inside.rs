//! Requests from inside a lab: this very program runs there as `aquifer fetch` and prints the answer.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result, bail};
use lab::control::Target;
use lab::control::client::{self, Exec};
use lab::state::StateDirectory;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use super::http::{Method, Request};

/// The answer to a request that is made at `target`.
///
/// # Errors
/// When the lab or the component does not answer, or the answer is not one of success.
pub(super) async fn fetch(lab: &StateDirectory, target: Target, request: &Request<'_>) -> Result<String> {
    let mut command = vec!["aquifer".to_owned(), "fetch".to_owned()];
    if request.method == Method::Post {
        command.push("--post".to_owned());
    }
    command.extend([request.address.to_owned(), request.path.to_owned()]);
    let input = std::fs::File::open("/dev/null").context("cannot open /dev/null")?;
    let (mut output, output_writer) = pipe()?;
    let (mut complaint, complaint_writer) = pipe()?;
    let standard = [input.into(), output_writer, complaint_writer];
    let running = client::exec(lab, Exec { target, command, environment: Vec::new(), standard }).await?;
    let (mut text, mut error) = (String::new(), String::new());
    // Both at once: neither pipe may fill up. `fetch` has deadlines of its own.
    let (read, complained, code) =
        tokio::join!(output.read_to_string(&mut text), complaint.read_to_string(&mut error), running.wait());
    if code? != 0 {
        let error = error.trim();
        bail!("{}", error.strip_prefix("error: ").unwrap_or(error));
    }
    complained.context("the lab's complaints cannot be read")?;
    read.context("the lab's answer cannot be read")?;
    Ok(text)
}

fn pipe() -> Result<(Receiver, OwnedFd)> {
    let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
    let reader = Receiver::from_owned_fd(reader.into()).context("cannot read a pipe")?;
    Ok((reader, writer.into()))
}
