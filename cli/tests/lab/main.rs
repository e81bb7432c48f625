//! The lab through its command line: every test starts a lab of its own, in namespaces of its own, and takes it down.
//!
//! Where the kernel allows neither root nor user namespaces the tests say `SKIPPED` and pass.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the code of a test, its helpers included"
)]

mod families;
mod life;
mod network;
mod pods;
mod support;
mod volumes;
