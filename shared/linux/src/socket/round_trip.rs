//! How long a segment and its acknowledgement take, as TCP has measured it.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd as _};
use std::time::Duration;

use crate::error::Named;

/// The round trip of a connection as TCP smooths it; right after connecting, that of its handshake.
///
/// # Errors
/// The kernel's, on what is not a TCP socket.
pub fn round_trip(socket: &impl AsFd) -> io::Result<Duration> {
    // SAFETY: a structure of integers alone, for which all zeros are a value.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of_val(&info)).map_err(io::Error::other)?;
    let (level, name) = (libc::IPPROTO_TCP, libc::TCP_INFO);
    // SAFETY: the descriptor is borrowed, and the kernel writes at most `length` bytes to `info`, which has as many.
    let outcome =
        unsafe { libc::getsockopt(socket.as_fd().as_raw_fd(), level, name, (&raw mut info).cast(), &raw mut length) };
    if outcome == 0 {
        return Ok(Duration::from_micros(info.tcpi_rtt.into()));
    }
    Err(io::Error::last_os_error()).named(|| "asking a connection for its round trip".into())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    #[test]
    fn a_connection_knows_its_round_trip_and_nothing_else_does() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _peer) = listener.accept().unwrap();
        for stream in [near, far] {
            let measured = round_trip(&stream).unwrap();
            assert!(measured > Duration::ZERO && measured < Duration::from_secs(1), "{measured:?}");
        }
        round_trip(&UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap_err();
    }
}
