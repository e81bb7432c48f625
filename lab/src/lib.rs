//! A Kubernetes cluster on one machine, small enough to start in a second and real enough to run the mesh in: an API
//! server in memory, nodes and pods in network namespaces, kubelets that run a pod's command as a process.
//!
//! [`launch::start`] starts a lab, [`control::client`] talks to one that runs, [`supervisor::run`] is the lab itself.
//! Without root all of it lives in a user namespace; in either case the end of the supervisor is the end of everything.
//! The crate refuses to know what the mesh's components do: they are images and arguments to it.
//! Deliberately absent: images, cgroups, node ports, an uplink.

pub mod api;
pub mod control;
pub mod controllers;
mod dns;
pub mod fabric;
pub mod families;
mod files;
mod kubelet;
pub mod launch;
pub mod mesh;
mod probe;
mod service_proxy;
mod services;
pub mod state;
pub mod status;
pub mod supervisor;
mod volumes;
