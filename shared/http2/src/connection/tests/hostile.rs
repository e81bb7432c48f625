//! Peers that break the rules, or keep them in the most expensive way.

use super::*;
use crate::frame::{write, write_number};

/// A connection in front of a peer that is written by hand.
struct Victim {
    connection: Connection,
    now: Instant,
}

impl Victim {
    fn server() -> Self {
        Self::new(Role::Server, config())
    }

    fn new(role: Role, config: Config) -> Self {
        let mut victim = Self { connection: Connection::new(role, config), now: now() };
        sent(&mut victim.connection);
        victim.take(|out| write(out, kind::SETTINGS, 0, 0, &[]));
        victim.take(|out| write(out, kind::SETTINGS, flag::ACK, 0, &[]));
        sent(&mut victim.connection);
        victim
    }

    /// A client with an open stream 1.
    fn client() -> (Self, Key) {
        let mut victim = Self::new(Role::Client, config());
        let key = open(&mut victim.connection);
        victim.take(|out| write(out, kind::HEADERS, flag::END_HEADERS, 1, &[0x88]));
        assert!(matches!(victim.connection.poll_response(key, &mut cx()), Poll::Ready(Ok(_))));
        sent(&mut victim.connection);
        (victim, key)
    }

    fn take(&mut self, frames: impl Fn(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        frames(&mut bytes);
        self.connection.receive(Input::Borrowed(&bytes), self.now);
    }

    /// Sends such frames again and again until the connection gives up; after how many, and why.
    fn exhaust(&mut self, frames: impl Fn(&mut Vec<u8>, u32)) -> (u32, Reason) {
        for count in 1..1_000_000 {
            self.take(|out| frames(out, count));
            sent(&mut self.connection);
            if let Some(outcome) = self.connection.outcome() {
                return (count, outcome.unwrap_err().reason().unwrap());
            }
        }
        panic!("it goes on");
    }

    /// What it says; resets and the last GOAWAY.
    fn says(&mut self) -> (Vec<(u32, Reason)>, Option<Reason>) {
        let frames = frames(&sent(&mut self.connection));
        let last = reasons(&frames, kind::GOAWAY).last().map(|(_, reason)| *reason);
        (reasons(&frames, kind::RST_STREAM), last)
    }
}

fn request(out: &mut Vec<u8>, stream: u32) {
    write(out, kind::HEADERS, flag::END_HEADERS, stream, b"\x02\x07CONNECT\x01\x04a:80");
}

fn reset(out: &mut Vec<u8>, stream: u32) {
    write_number(out, kind::RST_STREAM, stream, Reason::CANCEL.0);
}

#[test]
fn more_streams_than_allowed_are_refused() {
    let mut victim = Victim::server();
    victim.take(|out| (0..13).for_each(|index| request(out, 2 * index + 1)));
    let refused = [21, 23, 25].map(|stream| (stream, Reason::REFUSED_STREAM));
    assert_eq!(victim.says(), (refused.to_vec(), None));
    assert_eq!(victim.connection.state.requests.len(), 10);
}

#[test]
fn requests_that_are_taken_back_at_once_end_the_connection() {
    let mut victim = Victim::server();
    let (count, reason) = victim.exhaust(|out, count| {
        request(out, 2 * count - 1);
        reset(out, 2 * count - 1);
    });
    assert_eq!((count, reason), (21, Reason::ENHANCE_YOUR_CALM));
    expect_at_rest(&victim.connection);
    // Not where somebody looks at them in between.
    let mut victim = Victim::server();
    for index in 0..1000 {
        victim.take(|out| request(out, 2 * index + 1));
        let key = victim.connection.next_request().unwrap().0;
        victim.take(|out| reset(out, 2 * index + 1));
        victim.connection.release(key);
    }
    assert!(victim.connection.outcome().is_none());
    expect_at_rest(&victim.connection);
}

#[test]
fn small_frames_that_nobody_reads_end_the_connection() {
    let budget = Config { small_frame_budget: 25_500, ..config() };
    let mut victim = Victim::new(Role::Server, budget.clone());
    victim.take(|out| request(out, 1));
    let (count, reason) = victim.exhaust(|out, _| write(out, kind::DATA, 0, 1, b"x"));
    assert_eq!((count, reason), (101, Reason::ENHANCE_YOUR_CALM));
    // Those that are read cost nothing, whichever way, nor do those of streams that are gone.
    let mut victim = Victim::new(Role::Server, budget);
    victim.take(|out| request(out, 1));
    let key = accept(&mut victim.connection);
    for round in 0..1000 {
        victim.take(|out| write(out, kind::DATA, 0, 1, &[7; 100]));
        match round % 2 {
            0 => assert_eq!(read(&mut victim.connection, key).unwrap().0, [7; 100]),
            _ => (0..100).for_each(|_| assert!(victim.connection.poll_receive(key, &mut cx(), 1).is_ready())),
        }
    }
    victim.take(|out| (0..90).for_each(|_| write(out, kind::DATA, 0, 1, b"x")));
    victim.connection.release(key);
    victim.take(|out| (0..500).for_each(|_| write(out, kind::DATA, 0, 1, b"x")));
    assert!(victim.connection.outcome().is_none());
    expect_at_rest_after_sending(victim);
}

fn expect_at_rest_after_sending(mut victim: Victim) {
    sent(&mut victim.connection);
    expect_at_rest(&victim.connection);
}

#[test]
fn frames_without_data_end_the_connection() {
    let mut victim = Victim::server();
    victim.take(|out| request(out, 1));
    let (count, reason) = victim.exhaust(|out, _| write(out, kind::DATA, 0, 1, b""));
    assert_eq!((count, reason), (1001, Reason::ENHANCE_YOUR_CALM));
}

#[test]
fn whoever_does_not_take_our_answers_is_not_listened_to() {
    let mut victim = Victim::server();
    let mut taken = 0;
    while victim.connection.wants_input() {
        victim.take(|out| {
            write(out, kind::PING, 0, 0, b"answer!!");
            write(out, kind::SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]);
        });
        taken += 1;
        assert!(taken < 10_000);
    }
    assert!(victim.connection.state.control.len() < 2 * CONTROL);
    let answers = frames(&sent(&mut victim.connection)).len();
    assert_eq!(answers, 2 * taken);
    assert!(victim.connection.wants_input());
}

