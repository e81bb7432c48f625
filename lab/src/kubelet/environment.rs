//! A container's environment, command and arguments: references to fields, ConfigMaps and Secrets resolved, `$(NAME)`
//! expanded. Pure: what is referred to is handed in.
//! [Kubernetes: dependent variables](https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, Pod};

/// Why a container cannot be configured: shown as the reason of its waiting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ConfigError(pub(crate) String);

/// Where ConfigMaps and Secrets of the pod's namespace come from.
pub(crate) trait Sources {
    /// The entries of a ConfigMap that are text; `None` when there is no such ConfigMap.
    fn config_map(&self, name: &str) -> Option<BTreeMap<String, String>>;
    /// The entries of a Secret that are text; `None` when there is no such Secret.
    fn secret(&self, name: &str) -> Option<BTreeMap<String, String>>;
}

/// Name and value of each variable, in the order of definition; a later one of the same name wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Environment {
    variables: Vec<(String, String)>,
}

impl Environment {
    /// Starts from variables that the container may use and override.
    pub(crate) fn new(base: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { variables: base.into_iter().collect() }
    }

    /// Adds what the container defines, in its order: `envFrom`, then `env`.
    ///
    /// # Errors
    /// A reference to what does not exist and is not optional, or to a field that pods do not have.
    pub(crate) fn extend(
        &mut self,
        container: &Container,
        pod: &Pod,
        sources: &dyn Sources,
    ) -> Result<(), ConfigError> {
        for from in container.env_from.iter().flatten() {
            let prefix = from.prefix.as_deref().unwrap_or_default();
            let (entries, optional, what) = if let Some(source) = &from.config_map_ref {
                (sources.config_map(&source.name), source.optional, format!("configmap {:?}", source.name))
            } else if let Some(source) = &from.secret_ref {
                (sources.secret(&source.name), source.optional, format!("secret {:?}", source.name))
            } else {
                continue;
            };
            if entries.is_none() && optional != Some(true) {
                return Err(ConfigError(format!("{what} not found")));
            }
            for (name, value) in entries.into_iter().flatten() {
                self.set(format!("{prefix}{name}"), value);
            }
        }
        for variable in container.env.iter().flatten() {
            if let Some(value) = self.value_of(variable, pod, sources)? {
                self.set(variable.name.clone(), value);
            }
        }
        Ok(())
    }

    /// The value of a variable.
    pub(crate) fn find(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// All variables.
    pub(crate) fn into_variables(self) -> Vec<(String, String)> {
        self.variables
    }

    /// Replaces `$(NAME)` by the variable's value and `$$` by `$`; what names no variable stays as it is.
    pub(crate) fn expand(&self, text: &str) -> String {
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            expanded.push_str(before);
            rest = after;
            if let Some(after) = after.strip_prefix('$') {
                expanded.push('$');
                rest = after;
            } else if let Some((name, after)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
                match self.find(name) {
                    Some(value) => expanded.push_str(value),
                    None => expanded.push_str(&format!("$({name})")),
                }
                rest = after;
            } else {
                expanded.push('$');
            }
        }
        expanded.push_str(rest);
        expanded
    }

    fn set(&mut self, name: String, value: String) {
        match self.variables.iter_mut().find(|(found, _)| *found == name) {
            Some((_, old)) => *old = value,
            None => self.variables.push((name, value)),
        }
    }

    /// `None` for an optional reference to what does not exist.
    fn value_of(&self, variable: &EnvVar, pod: &Pod, sources: &dyn Sources) -> Result<Option<String>, ConfigError> {
        match &variable.value_from {
            None => Ok(Some(self.expand(variable.value.as_deref().unwrap_or_default()))),
            Some(source) => {
                referred(source, pod, sources).map_err(|why| ConfigError(format!("env {:?}: {why}", variable.name)))
            }
        }
    }
}

fn referred(source: &EnvVarSource, pod: &Pod, sources: &dyn Sources) -> Result<Option<String>, String> {
    let key_of = |entries: Option<BTreeMap<String, String>>, what: &str, key: &str, optional: Option<bool>| {
        let found = match entries {
            None => Err(format!("{what} not found")),
            Some(mut entries) => {
                entries.remove(key).map(Some).ok_or_else(|| format!("key {key:?} not found in {what}"))
            }
        };
        if optional == Some(true) { Ok(found.unwrap_or_default()) } else { found }
    };
    if let Some(source) = &source.field_ref {
        return field(pod, &source.field_path).map(Some);
    }
    if let Some(source) = &source.config_map_key_ref {
        let what = format!("configmap {:?}", source.name);
        return key_of(sources.config_map(&source.name), &what, &source.key, source.optional);
    }
    if let Some(source) = &source.secret_key_ref {
        let what = format!("secret {:?}", source.name);
        return key_of(sources.secret(&source.name), &what, &source.key, source.optional);
    }
    Err("the lab resolves fieldRef, configMapKeyRef and secretKeyRef".to_owned())
}

/// A field of the pod as `fieldRef` names it.
///
/// # Errors
/// A sentence that names the fields that can be referred to.
pub(crate) fn field(pod: &Pod, path: &str) -> Result<String, String> {
    let (metadata, spec, status) = (&pod.metadata, pod.spec.as_ref(), pod.status.as_ref());
    let text = |value: Option<&String>| Ok(value.cloned().unwrap_or_default());
    if let Some((map, key)) = subscript(path) {
        let entries = match map {
            "metadata.labels" => metadata.labels.as_ref(),
            "metadata.annotations" => metadata.annotations.as_ref(),
            _ => return Err(unknown_field(path)),
        };
        return text(entries.and_then(|entries| entries.get(key)));
    }
    match path {
        "metadata.name" => text(metadata.name.as_ref()),
        "metadata.namespace" => text(metadata.namespace.as_ref()),
        "metadata.uid" => text(metadata.uid.as_ref()),
        "metadata.labels" => Ok(listed(metadata.labels.as_ref())),
        "metadata.annotations" => Ok(listed(metadata.annotations.as_ref())),
        "spec.nodeName" => text(spec.and_then(|spec| spec.node_name.as_ref())),
        "spec.serviceAccountName" => text(spec.and_then(|spec| spec.service_account_name.as_ref())),
        "status.podIP" => text(status.and_then(|status| status.pod_ip.as_ref())),
        "status.podIPs" => Ok(joined(status.into_iter().flat_map(|status| &status.pod_ips).flatten().map(|ip| &ip.ip))),
        "status.hostIP" => text(status.and_then(|status| status.host_ip.as_ref())),
        "status.hostIPs" => {
            Ok(joined(status.into_iter().flat_map(|status| &status.host_ips).flatten().map(|ip| &ip.ip)))
        }
        _ => Err(unknown_field(path)),
    }
}

/// `metadata.labels['app']` into map and key.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, key) = path.strip_suffix("']")?.split_once("['")?;
    Some((map, key))
}

/// Lists are written with commas.
fn joined<'a>(texts: impl Iterator<Item = &'a String>) -> String {
    texts.map(String::as_str).collect::<Vec<_>>().join(",")
}

/// All entries of a map, one `key="value"` a line, as the downward API writes them.
fn listed(entries: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = entries.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}")).collect();
    lines.join("\n")
}

fn unknown_field(path: &str) -> String {
    format!(
        "fieldPath {path:?} is not one of metadata.name, metadata.namespace, metadata.uid, metadata.labels['…'], \
         metadata.annotations['…'], spec.nodeName, spec.serviceAccountName, status.podIP, status.podIPs, status.hostIP, \
         status.hostIPs"
    )
}

#[cfg(test)]
mod tests;
