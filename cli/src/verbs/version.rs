//! `aquifer version`: of this program and of the parts of the mesh that answer.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use serde_json::Value;

use crate::admin::http::Method;
use crate::admin::{self, Proxies};
use crate::output::{self, Format};
use crate::program::command_runtime;

/// Show the versions of this program, the control plane and the node proxies.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  aquifer version
  aquifer version -o json")]
pub(crate) struct VersionArgs {
    #[command(flatten)]
    proxies: Proxies,
    /// How to print it.
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Versions {
    client_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    control_plane_version: Option<String>,
    /// ztunnel to version.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    data_plane_versions: BTreeMap<String, String>,
    /// Who did not answer, and why.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    unreachable: BTreeMap<String, String>,
}

/// Runs the verb; what cannot be reached is named, and no failure.
pub(crate) fn run(args: &VersionArgs) -> Result<ExitCode> {
    let versions = command_runtime()?.block_on(collect(args));
    output::print(args.output, &versions, line)?;
    if args.output == Format::Table {
        complain(&versions.unreachable);
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what could not be reached, each reason once.
fn complain(unreachable: &BTreeMap<String, String>) {
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (part, why) in unreachable {
        reasons.entry(why).or_default().push(part);
    }
    for (why, parts) in reasons {
        output::complain(&format!("{}: {why}", parts.join(", ")));
    }
}

async fn collect(args: &VersionArgs) -> Versions {
    let mut versions = Versions {
        client_version: env!("CARGO_PKG_VERSION").to_owned(),
        control_plane_version: None,
        data_plane_versions: BTreeMap::new(),
        unreachable: BTreeMap::new(),
    };
    let control_plane = admin::control_plane_metrics(&args.proxies.lab).await;
    match control_plane.and_then(|metrics| control_plane_version(&metrics)) {
        Ok(version) => versions.control_plane_version = Some(version),
        Err(error) => {
            versions.unreachable.insert("control plane".to_owned(), format!("{error:#}"));
        }
    }
    match args.proxies.ask(Method::Get, "/config_dump").await {
        Ok(answers) => {
            for answer in answers {
                match answer.text.and_then(|dump| proxy_version(&dump)) {
                    Ok(version) => versions.data_plane_versions.insert(answer.from, version),
                    Err(error) => versions.unreachable.insert(answer.from, format!("{error:#}")),
                };
            }
        }
        Err(error) => {
            versions.unreachable.insert("data plane".to_owned(), format!("{error:#}"));
        }
    }
    versions
}

/// The control plane tells its version as a label of the gauge of its clients.
fn control_plane_version(metrics: &str) -> Result<String> {
    let line = metrics.lines().find(|line| line.starts_with("pilot_xds{"));
    let version = line.and_then(|line| line.split_once("version=\"")?.1.split_once('"'));
    version.map(|(version, _)| version.to_owned()).context("it does not tell its version")
}

fn proxy_version(dump: &str) -> Result<String> {
    let dump: Value = serde_json::from_str(dump).context("its dump is not JSON")?;
    dump.pointer("/version/version").and_then(Value::as_str).map(str::to_owned).context("it does not tell its version")
}

fn line(versions: &Versions) -> String {
    let mut parts = vec![format!("client version: {}", versions.client_version)];
    parts.extend(versions.control_plane_version.iter().map(|version| format!("control plane version: {version}")));
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for version in versions.data_plane_versions.values() {
        *counts.entry(version).or_default() += 1;
    }
    parts.extend(counts.into_iter().map(|(version, count)| {
        let noun = if count == 1 { "ztunnel" } else { "ztunnels" };
        format!("data plane version: {version} ({count} {noun})")
    }));
    parts.join(" · ") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(control_plane: Option<&str>, proxies: &[(&str, &str)]) -> Versions {
        Versions {
            client_version: "0.1.0".to_owned(),
            control_plane_version: control_plane.map(str::to_owned),
            data_plane_versions: proxies.iter().map(|(pod, version)| ((*pod).into(), (*version).into())).collect(),
            unreachable: BTreeMap::new(),
        }
    }

    #[test]
    fn one_line_counts_the_proxies_of_each_version() {
        assert_eq!(line(&versions(None, &[])), "client version: 0.1.0\n");
        assert_eq!(
            line(&versions(Some("0.1.0"), &[("a", "0.1.0"), ("b", "0.2.0"), ("c", "0.1.0")])),
            "client version: 0.1.0 · control plane version: 0.1.0 · data plane version: 0.1.0 (2 ztunnels) · \
             data plane version: 0.2.0 (1 ztunnel)\n"
        );
    }

    #[test]
    fn versions_are_read_from_what_components_serve() {
        let metrics = "# TYPE pilot_xds gauge\npilot_xds{version=\"0.1.0\"} 2\n";
        assert_eq!(control_plane_version(metrics).unwrap(), "0.1.0");
        assert!(control_plane_version("up 1\n").is_err());
        assert_eq!(proxy_version(r#"{"version":{"version":"0.3.0"}}"#).unwrap(), "0.3.0");
    }
}
