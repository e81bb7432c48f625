//! The whole program in a network namespace of its own, against a control plane and a node agent that the tests script.

#[cfg(test)]
#[path = "run/control.rs"]
mod control;
#[cfg(test)]
#[path = "run/machine.rs"]
mod machine;
#[cfg(test)]
#[path = "run/partition.rs"]
mod partition;
#[cfg(test)]
#[path = "run/program.rs"]
mod program;
