//! Our decisions and those of a real Envoy, which was given the same configuration and the same requests.

#[cfg(test)]
#[path = "oracle/ask.rs"]
mod ask;
#[cfg(test)]
#[path = "oracle/balance.rs"]
mod balance;
#[cfg(test)]
#[path = "oracle/clusters.rs"]
mod clusters;
#[cfg(test)]
#[path = "oracle/filters.rs"]
mod filters;
#[cfg(test)]
#[path = "oracle/hashes.rs"]
mod hashes;
#[cfg(test)]
#[path = "oracle/paths.rs"]
mod paths;
#[cfg(test)]
#[path = "oracle/peer.rs"]
mod peer;
#[cfg(test)]
#[path = "oracle/routes.rs"]
mod routes;
#[cfg(test)]
#[path = "oracle/rules.rs"]
mod rules;
#[cfg(test)]
#[path = "oracle/tables.rs"]
mod tables;
