//! What the Envoys are told: alike in all modes, and taken by Envoy itself.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tls::Authority;
use types::Identity;

use super::*;

fn credentials(folder: &Path) -> Credentials {
    let credentials = issued(folder);
    for (name, text) in credentials.files() {
        std::fs::write(folder.join(name), text).unwrap();
    }
    credentials
}

fn issued(folder: &Path) -> Credentials {
    let identity: Identity = "spiffe://cluster.local/ns/bench/sa/server".parse().unwrap();
    let authority = Authority::self_signed(&identity.trust_domain, Duration::from_secs(600)).unwrap();
    Credentials::issue(&authority, &identity, &folder.display().to_string()).unwrap()
}

/// Every bootstrap, by what it is for.
fn bootstraps(credentials: &Credentials) -> Vec<(&'static str, Value)> {
    let server = "10.244.2.2".parse().unwrap();
    let services = [(80, Reads::Http), (9000, Reads::Nothing)].map(|(port, reads)| Service {
        from: ([10, 96, 0, 20], port).into(),
        to: ([10, 244, 2, 2], 8080).into(),
        reads,
    });
    vec![
        ("client", client(Reads::Http, server, credentials)),
        ("client-l4", client(Reads::Nothing, server, credentials)),
        ("server", super::server(Reads::Http, 8080, credentials)),
        ("server-l4", super::server(Reads::Nothing, 8080, credentials)),
        ("waypoint", waypoint(&services, credentials)),
    ]
}

#[test]
fn all_of_them_are_configured_alike() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bootstrap) in bootstraps(&credentials(folder.path())) {
        let text = bootstrap.to_string();
        let count = |part: &str| text.matches(part).count();
        let filters = count("HttpConnectionManager") + count("TcpProxy");
        assert_eq!(count("StdoutAccessLog"), filters, "{name}: every filter logs");
        let clusters = bootstrap["static_resources"]["clusters"].as_array().unwrap();
        for cluster in clusters {
            let limit = &cluster["circuit_breakers"]["thresholds"][0]["max_connections"];
            assert!(limit.as_u64() >= Some(100_000), "{name}: {cluster}");
        }
        assert!(count("\"TLSv1_3\"") >= 2 && count("TlsContext") >= 1, "{name}");
        assert_eq!(count("HttpConnectionManager") > 0, !name.ends_with("-l4"), "{name}");
        assert!(!text.contains("PRIVATE KEY"), "the report prints it");
    }
}

#[test]
fn envoy_takes_every_bootstrap() {
    let Some(program) = envoy() else {
        println!("SKIPPED: there is no envoy on PATH");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    for (name, bootstrap) in bootstraps(&credentials(folder.path())) {
        let path = folder.path().join(format!("{name}.json"));
        std::fs::write(&path, bootstrap.to_string()).unwrap();
        let words = command(&program.display().to_string(), &path.display().to_string());
        let output = Command::new(&words[0]).args(&words[1..]).args(["--mode", "validate"]).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn envoy() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("envoy")).find(|file| file.is_file())
}
