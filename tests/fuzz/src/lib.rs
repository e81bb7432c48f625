//! The parsers of everything that comes from outside, each as a function of bytes that must never panic, and the one
//! thing that is only written, with a reader of its own.
//!
//! Beyond that each states what must hold of what it accepts, such as that writing and reading again gives the same.
//! `replay` runs them over their corpora in every test run; the fuzzer in `engine/` looks for new inputs:
//! `cargo fuzz run --fuzz-dir tests/fuzz/engine --sanitizer none NAME tests/fuzz/corpus/NAME`.

mod certificates;
mod discovery_resources;
mod frames;
mod headers;
mod lookups;
mod manifests;
mod names;
mod pods;
mod proxy_headers;
#[cfg(test)]
mod replay;

/// One parser.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Name of the target, of its corpus' folder, and of its binary in `engine/`.
    pub name: &'static str,
    /// Reads the bytes; panics when something is wrong with the parser.
    pub run: fn(&[u8]),
}

/// All parsers.
pub const TARGETS: [Target; 10] = [
    Target { name: "names", run: names::run },
    Target { name: "hbone_headers", run: headers::run },
    Target { name: "http2_frames", run: frames::run },
    Target { name: "dns_message", run: lookups::run },
    Target { name: "zds_message", run: pods::run },
    Target { name: "proxy_header", run: proxy_headers::run },
    Target { name: "xds_address", run: discovery_resources::address },
    Target { name: "xds_authorization", run: discovery_resources::authorization },
    Target { name: "manifest", run: manifests::run },
    Target { name: "certificate", run: certificates::run },
];

/// Runs the target of this name.
///
/// # Panics
/// When there is none, and when the parser is at fault.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    let Some(target) = target else { panic!("no target {name}") };
    (target.run)(bytes);
}

/// The bytes as lines of text; what is no text is replaced.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
