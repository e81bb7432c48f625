//! One pod from its binding to its end: network, volumes, containers, status, deletion.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, HostIP, Pod, PodIP};
use linux::NetNs;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::NodeContext;
use super::container::Job;
use super::network::Attached;
use super::restarts::RestartPolicy;
use super::roster::Place;
use super::sandbox::Sandbox;
use super::status::{Conditions, ContainerState, Phase, View};
use crate::api::{DeleteOptions, EventType, Patch};
use crate::families::Addresses;
use crate::volumes::keeper::Keeper;

/// How long to wait before a step that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// States on their way from the containers; a container that finds no room waits.
const ROOM: usize = 16;

/// Time that containers get when the whole lab ends.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// What the containers of a pod share.
pub(crate) struct PodContext {
    pub(crate) shared: Arc<NodeContext>,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) host_name: String,
    pub(crate) addresses: Addresses,
    pub(crate) network: NetNs,
    pub(crate) directory: PathBuf,
    pod: watch::Receiver<Arc<Pod>>,
}

impl PodContext {
    pub(crate) fn place(&self, container: &str) -> Place {
        Place {
            namespace: self.namespace.clone(),
            pod: self.name.clone(),
            uid: self.uid.clone(),
            container: container.to_owned(),
        }
    }

    pub(crate) fn record(&self, kind: EventType, reason: &str, message: &str) {
        let pod = Arc::clone(&self.pod.borrow());
        self.shared.client.record(&pod, kind, reason, message);
    }
}

/// The task of one pod.
pub(crate) struct PodTask {
    pub(crate) shared: Arc<NodeContext>,
    /// The pod as the API server has it.
    pub(crate) updates: watch::Receiver<Arc<Pod>>,
    /// The object is gone: nobody waits for a graceful end any more.
    pub(crate) gone: CancellationToken,
}

/// What a pod's containers have come to.
struct Life {
    context: Arc<PodContext>,
    /// The pod with its address, for the containers.
    pod: watch::Sender<Arc<Pod>>,
    keeper: Keeper,
    conditions: Conditions,
    started: Timestamp,
    init: Vec<(Container, ContainerState)>,
    containers: Vec<(Container, ContainerState)>,
    policy: RestartPolicy,
    told: Option<serde_json::Value>,
}

