//! Keeps the volumes of one pod: makes their directories, fills them, and fills them anew when a ConfigMap or Secret
//! changes or a token has to be renewed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ConfigMap, KeyToPath, Pod, ProjectedVolumeSource, Secret, ServiceAccountTokenProjection, Volume, VolumeProjection,
};

use super::atomic;
use super::projection::{self, File, Payload, checked, mode};
use crate::api::{Client, TokenRequest};
use crate::kubelet::environment::ConfigError;

/// Never ask again sooner than this when a token is about to end.
const LEAST_WAIT: Duration = Duration::from_secs(1);

/// The volumes of one pod.
#[derive(Debug)]
pub(crate) struct Keeper {
    directory: PathBuf,
    host: PathBuf,
    kept: BTreeMap<String, Payload>,
    tokens: BTreeMap<(String, String), Issued>,
    version: u64,
}

/// A token in a file.
#[derive(Debug)]
struct Issued {
    token: String,
    renew: Timestamp,
}

/// What filling a volume needs.
struct Context<'a> {
    client: &'a Client,
    pod: &'a Pod,
    now: Timestamp,
}

impl Keeper {
    /// Keeps volumes below `directory`; a `hostPath` is a directory below `host`, which belongs to the node.
    pub(crate) fn new(directory: PathBuf, host: PathBuf) -> Self {
        Self { directory, host, kept: BTreeMap::new(), tokens: BTreeMap::new(), version: 0 }
    }

    /// Brings every volume of `pod` up to date. Returns when to do so again at the latest.
    ///
    /// # Errors
    /// What is missing or not possible; the volumes stay as they were.
    pub(crate) fn refresh(
        &mut self,
        client: &Client,
        pod: &Pod,
        now: Timestamp,
    ) -> Result<Option<Duration>, ConfigError> {
        let context = Context { client, pod, now };
        for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            let failed = |why: String| ConfigError(format!("volume {:?}: {why}", volume.name));
            if let Some(payload) = self.payload(volume, &context).map_err(|error| failed(error.0))? {
                self.write(&volume.name, payload).map_err(|error| failed(error.to_string()))?;
            } else {
                make_directory(&self.directory(volume)).map_err(|error| failed(error.to_string()))?;
            }
        }
        let next = self.tokens.values().map(|issued| issued.renew).min();
        Ok(next.map(|next| until(now, next).max(LEAST_WAIT)))
    }

    /// Where the files of a volume are.
    pub(crate) fn directory(&self, volume: &Volume) -> PathBuf {
        match &volume.host_path {
            Some(path) => host_directory(&self.host, &path.path),
            None => self.directory.join(&volume.name),
        }
    }

    fn write(&mut self, volume: &str, payload: Payload) -> std::io::Result<()> {
        if self.kept.get(volume) == Some(&payload) {
            return Ok(());
        }
        self.version += 1;
        atomic::write(&self.directory.join(volume), &payload, self.version)?;
        self.kept.insert(volume.to_owned(), payload);
        Ok(())
    }

    /// The files of a volume; `None` for a directory that the containers fill.
    fn payload(&mut self, volume: &Volume, context: &Context<'_>) -> Result<Option<Payload>, ConfigError> {
        if let Some(source) = &volume.config_map {
            let items = source.items.as_deref();
            let payload = context.config_map(&source.name, items, source.default_mode, source.optional);
            return payload.map(Some);
        }
        if let Some(source) = &volume.secret {
            let name = source.secret_name.as_deref().unwrap_or_default();
            return context.secret(name, source.items.as_deref(), source.default_mode, source.optional).map(Some);
        }
        if let Some(source) = &volume.downward_api {
            let items = source.items.as_deref().unwrap_or_default();
            return projection::downward(items, context.pod, source.default_mode).map(Some);
        }
        if let Some(source) = &volume.projected {
            return self.projected(&volume.name, source, context).map(Some);
        }
        if volume.empty_dir.is_some() || volume.host_path.is_some() {
            return Ok(None);
        }
        Err(ConfigError("the lab knows configMap, secret, downwardAPI, projected, emptyDir and hostPath".to_owned()))
    }

    fn projected(
        &mut self,
        volume: &str,
        source: &ProjectedVolumeSource,
        context: &Context<'_>,
    ) -> Result<Payload, ConfigError> {
        let mut payload = Payload::new();
        for part in source.sources.iter().flatten() {
            payload.append(&mut self.part(volume, part, source.default_mode, context)?);
        }
        Ok(payload)
    }

    fn part(
        &mut self,
        volume: &str,
        part: &VolumeProjection,
        default_mode: Option<i32>,
        context: &Context<'_>,
    ) -> Result<Payload, ConfigError> {
        if let Some(source) = &part.config_map {
            return context.config_map(&source.name, source.items.as_deref(), default_mode, source.optional);
        }
        if let Some(source) = &part.secret {
            return context.secret(&source.name, source.items.as_deref(), default_mode, source.optional);
        }
        if let Some(source) = &part.downward_api {
            return projection::downward(source.items.as_deref().unwrap_or_default(), context.pod, default_mode);
        }
        if let Some(source) = &part.service_account_token {
            let token = self.token(volume, source, context)?;
            let file = File { content: token.into_bytes(), mode: mode(None, default_mode) };
            return Ok(Payload::from([(checked(&source.path)?, file)]));
        }
        Err(ConfigError("the lab projects configMap, secret, downwardAPI and serviceAccountToken".to_owned()))
    }

    /// The token that was issued, or a new one when the old one has used up four fifths of its time.
    fn token(
        &mut self,
        volume: &str,
        source: &ServiceAccountTokenProjection,
        context: &Context<'_>,
    ) -> Result<String, ConfigError> {
        let key = (volume.to_owned(), source.path.clone());
        if let Some(issued) = self.tokens.get(&key).filter(|issued| issued.renew > context.now) {
            return Ok(issued.token.clone());
        }
        let metadata = &context.pod.metadata;
        let account = context.pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
        let request = TokenRequest {
            audiences: source.audience.iter().cloned().collect(),
            lifetime: source
                .expiration_seconds
                .and_then(|seconds| u64::try_from(seconds).ok())
                .map(Duration::from_secs),
            pod: metadata.name.clone().zip(metadata.uid.clone()),
        };
        let token = context
            .client
            .create_token(context.namespace(), account.unwrap_or("default"), &request)
            .map_err(|status| ConfigError(status.message))?;
        let renew = context.now + until(context.now, token.expires).mul_f64(0.8);
        self.tokens.insert(key, Issued { token: token.token.clone(), renew });
        Ok(token.token)
    }
}

