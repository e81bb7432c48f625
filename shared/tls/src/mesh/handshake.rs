//! The handshake: rustls decides what is said, this moves it.

use ::io::Buffer;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::kernel::KernelConnection;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{CommonState, Error, ExtractedSecrets};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::incoming::Incoming;
use super::outgoing::Outgoing;
use super::record::{Opener, Sealer};
use crate::TlsError;
use crate::session::{self, Proof};

/// Room for what most peers say at a time; it grows for others, up to [`Buffer::SIZE`]. Whoever opens many connections
/// and says little shall not cost much.
const RECEIVED: usize = 4 << 10;

/// How much of a last message may wait for what is written behind it, in bytes: far more than certificates take.
const HELD: usize = 16 << 10;

/// One side of a handshake.
pub(super) trait Side: Sized {
    type Data;

    fn common(&self) -> &CommonState;
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    fn finish(self) -> Result<(ExtractedSecrets, Keys), Error>;
}

/// What is left of rustls's connection when the handshake is over: where the next keys come from.
pub(super) enum Keys {
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
}

impl Keys {
    pub(super) fn next_sealer(&mut self) -> Result<Sealer, Error> {
        Sealer::new(self.next(KernelConnection::update_tx_secret, KernelConnection::update_tx_secret)?)
    }

    pub(super) fn next_opener(&mut self) -> Result<Opener, Error> {
        Opener::new(self.next(KernelConnection::update_rx_secret, KernelConnection::update_rx_secret)?)
    }

    /// Keeps what a server gave to come back with; `proof` is that of its certificates.
    pub(super) fn keep_session(&mut self, ticket: &[u8], proof: Proof) -> Result<(), Error> {
        match self {
            Self::Client(connection) => {
                session::with(&mut Some(proof), || connection.handle_new_session_ticket(ticket))
            }
            Self::Server(_) => Ok(()),
        }
    }

    fn next<T>(
        &mut self,
        client: impl FnOnce(&mut KernelConnection<ClientConnectionData>) -> T,
        server: impl FnOnce(&mut KernelConnection<ServerConnectionData>) -> T,
    ) -> T {
        match self {
            Self::Client(connection) => client(connection),
            Self::Server(connection) => server(connection),
        }
    }
}

impl Side for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn common(&self) -> &CommonState {
        self
    }

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn finish(self) -> Result<(ExtractedSecrets, Keys), Error> {
        self.dangerous_into_kernel_connection().map(|(secrets, connection)| (secrets, Keys::Client(connection)))
    }
}

impl Side for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn common(&self) -> &CommonState {
        self
    }

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn finish(self) -> Result<(ExtractedSecrets, Keys), Error> {
        self.dangerous_into_kernel_connection().map(|(secrets, connection)| (secrets, Keys::Server(connection)))
    }
}

/// A handshake under way.
pub(super) struct Handshake<C> {
    connection: C,
    /// For how long the peer's certificates count, once it has shown them or comes back.
    proof: Option<Proof>,
    buffer: Vec<u8>,
    /// What was received and not yet used lies in `start..end`.
    start: usize,
    end: usize,
    /// Plaintext that came right behind the peer's last message.
    plain: Vec<u8>,
    /// The peer has ended its direction right behind that.
    has_ended: bool,
    flight: Vec<u8>,
    filled: usize,
}

/// What a handshake leads to.
pub(super) struct Established {
    pub(super) incoming: Incoming,
    pub(super) outgoing: Outgoing,
    pub(super) keys: Keys,
    pub(super) proof: Option<Proof>,
    /// The peer has said `close_notify` already.
    pub(super) has_ended: bool,
}

/// What the handshake waits for.
enum Step {
    Again,
    Send,
    Receive,
    Done,
}

impl<C: Side> Handshake<C> {
    pub(super) fn new(connection: C, proof: Option<Proof>) -> Self {
        Self {
            connection,
            proof,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            plain: Vec::new(),
            has_ended: false,
            flight: Vec::new(),
            filled: 0,
        }
    }