impl PodTask {
    /// Runs the pod to its end.
    pub(crate) async fn run(mut self) {
        let pod = Arc::clone(&self.updates.borrow());
        let (namespace, name, uid) = identity(&pod);
        let directory = self.shared.directory.join(&uid);
        if !super::status::is_terminal(&pod)
            && let Some(attached) = self.make_network(&pod).await
        {
            let mut life = self.begin(&pod, &attached.sandbox, &directory);
            if let Err(error) = write_etc(&life.context, &pod) {
                life.context.record(EventType::Warning, "FailedCreatePodSandBox", &error.to_string());
            }
            life.report();
            self.live(&mut life).await;
            life.keeper.close();
            drop(life);
            attached.remove(&self.shared).await;
        }
        // No deadline: a pod that has ended stays until somebody deletes it.
        self.ending().await;
        self.shared.roster.remove(&namespace, &name, &uid);
        if let Err(error) = std::fs::remove_dir_all(&directory)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, pod = %format_args!("{namespace}/{name}"), "a pod's directory is not wholly gone");
        }
        if self.gone.is_cancelled() || self.shared.shutdown.is_cancelled() {
            return;
        }
        match self.shared.client.delete::<Pod>(Some(&namespace), &name, &DeleteOptions::now(uid)) {
            Err(status) if !status.is_not_found() && !status.is_conflict() => {
                tracing::warn!(error = %status, pod = %format_args!("{namespace}/{name}"), "a pod cannot be deleted");
            }
            _ => {}
        }
    }

    fn begin(&self, pod: &Arc<Pod>, sandbox: &Sandbox, directory: &std::path::Path) -> Life {
        let (namespace, name, uid) = identity(pod);
        let spec = pod.spec.as_ref();
        let (sender, receiver) = watch::channel(with_address(pod, sandbox, &self.shared));
        let host_name = match spec.and_then(|spec| spec.hostname.clone()) {
            _ if is_on_host_network(pod) => self.shared.node.plan.name.clone(),
            Some(given) => given,
            None => name.chars().take(63).collect(),
        };
        let context = Arc::new(PodContext {
            shared: Arc::clone(&self.shared),
            namespace,
            name,
            uid,
            host_name,
            addresses: sandbox.addresses,
            network: sandbox.network.clone(),
            directory: directory.to_owned(),
            pod: receiver,
        });
        let new = |containers: Option<&Vec<Container>>| {
            containers.into_iter().flatten().map(|container| (container.clone(), ContainerState::new())).collect()
        };
        Life {
            keeper: Keeper::new(directory.join("volumes"), self.shared.node.host_directory.clone()),
            context,
            pod: sender,
            conditions: Conditions::default(),
            started: Timestamp::now(),
            init: new(spec.and_then(|spec| spec.init_containers.as_ref())),
            containers: new(spec.map(|spec| &spec.containers)),
            policy: RestartPolicy::of(pod),
            told: None,
        }
    }

    /// Volumes, then init containers one after the other, then all containers until they or the pod end.
    async fn live(&mut self, life: &mut Life) {
        let Some(volumes) = self.fill_volumes(life).await else { return };
        for index in 0..life.init.len() {
            let policy = match life.policy {
                RestartPolicy::Always => RestartPolicy::OnFailure,
                other => other,
            };
            self.run_containers(life, &volumes, Group::Init(index), policy).await;
            let is_done = life
                .init
                .get(index)
                .is_some_and(|(_, state)| matches!(&state.phase, Phase::Terminated(ended) if ended.exit_code == 0));
            if !is_done {
                return;
            }
        }
        let policy = life.policy;
        self.run_containers(life, &volumes, Group::All, policy).await;
    }

    /// Runs containers until all have ended for good; keeps status and volumes current meanwhile.
    async fn run_containers(
        &mut self,
        life: &mut Life,
        volumes: &Arc<BTreeMap<String, PathBuf>>,
        group: Group,
        policy: RestartPolicy,
    ) {
        let (states, mut changes) = mpsc::channel(ROOM);
        let (stop, stopped) = watch::channel(None);
        let mut tasks = JoinSet::new();
        for (index, container) in life.members(group) {
            let job = Job {
                context: Arc::clone(&life.context),
                pod: life.pod.subscribe(),
                container,
                volumes: Arc::clone(volumes),
                policy,
                states: (index, states.clone()),
                stop: stopped.clone(),
            };
            tasks.spawn(Box::pin(job.run()));
        }
        drop((states, stopped));
        let mut config = self.shared.config.clone();
        config.mark_unchanged();
        let mut renewal = life.refresh();
        let mut ending = std::pin::pin!(self.ending());
        let mut is_stopping = false;
        loop {
            tokio::select! {
                change = changes.recv() => match change {
                    Some((index, state)) => life.update(group, index, state),
                    None => break,
                },
                grace = &mut ending, if !is_stopping => {
                    is_stopping = true;
                    life.context.record(EventType::Normal, "Killing", "Stopping the pod's containers");
                    // Containers that have ended already do not listen any more.
                    let _ = stop.send(Some(grace));
                },
                changed = self.updates.changed(), if !is_stopping => {
                    if changed.is_ok() {
                        let pod = Arc::clone(&self.updates.borrow_and_update());
                        let updated = with_status_of(&pod, &life.pod.borrow());
                        life.pod.send_replace(Arc::new(updated));
                        renewal = life.refresh();
                    }
                },
                Ok(()) = config.changed() => renewal = life.refresh(),
                () = tokio::time::sleep(renewal.unwrap_or(Duration::MAX)) => renewal = life.refresh(),
            }
        }
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, pod = life.context.name, "a container's task has failed");
            }
        }
    }

    /// Fills the volumes, however long what they need takes to appear. `None` when the pod ends before.
    async fn fill_volumes(&mut self, life: &mut Life) -> Option<Arc<BTreeMap<String, PathBuf>>> {
        let mut config = self.shared.config.clone();
        let mut said = None;
        loop {
            let pod = Arc::clone(&life.pod.borrow());
            let filled = life.keeper.refresh(&self.shared.client, &pod, Timestamp::now());
            let Err(error) = filled else {
                let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
                return Some(Arc::new(
                    volumes.map(|volume| (volume.name.clone(), life.keeper.directory(volume))).collect(),
                ));
            };
            let why = error.to_string();
            if said.as_ref() != Some(&why) {
                life.context.record(EventType::Warning, "FailedMount", &why);
                for (_, state) in life.containers.iter_mut().chain(&mut life.init) {
                    state.phase = super::status::waiting("ContainerCreating", why.clone());
                }
                life.report();
                said = Some(why);
            }
            tokio::select! {
                _ = self.ending() => return None,
                _ = config.changed() => {}
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }

    /// Makes the pod's network, and tries again when that fails. `None` when the pod ends before.
    async fn make_network(&mut self, pod: &Arc<Pod>) -> Option<Attached> {
        if is_on_host_network(pod) {
            return Some(Attached::to_host(&self.shared.node));
        }
        loop {
            match Attached::make(&self.shared, pod).await {
                Ok(attached) => return Some(attached),
                Err(why) => {
                    let message = format!("Failed to create pod sandbox: {why}");
                    self.shared.client.record(pod, EventType::Warning, "FailedCreatePodSandBox", &message);
                }
            }
            tokio::select! {
                _ = self.ending() => return None,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }

    /// Resolves once the pod has to end, with the time that its containers get. Cancel safe.
    fn ending(&self) -> impl Future<Output = Duration> + Send + use<> {
        let mut updates = self.updates.clone();
        let (gone, shutdown) = (self.gone.clone(), self.shared.shutdown.clone());
        let marked = async move {
            // No deadline: pods live as long as nobody deletes them. Without sender only `gone` can end the pod.
            let marked = updates.wait_for(|pod| pod.metadata.deletion_timestamp.is_some()).await;
            marked.ok().map(|pod| grace_of(&pod))
        };
        async move {
            let marked = async {
                match marked.await {
                    Some(grace) => grace,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = gone.cancelled() => Duration::ZERO,
                () = shutdown.cancelled() => SHUTDOWN_GRACE,
                grace = marked => grace,
            }
        }
    }
}

/// Which containers run together.
#[derive(Debug, Clone, Copy)]
enum Group {
    Init(usize),
    All,
}

impl Life {
    fn members(&self, group: Group) -> Vec<(usize, Container)> {
        let all = |list: &[(Container, ContainerState)]| -> Vec<(usize, Container)> {
            list.iter().enumerate().map(|(index, (container, _))| (index, container.clone())).collect()
        };
        match group {
            Group::All => all(&self.containers),
            Group::Init(wanted) => all(&self.init).into_iter().filter(|(index, _)| *index == wanted).collect(),
        }
    }

    fn update(&mut self, group: Group, index: usize, state: ContainerState) {
        let list = match group {
            Group::All => &mut self.containers,
            Group::Init(_) => &mut self.init,
        };
        if let Some((_, entry)) = list.get_mut(index) {
            *entry = state;
        }
        self.report();
    }

    /// Brings the volumes up to date; what fails stays as it was and is said.
    fn refresh(&mut self) -> Option<Duration> {
        let pod = Arc::clone(&self.pod.borrow());
        match self.keeper.refresh(&self.context.shared.client, &pod, Timestamp::now()) {
            Ok(next) => next,
            Err(error) => {
                self.context.record(EventType::Warning, "FailedMount", &error.to_string());
                Some(RETRY * 10)
            }
        }
    }

    /// Tells the API server the pod's status if it has changed.
    fn report(&mut self) {
        let view = View {
            addresses: Some(self.context.addresses),
            hosts: self.context.shared.node.plan.addresses(),
            started: self.started,
            containers: shown(&self.containers),
            init: shown(&self.init),
            restarts_always: self.policy == RestartPolicy::Always,
            restarts_on_failure: self.policy == RestartPolicy::OnFailure,
        };
        let status = self.conditions.status(&view, Timestamp::now());
        if self.told.as_ref() == Some(&status) {
            return;
        }
        let (client, context) = (&self.context.shared.client, &self.context);
        let namespace = Some(context.namespace.as_str());
        // A pod of the same name that came after this one has a status of its own.
        let current = client.fetch::<Pod>(namespace, &context.name);
        if current.is_ok_and(|pod| pod.metadata.uid.as_deref() == Some(&context.uid)) {
            let patch = Patch::Strategic(json!({"status": status}));
            match client.patch_status::<Pod>(namespace, &context.name, &patch) {
                Ok(_) => self.told = Some(status),
                Err(error) => tracing::warn!(%error, pod = context.name, "a pod's status cannot be told"),
            }
        }
    }
}

fn shown(containers: &[(Container, ContainerState)]) -> Vec<(&str, &str, ContainerState)> {
    containers
        .iter()
        .map(|(container, state)| {
            (container.name.as_str(), container.image.as_deref().unwrap_or_default(), state.clone())
        })
        .collect()
}

/// The pod as its containers see it: with the addresses that its status will have.
fn with_address(pod: &Pod, sandbox: &Sandbox, shared: &NodeContext) -> Arc<Pod> {
    let mut pod = pod.clone();
    let (own, host) = (sandbox.addresses, shared.node.plan.addresses());
    let status = pod.status.get_or_insert_default();
    status.pod_ip = Some(own.primary.to_string());
    status.pod_ips = Some(own.iter().map(|ip| PodIP { ip: ip.to_string() }).collect());
    status.host_ip = Some(host.primary.to_string());
    status.host_ips = Some(host.iter().map(|ip| HostIP { ip: ip.to_string() }).collect());
    Arc::new(pod)
}

/// `new` with the addresses of `old`.
fn with_status_of(new: &Pod, old: &Pod) -> Pod {
    let mut new = new.clone();
    if let Some(old) = &old.status {
        let status = new.status.get_or_insert_default();
        status.pod_ip.clone_from(&old.pod_ip);
        status.pod_ips.clone_from(&old.pod_ips);
        status.host_ip.clone_from(&old.host_ip);
        status.host_ips.clone_from(&old.host_ips);
    }
    new
}

/// Writes what containers find in `/etc`.
fn write_etc(context: &PodContext, pod: &Pod) -> std::io::Result<()> {
    let directory = context.directory.join("etc");
    std::fs::create_dir_all(&directory)?;
    std::fs::write(directory.join("resolv.conf"), context.shared.resolver_configuration(&context.namespace))?;
    std::fs::write(directory.join("hostname"), format!("{}\n", context.host_name))?;
    let mut hosts = "127.0.0.1\tlocalhost\n::1\tlocalhost\n".to_owned();
    for address in context.addresses.iter() {
        hosts.push_str(&format!("{address}\t{}\n", context.host_name));
    }
    let aliases = pod.spec.iter().flat_map(|spec| spec.host_aliases.iter().flatten());
    for alias in aliases {
        hosts.push_str(&format!("{}\t{}\n", alias.ip, alias.hostnames.clone().unwrap_or_default().join("\t")));
    }
    std::fs::write(directory.join("hosts"), hosts)
}

fn identity(pod: &Pod) -> (String, String, String) {
    let metadata = &pod.metadata;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    (text(&metadata.namespace), text(&metadata.name), text(&metadata.uid))
}

fn is_on_host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true)
}

fn grace_of(pod: &Pod) -> Duration {
    let seconds = pod.metadata.deletion_grace_period_seconds;
    Duration::from_secs(seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(30))
}
