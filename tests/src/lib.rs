//! The whole thing, as its users meet it: the built `aquifer` command, programs that others wrote, and nothing of the
//! mesh's own code in between.
//!
//! Every test starts a lab with a name of its own and takes it down, also when it fails; at most two labs run at a time.
//! A test that cannot run here prints `SKIPPED:` with the reason and passes.
//! The crate refuses to know the mesh's libraries: what cannot be seen from outside is for their own tests.

#[cfg(test)]
mod absence;
#[cfg(test)]
mod bench;
#[cfg(test)]
mod clients;
#[cfg(test)]
mod coredns;
#[cfg(test)]
mod crowds;
#[cfg(test)]
mod demo;
#[cfg(test)]
mod enrolment;
#[cfg(test)]
mod envoy;
#[cfg(test)]
mod generator;
#[cfg(test)]
mod hosts;
#[cfg(test)]
mod house;
#[cfg(test)]
mod inspection;
#[cfg(test)]
mod ipv6;
#[cfg(test)]
mod kubectl;
#[cfg(test)]
mod ordinary;
#[cfg(test)]
mod plugin;
#[cfg(test)]
mod pods;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod restarts;
#[cfg(test)]
mod rolling;
#[cfg(test)]
mod rotation;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod support;
#[cfg(test)]
mod traffic;
#[cfg(test)]
mod upgrade;
