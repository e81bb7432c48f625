//! A namespace per test, and sockets that are waited for with a deadline.

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use linux::mount::{self, Mount};
use linux::process::{Init, NamespaceError, Namespaces, is_privileged};
use linux::socket::{ListenOptions, StreamOptions};
use linux::{NetNs, link};
use nix::poll::{PollFd, PollFlags, poll};
use socket2::SockRef;

/// Far beyond what any wait of the tests takes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Tells a test that it runs again, in namespaces that were made for it.
const AGAIN: &str = "AQUIFER_TEST_AGAIN";

/// Runs `test` on a thread of its own in an empty network namespace whose `lo` is up.
///
/// An ordinary user runs this test again as root of new namespaces, or skips it where the kernel refuses them.
pub(crate) fn in_namespace(test: fn()) {
    if !is_privileged() {
        return again_in_namespaces();
    }
    if std::env::var_os(AGAIN).is_some() {
        mount::apply(&[Mount::Proc { target: "/proc".into() }]).unwrap();
    }
    let namespace = NetNs::create().unwrap();
    let thread = std::thread::Builder::new().name("test".into());
    let body = move || {
        namespace.run(|| {
            link::set_up("lo").unwrap();
            test();
        })
    };
    match thread.spawn(body).unwrap().join() {
        Ok(entered) => entered.unwrap(),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn again_in_namespaces() {
    let thread = std::thread::current();
    let name = thread.name().expect("the test harness names threads by their test").to_owned();
    let arguments = [name.as_str(), "--exact", "--nocapture", "--test-threads=1"].map(OsString::from);
    let mut init = Init::new(arguments, Namespaces::ALL);
    init.environment = vec![(AGAIN.into(), "1".into())];
    let (mut reader, writer) = io::pipe().unwrap();
    init.standard[1] = Some(writer.into());
    let mut process = match init.start() {
        Ok(process) => process,
        Err(refused @ (NamespaceError::Setting { .. } | NamespaceError::Refused(_))) => {
            println!("SKIPPED: {refused}");
            return;
        }
        Err(error) => panic!("{error}: {}", error.source().map(ToString::to_string).unwrap_or_default()),
    };
    // The harness inside has a report of its own; what it skipped counts here too.
    let mut report = String::new();
    reader.read_to_string(&mut report).unwrap();
    report.lines().filter(|line| line.contains("SKIPPED: ")).for_each(|line| println!("{line}"));
    assert!(process.wait().unwrap().success(), "{name} failed in namespaces of its own:\n{report}");
}

/// Waits until the socket has what `flags` ask for.
pub(crate) fn wait_for(socket: &impl AsFd, flags: PollFlags) {
    let timeout: u16 = DEADLINE.as_millis().try_into().unwrap();
    let ready = poll(&mut [PollFd::new(socket.as_fd(), flags)], timeout).unwrap();
    assert_eq!(ready, 1, "nothing happened before the deadline");
}

/// Waits for a condition of which the kernel does not tell.
#[expect(clippy::disallowed_methods, reason = "the condition is the kernel's, whose time no test can pause")]
pub(crate) fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "the condition did not become true before the deadline");
        std::thread::yield_now();
    }
}

/// A listener made with `options`.
pub(crate) fn listen(address: &str, options: &ListenOptions) -> TcpListener {
    linux::socket::listen(address.parse().unwrap(), options).unwrap()
}

/// Accepts within the deadline; the connection blocks, with a deadline on reads.
pub(crate) fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    wait_for(listener, PollFlags::POLLIN);
    let (stream, peer) = listener.accept().unwrap();
    (blocking(stream), peer)
}

/// Connects to `target` with `options`; the connection blocks, with a deadline on reads.
pub(crate) fn connect(target: SocketAddr, options: &StreamOptions) -> io::Result<TcpStream> {
    let stream = linux::socket::stream(target, options)?;
    match SockRef::from(&stream).connect(&target.into()) {
        Err(error) if error.raw_os_error() != Some(nix::errno::Errno::EINPROGRESS as i32) => return Err(error),
        _ => {}
    }
    wait_for(&stream, PollFlags::POLLOUT);
    match stream.take_error()? {
        Some(error) => Err(error),
        None => Ok(blocking(stream)),
    }
}

fn blocking(stream: TcpStream) -> TcpStream {
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}
