//! What a runtime does with a network: which plugin is called next, with what, and what its answer means.
//!
//! Nothing here starts a process: [`Run::next`] says what to call, [`Run::answer`] takes what came of it.

use serde_json::{Value, json};

use crate::invocation::Command;
use crate::network::{Network, type_of};

/// The container that a network is made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Tells this container from all others.
    pub container: String,
    /// The path of its network namespace; may be empty for `DEL`.
    pub netns: String,
    /// The name of its interface.
    pub interface: String,
    /// Further parameters (`CNI_ARGS`).
    pub arguments: Vec<(String, String)>,
    /// The directories of plugins, for plugins that call others.
    pub search_path: String,
}

/// A plugin to be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Its type, which is the name of its binary.
    pub plugin: String,
    /// What its environment holds beyond the runtime's.
    pub environment: Vec<(&'static str, String)>,
    /// What it reads on standard input.
    pub input: Vec<u8>,
}

/// Why a network was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// A plugin said why not.
    #[error("plugin type={plugin:?} failed ({}): {message}", command.to_lowercase())]
    Failed {
        /// Which.
        plugin: String,
        /// What it was asked.
        command: &'static str,
        /// Its words.
        message: String,
    },
    /// A plugin succeeded without a result.
    #[error("plugin type={plugin:?}: its result is not one: {text:?}")]
    Result {
        /// Which.
        plugin: String,
        /// What it printed.
        text: String,
    },
}

/// One pass through the plugins of a network.
#[derive(Debug)]
pub struct Run<'a> {
    network: &'a Network,
    attachment: &'a Attachment,
    command: Command,
    result: Option<Value>,
    done: usize,
}

impl<'a> Run<'a> {
    /// Joins a container to the network: all plugins in order, each with the result of the one before.
    #[must_use]
    pub fn add(network: &'a Network, attachment: &'a Attachment) -> Self {
        Self { network, attachment, command: Command::Add, result: None, done: 0 }
    }

    /// Undoes [`Self::add`]: all plugins in the opposite order, each with the last result, if it is known.
    #[must_use]
    pub fn delete(network: &'a Network, attachment: &'a Attachment, result: Option<Value>) -> Self {
        Self { network, attachment, command: Command::Delete, result, done: 0 }
    }

    /// Looks whether what [`Self::add`] did is still there.
    #[must_use]
    pub fn check(network: &'a Network, attachment: &'a Attachment, result: Value) -> Self {
        Self { network, attachment, command: Command::Check, result: Some(result), done: 0 }
    }

    /// The plugin to call now; `None` when all have been called.
    #[must_use]
    pub fn next(&self) -> Option<Call> {
        let plugin = self.plugin()?;
        let mut input = plugin.as_object()?.clone();
        input.insert("cniVersion".to_owned(), json!(self.network.version));
        input.insert("name".to_owned(), json!(self.network.name));
        if let Some(result) = &self.result {
            input.insert("prevResult".to_owned(), result.clone());
        }
        let arguments: Vec<String> =
            self.attachment.arguments.iter().map(|(key, value)| format!("{key}={value}")).collect();
        Some(Call {
            plugin: type_of(plugin)?.to_owned(),
            environment: vec![
                ("CNI_COMMAND", self.command.name().to_owned()),
                ("CNI_CONTAINERID", self.attachment.container.clone()),
                ("CNI_NETNS", self.attachment.netns.clone()),
                ("CNI_IFNAME", self.attachment.interface.clone()),
                ("CNI_ARGS", arguments.join(";")),
                ("CNI_PATH", self.attachment.search_path.clone()),
            ],
            input: Value::Object(input).to_string().into_bytes(),
        })
    }

