//! Interfaces and addresses.

use std::io;

use linux::{NetNs, Prefix, errno, link};

use super::support::in_namespace;

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

#[test]
fn a_veth_pair_spans_two_namespaces() {
    in_namespace(|| {
        let other = NetNs::create().unwrap();
        link::add_veth("here", "there", &other).unwrap();
        assert!(!link::find("here").unwrap().is_up);
        assert_eq!(link::find("there").unwrap_err().kind(), io::ErrorKind::NotFound);
        other.run(|| link::find("there").unwrap()).unwrap();

        let taken = link::add_veth("here", "elsewhere", &other).unwrap_err();
        assert_eq!((taken.kind(), errno(&taken)), (io::ErrorKind::AlreadyExists, Some(libc::EEXIST)));
        assert!(taken.to_string().contains("making veth pair here and elsewhere"), "{taken}");

        link::delete("here").unwrap();
        assert_eq!(other.run(|| link::index("there").unwrap_err().kind()).unwrap(), io::ErrorKind::NotFound);
        link::delete("here").unwrap();
    });
}

#[test]
fn an_interface_is_moved_renamed_and_set_up() {
    in_namespace(|| {
        let other = NetNs::create().unwrap();
        link::add_veth("a", "b", &NetNs::current().unwrap()).unwrap();
        link::move_to("b", &other).unwrap();
        other
            .run(|| {
                link::rename("b", "eth0").unwrap();
                link::set_mtu("eth0", 1400).unwrap();
                link::set_up("eth0").unwrap();
                let eth0 = link::find("eth0").unwrap();
                assert!(eth0.is_up);
                assert_eq!((eth0.mtu, eth0.hardware_address.len()), (1400, 6));
                link::set_down("eth0").unwrap();
                assert!(!link::find("eth0").unwrap().is_up);
            })
            .unwrap();
    });
}

#[test]
fn interfaces_join_a_bridge() {
    in_namespace(|| {
        link::add_bridge("br0").unwrap();
        link::add_veth("a", "b", &NetNs::create().unwrap()).unwrap();
        link::set_controller("a", "br0").unwrap();
        assert_eq!(link::find("a").unwrap().controller, Some(link::index("br0").unwrap()));
        assert_eq!(link::set_controller("a", "br1").unwrap_err().kind(), io::ErrorKind::NotFound);
    });
}

#[test]
fn addresses_of_both_families_come_and_go() {
    in_namespace(|| {
        link::add_bridge("br0").unwrap();
        for address in ["172.30.0.1/24", "10.244.1.1/32", "fd00::1/64"] {
            link::add_address("br0", prefix(address)).unwrap();
            link::add_address("br0", prefix(address)).unwrap();
        }
        let mut found = link::addresses("br0").unwrap();
        found.sort();
        assert_eq!(found, [prefix("10.244.1.1/32"), prefix("172.30.0.1/24"), prefix("fd00::1/64")]);
        for address in ["172.30.0.1/24", "fd00::1/64"] {
            link::delete_address("br0", prefix(address)).unwrap();
            link::delete_address("br0", prefix(address)).unwrap();
        }
        assert_eq!(link::addresses("br0").unwrap(), [prefix("10.244.1.1/32")]);
        assert_eq!(link::addresses("br1").unwrap_err().kind(), io::ErrorKind::NotFound);
    });
}

#[test]
fn names_that_the_kernel_cannot_hold_are_refused_with_the_reason() {
    in_namespace(|| {
        let error = link::add_bridge("sixteen-letters-").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("1 to 15 bytes"), "{error}");
    });
}
