//! Programs that somebody runs beside those of the pods.

use std::collections::BTreeMap;
use std::process::Stdio;

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use linux::NetNs;
use tokio::process::Child;

use super::image::{SEARCH_PATH, is_program, locate};
use super::roster::{Process, Roster};
use super::{described, enter};
use crate::api::{PodPrograms, ProgramRequest, Status};

/// Starts a program in a network, and inside a container if it is `inside` one. Blocks for some milliseconds; needs a
/// Tokio runtime.
///
/// # Errors
/// A sentence for whoever asked.
pub(crate) fn run_program(
    command: &[String],
    more: Vec<(String, String)>,
    network: &NetNs,
    inside: Option<&Process>,
    standard: [Stdio; 3],
) -> Result<Child, String> {
    let base = match inside {
        Some(process) => process.environment.clone(),
        None => vec![("PATH".to_owned(), SEARCH_PATH.to_owned())],
    };
    let mut environment: BTreeMap<String, String> = base.into_iter().collect();
    environment.extend(more);
    let search_path = environment.get("PATH").map_or(SEARCH_PATH, String::as_str);
    let program = locate(command, search_path, is_program).map_err(|refusal| refusal.message)?;
    let environment: Vec<(String, String)> = environment.into_iter().collect();
    enter(&program, &environment, network, inside, standard).map_err(|error| described(&error))
}

impl PodPrograms for Roster {
    fn start(&self, pod: &Pod, request: ProgramRequest) -> BoxFuture<'static, Result<Child, Status>> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let ProgramRequest { container, command, standard } = request;
        let found = self.process(namespace, name, Some(&container)).map_err(Status::bad_request);
        async move {
            let process = found?;
            let run = move || run_program(&command, Vec::new(), &process.network, Some(&process), standard);
            let started = tokio::task::spawn_blocking(run).await;
            started.map_err(|error| Status::unavailable(error.to_string()))?.map_err(Status::bad_request)
        }
        .boxed()
    }
}
