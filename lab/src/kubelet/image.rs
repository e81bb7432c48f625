//! Which program a container is: the lab has no images, only its own binary and the host's programs.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Container;

use super::environment::Environment;

/// This binary, whatever its path.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// The search path of containers.
pub(crate) const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    /// `argv[0]`.
    pub(crate) name: String,
    pub(crate) arguments: Vec<String>,
}

/// Why a container cannot be run: reason and message of its waiting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// Finds the program of `container`. `is_program` tells whether a path of the host can be run.
///
/// # Errors
/// An image that is not ours without a command, a command that the host does not have.
pub(crate) fn program(
    container: &Container,
    environment: &Environment,
    is_program: impl Fn(&Path) -> bool,
) -> Result<Program, Refusal> {
    let expanded = |list: &Option<Vec<String>>| -> Vec<String> {
        list.iter().flatten().map(|text| environment.expand(text)).collect()
    };
    let (command, arguments) = (expanded(&container.command), expanded(&container.args));
    let image = container.image.as_deref().unwrap_or_default();
    if !command.is_empty() {
        let whole: Vec<String> = command.into_iter().chain(arguments).collect();
        return locate(&whole, environment.find("PATH").unwrap_or(SEARCH_PATH), is_program);
    }
    let default: &[&str] = match own_image(image) {
        Some("aquifer") => &[],
        Some("aquifer/echo") => &["echo"],
        _ => return Err(foreign(image)),
    };
    let arguments =
        if arguments.is_empty() { default.iter().map(|&word| word.to_owned()).collect() } else { arguments };
    Ok(Program { path: OWN_PROGRAM.into(), name: "aquifer".to_owned(), arguments })
}

/// Finds the program that a command line begins with.
///
/// # Errors
/// An empty command line, a program that the host does not have.
pub(crate) fn locate(
    command: &[String],
    search_path: &str,
    is_program: impl Fn(&Path) -> bool,
) -> Result<Program, Refusal> {
    let Some((name, arguments)) = command.split_first() else {
        return Err(Refusal { reason: "CreateContainerError", message: "there is no command to run".to_owned() });
    };
    let path = find(name, search_path, is_program)?;
    Ok(Program { path, name: name.clone(), arguments: arguments.to_vec() })
}

/// The image's name without registry prefix of ours and without tag, if it means this binary.
fn own_image(image: &str) -> Option<&str> {
    let untagged = image.split_once('@').map_or(image, |(name, _)| name);
    let untagged = untagged.split_once(':').map_or(untagged, |(name, _)| name);
    ["aquifer", "aquifer/echo"].into_iter().find(|own| *own == untagged)
}

fn foreign(image: &str) -> Refusal {
    Refusal {
        reason: "ErrImageNeverPull",
        message: format!(
            "the lab pulls no images: image {image:?} needs a `command`, which runs from the host's file system; \
             `aquifer` and `aquifer/echo` are this program"
        ),
    }
}

fn find(name: &str, search_path: &str, is_program: impl Fn(&Path) -> bool) -> Result<PathBuf, Refusal> {
    // The binary itself is found under its own name even where it is not installed.
    if name == "aquifer" {
        return Ok(OWN_PROGRAM.into());
    }
    let candidates: Vec<PathBuf> = if name.contains('/') {
        vec![name.into()]
    } else {
        search_path.split(':').map(|directory| Path::new(directory).join(name)).collect()
    };
    candidates.into_iter().find(|path| is_program(path)).ok_or_else(|| Refusal {
        reason: "CreateContainerError",
        message: if name.contains('/') {
            format!("command {name:?} is not a program of the host")
        } else {
            format!("command {name:?} is not a program of the host; looked in {search_path}")
        },
    })
}

/// Whether `path` is a file that may be run.
pub(crate) fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn found(container: Value) -> Result<Program, Refusal> {
        let mut container = container;
        container["name"] = json!("c");
        let environment =
            Environment::new([("PATH".to_owned(), SEARCH_PATH.to_owned()), ("P".to_owned(), "80".to_owned())]);
        program(&serde_json::from_value(container).unwrap(), &environment, |path| path == Path::new("/usr/bin/curl"))
    }

    fn run(path: &str, name: &str, arguments: &[&str]) -> Program {
        Program { path: path.into(), name: name.into(), arguments: arguments.iter().map(|&a| a.to_owned()).collect() }
    }

    #[test]
    fn our_images_are_this_binary() {
        assert_eq!(found(json!({"image": "aquifer/echo"})).unwrap(), run(OWN_PROGRAM, "aquifer", &["echo"]));
        assert_eq!(
            found(json!({"image": "aquifer:0.1", "args": ["ztunnel"]})).unwrap(),
            run(OWN_PROGRAM, "aquifer", &["ztunnel"])
        );
        assert_eq!(
            found(json!({"image": "aquifer/echo@sha256:00", "args": ["echo", "--http=$(P)"]})).unwrap(),
            run(OWN_PROGRAM, "aquifer", &["echo", "--http=80"])
        );
    }

    #[test]
    fn a_command_runs_from_the_host_whatever_the_image() {
        let expected = run("/usr/bin/curl", "curl", &["-s", "x"]);
        assert_eq!(
            found(json!({"image": "curlimages/curl", "command": ["curl", "-s"], "args": ["x"]})).unwrap(),
            expected
        );
        let by_path = found(json!({"image": "aquifer", "command": ["/usr/bin/curl"]})).unwrap();
        assert_eq!(by_path, run("/usr/bin/curl", "/usr/bin/curl", &[]));
        assert_eq!(found(json!({"image": "x", "command": ["aquifer", "echo"]})).unwrap().path, Path::new(OWN_PROGRAM));
    }

    #[test]
    fn a_foreign_image_without_command_says_what_to_do() {
        let refusal = found(json!({"image": "nginx:1", "args": ["-g"]})).unwrap_err();
        assert_eq!(refusal.reason, "ErrImageNeverPull");
        assert!(refusal.message.contains("\"nginx:1\" needs a `command`"), "{}", refusal.message);
    }

    #[test]
    fn a_missing_program_is_named() {
        let refusal = found(json!({"image": "x", "command": ["wget"]})).unwrap_err();
        assert!(refusal.message.starts_with("command \"wget\" is not a program of the host; looked in /usr/local"));
        let refusal = found(json!({"image": "x", "command": ["/bin/curl"]})).unwrap_err();
        assert_eq!(refusal.message, "command \"/bin/curl\" is not a program of the host");
    }
}
