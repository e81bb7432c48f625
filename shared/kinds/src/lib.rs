//! The Kubernetes, Gateway API and Istio objects that the mesh reads: their Rust types, the table of served kinds,
//! the labels and annotations with a meaning, a reader for manifests, and checks of what an object says.
//!
//! Checks are pure: an object goes in, [`Finding`]s come out, each naming the object, the field, what was found,
//! what was expected and the nearest valid name.
//! The crate refuses to know clusters, clients and time.
//! Its main entry is [`check::object`].

pub mod annotations;
pub mod check;
pub mod crd;
mod finding;
pub mod gateway;
pub mod labels;
mod lenient;
pub mod manifest;
pub mod networking;
pub mod security;
pub mod status;
pub mod table;

pub use finding::{Finding, ObjectRef, Problem, Severity};
pub use lenient::typed;
pub use networking::{ServiceEntry, WorkloadEntry};
pub use security::{AuthorizationPolicy, PeerAuthentication, RequestAuthentication};
