//! Two nodes in one process: pods in network namespaces of the tests' own, joined by a bridge, with redirection rules;
//! a scripted node agent, certificates from an authority in the process, discovery and policies set by hand.

#[cfg(test)]
#[path = "node/agent.rs"]
mod agent;
#[cfg(test)]
#[path = "node/application_tunnel.rs"]
mod application_tunnel;
#[cfg(test)]
#[path = "node/drain.rs"]
mod drain;
#[cfg(test)]
#[path = "node/early.rs"]
mod early;
#[cfg(test)]
#[path = "node/families.rs"]
mod families;
#[cfg(test)]
#[path = "node/gateway.rs"]
mod gateway;
#[cfg(test)]
#[path = "node/lookups.rs"]
mod lookups;
#[cfg(test)]
#[path = "node/names.rs"]
mod names;
#[cfg(test)]
#[path = "node/policy.rs"]
mod policy;
#[cfg(test)]
#[path = "node/refusals.rs"]
mod refusals;
#[cfg(test)]
#[path = "node/revocation.rs"]
mod revocation;
#[cfg(test)]
#[path = "node/same_node.rs"]
mod same_node;
#[cfg(test)]
#[path = "node/sessions.rs"]
mod sessions;
#[cfg(test)]
#[path = "node/socks.rs"]
mod socks;
#[cfg(test)]
#[path = "node/succession.rs"]
mod succession;
#[cfg(test)]
#[path = "node/traffic.rs"]
mod traffic;
#[cfg(test)]
#[path = "node/waypoint.rs"]
mod waypoint;
#[cfg(test)]
#[path = "node/world.rs"]
mod world;