impl Context<'_> {
    fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    fn config_map(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        default_mode: Option<i32>,
        optional: Option<bool>,
    ) -> Result<Payload, ConfigError> {
        let what = format!("configmap {name:?}");
        let is_optional = optional == Some(true);
        match self.client.fetch::<ConfigMap>(Some(self.namespace()), name) {
            Ok(map) => {
                projection::entries(projection::config_map_entries(&map), items, default_mode, (&what, is_optional))
            }
            Err(status) if status.is_not_found() && is_optional => Ok(Payload::new()),
            Err(status) => Err(ConfigError(status.message)),
        }
    }

    fn secret(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        default_mode: Option<i32>,
        optional: Option<bool>,
    ) -> Result<Payload, ConfigError> {
        let what = format!("secret {name:?}");
        let is_optional = optional == Some(true);
        match self.client.fetch::<Secret>(Some(self.namespace()), name) {
            Ok(secret) => {
                projection::entries(projection::secret_entries(&secret), items, default_mode, (&what, is_optional))
            }
            Err(status) if status.is_not_found() && is_optional => Ok(Payload::new()),
            Err(status) => Err(ConfigError(status.message)),
        }
    }
}

/// A node's own directory for a path of the host. `/var/run` is `/run`, as on any Linux.
pub(crate) fn host_directory(host: &Path, path: &str) -> PathBuf {
    let parts = Path::new(path).components().filter_map(|component| match component {
        std::path::Component::Normal(part) => Some(part),
        _ => None,
    });
    let inside: PathBuf = parts.collect();
    match inside.strip_prefix("var/run") {
        Ok(rest) => host.join("run").join(rest),
        Err(_) => host.join(inside),
    }
}

fn make_directory(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;

    if path.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(path)?;
    // Containers may run as any user.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777))
}

fn until(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_paths_stay_below_the_nodes_directory() {
        for (path, expected) in [
            ("/var/run/ztunnel", "/n/run/ztunnel"),
            ("/run/ztunnel/", "/n/run/ztunnel"),
            ("/etc/cni/../cni/net.d", "/n/etc/cni/cni/net.d"),
            ("../../etc", "/n/etc"),
            ("/", "/n"),
        ] {
            assert_eq!(host_directory(Path::new("/n"), path), Path::new(expected), "{path}");
        }
    }
}
