//! Listeners, marks and spoofed sources.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use linux::route::{self, Route, Rule};
use linux::socket::{self, Keepalive, ListenOptions, StreamOptions, Tuning};
use linux::{Prefix, link};
use socket2::SockRef;

use super::support::{accept, connect, in_namespace, listen};

const MARK: u32 = 0x539;
/// Marks replies that have to come back to `lo`.
const REPLY_MARK: u32 = 0x111;

#[test]
fn a_port_is_shared_only_when_asked_for() {
    in_namespace(|| {
        let shared = ListenOptions { reuse_port: true, ..ListenOptions::default() };
        let first = listen("127.0.0.1:0", &shared);
        let address = first.local_addr().unwrap();
        let _second = listen(&address.to_string(), &shared);
        let error = socket::listen(address, &ListenOptions::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    });
}

#[test]
fn a_listener_never_blocks_and_its_mark_is_inherited() {
    in_namespace(|| {
        let options = ListenOptions { mark: Some(MARK), ..ListenOptions::default() };
        let listener = listen("127.0.0.1:0", &options);
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let client = connect(listener.local_addr().unwrap(), &StreamOptions::default()).unwrap();
        let (accepted, _) = accept(&listener);
        assert_eq!(SockRef::from(&accepted).mark().unwrap(), MARK);
        assert_eq!(SockRef::from(&client).mark().unwrap(), 0);
    });
}

#[test]
fn a_dual_stack_listener_takes_both_families_unless_told() {
    in_namespace(|| {
        let both = listen("[::]:0", &ListenOptions::default());
        let port = both.local_addr().unwrap().port();
        connect(SocketAddr::new("127.0.0.1".parse().unwrap(), port), &StreamOptions::default()).unwrap();
        assert_eq!(accept(&both).1.ip().to_canonical(), "127.0.0.1".parse::<IpAddr>().unwrap());

        let six = listen("[::]:0", &ListenOptions { only_v6: true, ..ListenOptions::default() });
        let port = six.local_addr().unwrap().port();
        let refused = connect(SocketAddr::new("127.0.0.1".parse().unwrap(), port), &StreamOptions::default());
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_connection_gets_its_options() {
    in_namespace(|| {
        let keepalive = Keepalive { time: Duration::from_secs(180), interval: Duration::from_secs(75), retries: 9 };
        let tuning = Tuning { keepalive: Some(keepalive), no_delay: true, is_local: true, unsent: Some(1 << 17) };
        let options =
            StreamOptions { mark: Some(MARK), tuning, user_timeout: Some(Duration::from_secs(20)), source: None };
        let listener = listen("127.0.0.1:0", &ListenOptions { accepted: tuning, ..ListenOptions::default() });
        let client = connect(listener.local_addr().unwrap(), &options).unwrap();
        let seen = SockRef::from(&client);
        assert_eq!(seen.mark().unwrap(), MARK);
        assert!(seen.keepalive().unwrap());
        assert_eq!(seen.tcp_keepalive_time().unwrap(), keepalive.time);
        assert_eq!(seen.tcp_keepalive_interval().unwrap(), keepalive.interval);
        assert_eq!(seen.tcp_keepalive_retries().unwrap(), keepalive.retries);
        assert!(seen.tcp_nodelay().unwrap());
        assert_eq!(seen.tcp_user_timeout().unwrap(), options.user_timeout);
        assert_eq!(congestion_control(&client), "reno");
        assert_eq!(seen.tcp_notsent_lowat().unwrap(), 1 << 17);

        let (accepted, _) = accept(&listener);
        let seen = SockRef::from(&accepted);
        assert!(seen.keepalive().unwrap());
        assert_eq!(seen.tcp_keepalive_time().unwrap(), keepalive.time);
        assert_eq!(seen.tcp_keepalive_interval().unwrap(), keepalive.interval);
        assert_eq!(seen.tcp_keepalive_retries().unwrap(), keepalive.retries);
        assert!(seen.tcp_nodelay().unwrap());
        assert_eq!(congestion_control(&accepted), "reno");
        assert_eq!(seen.tcp_notsent_lowat().unwrap(), 1 << 17);
    });
}

fn congestion_control(socket: &TcpStream) -> String {
    let name = SockRef::from(socket).tcp_congestion().unwrap();
    String::from_utf8(name.into_iter().take_while(|&byte| byte != 0).collect()).unwrap()
}

/// Connects to `target` from `source`, which no interface has; replies come back by the mark of the listener.
fn spoof(target: &str, source: &str) {
    let target: IpAddr = target.parse().unwrap();
    let source: IpAddr = source.parse().unwrap();
    let any = if target.is_ipv6() { Prefix::ANY_V6 } else { Prefix::ANY_V4 };
    link::add_address("lo", target.into()).unwrap();
    route::add(&Route::local(any, "lo", 100)).unwrap();
    let rule = Rule { is_ipv6: target.is_ipv6(), mark: REPLY_MARK, mask: 0xfff, priority: 32764, table: 100 };
    route::add_rule(&rule).unwrap();

    let options = ListenOptions { mark: Some(REPLY_MARK), ..ListenOptions::default() };
    let listener = listen(&SocketAddr::new(target, 0).to_string(), &options);
    let options = StreamOptions { source: Some(source), ..StreamOptions::default() };
    let mut client = connect(listener.local_addr().unwrap(), &options).unwrap();
    let (mut server, peer) = accept(&listener);
    assert_eq!(peer.ip(), source);
    client.write_all(b"ping").unwrap();
    let mut buffer = [0; 4];
    server.read_exact(&mut buffer).unwrap();
    server.write_all(&buffer).unwrap();
    client.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"ping");
}

#[test]
fn a_connection_can_come_from_a_foreign_ipv4_address() {
    in_namespace(|| spoof("10.244.1.2", "10.244.9.9"));
}

#[test]
fn a_connection_can_come_from_a_foreign_ipv6_address() {
    in_namespace(|| spoof("fd00:1::2", "fd00:9::9"));
}

#[test]
fn a_connection_that_was_not_redirected_has_no_original_destination() {
    in_namespace(|| {
        for address in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let listener = listen(address, &ListenOptions::default());
            let _client = connect(listener.local_addr().unwrap(), &StreamOptions::default()).unwrap();
            let (accepted, _) = accept(&listener);
            let error = socket::original_destination(&accepted).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{address}: {error}");
        }
    });
}

#[test]
fn root_of_a_namespace_may_mark_and_spoof() {
    in_namespace(|| {
        assert!(socket::can_set_mark().unwrap());
        assert!(socket::can_be_transparent().unwrap());
        let listener = listen("127.0.0.1:0", &ListenOptions { transparent: true, ..ListenOptions::default() });
        assert!(SockRef::from(&listener).ip_transparent_v4().unwrap());
        socket::set_mark(&listener, MARK).unwrap();
        assert_eq!(SockRef::from(&listener).mark().unwrap(), MARK);
    });
}

#[test]
fn own_addresses_are_told_from_those_of_others() {
    in_namespace(|| {
        link::add_address("lo", "10.244.1.2".parse::<IpAddr>().unwrap().into()).unwrap();
        link::add_address("lo", "fd00:1::2".parse::<IpAddr>().unwrap().into()).unwrap();
        for (address, is_own) in [
            ("10.244.1.2", true),
            ("127.0.0.1", true),
            ("fd00:1::2", true),
            ("10.244.1.3", false),
            ("fd00:1::3", false),
            ("0.0.0.0", false),
            ("::", false),
            ("224.0.0.1", false),
        ] {
            assert_eq!(socket::is_own(address.parse().unwrap()).unwrap(), is_own, "{address}");
        }
    });
}

#[test]
fn listeners_are_listed_with_what_waits_for_them() {
    in_namespace(|| {
        assert_eq!(socket::listening().unwrap(), []);
        let options = ListenOptions { backlog: 300, reuse_port: true, ..ListenOptions::default() };
        let (four, six) = (listen("127.0.0.1:7001", &options), listen("[::]:7002", &options));
        let twin = listen("[::]:7002", &options);
        let _client = connect(four.local_addr().unwrap(), &StreamOptions::default()).unwrap();
        let mut found = socket::listening().unwrap();
        found.sort_by_key(|one| one.address);
        let seen: Vec<_> = found.iter().map(|one| (one.address.to_string(), one.waiting, one.backlog)).collect();
        let expected = [("127.0.0.1:7001", 1), ("[::]:7002", 0), ("[::]:7002", 0)];
        assert_eq!(seen, expected.map(|(address, waiting)| (address.to_owned(), waiting, 300)));
        let inodes: std::collections::HashSet<u64> = found.iter().map(|one| one.inode).collect();
        let own = [&four, &six, &twin].map(|listener| socket::inode(listener).unwrap());
        assert_eq!(inodes, own.into_iter().collect());
        drop((four, six));
        assert_eq!(socket::listening().unwrap().len(), 1);
    });
}

#[test]
fn connections_are_listed_until_no_byte_will_move_any_more() {
    in_namespace(|| {
        let listener = listen("[::]:7003", &ListenOptions::default());
        assert_eq!(socket::connected().unwrap(), Vec::<u16>::new());
        let mut pairs = ["127.0.0.1:7003", "[::1]:7003"].map(|address| {
            let client = connect(address.parse().unwrap(), &StreamOptions::default()).unwrap();
            (client, socket::accept(&listener).unwrap().0)
        });
        let both = |connected: Vec<u16>| connected.iter().filter(|port| **port == 7003).count();
        assert_eq!((socket::connected().unwrap().len(), both(socket::connected().unwrap())), (4, 2));
        let (client, server) = &mut pairs[0];
        // Half-closed, bytes still move in the other direction.
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(both(socket::connected().unwrap()), 2);
        // The client, which closed first, waits out the last segments; the server is gone.
        server.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!((socket::connected().unwrap().len(), both(socket::connected().unwrap())), (2, 1));
    });
}

#[test]
fn parameters_of_the_network_are_set_although_proc_is_mounted_read_only() {
    const NAME: &str = "net/ipv4/tcp_migrate_req";
    in_namespace(|| {
        // A mount namespace of the test's thread alone.
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let private = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
        nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        let (source, target) = ("/proc/sys".into(), "/proc/sys".into());
        linux::mount::apply(&[linux::mount::Mount::Bind { source, target, read_only: true }]).unwrap();
        let refused = std::fs::write("/proc/sys/net/ipv4/tcp_migrate_req", "1").unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ReadOnlyFilesystem);
        assert_eq!(linux::sysctl::read(NAME).unwrap(), "0");
        linux::sysctl::write(NAME, "1").unwrap();
        assert_eq!(linux::sysctl::read(NAME).unwrap(), "1");
        let elsewhere = linux::NetNs::create().unwrap();
        assert_eq!(elsewhere.run(|| linux::sysctl::read(NAME)).unwrap().unwrap(), "0", "of this namespace alone");
    });
}
