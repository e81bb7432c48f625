//! Which namespaces a process gets, whether it may have them, and why not.

use std::io;
use std::path::Path;

use nix::sched::CloneFlags;

/// Bits of the capability set; see capabilities(7).
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;

/// Settings under `/proc/sys` that keep ordinary users from making namespaces, the value that does, and a better one.
const SETTINGS: [(&str, &str, &str); 7] = [
    ("kernel.unprivileged_userns_clone", "0", "1"),
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
    ("user.max_user_namespaces", "0", "15000"),
    ("user.max_mnt_namespaces", "0", "15000"),
    ("user.max_pid_namespaces", "0", "15000"),
    ("user.max_net_namespaces", "0", "15000"),
    ("user.max_uts_namespaces", "0", "15000"),
];

/// Which namespaces a process gets for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Namespaces {
    /// Users: the caller's user becomes root inside. Needed for all others unless the caller is root.
    pub user: bool,
    /// Mounts.
    pub mount: bool,
    /// Processes.
    pub pid: bool,
    /// Network.
    pub network: bool,
    /// Host name.
    pub host_name: bool,
}

/// Why namespaces could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// A kernel setting forbids it.
    #[error(
        "the kernel refuses namespaces to ordinary users: {setting} is {value}; run as root, or set it with: \
         sudo sysctl -w {setting}={wanted}"
    )]
    Setting {
        /// The setting's name, as `sysctl` wants it.
        setting: &'static str,
        /// What it is.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// The kernel refused, and no known setting explains it; a container's seccomp profile often does this.
    #[error("the kernel refuses new namespaces, and no known setting explains it (inside a container?)")]
    Refused(#[source] io::Error),
    /// The user mapping could not be written.
    #[error("mapping the user into a new user namespace")]
    Mapping(#[source] io::Error),
    /// The program could not be started inside.
    #[error("starting {program} in new namespaces")]
    Start {
        /// What was to be started.
        program: String,
        /// Why it was not.
        #[source]
        source: io::Error,
    },
}

impl Namespaces {
    /// All of them: what an ordinary user needs.
    pub const ALL: Self = Self { user: true, mount: true, pid: true, network: true, host_name: true };
    /// All but users: what root needs.
    pub const AS_ROOT: Self = Self { user: false, ..Self::ALL };

    pub(super) fn flags(self) -> CloneFlags {
        let Self { user, mount, pid, network, host_name } = self;
        let wanted = [
            (user, CloneFlags::CLONE_NEWUSER),
            (mount, CloneFlags::CLONE_NEWNS),
            (pid, CloneFlags::CLONE_NEWPID),
            (network, CloneFlags::CLONE_NEWNET),
            (host_name, CloneFlags::CLONE_NEWUTS),
        ];
        wanted.into_iter().filter(|(is_wanted, _)| *is_wanted).map(|(_, flag)| flag).collect()
    }
}

/// Whether this process may make namespaces and configure networks without a user namespace of its own
/// (`CAP_SYS_ADMIN` and `CAP_NET_ADMIN`).
pub fn is_privileged() -> bool {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    has_capabilities(&status, &[CAP_NET_ADMIN, CAP_SYS_ADMIN])
}

fn has_capabilities(status: &str, wanted: &[u32]) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = effective.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or(0);
    wanted.iter().all(|capability| set & (1 << capability) != 0)
}

/// Finds the setting that explains why `namespaces` were refused with `error`.
pub(super) fn explain(namespaces: Namespaces, error: io::Error) -> NamespaceError {
    find_setting(Path::new("/proc/sys"), namespaces).unwrap_or(NamespaceError::Refused(error))
}

/// A setting in the way of `namespaces`, if there is one.
pub(super) fn find_setting(root: &Path, namespaces: Namespaces) -> Option<NamespaceError> {
    if !namespaces.user {
        return None;
    }
    SETTINGS.into_iter().find_map(|(setting, forbidding, wanted)| {
        let value = std::fs::read_to_string(root.join(setting.replace('.', "/"))).ok()?;
        let value = value.trim();
        (value == forbidding).then(|| NamespaceError::Setting { setting, value: value.to_owned(), wanted })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(values: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (setting, value) in values {
            let path = root.path().join(setting.replace('.', "/"));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("{value}\n")).unwrap();
        }
        root
    }

    #[test]
    fn the_setting_that_refuses_is_named_with_its_remedy() {
        for (setting, forbidding, wanted) in SETTINGS {
            let root = settings(&[(setting, forbidding)]);
            let error = find_setting(root.path(), Namespaces::ALL).unwrap().to_string();
            assert!(error.contains(&format!("{setting} is {forbidding}; ")), "{error}");
            assert!(error.ends_with(&format!("sudo sysctl -w {setting}={wanted}")), "{error}");
            assert!(find_setting(root.path(), Namespaces::AS_ROOT).is_none());
        }
    }

    #[test]
    fn settings_that_allow_or_are_absent_explain_nothing() {
        let allowed: Vec<_> = SETTINGS.iter().map(|(setting, _, wanted)| (*setting, *wanted)).collect();
        assert!(find_setting(settings(&allowed).path(), Namespaces::ALL).is_none());
        assert!(find_setting(settings(&[]).path(), Namespaces::ALL).is_none());
    }

    #[test]
    fn both_capabilities_are_needed() {
        let status = |bits: u64| format!("Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t{bits:016x}\n");
        let wanted = [CAP_NET_ADMIN, CAP_SYS_ADMIN];
        assert!(has_capabilities(&status(1 << 12 | 1 << 21), &wanted));
        assert!(!has_capabilities(&status(1 << 12), &wanted));
        assert!(!has_capabilities(&status(1 << 21), &wanted));
        assert!(!has_capabilities("", &wanted));
    }
}
