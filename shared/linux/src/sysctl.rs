//! Kernel parameters of the calling thread's network namespace.

mod own_proc;

use std::io;
use std::path::PathBuf;

use crate::error::Named;

/// Sets `name`, such as `net/ipv4/ip_forward`, to `value`.
///
/// A dot in an interface's name stays a dot: names are written with slashes.
/// Where `/proc/sys` is read-only, as in most containers, a view of it is opened that is not: whoever may administer
/// the network namespace may set its parameters, and the read-only mount says nothing about those of other namespaces.
///
/// # Errors
/// The kernel's, named with the parameter; `NotFound` when this kernel does not have it.
pub fn write(name: &str, value: &str) -> io::Result<()> {
    let operation = || format!("setting {name} to {value}");
    match std::fs::write(path(name).named(operation)?, value) {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => own_proc::write(name, value),
        outcome => outcome,
    }
    .named(operation)
}

/// Sets `name` to `value`, unless this kernel does not have it.
///
/// # Errors
/// The kernel's, named with the parameter.
pub fn write_where_known(name: &str, value: &str) -> io::Result<()> {
    match write(name, value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// Reads `name`, without the line end.
///
/// # Errors
/// The kernel's, named with the parameter; `NotFound` when this kernel does not have it.
pub fn read(name: &str) -> io::Result<String> {
    let operation = || format!("reading {name}");
    let text = std::fs::read_to_string(path(name).named(operation)?).named(operation)?;
    Ok(text.trim_end().to_owned())
}

/// Interface names come from outside; none may lead out of `/proc/sys`.
fn path(name: &str) -> io::Result<PathBuf> {
    let is_plain = name.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if !is_plain {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the name of a kernel parameter"));
    }
    Ok(PathBuf::from("/proc/sys").join(name))
}
