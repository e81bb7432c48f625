//! Sends a batch and finds out what became of it.

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::batch::{Batch, encode};
use super::{Change, ChangeError};
use crate::error::Named;
use crate::netlink::{ERROR, Refusal, Socket, malformed, messages};

/// What the kernel refused, and the change that it belongs to, if to one.
struct Failure {
    error: ChangeError,
    change: Option<usize>,
}

pub(super) fn apply(changes: &[Change]) -> io::Result<()> {
    // Changes that take elements out of a set that turned out to be absent: there is nothing to do for them.
    let mut done = Vec::new();
    loop {
        let batch = encode(changes, &done)?;
        if batch.steps.is_empty() {
            return Ok(());
        }
        let Some(failure) = commit(&batch).named(|| "changing packet filter rules".into())? else { return Ok(()) };
        match failure.change.map(|position| (position, changes.get(position))) {
            Some((position, Some(Change::RemoveElements { .. }))) if failure.error.errno == libc::ENOENT => {
                done.push(position);
            }
            _ => {
                let kind = io::Error::from_raw_os_error(failure.error.errno).kind();
                return Err(io::Error::new(kind, failure.error));
            }
        }
    }
}

/// Sends the batch; the first refusal, if there is one.
fn commit(batch: &Batch<'_>) -> io::Result<Option<Failure>> {
    let socket = Socket::open(NETLINK_NETFILTER)?;
    socket.make_room(batch.bytes.len())?;
    socket.send(&batch.bytes)?;
    let last = u32::try_from(batch.steps.len()).unwrap_or(u32::MAX);
    let mut first_refusal = None;
    loop {
        let datagram = match socket.recv() {
            Ok(datagram) => datagram,
            // So many refusals that the rest of them is lost; the first is enough.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) && first_refusal.is_some() => break,
            Err(error) => return Err(error),
        };
        for message in messages(&datagram) {
            let message = message?;
            if message.kind != ERROR {
                return Err(malformed("an answer to a batch that is not about a change"));
            }
            let refusal = message.refusal();
            let is_over = message.sequence == last || (message.sequence == 0 && refusal.is_some());
            first_refusal = first_refusal.or_else(|| refusal.map(|refusal| (message.sequence, refusal)));
            if is_over {
                return Ok(first_refusal.map(|(sequence, refusal)| failure(batch, sequence, refusal)));
            }
        }
    }
    Ok(first_refusal.map(|(sequence, refusal)| failure(batch, sequence, refusal)))
}

fn failure(batch: &Batch<'_>, sequence: u32, refusal: Refusal) -> Failure {
    let position = usize::try_from(sequence).ok().and_then(|sequence| sequence.checked_sub(1));
    let step = position.and_then(|position| batch.steps.get(position));
    let change = step.map_or_else(|| "changing packet filter rules".to_owned(), |step| step.describe(refusal.offset));
    let error = ChangeError { change, errno: refusal.errno, explanation: refusal.explanation };
    Failure { error, change: step.map(|step| step.change) }
}
