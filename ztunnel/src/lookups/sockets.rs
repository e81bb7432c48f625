//! Where a pod's lookups come in.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use linux::NetNs;
use linux::socket::ListenOptions;

use crate::shared::Settings;

/// TCP clients that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// One address, over both transports.
pub(crate) struct Sockets {
    pub(super) udp: UdpSocket,
    pub(super) tcp: TcpListener,
}

/// Opens the sockets inside the namespace: for all addresses that there are, or none.
///
/// A namespace without IPv6 on its loopback interface has IPv4 lookups alone.
pub(crate) fn listen(netns: &NetNs, settings: &Settings, addresses: &[SocketAddr]) -> io::Result<Vec<Sockets>> {
    netns.run(|| {
        let has_ipv6 = settings.ipv6 && has_ipv6();
        let mut all = Vec::new();
        for address in addresses.iter().filter(|address| address.is_ipv4() || has_ipv6) {
            match open(*address, settings) {
                Ok(sockets) => all.push(sockets),
                // The interface is down, or has lost the address.
                Err(error) if address.is_ipv6() && error.kind() == io::ErrorKind::AddrNotAvailable => {
                    tracing::debug!(%address, %error, "lookups over IPv6 are not answered");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    })?
}

fn open(address: SocketAddr, settings: &Settings) -> io::Result<Sockets> {
    // Without a mark: the rules know answers by it that come from outside.
    let options = ListenOptions {
        reuse_port: settings.reuse_port,
        backlog: BACKLOG,
        only_v6: address.is_ipv6(),
        ..ListenOptions::default()
    };
    Ok(Sockets {
        udp: linux::socket::receiver(address, settings.reuse_port)?,
        tcp: linux::socket::listen(address, &options)?,
    })
}

/// The parameter is absent from kernels without IPv6.
fn has_ipv6() -> bool {
    linux::sysctl::read("net/ipv6/conf/lo/disable_ipv6").is_ok_and(|disabled| disabled == "0")
}
