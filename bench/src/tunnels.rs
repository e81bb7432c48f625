//! How many connections the proxy of a client makes for those that it takes: one for each, with a handshake of its own,
//! or one for many.
//!
//! The kernel counts in each network namespace the TCP connections that were opened there and those that were taken there.
//! What a client opens is taken in its own pod by its proxy, so that the rest of what was opened there is the proxy's.
//! No proxy has to be believed, and all kinds are counted alike.

use std::io;

use crate::load_plan::Numbers;
use crate::metric::{Measurement, Metric};
use crate::mode::Mode;

/// How far the handshakes of a mode that makes one for each connection may be from that, as a part of the connections.
const TOLERANCE: f64 = 0.01;

/// The TCP connections of a network namespace since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Opened {
    /// Opened by programs in it (`ActiveOpens`).
    pub active: u64,
    /// Taken by programs in it (`PassiveOpens`).
    pub passive: u64,
}

impl Opened {
    /// Reads `/proc/<pid>/net/snmp`: a line of names and a line of numbers for each protocol.
    ///
    /// # Errors
    /// There are no such numbers in it.
    pub(crate) fn read(text: &str) -> io::Result<Self> {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
        let (names, numbers) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let find = |wanted: &str| {
            let mut columns = names.split_whitespace().zip(numbers.split_whitespace());
            let (_, number) = columns.find(|(name, _)| *name == wanted)?;
            number.parse().ok()
        };
        let missing = || io::Error::new(io::ErrorKind::InvalidData, "the kernel does not count TCP connections");
        let (active, passive) = find("ActiveOpens").zip(find("PassiveOpens")).ok_or_else(missing)?;
        Ok(Self { active, passive })
    }

    fn since(self, earlier: Self) -> Self {
        Self {
            active: self.active.saturating_sub(earlier.active),
            passive: self.passive.saturating_sub(earlier.passive),
        }
    }
}

/// How many handshakes a connection has cost between two looks at the client's pod; nothing where no proxy stands in it,
/// or connections were not what was measured.
///
/// # Errors
/// The mode is one with a handshake for each connection, and there were more, or fewer.
pub(crate) fn numbers(
    measurement: Measurement,
    mode: Mode,
    (before, after): (Option<Opened>, Option<Opened>),
) -> Result<Numbers, String> {
    let is_meant = measurement == Measurement::Connections && mode.baseline().is_some();
    let (Some(before), Some(after), true) = (before, after, is_meant) else { return Ok(Numbers::new()) };
    let made = after.since(before);
    let (connections, handshakes) = (made.passive, made.active.saturating_sub(made.passive));
    #[expect(clippy::cast_precision_loss, reason = "there are far fewer than 2^52 connections")]
    let each = handshakes as f64 / connections as f64;
    let is_one_each = connections > 0 && (each - 1.0).abs() <= TOLERANCE;
    if mode.is_cold() && !is_one_each {
        return Err(format!("{handshakes} handshakes for {connections} connections, expected one for each"));
    }
    Ok(if connections == 0 { Numbers::new() } else { [(Metric::HandshakesPerConnection, each)].into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Linux writes it.
    const SNMP: &str = "Ip: Forwarding DefaultTTL\nIp: 1 64\n\
        Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab\n\
        Tcp: 1 200 120000 -1 2000 1000 3 4 5\nUdp: InDatagrams\nUdp: 7\n";

    fn counted(mode: Mode, active: u64, passive: u64) -> Result<Numbers, String> {
        let before = Opened { active: 70, passive: 40 };
        let after = Opened { active: 70 + active, passive: 40 + passive };
        numbers(Measurement::Connections, mode, (Some(before), Some(after)))
    }

    #[test]
    fn what_the_kernel_counts_is_read_by_name() {
        assert_eq!(Opened::read(SNMP).unwrap(), Opened { active: 2000, passive: 1000 });
        let without = SNMP.replace("PassiveOpens", "Other");
        assert_eq!(Opened::read(&without).unwrap_err().kind(), io::ErrorKind::InvalidData);
        Opened::read("").unwrap_err();
    }

    #[test]
    fn handshakes_are_what_the_client_did_not_open_itself() {
        let each = |mode, active, passive| counted(mode, active, passive).unwrap()[&Metric::HandshakesPerConnection];
        assert_eq!(each(Mode::AmbientL4, 1020, 1000), 0.02);
        assert_eq!(each(Mode::SidecarL4, 2000, 1000), 1.0);
        assert_eq!(each(Mode::Sidecar, 1000, 1001), 0.0, "a probe is no handshake");
        assert_eq!(counted(Mode::None, 1000, 0).unwrap(), Numbers::new(), "there is no proxy");
        assert_eq!(counted(Mode::AmbientL4, 0, 0).unwrap(), Numbers::new(), "there was nothing");
        let unseen = numbers(Measurement::Connections, Mode::AmbientL4, (None, None));
        assert_eq!(unseen.unwrap(), Numbers::new());
    }

    #[test]
    fn a_cold_mode_that_is_not_cold_has_no_number() {
        for (active, is_cold) in [(2000, true), (1991, true), (2009, true), (1989, false), (2011, false), (1020, false)]
        {
            assert_eq!(counted(Mode::AmbientL4Cold, active, 1000).is_ok(), is_cold, "{active}");
        }
        let why = counted(Mode::AmbientL4Cold, 1020, 1000).unwrap_err();
        assert_eq!(why, "20 handshakes for 1000 connections, expected one for each");
        counted(Mode::AmbientL4Cold, 0, 0).unwrap_err();
        let others =
            numbers(Measurement::Rate, Mode::AmbientL4Cold, (Some(Opened::default()), Some(Opened::default())));
        assert_eq!(others.unwrap(), Numbers::new(), "a connection that is kept needs one handshake");
    }
}
