//! What the process has and uses, as the kernel counts it.

use tokio::sync::{Mutex, MutexGuard};

/// Bytes of a page on the machines that this runs on.
const PAGE: u64 = 4096;

/// The right to look at the process: the tests of this program run one at a time.
pub(crate) async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

/// Allows as many files as a test wants, or as many as this process may have; how many that is.
///
/// Beyond the hard limit goes only who may administer the machine's resources.
pub(crate) fn allowed_files(wanted: usize) -> usize {
    let wanted = u64::try_from(wanted).unwrap();
    let allowed = linux::process::allow_open_files(wanted).map(|()| wanted);
    let allowed = allowed.or_else(|_refused| linux::process::raise_open_files()).unwrap();
    usize::try_from(allowed.min(wanted)).unwrap()
}

/// Memory in use, in bytes.
pub(crate) fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * PAGE
}

/// Open files and sockets.
pub(crate) fn files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Whether the long form of a test was asked for.
pub(crate) fn is_full() -> bool {
    std::env::var_os("AQUIFER_TEST_FULL").is_some()
}
