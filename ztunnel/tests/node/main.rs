//! Two nodes in one process: pods in network namespaces of the tests' own, joined by a bridge, with redirection rules;
//! a scripted node agent, certificates from an authority in the process, discovery and policies set by hand.

mod agent;
mod drain;
mod policy;
mod refusals;
mod traffic;
mod world;
