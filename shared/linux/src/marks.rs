//! Answers that carry the mark of what they answer.
//!
//! A packet's mark can choose its route. What a host answers has no mark of its own, unless its network namespace is told
//! to copy that of the question: then a connection that was opened with a mark is routed by it in both directions, and no
//! packet has to be looked at for that.

use std::io;

use crate::sysctl;

/// Connections that are accepted take the mark of their first segment, in both address families.
const ACCEPTED: &str = "net/ipv4/tcp_fwmark_accept";
/// What is answered without a socket takes it from what it answers: mostly resets.
const REFLECTED: [&str; 2] = ["net/ipv4/fwmark_reflect", "net/ipv6/fwmark_reflect"];

/// Lets what the calling thread's network namespace answers carry the mark of what it answers.
///
/// Listeners with a mark of their own keep giving that one.
///
/// # Errors
/// The kernel's; a kernel without IPv6 has nothing to answer there.
pub fn copy_to_answers() -> io::Result<()> {
    sysctl::write(ACCEPTED, "1")?;
    REFLECTED.into_iter().try_for_each(|name| sysctl::write_where_known(name, "1"))
}

/// Whether answers carry the mark of what they answer; not when that cannot be told.
#[must_use]
pub fn are_copied_to_answers() -> bool {
    let is_on = |name| sysctl::read(name).is_ok_and(|value| value == "1");
    let is_missing = |name| sysctl::read(name).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    is_on(ACCEPTED) && REFLECTED.into_iter().all(|name| is_on(name) || is_missing(name))
}
