//! Finding a pod's network namespace: by a directory that the container runtime fills, or by its processes.

use std::path::{Path, PathBuf};

use linux::netns::NetNs;

/// Where the network namespaces of this node's pods are found.
#[derive(Debug, Clone)]
pub enum NetnsSource {
    /// A directory with one bind mount per pod, named by the pod's UID.
    Directory(PathBuf),
    /// The processes below a `/proc` of the host, told apart by the pod UID in their cgroup path.
    Processes(PathBuf),
}

/// Why a network namespace was not found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// No running process or mount belongs to the pod; it may be starting or ending.
    #[error("no network namespace of pod {uid} in {place}")]
    Absent {
        /// The pod's UID.
        uid: String,
        /// Where it was looked for.
        place: String,
    },
    /// It is there but cannot be opened.
    #[error("cannot open the network namespace {path}")]
    Open {
        /// The file.
        path: String,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}

impl NetnsSource {
    /// Opens the network namespace of a pod.
    ///
    /// # Errors
    /// It does not exist (yet, or any more), or cannot be opened.
    pub fn open(&self, uid: &str) -> Result<NetNs, FindError> {
        let (path, place) = match self {
            Self::Directory(directory) => (in_directory(directory, uid), directory),
            Self::Processes(proc) => (by_cgroup(proc, uid)?, proc),
        };
        let absent = || FindError::Absent { uid: uid.to_owned(), place: place.display().to_string() };
        let path = path.ok_or_else(absent)?;
        NetNs::open(&path).map_err(|source| FindError::Open { path: path.display().to_string(), source })
    }
}

/// A UID never holds a slash, so it cannot lead out of the directory.
fn in_directory(directory: &Path, uid: &str) -> Option<PathBuf> {
    let path = directory.join(uid);
    (!uid.is_empty() && !uid.contains(['/', '.']) && path.exists()).then_some(path)
}

/// The oldest process of the pod that is not in the host's own network namespace: that is the sandbox.
fn by_cgroup(proc: &Path, uid: &str) -> Result<Option<PathBuf>, FindError> {
    let host = NetNs::open(&proc.join("1/ns/net")).ok().map(|host| host.id());
    let entries =
        std::fs::read_dir(proc).map_err(|source| FindError::Open { path: proc.display().to_string(), source })?;
    let mut pids: Vec<u32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok())).collect();
    pids.sort_unstable();
    for pid in pids {
        let directory = proc.join(pid.to_string());
        // A process may end between being listed and being read; then it is not the one.
        let Ok(cgroup) = std::fs::read_to_string(directory.join("cgroup")) else { continue };
        if !names_pod(&cgroup, uid) {
            continue;
        }
        let path = directory.join("ns/net");
        if NetNs::open(&path).is_ok_and(|found| Some(found.id()) != host) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Container runtimes write the UID as it is (cgroupfs driver) or with underscores (systemd driver).
fn names_pod(cgroup: &str, uid: &str) -> bool {
    let underscored = uid.replace('-', "_");
    cgroup.lines().any(|line| {
        line.rsplit(':').next().unwrap_or_default().split('/').any(|part| {
            let part = part.trim_end_matches(".slice");
            part.strip_suffix(uid).or_else(|| part.strip_suffix(&underscored)).is_some_and(|head| head.ends_with("pod"))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "3f2b8c1e-0000-4a5b-8c9d-0123456789ab";

    #[test]
    fn both_cgroup_drivers_are_read() {
        let cgroupfs = format!("0::/kubepods/besteffort/pod{UID}/0123abcd\n");
        let systemd = format!(
            "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice/cri-containerd-01.scope\n",
            UID.replace('-', "_")
        );
        assert!(names_pod(&cgroupfs, UID));
        assert!(names_pod(&systemd, UID));
    }

    #[test]
    fn another_pod_is_not_taken_for_it() {
        let other = "0::/kubepods/besteffort/podffffffff-0000-4a5b-8c9d-0123456789ab/01\n";
        assert!(!names_pod(other, UID));
        assert!(!names_pod("0::/user.slice\n", UID));
    }

    #[test]
    fn a_uid_cannot_lead_out_of_the_directory() {
        assert_eq!(in_directory(Path::new("/proc"), "../etc"), None);
        assert_eq!(in_directory(Path::new("/proc"), ""), None);
    }
}
