//! Random peers and random users: nothing panics, nothing grows without bound, and at the end nothing is left.

use proptest::prelude::*;

use super::*;
use crate::frame::write;

/// One thing that happens.
#[derive(Debug, Clone)]
enum Step {
    /// A frame of the peer; small streams, so that they meet.
    Frame(u8, u8, u32, Vec<u8>),
    /// Bytes that are no frame, or half of one.
    Bytes(Vec<u8>),
    /// A well-formed message of the peer: a request for a server, an answer for a client.
    Message(u32, bool),
    Open,
    Accept(u16),
    Send(usize, usize),
    Finish(usize),
    Read(usize, usize),
    Reset(usize),
    Release(usize),
    Window(usize, u32),
    Transmit(usize),
    Pass(u64),
    Drain,
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..20),
        4 => prop_oneof![Just(vec![0, 0, 0, 1]), Just(vec![0, 0, 0xff, 0xff]), Just(vec![0x7f, 0xff, 0xff, 0xff])],
        2 => Just(vec![0; 8]),
        2 => Just(vec![0x88]),
        2 => Just(vec![0, 4, 0, 0, 0, 10]),
        1 => (0_usize..20_000).prop_map(|length| vec![7; length]),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let stream = || prop_oneof![4 => 0_u32..12, 1 => Just(1001)];
    let flags = prop_oneof![Just(0), Just(1), Just(4), Just(5), any::<u8>()];
    prop_oneof![
        6 => (0_u8..11, flags, stream(), payload()).prop_map(|(kind, flags, id, payload)| Step::Frame(kind, flags, id, payload)),
        1 => proptest::collection::vec(any::<u8>(), 0..30).prop_map(Step::Bytes),
        6 => ((0_u32..12).prop_map(|id| 2 * id + 1), any::<bool>()).prop_map(|(id, ends)| Step::Message(id, ends)),
        3 => Just(Step::Open),
        3 => prop_oneof![Just(200), Just(401)].prop_map(Step::Accept),
        4 => (0_usize..8, 0_usize..100_000).prop_map(|(at, length)| Step::Send(at, length)),
        2 => (0_usize..8).prop_map(Step::Finish),
        3 => (0_usize..8, 1_usize..100_000).prop_map(|(at, length)| Step::Read(at, length)),
        1 => (0_usize..8).prop_map(Step::Reset),
        2 => (0_usize..8).prop_map(Step::Release),
        1 => (0_usize..8, any::<u32>()).prop_map(|(at, bytes)| Step::Window(at, bytes)),
        4 => (1_usize..100_000).prop_map(Step::Transmit),
        1 => (0_u64..3000).prop_map(Step::Pass),
        1 => Just(Step::Drain),
    ]
}

/// A connection, its user's streams, and a transport that takes a little at a time.
struct World {
    connection: Connection,
    keys: Vec<Key>,
    output: Output,
    now: Instant,
    written: Vec<u8>,
}

impl World {
    fn new(role: Role) -> Self {
        let mut connection = Connection::new(role, Config { small_frame_budget: 50_000, ..config() });
        connection.add_handle();
        let mut written = sent(&mut connection);
        written.clear();
        Self { connection, keys: Vec::new(), output: Output::default(), now: now(), written }
    }

    fn receive(&mut self, bytes: &[u8]) {
        if self.connection.wants_input() {
            self.connection.receive(Input::Owned(Bytes::copy_from_slice(bytes)), self.now);
        }
    }

    fn key(&self, at: usize) -> Option<Key> {
        self.keys.get(at % self.keys.len().max(1)).copied()
    }