    /// Speaks with the peer until this side is sure of it, or one turns the other down.
    ///
    /// The last message, after which this side may write, waits for what is written behind it.
    pub(super) async fn run<S>(&mut self, transport: &mut S) -> Result<(), TlsError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        loop {
            match self.step() {
                Ok(Step::Again) => {}
                Ok(Step::Send) => self.send(transport).await.map_err(TlsError::Io)?,
                Ok(Step::Receive) => self.receive(transport).await?,
                Ok(Step::Done) if self.filled > HELD => return self.send(transport).await.map_err(TlsError::Io),
                Ok(Step::Done) => return Ok(()),
                Err(error) => {
                    self.explain(transport).await;
                    return Err(TlsError::from_rustls(&error));
                }
            }
        }
    }

    /// What the handshake has agreed on.
    pub(super) fn common(&self) -> &CommonState {
        self.connection.common()
    }

    /// The two directions of the connection, and its further keys.
    pub(super) fn finish(self) -> Result<Established, Error> {
        let (ExtractedSecrets { tx, rx }, keys) = self.connection.finish()?;
        let (sealer, opener) = (Sealer::new(tx)?, Opener::new(rx)?);
        let rest = self.buffer.get(self.start..self.end).unwrap_or_default();
        let said = self.flight.get(..self.filled).unwrap_or_default();
        let (incoming, outgoing) = (Incoming::new(opener, &self.plain, rest), Outgoing::new(sealer, said));
        Ok(Established { incoming, outgoing, keys, proof: self.proof, has_ended: self.has_ended })
    }

    fn step(&mut self) -> Result<Step, Error> {
        let received = self.buffer.get_mut(self.start..self.end).unwrap_or_default();
        let connection = &mut self.connection;
        let UnbufferedStatus { discard, state } = session::with(&mut self.proof, || connection.process(received));
        self.start += discard;
        let step = match state? {
            ConnectionState::EncodeTlsData(mut message) => {
                encode(&mut self.flight, &mut self.filled, |space| message.encode(space))?;
                Step::Again
            }
            ConnectionState::TransmitTlsData(transmit) => {
                transmit.done();
                if self.connection.common().is_handshaking() { Step::Send } else { Step::Again }
            }
            ConnectionState::BlockedHandshake => Step::Receive,
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    self.plain.extend_from_slice(record?.payload);
                }
                Step::Again
            }
            ConnectionState::PeerClosed => {
                self.has_ended = true;
                Step::Again
            }
            ConnectionState::WriteTraffic(_) => Step::Done,
            _ => return Err(Error::HandshakeNotComplete),
        };
        Ok(step)
    }

    async fn send<S: AsyncWrite + Unpin>(&mut self, transport: &mut S) -> std::io::Result<()> {
        transport.write_all(self.flight.get(..self.filled).unwrap_or_default()).await?;
        self.filled = 0;
        transport.flush().await
    }

    async fn receive<S: AsyncRead + Unpin>(&mut self, transport: &mut S) -> Result<(), TlsError> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.end == Buffer::SIZE {
            return Err(TlsError::Handshake(Error::PeerSentOversizedRecord));
        }
        if self.end == self.buffer.len() {
            self.buffer.resize((self.end * 2).clamp(RECEIVED, Buffer::SIZE), 0);
        }
        let space = self.buffer.get_mut(self.end..).unwrap_or_default();
        let count = transport.read(space).await.map_err(TlsError::Io)?;
        if count == 0 {
            let ended = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the peer left during the handshake");
            return Err(TlsError::Io(ended));
        }
        self.end += count;
        Ok(())
    }

    /// Sends the alert that goes with a failure, if there is one; the failure is what counts.
    async fn explain<S: AsyncWrite + Unpin>(&mut self, transport: &mut S) {
        // Asked for more than that, it would look at what it has turned down once more.
        while self.connection.common().wants_write() {
            let state = self.connection.process(&mut []).state;
            let Ok(ConnectionState::EncodeTlsData(mut message)) = state else { break };
            if encode(&mut self.flight, &mut self.filled, |space| message.encode(space)).is_err() {
                return;
            }
        }
        let _ = self.send(transport).await;
    }
}

/// Appends a message to a flight, making room for it.
fn encode(
    flight: &mut Vec<u8>,
    filled: &mut usize,
    mut message: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> Result<(), Error> {
    loop {
        match message(flight.get_mut(*filled..).unwrap_or_default()) {
            Ok(count) => {
                *filled += count;
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(needed)) => flight.resize(*filled + needed.required_size, 0),
            Err(error) => return Err(Error::General(error.to_string())),
        }
    }
}
