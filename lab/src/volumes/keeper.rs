//! Keeps the volumes of one pod: makes their directories, fills them, and fills them anew when a ConfigMap or Secret
//! changes or a token has to be renewed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ConfigMap, EmptyDirVolumeSource, KeyToPath, Pod, ProjectedVolumeSource, Secret, ServiceAccountTokenProjection,
    Volume, VolumeProjection,
};
use linux::mount::{self, Mount};

use super::atomic;
use super::projection::{self, Entries, File, Payload, checked, mode};
use super::quantity;
use crate::api::{Client, TokenRequest};
use crate::kubelet::described;
use crate::kubelet::environment::ConfigError;

/// Never ask again sooner than this when a token is about to end.
const LEAST_WAIT: Duration = Duration::from_secs(1);

/// Permissions of directories that containers write to, which may run as any user.
const OPEN_MODE: u32 = 0o777;

/// The volumes of one pod.
#[derive(Debug)]
pub(crate) struct Keeper {
    directory: PathBuf,
    host: PathBuf,
    kept: BTreeMap<String, Payload>,
    tokens: BTreeMap<(String, String), Issued>,
    version: u64,
    /// Where file systems of the volumes' own are mounted.
    mounted: BTreeSet<PathBuf>,
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
        Self { directory, host, kept: BTreeMap::new(), tokens: BTreeMap::new(), version: 0, mounted: BTreeSet::new() }
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
            if let Some(source) = &volume.empty_dir {
                self.make_empty(volume, source).map_err(|error| failed(error.0))?;
            } else if let Some(payload) = self.payload(volume, &context).map_err(|error| failed(error.0))? {
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

    /// Lets go of what the volumes hold beyond their files; the pod has ended.
    pub(crate) fn close(&mut self) {
        for directory in std::mem::take(&mut self.mounted) {
            if let Err(error) = mount::unmount(&directory) {
                tracing::warn!(%error, directory = %directory.display(), "a volume cannot be taken away");
            }
        }
    }

    /// An `emptyDir` is a file system in memory, whatever its medium: that is where all files of a lab are. It stays
    /// as long as its pod, whichever containers come and go, and `sizeLimit` is its size.
    fn make_empty(&mut self, volume: &Volume, source: &EmptyDirVolumeSource) -> Result<(), ConfigError> {
        let target = self.directory(volume);
        if self.mounted.contains(&target) {
            return Ok(());
        }
        if let Some(medium) = source.medium.as_deref().filter(|medium| !matches!(*medium, "" | "Memory")) {
            return Err(ConfigError(format!("medium {medium:?}: the lab knows \"\" and \"Memory\"")));
        }
        let size = match &source.size_limit {
            None => None,
            Some(limit) => {
                let refused = || ConfigError(format!("sizeLimit {:?} is not a quantity of bytes", limit.0));
                // As in Kubernetes zero is no limit.
                Some(quantity::bytes(&limit.0).ok_or_else(refused)?).filter(|size| *size > 0)
            }
        };
        let steps = [
            Mount::Directory { path: target.clone(), mode: OPEN_MODE },
            Mount::Tmpfs { target: target.clone(), size, mode: OPEN_MODE },
        ];
        mount::apply(&steps).map_err(|error| ConfigError(described(&error)))?;
        self.mounted.insert(target);
        Ok(())
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
            let payload = context.entries::<ConfigMap>(&source.name, items, source.default_mode, source.optional);
            return payload.map(Some);
        }
        if let Some(source) = &volume.secret {
            let name = source.secret_name.as_deref().unwrap_or_default();
            return context
                .entries::<Secret>(name, source.items.as_deref(), source.default_mode, source.optional)
                .map(Some);
        }
        if let Some(source) = &volume.downward_api {
            let items = source.items.as_deref().unwrap_or_default();
            return projection::downward(items, context.pod, source.default_mode).map(Some);
        }
        if let Some(source) = &volume.projected {
            return self.projected(&volume.name, source, context).map(Some);
        }
        if volume.host_path.is_some() {
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
            return context.entries::<ConfigMap>(&source.name, source.items.as_deref(), default_mode, source.optional);
        }
        if let Some(source) = &part.secret {
            return context.entries::<Secret>(&source.name, source.items.as_deref(), default_mode, source.optional);
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

    /// Files for the entries of a ConfigMap or Secret.
    fn entries<K: Entries>(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        default_mode: Option<i32>,
        optional: Option<bool>,
    ) -> Result<Payload, ConfigError> {
        let is_optional = optional == Some(true);
        match self.client.fetch::<K>(Some(self.namespace()), name) {
            Ok(found) => {
                let what = format!("{} {name:?}", K::WORD);
                projection::entries(found.entries(), items, default_mode, (&what, is_optional))
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
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(OPEN_MODE))
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
