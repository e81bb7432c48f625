//! Which lab a verb is about.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use lab::state::StateDirectory;

/// The lab that is meant when none is named.
pub(crate) const DEFAULT: &str = "default";

/// Names a lab.
#[derive(Debug, Clone, Args)]
pub(crate) struct LabName {
    /// Which lab, if there are several.
    #[arg(long, value_name = "NAME", default_value = DEFAULT, env = "AQUIFER_LAB")]
    name: String,
    /// Where an ordinary user's labs keep their state.
    #[arg(long, env = "XDG_RUNTIME_DIR", hide = true, value_name = "DIRECTORY")]
    runtime_directory: Option<PathBuf>,
}

impl LabName {
    /// Where the lab's state is.
    pub(crate) fn directory(&self) -> Result<StateDirectory> {
        Ok(StateDirectory::new(&self.name, self.runtime_directory.as_deref())?)
    }

    /// `--name NAME`, for commands that are shown to the user; empty for the default lab.
    pub(crate) fn option(&self) -> String {
        if self.name == DEFAULT { String::new() } else { format!(" --name {}", self.name) }
    }
}

/// Removes what killed commands have left behind of labs of their own: `<name>-<number of a process that is no more>`.
pub(crate) fn sweep(name: &str, runtime_directory: Option<&Path>) {
    let Ok(any) = StateDirectory::new(name, runtime_directory) else { return };
    let socket = any.socket();
    let Some(base) = socket.parent().and_then(Path::parent) else { return };
    for entry in std::fs::read_dir(base).into_iter().flatten().flatten() {
        let entry = entry.file_name();
        let Some(lab) = entry.to_str() else { continue };
        let process = lab.strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
        let Some(process) = process.and_then(|number| number.parse::<u32>().ok()) else { continue };
        if Path::new("/proc").join(process.to_string()).exists() {
            continue;
        }
        if let Ok(stale) = StateDirectory::new(lab, runtime_directory)
            && stale.record().is_err()
        {
            // What cannot be removed is in nobody's way: the next command tries again.
            let _ = stale.remove();
        }
    }
}
