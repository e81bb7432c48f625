//! The sniffer on a link.

use std::io::{self, Read, Write};
use std::time::Duration;

use linux::packet::Sniffer;
use linux::socket::{ListenOptions, StreamOptions};
use linux::{NetNs, link};

use super::support::{DEADLINE, accept, connect, in_namespace, listen};

const MARKER: &[u8] = b"marker-4711";

fn find_marker(sniffer: &mut Sniffer) -> (u32, String) {
    loop {
        let frame = sniffer.recv(DEADLINE).unwrap().expect("the marker did not pass");
        let Some(segment) = frame.tcp() else { continue };
        if segment.payload.windows(MARKER.len()).any(|window| window == MARKER) {
            return (frame.interface, format!("{} > {}", segment.source, segment.destination));
        }
    }
}

#[test]
fn what_passes_on_a_link_is_seen() {
    in_namespace(|| {
        let other = NetNs::create().unwrap();
        link::add_veth("here", "there", &other).unwrap();
        link::set_up("here").unwrap();
        for address in ["10.0.0.1/24", "fd00::1/64"] {
            link::add_address("here", address.parse().unwrap()).unwrap();
        }
        other
            .run(|| {
                link::set_up("there").unwrap();
                link::add_address("there", "10.0.0.2/24".parse().unwrap()).unwrap();
                link::add_address("there", "fd00::2/64".parse().unwrap()).unwrap();
            })
            .unwrap();
        let mut here = Sniffer::open(Some("here")).unwrap();
        let mut all = Sniffer::open(None).unwrap();
        let mut lo = Sniffer::open(Some("lo")).unwrap();
        for target in ["10.0.0.2:80", "[fd00::2]:80"] {
            let listener = other.run(|| listen(target, &ListenOptions::default())).unwrap();
            let mut client = connect(target.parse().unwrap(), &StreamOptions::default()).unwrap();
            let (mut server, peer) = accept(&listener);
            client.write_all(MARKER).unwrap();
            server.read_exact(&mut [0; MARKER.len()]).unwrap();
            let expected = (link::index("here").unwrap(), format!("{peer} > {target}"));
            assert_eq!(find_marker(&mut here), expected);
            assert_eq!(find_marker(&mut all), expected);
        }
        assert_eq!(lo.recv(Duration::ZERO).unwrap(), None);
        assert_eq!(here.dropped().unwrap(), 0);
    });
}

#[test]
fn waiting_ends_at_the_deadline() {
    in_namespace(|| {
        let mut sniffer = Sniffer::open(Some("lo")).unwrap();
        assert_eq!(sniffer.recv(Duration::from_millis(20)).unwrap(), None);
        link::set_down("lo").unwrap();
        assert_eq!(sniffer.recv(DEADLINE).unwrap_err().kind(), io::ErrorKind::NetworkDown);
        assert_eq!(Sniffer::open(Some("absent")).unwrap_err().kind(), io::ErrorKind::NotFound);
    });
}

#[test]
fn frames_that_nobody_looked_at_in_time_are_counted() {
    in_namespace(|| {
        let sniffer = Sniffer::open(Some("lo")).unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let lost = (0..10_000).any(|_| {
            socket.send_to(&[0; 60_000], address).unwrap();
            sniffer.dropped().unwrap() > 0
        });
        assert!(lost);
    });
}
