//! The Envoys that the mesh is compared with: what each is told, and the certificates that they show each other.
//!
//! They are configured as service meshes configure sidecars and waypoints, without the filters that those add: telemetry
//! of their own, authorization, tracing. What is compared with them is therefore compared with less than a real sidecar.

mod credentials;
mod handshakes;
mod parts;
mod sidecar;
mod waypoint;

pub use credentials::{CredentialError, Credentials};
pub use handshakes::{EXPECTED_CIPHER, Handshakes, STATS, Tls};
pub use sidecar::{client, server};
pub use waypoint::{Service, waypoint};

/// Worker threads: what meshes give a sidecar.
pub const CONCURRENCY: u32 = 2;

/// Where a client's sidecar takes HTTP, on loopback.
pub const OUTBOUND_HTTP: u16 = 15081;

/// Where a client's sidecar takes bytes, on loopback.
pub const OUTBOUND_BYTES: u16 = 15082;

/// Where a server's sidecar takes HTTP over mutual TLS.
const INBOUND_HTTP: u16 = 15443;

/// Where a server's sidecar takes bytes over mutual TLS.
const INBOUND_BYTES: u16 = 15444;

/// Where an Envoy answers questions about itself, and says whether it is ready.
pub const ADMIN: u16 = 15000;

/// What a sidecar reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// HTTP, where it is HTTP.
    Http,
    /// Nothing: it copies bytes.
    Nothing,
}

/// The command line of an Envoy with its bootstrap in a file.
#[must_use]
pub fn command(program: &str, bootstrap: &str) -> Vec<String> {
    let concurrency = CONCURRENCY.to_string();
    let options = ["--concurrency", &concurrency, "--log-level", "warn", "--disable-hot-restart"];
    [program, "-c", bootstrap].into_iter().chain(options).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;
