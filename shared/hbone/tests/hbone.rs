//! HBONE against independent peers: frames written by hand, and the h2 crate used directly.

#[cfg(test)]
#[path = "hbone/batches.rs"]
mod batches;
#[cfg(test)]
#[path = "hbone/broken.rs"]
mod broken;
#[cfg(test)]
#[path = "hbone/chaos.rs"]
mod chaos;
#[cfg(test)]
#[path = "hbone/client.rs"]
mod client;
#[cfg(test)]
#[path = "hbone/flow.rs"]
mod flow;
#[cfg(test)]
#[path = "hbone/headers.rs"]
mod headers;
#[cfg(test)]
#[path = "hbone/keepalive.rs"]
mod keepalive;
#[cfg(test)]
#[path = "hbone/peer.rs"]
mod peer;
#[cfg(test)]
#[path = "hbone/pool.rs"]
mod pool;
#[cfg(test)]
#[path = "hbone/raw.rs"]
mod raw;
#[cfg(test)]
#[path = "hbone/server.rs"]
mod server;
#[cfg(test)]
#[path = "hbone/streams.rs"]
mod streams;
#[cfg(test)]
#[path = "hbone/support.rs"]
mod support;
