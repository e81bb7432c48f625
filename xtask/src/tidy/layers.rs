//! Imports go down the layer table, and some dependencies have one owner.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use cargo_metadata::{DependencyKind, MetadataCommand, Package};

/// The layer table of ARCHITECTURE.md: a crate imports only crates of lower layers.
const LAYERS: &[(u8, &[&str])] = &[
    (0, &["types", "linux", "proto"]),
    (1, &["policy", "routing", "discovery", "kinds", "config", "telemetry", "drain", "io", "echo", "cni", "http2"]),
    (2, &["dns", "envoy", "tls", "hbone", "load", "xds", "zds"]),
    (3, &["identity"]),
    (4, &["ztunnel", "waypoint", "controlplane", "node", "lab", "bench"]),
    (5, &["aquifer", "end-to-end", "fuzz-targets", "instructions", "xtask"]),
];

/// Dependencies that only their owners may name, so that replacing one means changing one crate.
const OWNERS: &[(&[&str], &[&str])] = &[
    (&["rustls", "rustls-webpki", "tokio-rustls", "rcgen", "x509-parser", "aws-lc-rs", "ring"], &["tls"]),
    (
        &["nix", "socket2", "libc", "netlink-packet-core", "netlink-packet-route", "netlink-sys", "rtnetlink"],
        &["linux"],
    ),
    (&["prometheus"], &["telemetry"]),
    (&["serde-saphyr"], &["config", "kinds", "lab", "aquifer"]),
    (&["h2"], &["load"]),
    (&["kube"], &["kinds", "controlplane", "node", "aquifer", "end-to-end"]),
    (&["tonic"], &["echo", "proto", "xds", "identity", "controlplane", "ztunnel"]),
    (&["papaya"], &["discovery"]),
    (&["envoy-types"], &["envoy"]),
    (&["regex"], &["routing"]),
];

/// Dependencies that nobody may name: deprecated, with advisories, copyleft, or a second TLS stack.
const BANNED: &[&str] = &["serde_yaml", "serde_yml", "rustls-pemfile", "backoff", "rustables", "openssl", "native-tls"];

/// One line for each import that the tables forbid.
pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let metadata = MetadataCommand::new().manifest_path(root.join("Cargo.toml")).no_deps().exec()?;
    let layer_of: BTreeMap<&str, u8> =
        LAYERS.iter().flat_map(|(layer, names)| names.iter().map(move |name| (*name, *layer))).collect();
    let mut findings = Vec::new();
    for package in &metadata.packages {
        check_package(package, &layer_of, &mut findings);
    }
    findings.sort();
    findings.dedup();
    Ok(findings)
}

fn check_package(package: &Package, layer_of: &BTreeMap<&str, u8>, findings: &mut Vec<String>) {
    let name = package.name.as_str();
    let Some(own) = layer_of.get(name) else {
        findings.push(format!("{name}: not in the layer table of xtask/src/tidy/layers.rs"));
        return;
    };
    for dependency in &package.dependencies {
        let imported = dependency.name.as_str();
        let only_in_tests = dependency.kind == DependencyKind::Development;
        if let Some(layer) = layer_of.get(imported)
            && layer >= own
            && !(only_in_tests && *own > 0)
        {
            findings.push(format!("{name} (layer {own}) imports {imported} (layer {layer}): imports go down only"));
        }
        if BANNED.contains(&imported) {
            findings.push(format!("{name} names {imported}, which is banned"));
        }
        let owners = OWNERS.iter().find(|(owned, _)| owned.contains(&imported)).map(|(_, owners)| *owners);
        if let Some(owners) = owners
            && !owners.contains(&name)
            && !only_in_tests
        {
            findings.push(format!("{name} names {imported}, which belongs to {}", owners.join(", ")));
        }
    }
}
