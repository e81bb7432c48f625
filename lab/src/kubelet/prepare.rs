//! From a container's description to a plan that can be started: environment, program, files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret, VolumeMount};

use super::environment::{Environment, Sources};
use super::image::{self, Refusal, SEARCH_PATH};
use super::launch::Plan;
use super::pod::PodContext;
use crate::api::{self, Client};
use crate::families::Families;
use crate::volumes::mounts::{Planner, Shown};
use crate::volumes::projection::{Entries, checked};

/// Everything that a run of `container` needs.
///
/// # Errors
/// What is missing, as reason and message of the container's waiting.
pub(crate) fn plan(
    context: &PodContext,
    pod: &Pod,
    container: &Container,
    volumes: &BTreeMap<String, PathBuf>,
) -> Result<Plan, Refusal> {
    let refused = |reason| move |message: String| Refusal { reason, message };
    let mut environment = Environment::new(base(&context.host_name, context.shared.node.plan.families));
    let sources = ClientSources { client: &context.shared.client, namespace: &context.namespace };
    environment
        .extend(container, pod, &sources)
        .map_err(|error| error.to_string())
        .map_err(refused("CreateContainerConfigError"))?;
    let program = image::program(container, &environment, image::is_program)?;
    let mounts = mounts(context, container, volumes, &environment).map_err(refused("CreateContainerError"))?;
    Ok(Plan {
        program,
        environment: environment.into_variables(),
        network: context.network.clone(),
        mounts,
        host_name: context.host_name.clone(),
        directory: container.working_dir.as_deref().filter(|path| !path.is_empty()).unwrap_or("/").into(),
    })
}

/// What every container finds in its environment.
fn base(host_name: &str, families: Families) -> [(String, String); 5] {
    [
        ("PATH", SEARCH_PATH.to_owned()),
        ("HOSTNAME", host_name.to_owned()),
        ("KUBERNETES_SERVICE_HOST", api::kubernetes_addresses(families).primary.to_string()),
        ("KUBERNETES_SERVICE_PORT", "443".to_owned()),
        ("KUBERNETES_SERVICE_PORT_HTTPS", "443".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
}

fn mounts(
    context: &PodContext,
    container: &Container,
    volumes: &BTreeMap<String, PathBuf>,
    environment: &Environment,
) -> Result<Vec<linux::mount::Mount>, String> {
    let directory = context.directory.join("containers").join(&container.name);
    let scratch = directory.join("scratch");
    let failed = |error: std::io::Error| error.to_string();
    // Each run begins with what the host has, not with what the run before wrote.
    match std::fs::remove_dir_all(&scratch) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => std::fs::create_dir_all(&scratch).map_err(failed)?,
    }
    let mut planner = Planner::new(Path::new("/"), directory.join("root"), scratch).map_err(failed)?;
    for file in ["hosts", "resolv.conf", "hostname"] {
        let shown = Shown {
            source: context.directory.join("etc").join(file),
            target: Path::new("/etc").join(file),
            read_only: false,
            is_directory: false,
        };
        planner.show(&shown).map_err(failed)?;
    }
    let mut asked: Vec<&VolumeMount> = container.volume_mounts.iter().flatten().collect();
    // Outer directories first, whatever the order in the pod.
    asked.sort_by_key(|mount| Path::new(&mount.mount_path).components().count());
    for mount in asked {
        let volume = volumes
            .get(&mount.name)
            .ok_or_else(|| format!("volumeMount {:?}: the pod has no volume {:?}", mount.mount_path, mount.name))?;
        let shown =
            shown(mount, volume, environment).map_err(|why| format!("volumeMount {:?}: {why}", mount.mount_path))?;
        planner.show(&shown).map_err(failed)?;
    }
    Ok(planner.finish())
}

fn shown(mount: &VolumeMount, volume: &Path, environment: &Environment) -> Result<Shown, String> {
    let expanded = mount.sub_path_expr.as_ref().map(|path| environment.expand(path));
    let inside = expanded.or_else(|| mount.sub_path.clone()).filter(|path| !path.is_empty());
    let source = match inside {
        None => volume.to_owned(),
        Some(inside) => {
            let path = volume.join(checked(&inside).map_err(|error| error.to_string())?);
            if !path.exists() {
                std::fs::create_dir_all(&path).map_err(|error| format!("{inside:?}: {error}"))?;
            }
            // A file of a ConfigMap is a link that changes; what it leads to now is what is shown.
            std::fs::canonicalize(&path).map_err(|error| format!("{inside:?}: {error}"))?
        }
    };
    Ok(Shown {
        is_directory: source.is_dir(),
        source,
        target: mount.mount_path.clone().into(),
        read_only: mount.read_only == Some(true),
    })
}

/// ConfigMaps and Secrets of one namespace, straight from the API server.
struct ClientSources<'a> {
    client: &'a Client,
    namespace: &'a str,
}

impl ClientSources<'_> {
    /// The entries that are text; what is binary is no value of a variable.
    fn entries<K: Entries>(&self, name: &str) -> Option<BTreeMap<String, String>> {
        let found = self.client.fetch::<K>(Some(self.namespace), name).ok()?.entries();
        Some(found.into_iter().filter_map(|(key, value)| Some((key, String::from_utf8(value).ok()?))).collect())
    }
}

impl Sources for ClientSources<'_> {
    fn config_map(&self, name: &str) -> Option<BTreeMap<String, String>> {
        self.entries::<ConfigMap>(name)
    }

    fn secret(&self, name: &str) -> Option<BTreeMap<String, String>> {
        self.entries::<Secret>(name)
    }
}
