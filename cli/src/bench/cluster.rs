//! A cluster of the user's: a namespace of the comparison's own in it, on two of its nodes, deleted at the end.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use bench::machine::{self, ClusterNode, Ground};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::api::{Api, DeleteParams, ListParams};
use kube::runtime::wait::await_condition;
use tokio::task::JoinHandle;

use super::nodes;
use super::objects;
use super::site::Site;
use crate::demo::cluster;
use crate::failure::Advised;
use crate::kubernetes;

/// How long the Kubernetes API may take to answer.
const ANSWER: Duration = Duration::from_secs(15);

/// How long everything in the namespace may take to end.
const DELETION: Duration = Duration::from_secs(90);

/// How long a pod may take to be ready, with the pulling of its images.
const POD_DEADLINE: Duration = Duration::from_secs(120);

/// What the namespace is called, with the time.
const NAME: &str = "aquifer-bench";

/// Which cluster is meant, and what is to run on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) kubeconfig: PathBuf,
    pub(crate) context: Option<String>,
    pub(crate) image: String,
    pub(crate) nodes: Vec<String>,
}

/// A cluster, and the namespace in it once there is one.
pub(crate) struct Cluster {
    named: Named,
    has_mesh: bool,
    made: Option<Made>,
}

/// The namespace, which is to be deleted.
struct Made {
    client: kube::Client,
    namespace: String,
    /// The request that makes it: it goes on when nobody waits for it any more.
    creation: Option<JoinHandle<Result<()>>>,
}

impl Cluster {
    pub(super) fn new(named: Named, has_mesh: bool) -> Self {
        Self { named, has_mesh, made: None }
    }

    /// Chooses nodes, and makes the namespace.
    pub(super) async fn ready(&mut self, progress: &mut (dyn FnMut(&str) + Send)) -> Result<Site> {
        progress("asking the cluster");
        let client = kubernetes::client_of(&self.named.kubeconfig, self.named.context.as_deref()).await?;
        let version = within(client.apiserver_version()).await?.git_version;
        let all = within(Api::<Node>::all(client.clone()).list(&ListParams::default())).await?.items;
        let chosen = nodes::choose(&all, &self.named.nodes)?;
        let names = chosen.iter().filter_map(|node| node.metadata.name.clone());
        let mut names = names.collect::<Vec<_>>().into_iter();
        let near = names.next().context("a node has no name")?;
        let namespace = format!("{NAME}-{:x}", Timestamp::now().as_millisecond());
        progress(&format!("making namespace {namespace}"));
        let object = objects::namespace(&namespace, self.has_mesh);
        let creator = client.clone();
        let creation = tokio::spawn(async move { cluster::create(&creator, &object).await });
        let made = self.made.insert(Made { client: client.clone(), namespace: namespace.clone(), creation: None });
        let creation = made.creation.insert(creation);
        let created = tokio::time::timeout(ANSWER, creation).await.map_err(|_elapsed| silent())?;
        made.creation = None;
        if let Err(error) = created.context("cannot make a namespace")? {
            if is_refusal(&error) {
                // It is not there, or is somebody else's: nothing of it is to be deleted.
                self.made = None;
            }
            return Err(error.context(format!("cannot make namespace {namespace}")));
        }
        let ground = machine::Cluster { version, nodes: chosen.into_iter().map(facts).collect() };
        let advice = format!("see kubectl get events -A, or name other nodes: --nodes {near},OTHER");
        Ok(Site {
            client,
            namespace,
            near,
            far: names.next(),
            apart: None,
            image: self.named.image.clone(),
            patience: POD_DEADLINE,
            first_process: None,
            advice,
            ground: Ground::Cluster(ground),
        })
    }

    pub(super) fn closing(&self) -> String {
        let Some(made) = &self.made else { return "nothing to clear away".to_owned() };
        format!("deleting namespace {}", made.namespace)
    }

    /// Deletes the namespace and waits until it is gone.
    ///
    /// # Errors
    /// What is left of it.
    pub(super) async fn close(&mut self) -> Result<()> {
        let Some(made) = &mut self.made else { return Ok(()) };
        if let Some(creation) = made.creation.take() {
            // A namespace that comes after its deletion would stay.
            let _ = tokio::time::timeout(ANSWER, creation).await;
        }
        let Some(made) = &self.made else { return Ok(()) };
        let next = format!(
            "delete it: kubectl --kubeconfig {}{} delete namespace {}",
            self.named.kubeconfig.display(),
            self.named.context.as_ref().map(|context| format!(" --context {context}")).unwrap_or_default(),
            made.namespace
        );
        made.delete().await.map_err(|left| Advised::new(left, next).into())
    }
}

impl Made {
    /// [`Err`] says what is left.
    async fn delete(&self) -> Result<(), String> {
        let name = &self.namespace;
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        match within(namespaces.delete(name, &DeleteParams::default())).await {
            Ok(_) => {}
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(format!("namespace {name} is left, because it cannot be deleted: {error:#}")),
        }
        let gone = Box::pin(await_condition(namespaces, name, |found: Option<&Namespace>| found.is_none()));
        match tokio::time::timeout(DELETION, gone).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(format!("namespace {name} is being deleted, but cannot be watched: {error}")),
            Err(_elapsed) => Err(format!(
                "namespace {name} is still being deleted after {} s; in it: {}",
                DELETION.as_secs(),
                self.contents().await
            )),
        }
    }

    /// The pods that are left, and what the cluster says about the rest.
    async fn contents(&self) -> String {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let pods = within(pods.list(&ListParams::default())).await.map(|list| list.items).unwrap_or_default();
        let mut left: Vec<String> =
            pods.into_iter().filter_map(|pod| Some(format!("pod {}", pod.metadata.name?))).collect();
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let found = within(namespaces.get(&self.namespace)).await.ok().and_then(|namespace| namespace.status);
        let conditions = found.and_then(|status| status.conditions).into_iter().flatten();
        left.extend(conditions.filter(|one| one.status == "True").filter_map(|one| one.message));
        if left.is_empty() { "nothing that the cluster names".to_owned() } else { left.join("; ") }
    }
}

fn is_refusal(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<kube::Error>(), Some(kube::Error::Api(_)))
}

fn is_absent(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<kube::Error>(), Some(kube::Error::Api(status)) if status.code == 404)
}

/// What the Kubernetes API answers, in time.
async fn within<T>(asked: impl Future<Output = kube::Result<T>>) -> Result<T> {
    match tokio::time::timeout(ANSWER, asked).await {
        Ok(answered) => Ok(answered?),
        Err(_elapsed) => Err(silent()),
    }
}

fn silent() -> anyhow::Error {
    let next = "see whether it is there: kubectl --kubeconfig FILE version";
    Advised::new(format!("the Kubernetes API does not answer within {} s", ANSWER.as_secs()), next).into()
}

fn facts(node: &Node) -> ClusterNode {
    let status = node.status.clone().unwrap_or_default();
    let capacity = status.capacity.unwrap_or_default();
    let amount = |of: &str| capacity.get(of).map_or_else(|| "unknown".to_owned(), |quantity| quantity.0.clone());
    let (kernel, architecture) =
        status.node_info.map(|found| (found.kernel_version, found.architecture)).unwrap_or_default();
    ClusterNode {
        name: node.metadata.name.clone().unwrap_or_default(),
        kernel,
        architecture,
        cpus: amount("cpu"),
        memory: amount("memory"),
    }
}
