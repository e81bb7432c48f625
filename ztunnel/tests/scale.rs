//! Many pods, many connections one after the other: what they cost, and that it stays the same.
//!
//! A program of its own, whose tests run one at a time: they look at the whole process.

#[cfg(test)]
#[path = "scale/churn.rs"]
mod churn;
#[cfg(test)]
#[expect(dead_code, reason = "shared with the tests of the program, which use more of it")]
#[path = "run/control.rs"]
mod control;
#[cfg(test)]
#[path = "scale/dumps.rs"]
mod dumps;
#[cfg(test)]
#[expect(dead_code, reason = "shared with the tests of the program, which use more of it")]
#[path = "run/machine.rs"]
mod machine;
#[cfg(test)]
#[path = "scale/measure.rs"]
mod measure;
#[cfg(test)]
#[path = "scale/pods.rs"]
mod pods;
#[cfg(test)]
#[path = "scale/workers.rs"]
mod workers;
#[cfg(test)]
#[expect(dead_code, reason = "shared with the tests of the node, which use more of it")]
#[path = "node/world.rs"]
mod world;
