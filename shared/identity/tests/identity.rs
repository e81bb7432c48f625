//! The store on paused time, and the client in front of a certificate authority of the test's own.

#[cfg(test)]
#[path = "identity/ca.rs"]
mod ca;
#[cfg(test)]
#[path = "identity/store.rs"]
mod store;
#[cfg(test)]
#[path = "identity/support.rs"]
mod support;