#[test]
fn a_client_whose_server_takes_nothing_opens_no_more() {
    let (mut victim, _key) = Victim::client();
    let mut opened = 0;
    while let Poll::Ready(Ok(key)) = victim.connection.poll_open(&mut cx(), "a:80", &HeaderMap::new()) {
        victim.connection.release(key);
        opened += 1;
        assert!(opened < 10_000);
    }
    assert!(victim.connection.state.control.len() < 2 * CONTROL);
    sent(&mut victim.connection);
    open(&mut victim.connection);
}

#[test]
fn frames_that_cross_a_reset_are_forgiven_for_a_second() {
    let mut victim = Victim::server();
    victim.take(|out| request(out, 1));
    let key = accept(&mut victim.connection);
    victim.connection.reset(key, Reason::CONNECT_ERROR);
    victim.connection.release(key);
    assert_eq!(victim.says().0, [(1, Reason::CONNECT_ERROR)]);
    victim.take(|out| (0..1000).for_each(|_| write(out, kind::DATA, 0, 1, b"late")));
    assert_eq!(victim.says(), (vec![], None));
    // Later one costs a reset, which what crosses it is forgiven in turn; after fifty that is enough.
    victim.now += Duration::from_secs(2);
    victim.take(|out| write(out, kind::DATA, 0, 1, b"later"));
    assert_eq!(victim.says(), (vec![(1, Reason::STREAM_CLOSED)], None));
    let mut round = 0;
    while victim.connection.outcome().is_none() {
        victim.now += Duration::from_secs(2);
        victim.take(|out| write(out, kind::DATA, 0, 1, b"much later"));
        round += 1;
        assert!(round <= 100);
    }
    assert_eq!((round, victim.says().1), (100, Some(Reason::ENHANCE_YOUR_CALM)));
}

