//! Volumes: what a pod's files hold ([`projection`], pure), how they come onto the disk without ever being seen half
//! written ([`atomic`]), and where they are mounted ([`mounts`], pure).

pub(crate) mod atomic;
pub(crate) mod keeper;
pub(crate) mod mounts;
pub(crate) mod projection;
mod quantity;
