//! The hook through which the kubelet runs programs in pods.

use std::process::Stdio;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use tokio::process::Child;

use super::Status;

/// A program to run beside those of a container, as in the query of the pod's `exec` subresource.
#[derive(Debug)]
pub struct ProgramRequest {
    /// The container; it is part of the pod.
    pub container: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Standard input, output and error.
    pub standard: [Stdio; 3],
}

/// Who runs programs in pods. The pod exists, is bound to a node, and the named container is part of it.
pub trait PodPrograms: Send + Sync + 'static {
    /// Starts a program in a session of its own; it ends with its handle.
    ///
    /// # Errors
    /// A [`Status`] is shown to the user as it is, for example while the container does not run.
    fn start(&self, pod: &Pod, request: ProgramRequest) -> BoxFuture<'static, Result<Child, Status>>;
}
