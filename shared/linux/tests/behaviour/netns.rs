//! Network namespaces.

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use linux::{NetNs, link, netns};

use super::support::in_namespace;

#[test]
fn a_new_namespace_holds_only_a_lo_that_is_down() {
    in_namespace(|| {
        let here = NetNs::current().unwrap();
        let made = NetNs::create().unwrap();
        assert_ne!(made.id(), here.id());
        assert_eq!(made.clone(), made);
        let links = made.run(|| link::list().unwrap()).unwrap();
        assert_eq!(links.iter().map(|link| (link.name.as_str(), link.is_up)).collect::<Vec<_>>(), [("lo", false)]);
        assert_eq!(NetNs::current().unwrap(), here, "making a namespace moved the caller");
    });
}

#[test]
fn run_works_inside_and_comes_back() {
    in_namespace(|| {
        let here = NetNs::current().unwrap();
        let there = NetNs::create().unwrap();
        let inside = there.run(|| NetNs::current().unwrap()).unwrap();
        assert_eq!(inside, there);
        assert_eq!(NetNs::current().unwrap(), here);
    });
}

#[test]
fn a_panic_inside_goes_on_in_the_callers_namespace() {
    in_namespace(|| {
        let here = NetNs::current().unwrap();
        let there = NetNs::create().unwrap();
        let panic = catch_unwind(AssertUnwindSafe(|| there.run(|| resume_unwind(Box::new(42))))).unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&42));
        assert_eq!(NetNs::current().unwrap(), here);
    });
}

#[test]
fn only_network_namespaces_are_taken() {
    let file = File::open("/proc/self/exe").unwrap();
    assert_eq!(NetNs::from_fd(file.into()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    let other_kind = File::open("/proc/self/ns/mnt").unwrap();
    assert_eq!(NetNs::from_fd(other_kind.into()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    assert!(NetNs::from_fd(socket.into()).is_err());
}

#[test]
fn a_missing_path_is_named() {
    let error = NetNs::open(Path::new("/run/no-such-namespace")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert!(error.to_string().contains("/run/no-such-namespace"), "{error}");
}

#[test]
fn a_path_keeps_a_namespace_until_it_is_unbound() {
    in_namespace(|| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ns");
        let id = {
            let made = NetNs::create().unwrap();
            made.bind_to(&path).unwrap();
            made.id()
        };
        assert_eq!(NetNs::open(&path).unwrap().id(), id);
        netns::unbind(&path).unwrap();
        assert!(!path.exists());
        netns::unbind(&path).unwrap();
    });
}
