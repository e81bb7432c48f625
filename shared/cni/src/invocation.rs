//! How a runtime calls a plugin: a command and its parameters in the environment, and failures as JSON.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

/// The variable whose presence makes a program a plugin.
pub const COMMAND: &str = "CNI_COMMAND";

/// What a plugin is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Join a container to the network.
    Add,
    /// See whether it still is.
    Check,
    /// Undo `Add`; what is gone already is fine.
    Delete,
    /// Release what belongs to no container any more (since 1.1.0).
    Collect,
    /// Say whether `Add` would work (since 1.1.0).
    Status,
    /// Say which versions are spoken.
    Version,
}

impl Command {
    /// As the environment has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Check => "CHECK",
            Self::Delete => "DEL",
            Self::Collect => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::Add, Self::Check, Self::Delete, Self::Collect, Self::Status, Self::Version]
            .into_iter()
            .find(|command| command.name() == name)
    }

    /// The parameters that the specification requires.
    fn required(self) -> &'static [&'static str] {
        match self {
            Self::Add | Self::Check => &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
            Self::Delete => &["CNI_CONTAINERID", "CNI_IFNAME"],
            Self::Collect | Self::Status | Self::Version => &[],
        }
    }
}

/// One call of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// What to do.
    pub command: Command,
    /// The container's network namespace; empty where the command needs none.
    pub netns: PathBuf,
    /// Further parameters, of which Kubernetes runtimes give `K8S_POD_NAME` and the like.
    pub arguments: BTreeMap<String, String>,
}

impl Invocation {
    /// Reads the parameters from the environment.
    ///
    /// # Errors
    /// [`Code::ENVIRONMENT`], with the name of the variable.
    pub fn read<'a>(variable: impl Fn(&str) -> Option<&'a str>) -> Result<Self, Failure> {
        let present = |name: &str| variable(name).filter(|value| !value.is_empty());
        let name = present(COMMAND).unwrap_or_default();
        let command = Command::named(name)
            .ok_or_else(|| Failure::new(Code::ENVIRONMENT, format!("{COMMAND} is {name:?}, which is no command")))?;
        for required in command.required() {
            if present(required).is_none() {
                return Err(Failure::new(Code::ENVIRONMENT, format!("{required} is not set; {name} needs it")));
            }
        }
        let arguments = present("CNI_ARGS").unwrap_or_default();
        let arguments = arguments.split(';').filter_map(|pair| pair.split_once('='));
        Ok(Self {
            command,
            netns: present("CNI_NETNS").unwrap_or_default().into(),
            arguments: arguments.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect(),
        })
    }
}

/// The codes of failures that the specification gives a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code(pub u32);

impl Code {
    /// The version of the specification is not spoken.
    pub const VERSION: Self = Self(1);
    /// A variable of the environment is missing or malformed.
    pub const ENVIRONMENT: Self = Self(4);
    /// Reading or writing failed.
    pub const IO: Self = Self(5);
    /// Something is not the JSON that it should be.
    pub const DECODE: Self = Self(6);
    /// The configuration of the network is not one that the plugin can work with.
    pub const CONFIGURATION: Self = Self(7);
    /// Something is away that will come back: the runtime should try again.
    pub const TRY_AGAIN: Self = Self(11);
}

/// Why a plugin did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind it is.
    pub code: Code,
    /// What happened, in a line.
    pub message: String,
}

impl Failure {
    /// A failure of this kind.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// What a plugin prints for it.
    #[must_use]
    pub fn to_json(&self, version: &str) -> Value {
        json!({"cniVersion": version, "code": self.code.0, "msg": self.message})
    }
}

/// What a plugin answers to `VERSION`.
#[must_use]
pub fn versions(version: &str) -> Value {
    json!({"cniVersion": version, "supportedVersions": crate::VERSIONS})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &'static str)]) -> Result<Invocation, Failure> {
        let map: BTreeMap<&str, &'static str> = pairs.iter().copied().collect();
        Invocation::read(|name| map.get(name).copied())
    }

    #[test]
    fn an_add_has_a_namespace_and_arguments() {
        let found = read(&[
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "c"),
            ("CNI_NETNS", "/run/netns/c"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart"),
        ])
        .unwrap();
        assert_eq!((found.command, found.netns), (Command::Add, "/run/netns/c".into()));
        assert_eq!(found.arguments["K8S_POD_NAME"], "cart");
        assert_eq!(found.arguments["K8S_POD_NAMESPACE"], "shop");
    }

    #[test]
    fn what_is_missing_is_named() {
        let failure = read(&[("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "c"), ("CNI_IFNAME", "eth0")]).unwrap_err();
        assert_eq!(failure, Failure::new(Code::ENVIRONMENT, "CNI_NETNS is not set; ADD needs it"));
        let failure = read(&[("CNI_COMMAND", "add")]).unwrap_err();
        assert!(failure.message.contains("\"add\""), "{failure}");
        assert!(read(&[("CNI_COMMAND", "VERSION")]).is_ok());
    }

    #[test]
    fn a_failure_is_what_the_specification_prescribes() {
        let failure = Failure::new(Code::TRY_AGAIN, "no");
        assert_eq!(failure.to_json("1.0.0").to_string(), r#"{"cniVersion":"1.0.0","code":11,"msg":"no"}"#);
    }
}