    /// Takes what the plugin of the last [`Self::next`] came to: whether it succeeded, and what it printed.
    ///
    /// # Errors
    /// It failed, or printed no result. The pass is over then.
    pub fn answer(&mut self, is_success: bool, output: &[u8]) -> Result<(), ChainError> {
        let plugin = self.plugin().and_then(type_of).unwrap_or_default().to_owned();
        self.done += 1;
        let parsed: Option<Value> = serde_json::from_slice(output).ok();
        if !is_success {
            let message = parsed.as_ref().and_then(failure).unwrap_or_else(|| text(output));
            return Err(ChainError::Failed { plugin, command: self.command.name(), message });
        }
        if self.command == Command::Add {
            let result = parsed.filter(Value::is_object);
            self.result = Some(result.ok_or_else(|| ChainError::Result { plugin, text: text(output) })?);
        }
        Ok(())
    }

    /// The last plugin's result.
    #[must_use]
    pub fn into_result(self) -> Option<Value> {
        self.result
    }

    fn plugin(&self) -> Option<&'a Value> {
        let plugins = &self.network.plugins;
        let index = match self.command {
            Command::Delete => plugins.len().checked_sub(self.done + 1)?,
            _ => self.done,
        };
        plugins.get(index)
    }
}

/// Message and details as one line, as runtimes print them.
fn failure(object: &Value) -> Option<String> {
    let message = object.get("msg")?.as_str()?;
    match object.get("details").and_then(Value::as_str).filter(|details| !details.is_empty()) {
        Some(details) => Some(format!("{message}; {details}")),
        None => Some(message.to_owned()),
    }
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output.get(..256).unwrap_or(output)).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("n.conflist");
        std::fs::write(&path, r#"{"cniVersion":"0.4.0","name":"n","plugins":[{"type":"a","x":1},{"type":"b"}]}"#)
            .unwrap();
        crate::network::read(&path).unwrap()
    }

    fn attachment() -> Attachment {
        Attachment {
            container: "c".to_owned(),
            netns: "/n".to_owned(),
            interface: "eth0".to_owned(),
            arguments: vec![("IgnoreUnknown".to_owned(), "1".to_owned()), ("K8S_POD_NAME".to_owned(), "p".to_owned())],
            search_path: "/bin".to_owned(),
        }
    }

    fn input(call: &Call) -> Value {
        serde_json::from_slice(&call.input).unwrap()
    }

    #[test]
    fn results_are_passed_on_and_deletion_goes_backwards() {
        let (network, attachment) = (network(), attachment());
        let mut run = Run::add(&network, &attachment);
        let call = run.next().unwrap();
        assert_eq!(call.plugin, "a");
        assert_eq!(input(&call), json!({"type": "a", "x": 1, "cniVersion": "0.4.0", "name": "n"}));
        assert!(call.environment.contains(&("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=p".to_owned())));
        run.answer(true, br#"{"ips":[1]}"#).unwrap();
        let call = run.next().unwrap();
        assert_eq!((call.plugin.as_str(), &input(&call)["prevResult"]), ("b", &json!({"ips": [1]})));
        run.answer(true, br#"{"ips":[2]}"#).unwrap();
        assert_eq!(run.next(), None);
        let result = run.into_result();
        assert_eq!(result, Some(json!({"ips": [2]})));

        let mut run = Run::delete(&network, &attachment, result);
        let call = run.next().unwrap();
        assert_eq!((call.plugin.as_str(), &input(&call)["prevResult"]), ("b", &json!({"ips": [2]})));
        run.answer(true, b"").unwrap();
        assert_eq!(run.next().unwrap().plugin, "a");
        run.answer(true, b"").unwrap();
        assert_eq!(run.next(), None);
    }

    #[test]
    fn a_failure_has_the_plugins_words() {
        let (network, attachment) = (network(), attachment());
        let failed = |output: &[u8]| Run::add(&network, &attachment).answer(false, output).unwrap_err().to_string();
        assert_eq!(failed(br#"{"code":11,"msg":"no","details":"why"}"#), r#"plugin type="a" failed (add): no; why"#);
        assert_eq!(failed(b"panic\n"), r#"plugin type="a" failed (add): panic"#);
        let empty = Run::add(&network, &attachment).answer(true, b"").unwrap_err();
        assert!(matches!(empty, ChainError::Result { .. }), "{empty}");
    }
}