    fn apply(&mut self, step: Step) {
        let connection = &mut self.connection;
        match step {
            Step::Frame(kind, flags, stream, payload) => {
                let mut bytes = Vec::new();
                write(&mut bytes, kind, flags, stream, &payload);
                self.receive(&bytes);
            }
            Step::Bytes(bytes) => self.receive(&bytes),
            Step::Message(id, ends) => {
                let mut bytes = Vec::new();
                let is_server = connection.state.role == Role::Server;
                let block: &[u8] = if is_server { b"\x02\x07CONNECT\x01\x04a:80" } else { &[0x88] };
                write(&mut bytes, kind::HEADERS, flag::END_HEADERS | u8::from(ends), id, block);
                self.receive(&bytes);
            }
            Step::Open => {
                if connection.state.role == Role::Client
                    && let Poll::Ready(Ok(key)) = connection.poll_open(&mut cx(), "a:80", &HeaderMap::new())
                {
                    self.keys.push(key);
                }
            }
            Step::Accept(status) => {
                if let Some((key, _)) = connection.next_request() {
                    let _ = connection.respond(key, status, &HeaderMap::new(), status != 200);
                    self.keys.push(key);
                }
            }
            Step::Release(at) => {
                if !self.keys.is_empty() {
                    connection.release(self.keys.swap_remove(at % self.keys.len()));
                }
            }
            Step::Transmit(most) => self.transmit(most),
            Step::Pass(milliseconds) => self.now += Duration::from_millis(milliseconds),
            Step::Drain => connection.drain(),
            Step::Send(at, _) | Step::Finish(at) | Step::Read(at, _) | Step::Reset(at) | Step::Window(at, _) => {
                if let Some(key) = self.key(at) {
                    self.use_stream(key, &step);
                }
            }
        }
        self.expect_bounded();
    }

    fn use_stream(&mut self, key: Key, step: &Step) {
        let connection = &mut self.connection;
        match step {
            Step::Send(_, length) => {
                if let Poll::Ready(Ok(capacity)) = connection.poll_capacity(key, &mut cx()) {
                    connection.send(key, Bytes::from(vec![1; capacity.min(*length)]));
                }
            }
            Step::Finish(_) => drop(connection.finish(key)),
            Step::Read(_, length) => {
                let _ = connection.poll_response(key, &mut cx());
                let _ = connection.poll_receive(key, &mut cx(), *length);
            }
            Step::Reset(_) => connection.reset(key, Reason::CONNECT_ERROR),
            Step::Window(_, bytes) => connection.set_window(key, *bytes),
            _ => {}
        }
    }

    /// The transport takes so many bytes.
    fn transmit(&mut self, mut most: usize) {
        while most > 0 {
            if self.output.is_empty() {
                self.connection.transmit(&mut self.output);
            }
            let slices = self.output.slices();
            let Some(slice) = slices.iter().find(|slice| !slice.is_empty()) else { return };
            let count = slice.len().min(most);
            self.written.extend_from_slice(&slice[..count]);
            self.output.advance(count);
            most -= count;
        }
    }

    fn expect_bounded(&mut self) {
        let state = &mut self.connection.state;
        assert!(state.control.len() < 4 * CONTROL, "{} bytes of control", state.control.len());
        assert!(state.block.len() <= state.block_limit() as usize);
        assert!(state.active <= state.config.streams || state.role == Role::Client);
        let (mut unread, mut open) = (0, 0);
        for (_, stream) in state.streams.iter_mut() {
            assert!(stream.queued as usize <= state.config.send_buffer);
            assert_eq!(stream.queued as usize, stream.to_send.lengths().sum::<usize>());
            assert_eq!(stream.unread as usize, stream.received.lengths().sum::<usize>());
            unread += stream.unread;
            open += u32::from(stream.is_counted);
        }
        assert_eq!((open, unread), (state.active, state.windows.unread()));
        assert!(unread <= state.config.connection_window);
    }

    /// Everybody leaves.
    fn end(mut self) {
        while let Some(key) = self.keys.pop() {
            self.connection.release(key);
        }
        while let Some((key, _)) = self.connection.next_request() {
            self.connection.release(key);
        }
        // The peer allows what is left to be sent.
        self.transmit(usize::MAX);
        self.connection.abort();
        self.transmit(usize::MAX);
        assert!(self.connection.outcome().is_some() && !self.connection.has_output());
        let state = &self.connection.state;
        assert!(state.streams.is_empty() && state.first == NOBODY && state.active == 0, "{state:?}");
        assert_eq!((state.windows.unread(), state.offences.small_frames()), (0, 0));
        // What was said are whole frames, none of them larger than every peer takes.
        assert!(frames(&self.written).iter().all(|(head, _)| head.length <= frame::SMALLEST_LIMIT));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_server_survives_anything(steps in proptest::collection::vec(step(), 0..80)) {
        let mut world = World::new(Role::Server);
        steps.into_iter().for_each(|step| world.apply(step));
        world.end();
    }

    #[test]
    fn a_client_survives_anything(steps in proptest::collection::vec(step(), 0..80)) {
        let mut world = World::new(Role::Client);
        steps.into_iter().for_each(|step| world.apply(step));
        world.end();
    }
}
