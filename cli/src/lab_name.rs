//! Which lab a verb is about.

use std::path::PathBuf;

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
