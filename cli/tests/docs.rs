//! The documentation agrees with the code.
#![expect(clippy::unwrap_used, reason = "tests may unwrap")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The sources of the components, without their tests.
fn sources() -> Vec<String> {
    let mut texts = Vec::new();
    let mut directories: Vec<PathBuf> =
        ["ztunnel", "controlplane", "node", "shared"].iter().map(|name| root().join(name)).collect();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !["tests", "examples", "fuzz", "target"].contains(&name.as_str()) {
                    directories.push(path);
                }
            } else if name.ends_with(".rs") && name != "tests.rs" {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
                texts.push(code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<String>());
            }
        }
    }
    texts
}

/// The first arguments of calls that register a family, and the names in the table of traffic families.
fn registered() -> BTreeSet<String> {
    let calls = [
        "counter(",
        "counters(",
        "gauge(",
        "gauges(",
        "histogram(",
        "histograms(",
        "SOCKETS: (&str, &str) = (",
        "    (",
    ];
    let mut names = BTreeSet::new();
    for text in sources() {
        for call in calls {
            for after in text.split(call).skip(1) {
                let Some((name, _)) = after.trim_start().strip_prefix('"').and_then(|rest| rest.split_once('"')) else {
                    continue;
                };
                if call != "    (" || name.starts_with("istio_tcp_") {
                    names.insert(name.to_owned());
                }
            }
        }
    }
    names
}

#[test]
fn every_metric_is_documented_and_every_documented_metric_exists() {
    let page = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let documented: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name.to_owned())
        .collect();
    let registered = registered();
    assert!(registered.len() > 20, "the scan finds too little: {registered:?}");
    let undocumented: Vec<&String> = registered.difference(&documented).collect();
    let gone: Vec<&String> = documented.difference(&registered).collect();
    assert!(undocumented.is_empty() && gone.is_empty(), "not in docs/metrics.md: {undocumented:?}; gone: {gone:?}");
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut pages: Vec<PathBuf> =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].map(|name| root().join(name)).into();
    for directory in ["docs", "docs/decisions"] {
        let entries = fs::read_dir(root().join(directory)).unwrap().map(|entry| entry.unwrap().path());
        pages.extend(entries.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    assert!(pages.len() > 8, "{pages:?}");
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            let is_file = !link.contains("://") && !link.starts_with('#');
            let target = page.parent().unwrap().join(link.split('#').next().unwrap());
            assert!(!is_file || target.exists(), "{} links to {link}, which does not exist", page.display());
        }
    }
}
