//! The CNI plugin: a short process that the container runtime starts for each new pod, as the last of a chain.
//!
//! It changes nothing itself. It announces the pod to the node agent and waits until the pod is in the mesh, so that
//! nothing ever runs in a labelled pod before its traffic is captured; the result of the plugin before it is passed on
//! as it came. A pod that is not to be captured is never held up by an agent that is away: then the Kubernetes API says
//! which pod it is, and only where that fails too a pod is refused that may not belong into the mesh.

mod entry;
mod lookup;

pub use entry::Entry;
pub use lookup::KUBECONFIG;
pub(crate) use lookup::connect;

use std::io::Read;

use cni::announcement::{AnnounceError, NewPod, SOCKET, announce};
use cni::invocation::{Code, Command, Failure, Invocation, versions};
use cni::result::addresses;
use serde_json::{Map, Value};

use self::lookup::{LookupError, belongs_to_mesh};

/// The largest configuration that is read from standard input, in bytes.
const INPUT_LIMIT: u64 = 4 << 20;

/// The version that is answered with when the caller's is not known.
const FALLBACK_VERSION: &str = "1.0.0";

/// The start of the names of the agent's own pods, which nobody else could let in.
const OWN_PODS: &str = "aquifer-node-";

/// What the process prints, and whether it succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// For standard output; may be empty.
    pub output: String,
    /// Whether the exit status is 0.
    pub is_success: bool,
}

impl Answer {
    /// The answer of a process that cannot even begin.
    #[must_use]
    pub fn broken(error: &dyn std::error::Error) -> Self {
        let failure = Failure::new(Code::ENVIRONMENT, crate::events::with_causes(error));
        Self { output: failure.to_json(FALLBACK_VERSION).to_string(), is_success: false }
    }
}

/// The pod that a call is about.
#[derive(Debug)]
struct Subject<'a> {
    namespace: &'a str,
    name: &'a str,
    uid: Option<&'a str>,
}

/// Does what the environment and the configuration on `input` ask for. Blocks for some seconds at most.
pub fn run<'a>(variable: impl Fn(&str) -> Option<&'a str>, input: impl Read) -> Answer {
    let mut version = FALLBACK_VERSION.to_owned();
    match answer(variable, input, &mut version) {
        Ok(value) => Answer { output: value.map(|value| value.to_string()).unwrap_or_default(), is_success: true },
        Err(failure) => Answer { output: failure.to_json(&version).to_string(), is_success: false },
    }
}

fn answer<'a>(
    variable: impl Fn(&str) -> Option<&'a str>,
    input: impl Read,
    version: &mut String,
) -> Result<Option<Value>, Failure> {
    let invocation = Invocation::read(variable)?;
    let mut text = Vec::new();
    input
        .take(INPUT_LIMIT)
        .read_to_end(&mut text)
        .map_err(|error| Failure::new(Code::IO, format!("cannot read the configuration: {error}")))?;
    // Some runtimes ask for versions without a word on standard input.
    let text = if invocation.command == Command::Version && text.is_empty() { b"{}".to_vec() } else { text };
    let mut configuration: Map<String, Value> = serde_json::from_slice(&text)
        .map_err(|error| Failure::new(Code::DECODE, format!("the configuration is not a JSON object: {error}")))?;
    if let Some(Value::String(asked)) = configuration.get("cniVersion") {
        version.clone_from(asked);
    }
    match invocation.command {
        Command::Version => return Ok(Some(versions(version))),
        // Nothing of a pod outlives it: the agent sees its end in the Kubernetes API.
        Command::Delete | Command::Collect => return Ok(None),
        // A node without its agent goes on serving pods that are not captured.
        Command::Status => return Ok(None),
        Command::Add | Command::Check => {}
    }
    if !cni::VERSIONS.contains(&version.as_str()) {
        let why =
            format!("version {version:?} of the specification is not spoken; those are {}", cni::VERSIONS.join(", "));
        return Err(Failure::new(Code::VERSION, why));
    }
    // The runtime tells what it has made, not what the plugin has to make.
    let previous = configuration.remove("prevResult").filter(Value::is_object).ok_or_else(|| {
        Failure::new(
            Code::CONFIGURATION,
            format!("{} has to come after another plugin: prevResult is missing", cni::PLUGIN),
        )
    })?;
    if invocation.command == Command::Check {
        return Ok(None);
    }
    let entry: Entry = serde_json::from_value(Value::Object(configuration))
        .map_err(|error| Failure::new(Code::CONFIGURATION, format!("the plugin's configuration: {error}")))?;
    add(&invocation, &entry, &previous)?;
    Ok(Some(previous))
}

/// Returns when the pod is in the mesh, or does not belong there.
fn add(invocation: &Invocation, entry: &Entry, previous: &Value) -> Result<(), Failure> {
    let Some(subject) = Subject::of(invocation) else {
        // A container that is no pod of Kubernetes.
        return Ok(());
    };
    if !entry.ambient_enabled || entry.exclude_namespaces.iter().any(|excluded| excluded == subject.namespace) {
        return Ok(());
    }
    if subject.namespace == entry.pod_namespace && subject.name.starts_with(OWN_PODS) {
        return Ok(());
    }
    let pod = NewPod {
        netns: invocation.netns.display().to_string(),
        name: subject.name.to_owned(),
        namespace: subject.namespace.to_owned(),
        uid: subject.uid.map(str::to_owned),
        addresses: addresses(previous).into_iter().map(Into::into).collect(),
    };
    match announce(&entry.cni_agent_run_dir.join(SOCKET), &pod) {
        Ok(()) => Ok(()),
        Err(AnnounceError::Refused(why)) => Err(subject.refused(&entry.node_name, &why)),
        Err(absent @ (AnnounceError::Away(_) | AnnounceError::Silent(_))) => without_agent(entry, &subject, &absent),
    }
}

/// Decides about a pod that the agent has not answered for.
fn without_agent(entry: &Entry, subject: &Subject<'_>, absent: &AnnounceError) -> Result<(), Failure> {
    match belongs_to_mesh(entry, subject.namespace, subject.name) {
        Ok(false) => Ok(()),
        Ok(true) => Err(subject.refused(&entry.node_name, &absent.to_string())),
        Err(_) if !entry.enable_ambient_detection_retry => Ok(()),
        Err(LookupError::Gone) => Err(subject.refused(&entry.node_name, "the pod does not exist any more")),
        Err(error) => {
            let why = format!("{absent}, and whether the pod belongs into the mesh cannot be told: {error}");
            Err(subject.refused(&entry.node_name, &why))
        }
    }
}

impl<'a> Subject<'a> {
    fn of(invocation: &'a Invocation) -> Option<Self> {
        let argument = |key: &str| invocation.arguments.get(key).map(String::as_str).filter(|text| !text.is_empty());
        Some(Self {
            namespace: argument("K8S_POD_NAMESPACE")?,
            name: argument("K8S_POD_NAME")?,
            uid: argument("K8S_POD_UID"),
        })
    }

    /// The runtime shows the message in an Event of the pod, and tries again.
    fn refused(&self, node: &str, why: &str) -> Failure {
        let message = format!("pod {}/{} cannot join the mesh on node {node}", self.namespace, self.name);
        Failure::new(Code::TRY_AGAIN, format!("{message}: {why}"))
    }
}

#[cfg(test)]
mod tests;
