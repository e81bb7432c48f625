//! Messages with descriptors over unix sockets.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use linux::NetNs;
use linux::seqpacket::{Connection, Listener};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

fn receive(connection: &Connection) -> (Vec<u8>, Option<OwnedFd>) {
    let mut buffer = [0; 1024];
    let received = connection.recv(&mut buffer).unwrap();
    (buffer[..received.length].to_vec(), received.descriptor)
}

#[test]
fn messages_keep_their_boundaries_and_their_descriptor() {
    let (one, other) = Connection::pair().unwrap();
    let namespace = NetNs::current().unwrap();
    one.send(b"first", Some(namespace.as_fd())).unwrap();
    one.send(b"second", None).unwrap();
    let (message, descriptor) = receive(&other);
    assert_eq!(message, b"first");
    let descriptor = descriptor.unwrap();
    let flags = nix::fcntl::fcntl(&descriptor, nix::fcntl::FcntlArg::F_GETFD).unwrap();
    assert_eq!(flags, libc::FD_CLOEXEC);
    assert_eq!(NetNs::from_fd(descriptor).unwrap(), namespace);
    let (message, descriptor) = receive(&other);
    assert_eq!(message, b"second");
    assert!(descriptor.is_none());
    assert_eq!(other.recv(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn the_end_of_the_stream_is_an_empty_message() {
    let (one, other) = Connection::pair().unwrap();
    one.send(b"last", None).unwrap();
    drop(one);
    assert_eq!(receive(&other).0, b"last");
    assert_eq!(receive(&other).0, b"");
    assert_eq!(other.send(b"late", None).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn a_message_longer_than_the_buffer_is_an_error() {
    let (one, other) = Connection::pair().unwrap();
    one.send(&[7; 100], None).unwrap();
    one.send(b"next", None).unwrap();
    assert_eq!(other.recv(&mut [0; 99]).unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert_eq!(receive(&other).0, b"next");
}

#[test]
fn more_than_one_descriptor_is_an_error_and_all_are_closed() {
    let (one, other) = Connection::pair().unwrap();
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    for count in [2, 9, 253] {
        let descriptors = vec![writer.as_raw_fd(); count];
        let rights = [ControlMessage::ScmRights(&descriptors)];
        sendmsg::<()>(one.as_raw_fd(), &[IoSlice::new(b"x")], &rights, MsgFlags::empty(), None).unwrap();
        assert_eq!(other.recv(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::InvalidData, "{count}");
    }
    drop(writer);
    assert_eq!(nix::unistd::read(&reader, &mut [0; 1]).unwrap(), 0, "a copy of the pipe's end is still open");
}

#[test]
fn a_stale_socket_is_replaced_and_another_file_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent.sock");
    drop(Listener::bind(&path).unwrap());
    assert_eq!(Connection::connect(&path).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    let listener = Listener::bind(&path).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    let client = Connection::connect(&path).unwrap();
    let server = listener.accept().unwrap();
    client.send(b"hello", None).unwrap();
    assert_eq!(receive(&server).0, b"hello");

    let file = directory.path().join("notes");
    std::fs::write(&file, "keep me").unwrap();
    assert_eq!(Listener::bind(&file).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "keep me");
}

#[test]
fn a_missing_listener_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nobody.sock");
    let error = Connection::connect(&path).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert!(error.to_string().contains("nobody.sock"), "{error}");
}

#[test]
fn a_peer_that_does_not_read_makes_the_sender_wait() {
    let (one, _other) = Connection::pair().unwrap();
    let full = (0..100_000).find_map(|_| one.send(&[0; 1000], None).err());
    assert_eq!(full.unwrap().kind(), io::ErrorKind::WouldBlock);
}