#[test]
fn late_frames_do_not_use_up_the_connection() {
    let mut victim = Victim::server();
    victim.take(|out| request(out, 1));
    let key = accept(&mut victim.connection);
    victim.connection.release(key);
    let mut allowed = 0;
    for _ in 0..100 {
        victim.take(|out| write(out, kind::DATA, 0, 1, &[0; 1 << 20]));
        let updates = frames(&sent(&mut victim.connection));
        allowed += updates.iter().filter(|(head, _)| head.kind == kind::WINDOW_UPDATE && head.stream == 0).count();
    }
    assert!(victim.connection.outcome().is_none() && (10..=13).contains(&allowed), "{allowed} window updates");
}

#[test]
fn header_blocks_are_bounded() {
    let block = [0, 1, b'a', 0x7f, 0x80, 0x7f];
    // Too many bytes, and too many frames.
    for (size, most) in [(16_000, 4), (0, 102)] {
        let mut victim = Victim::server();
        victim.take(|out| write(out, kind::HEADERS, 0, 1, &block));
        let (count, reason) = victim.exhaust(|out, _| write(out, kind::CONTINUATION, 0, 1, &vec![b'x'; size]));
        assert!(count <= most && reason == Reason::ENHANCE_YOUR_CALM, "{count} frames of {size} bytes: {reason:?}");
    }
    let mut victim = Victim::server();
    victim.take(|out| write(out, kind::HEADERS, 0, 1, &vec![0; 40_000]));
    assert_eq!(victim.says().1, Some(Reason::ENHANCE_YOUR_CALM));
}

#[test]
fn windows_do_not_overflow() {
    let cases: [(u32, u32, Option<Reason>, Option<Reason>); 4] = [
        (0, 0x7fff_ffff, None, Some(Reason::FLOW_CONTROL_ERROR)),
        (0, 0, None, Some(Reason::PROTOCOL_ERROR)),
        (1, 0x7fff_ffff, Some(Reason::FLOW_CONTROL_ERROR), None),
        (1, 0, Some(Reason::PROTOCOL_ERROR), None),
    ];
    for (stream, more, reset, end) in cases {
        let (mut victim, _key) = Victim::client();
        victim.take(|out| write_number(out, kind::WINDOW_UPDATE, stream, more));
        let resets = reset.map(|reason| (1, reason));
        assert_eq!(victim.says(), (resets.into_iter().collect(), end), "{more} more on {stream}");
    }
    // A stream whose window was raised, and then that of all streams.
    let (mut victim, _key) = Victim::client();
    victim.take(|out| write_number(out, kind::WINDOW_UPDATE, 1, 0x7fff_0000));
    victim.take(|out| write(out, kind::SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]));
    assert_eq!(victim.says().1, Some(Reason::FLOW_CONTROL_ERROR));
}

#[test]
fn a_window_may_become_negative() {
    let (mut victim, key) = Victim::client();
    assert_eq!(send(&mut victim.connection, key, &[0; 60_000]), 60_000);
    sent(&mut victim.connection);
    victim.take(|out| write(out, kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 100]));
    assert_eq!(victim.connection.state.streams.at(0).unwrap().out_window, 100 - 60_000);
    assert_eq!(send(&mut victim.connection, key, b"x"), 0);
    victim.take(|out| write_number(out, kind::WINDOW_UPDATE, 1, 60_000));
    assert_eq!(send(&mut victim.connection, key, &[0; 1000]), 100);
}

