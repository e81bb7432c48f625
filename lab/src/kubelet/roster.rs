//! Who runs where: the pods of all nodes with their containers' logs and processes, for `logs` and `exec`.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use linux::NetNs;

use super::log::Log;
use crate::api::{LogRequest, LogStream, PodLogs, Status};

/// All pods by namespace and name.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    pods: Mutex<BTreeMap<(String, String), PodEntry>>,
}

#[derive(Debug, Default)]
struct PodEntry {
    uid: String,
    containers: BTreeMap<String, ContainerEntry>,
}

#[derive(Debug, Default)]
struct ContainerEntry {
    current: Option<Arc<Log>>,
    previous: Option<Arc<Log>>,
    process: Option<Process>,
}

/// A running container as something to enter.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) network: NetNs,
    pub(crate) mounts: Arc<OwnedFd>,
    pub(crate) host_name: String,
    pub(crate) environment: Vec<(String, String)>,
}

/// Names one container of one pod.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) uid: String,
    pub(crate) container: String,
}

impl Roster {
    /// A run of a container begins: its log takes the place of the one before, which is kept once more.
    pub(crate) fn begin(&self, place: &Place, log: Arc<Log>) {
        self.change(place, |entry| {
            entry.previous = entry.current.replace(log);
            entry.process = None;
        });
    }

    /// The container's process runs now, or not any more.
    pub(crate) fn set_process(&self, place: &Place, process: Option<Process>) {
        self.change(place, |entry| entry.process = process);
    }

    /// The pod is gone.
    pub(crate) fn remove(&self, namespace: &str, pod: &str, uid: &str) {
        let key = (namespace.to_owned(), pod.to_owned());
        let mut pods = self.pods();
        if pods.get(&key).is_some_and(|entry| entry.uid == uid) {
            pods.remove(&key);
        }
    }

    /// The running process of a container: of the named one, or of the first that runs.
    ///
    /// # Errors
    /// A sentence that says what is not there and what is.
    pub(crate) fn process(&self, namespace: &str, pod: &str, container: Option<&str>) -> Result<Process, String> {
        let pods = self.pods();
        let entry = pods
            .get(&(namespace.to_owned(), pod.to_owned()))
            .ok_or_else(|| format!("no pod {pod:?} runs in namespace {namespace:?}"))?;
        let names = || entry.containers.keys().cloned().collect::<Vec<_>>().join(", ");
        let found = match container {
            Some(name) => entry
                .containers
                .get(name)
                .ok_or_else(|| format!("pod {pod:?} has no container {name:?}; it has: {}", names()))?,
            None => entry
                .containers
                .values()
                .find(|container| container.process.is_some())
                .ok_or_else(|| format!("no container of pod {pod:?} runs"))?,
        };
        found.process.clone().ok_or_else(|| format!("the container of pod {pod:?} does not run"))
    }

    fn change(&self, place: &Place, change: impl FnOnce(&mut ContainerEntry)) {
        let mut pods = self.pods();
        let entry = pods.entry((place.namespace.clone(), place.pod.clone())).or_default();
        if entry.uid != place.uid {
            *entry = PodEntry { uid: place.uid.clone(), ..PodEntry::default() };
        }
        change(entry.containers.entry(place.container.clone()).or_default());
    }

    fn log(&self, namespace: &str, pod: &str, request: &LogRequest) -> Result<Arc<Log>, Status> {
        let pods = self.pods();
        let entry = pods.get(&(namespace.to_owned(), pod.to_owned()));
        let containers = entry.map(|entry| &entry.containers);
        let found = containers.and_then(|containers| match &request.container {
            Some(name) => containers.get_key_value(name),
            None => containers.iter().next(),
        });
        let Some((name, found)) = found else {
            let name = request.container.as_deref().unwrap_or(pod);
            return Err(Status::bad_request(format!(
                "container {name:?} in pod {pod:?} is waiting to start: ContainerCreating"
            )));
        };
        let log = if request.previous { &found.previous } else { &found.current };
        log.clone().ok_or_else(|| {
            Status::bad_request(if request.previous {
                format!("previous terminated container {name:?} in pod {pod:?} not found")
            } else {
                format!("container {name:?} in pod {pod:?} is waiting to start: ContainerCreating")
            })
        })
    }

    fn pods(&self) -> MutexGuard<'_, BTreeMap<(String, String), PodEntry>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PodLogs for Roster {
    fn open(&self, pod: &Pod, request: LogRequest) -> BoxFuture<'static, Result<LogStream, Status>> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let opened = self.log(namespace, name, &request).map(|log| log.read(&request));
        std::future::ready(opened).boxed()
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    fn place(uid: &str) -> Place {
        Place { namespace: "shop".into(), pod: "cart".into(), uid: uid.into(), container: "c".into() }
    }

    async fn text(roster: &Roster, previous: bool) -> Result<String, String> {
        let request = LogRequest { previous, ..LogRequest::default() };
        let log = roster.log("shop", "cart", &request).map_err(|status| status.message)?;
        let chunks: Vec<_> = log.read(&request).map(|chunk| chunk.unwrap()).collect().await;
        Ok(String::from_utf8(chunks.concat()).unwrap())
    }

    #[tokio::test]
    async fn the_last_two_runs_are_kept() {
        let roster = Roster::default();
        assert!(text(&roster, false).await.unwrap_err().contains("is waiting to start"));
        for run in ["one", "two", "three"] {
            let log = Log::new();
            log.say(run);
            roster.begin(&place("u"), log);
        }
        assert_eq!(text(&roster, false).await.unwrap(), "three\n");
        assert_eq!(text(&roster, true).await.unwrap(), "two\n");
    }

    #[tokio::test]
    async fn a_new_pod_of_the_same_name_has_no_past() {
        let roster = Roster::default();
        roster.begin(&place("old"), Log::new());
        roster.begin(&place("new"), Log::new());
        assert!(text(&roster, true).await.unwrap_err().contains("previous terminated container"));
        roster.remove("shop", "cart", "old");
        assert!(text(&roster, false).await.is_ok(), "only the old pod was to be removed");
    }
}
