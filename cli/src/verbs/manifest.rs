//! `aquifer manifest`: what an installation applies, as it is checked in below manifests/.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};
use kinds::crd::definitions;

use crate::output;

/// The components, for a cluster.
const INSTALL: &str = include_str!("../../../manifests/install.yaml");

/// Print the manifests that install the mesh on a cluster.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  aquifer manifest crds | kubectl apply -f -
  aquifer manifest install > install.yaml      then name your image, and apply it

A lab needs neither: aquifer up")]
pub(crate) struct ManifestArgs {
    /// Which of them.
    what: What,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// The definitions of Istio's security kinds.
    Crds,
    /// Control plane, node agent and ztunnel, with their accounts and rights.
    Install,
}

/// Runs the verb.
pub(crate) fn run(args: &ManifestArgs) -> Result<ExitCode> {
    match args.what {
        What::Crds => output::write(&crds()?)?,
        What::Install => output::write(INSTALL)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// One document for each definition.
fn crds() -> Result<String> {
    let mut text = "# Made by `aquifer manifest crds`; do not edit.\n".to_owned();
    for definition in definitions() {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&definition)?);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
    use k8s_openapi::api::core::v1::{Namespace, Service, ServiceAccount};
    use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
    use serde::Serialize;
    use serde::de::DeserializeOwned;
    use serde_json::Value;

    use super::*;

    const CRDS: &str = include_str!("../../../manifests/crds.yaml");
    const KNOBS: &str = include_str!("../../../docs/configuration.md");

    fn text<'a>(object: &'a Value, path: &str) -> &'a str {
        object.pointer(path).and_then(Value::as_str).unwrap_or_default()
    }

    #[test]
    fn the_definitions_that_are_checked_in_are_current() {
        assert!(crds().unwrap() == CRDS, "run: aquifer manifest crds > manifests/crds.yaml");
        assert_eq!(kinds::manifest::read(CRDS).unwrap().len(), definitions().len());
    }

    /// Fields that the type does not have are lost on the way.
    fn survives<T: DeserializeOwned + Serialize>(object: &Value) -> bool {
        let typed: T = serde_json::from_value(object.clone()).unwrap();
        serde_json::to_value(typed).unwrap() == *object
    }

    #[test]
    fn every_field_of_the_installation_exists() {
        for object in kinds::manifest::read(INSTALL).unwrap() {
            let is_whole = match text(&object, "/kind") {
                "Namespace" => survives::<Namespace>(&object),
                "ServiceAccount" => survives::<ServiceAccount>(&object),
                "Service" => survives::<Service>(&object),
                "Deployment" => survives::<Deployment>(&object),
                "DaemonSet" => survives::<DaemonSet>(&object),
                "ClusterRole" => survives::<ClusterRole>(&object),
                "ClusterRoleBinding" => survives::<ClusterRoleBinding>(&object),
                "Role" => survives::<Role>(&object),
                "RoleBinding" => survives::<RoleBinding>(&object),
                kind => panic!("{kind} is not checked"),
            };
            assert!(is_whole, "{object} has a field that does not exist");
        }
    }

    #[test]
    fn every_variable_of_the_installation_is_documented() {
        let mut seen = BTreeSet::new();
        for object in kinds::manifest::read(INSTALL).unwrap() {
            let containers = object.pointer("/spec/template/spec/containers").and_then(Value::as_array);
            for container in containers.into_iter().flatten() {
                let component = text(container, "/args/0");
                for variable in container.pointer("/env").and_then(Value::as_array).into_iter().flatten() {
                    let name = text(variable, "/name");
                    let row = KNOBS.lines().find(|line| line.starts_with(&format!("| `{name}` ")));
                    assert!(row.is_some_and(|row| row.contains(component)), "{component} does not read {name}");
                    seen.insert(component.to_owned());
                }
            }
        }
        assert_eq!(seen.len(), 3, "{seen:?}");
    }

    #[test]
    fn rights_are_given_to_accounts_that_exist() {
        let objects = kinds::manifest::read(INSTALL).unwrap();
        let of_kind = |kind: &'static str| objects.iter().filter(move |object| text(object, "/kind") == kind);
        let accounts: Vec<&str> = of_kind("ServiceAccount").map(|object| text(object, "/metadata/name")).collect();
        let bindings: Vec<&Value> = of_kind("ClusterRoleBinding").chain(of_kind("RoleBinding")).collect();
        assert_eq!(bindings.len(), 4);
        for binding in bindings {
            assert!(accounts.contains(&text(binding, "/subjects/0/name")), "{binding}");
        }
    }

    /// The default of a variable, as documented.
    fn default_of(name: &str) -> &'static str {
        let row = KNOBS.lines().find(|line| line.starts_with(&format!("| `{name}` "))).expect("it is documented");
        row.split('|').nth(3).unwrap().trim().trim_matches('`')
    }

    #[test]
    fn the_node_agent_sees_of_the_host_what_its_plugin_needs() {
        let objects = kinds::manifest::read(INSTALL).unwrap();
        let agent = objects
            .iter()
            .find(|object| (text(object, "/kind"), text(object, "/metadata/name")) == ("DaemonSet", "aquifer-node"))
            .unwrap();
        let list = |path: &str| agent.pointer(path).and_then(Value::as_array).unwrap();
        let mount_of = |host: &str| {
            let volume =
                list("/spec/template/spec/volumes").iter().find(|volume| text(volume, "/hostPath/path") == host);
            let name = text(volume.unwrap(), "/name");
            let mounts = list("/spec/template/spec/containers/0/volumeMounts");
            mounts.iter().find(|mount| text(mount, "/name") == name).unwrap()
        };
        let path_of = |host: &str| text(mount_of(host), "/mountPath");
        let variables = list("/spec/template/spec/containers/0/env");
        let networks = variables.iter().find(|variable| text(variable, "/name") == "MOUNTED_CNI_NET_DIR").unwrap();
        assert_eq!(path_of("/etc/cni/net.d"), text(networks, "/value"));
        assert_eq!(path_of("/opt/cni/bin"), default_of("MOUNTED_CNI_BIN_DIR"));
        // The plugin runs on the host, and is told the agent's path.
        let own = default_of("CNI_AGENT_RUN_DIR");
        assert_eq!(path_of(own), own);
        let root = default_of("CNI_HOST_ROOT");
        for namespaces in ["/var/run/netns", "/proc"] {
            assert_eq!(path_of(namespaces), format!("{root}{namespaces}"));
        }
        // Namespaces that are made after the agent has started are mounts of their own.
        assert_eq!(text(mount_of("/var/run/netns"), "/mountPropagation"), "HostToContainer");
    }
}