#[test]
fn offences_on_single_streams_cost_the_stream() {
    let (mut victim, key) = Victim::client();
    victim.take(|out| write(out, kind::DATA, flag::END_STREAM, 1, b"all"));
    victim.take(|out| write(out, kind::DATA, 0, 1, b"more"));
    assert_eq!(victim.says(), (vec![(1, Reason::STREAM_CLOSED)], None));
    assert_eq!(read(&mut victim.connection, key).unwrap(), (b"all".to_vec(), true));
    // An answer that is no answer, DATA before it, and trailers that do not end.
    let blocks: [(u8, &[u8]); 3] = [(kind::HEADERS, b"\x00\x01a\x01b"), (kind::DATA, b"x"), (kind::HEADERS, b"\x88")];
    for (at, (kind, payload)) in blocks.into_iter().enumerate() {
        let key = open(&mut victim.connection);
        let id = victim.connection.id(key);
        if at == 2 {
            victim.take(|out| write(out, kind::HEADERS, flag::END_HEADERS, id, &[0x88]));
        }
        sent(&mut victim.connection);
        victim.take(|out| write(out, kind, if kind == kind::DATA { 0 } else { flag::END_HEADERS }, id, payload));
        assert_eq!(victim.says(), (vec![(id, Reason::PROTOCOL_ERROR)], None));
        let (reason, side) = (Reason::PROTOCOL_ERROR, Side::Local);
        let end = read(&mut victim.connection, key).unwrap_err();
        assert!(matches!(end, Http2Error::Reset { reason: why, side: by } if (why, by) == (reason, side)), "{end:?}");
    }
}

#[test]
fn offences_against_the_connection_end_it() {
    let (protocol, compression) = (Reason::PROTOCOL_ERROR, Reason::COMPRESSION_ERROR);
    type Frames = fn(&mut Vec<u8>);
    let of_clients: [(Frames, Reason); 8] = [
        (|out| request(out, 2), protocol),
        (|out| write(out, kind::DATA, 0, 3, b"x"), protocol),
        (|out| reset(out, 3), protocol),
        (|out| write_number(out, kind::WINDOW_UPDATE, 3, 1), protocol),
        (|out| write(out, kind::HEADERS, flag::END_HEADERS, 3, &[0x80]), compression),
        (|out| write(out, kind::SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1]), protocol),
        (|out| write(out, kind::SETTINGS, flag::ACK, 0, &[]), protocol),
        (|out| write(out, kind::PUSH_PROMISE, 0, 1, &[0; 8]), protocol),
    ];
    for (at, (offence, reason)) in of_clients.into_iter().enumerate() {
        let mut victim = Victim::server();
        victim.take(|out| request(out, 1));
        let key = accept(&mut victim.connection);
        sent(&mut victim.connection);
        victim.take(offence);
        assert_eq!(victim.says(), (vec![], Some(reason)), "case {at}");
        assert!(matches!(read(&mut victim.connection, key), Err(Http2Error::GoAway { side: Side::Local, .. })));
        assert!(!victim.connection.wants_input() && victim.connection.outcome().unwrap().is_err());
    }
    let of_servers: [Frames; 3] = [
        |out| write(out, kind::HEADERS, flag::END_HEADERS, 2, &[0x88]),
        |out| write(out, kind::HEADERS, flag::END_HEADERS, 5, &[0x88]),
        |out| write(out, kind::SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 1]),
    ];
    for offence in of_servers {
        let (mut victim, _key) = Victim::client();
        victim.take(offence);
        assert_eq!(victim.says().1, Some(protocol));
    }
}

#[test]
fn going_away_spares_the_streams_that_were_looked_at() {
    let (mut victim, key) = Victim::client();
    let late = open(&mut victim.connection);
    victim.take(|out| write(out, kind::GOAWAY, 0, 0, &[&[0, 0, 0, 1, 0, 0, 0, 11][..], b"calm down"].concat()));
    let end = victim.connection.poll_response(late, &mut cx());
    assert!(matches!(end, Poll::Ready(Err(Http2Error::GoAway { side: Side::Remote, .. }))));
    assert!(!victim.connection.is_usable());
    victim.take(|out| write(out, kind::DATA, flag::END_STREAM, 1, b"still here"));
    assert_eq!(read(&mut victim.connection, key).unwrap(), (b"still here".to_vec(), true));
    assert!(victim.connection.outcome().is_none());
    victim.connection.finish(key).unwrap();
    sent(&mut victim.connection);
    let end = victim.connection.outcome().unwrap().unwrap_err();
    assert_eq!((end.reason(), end.is_remote()), (Some(Reason::ENHANCE_YOUR_CALM), true));
}
