//! A query on its way to another server, and which message is the answer to it.

/// Length of a message's header in bytes; RFC 1035, 4.1.1.
const HEADER: usize = 12;
/// Where the flags are in it.
const FLAGS: usize = 2;
/// The bit of the first byte of flags that marks a response.
const RESPONSE: u8 = 0x80;
/// The bit of the first byte of flags by which a server claims authority.
const AUTHORITATIVE: u8 = 0x04;
/// The bits of the second byte of flags that tell the outcome.
const OUTCOME: u8 = 0x0f;

/// A query under an identifier of our own.
///
/// Nothing but the identifier changes on the way, and nothing but identifier and authority on the way back, so that
/// types, options and outcomes that this program has never heard of pass.
#[derive(Debug, Clone)]
pub struct Forwarding {
    bytes: Vec<u8>,
    client_id: [u8; 2],
    /// Where the question ends.
    question_end: usize,
}

/// What a message from the server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Not the answer: forged, late, or broken.
    Foreign,
    /// The answer, ready for the client.
    Answer {
        /// The message.
        bytes: Vec<u8>,
        /// Another server may do better: `SERVFAIL`, `NOTIMP` or `REFUSED`.
        is_poor: bool,
    },
}

impl Forwarding {
    /// Takes a query under way; `None` when it has no question that could be compared.
    ///
    /// The identifier should be unpredictable: it keeps others from answering.
    #[must_use]
    pub fn new(query: &[u8], id: u16) -> Option<Self> {
        let question_end = question_end(query)?;
        let client_id = *query.first_chunk::<2>()?;
        let mut bytes = query.to_vec();
        *bytes.first_chunk_mut::<2>()? = id.to_be_bytes();
        Some(Self { bytes, client_id, question_end })
    }

    /// The message for the server.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Judges a message from the server.
    ///
    /// An answer has the identifier and the question of the query; servers that cannot read a query leave the question
    /// out and report a failure.
    #[must_use]
    pub fn judge(&self, message: &[u8]) -> Verdict {
        let Some(header) = message.first_chunk::<HEADER>() else { return Verdict::Foreign };
        let [id_high, id_low, flags, more_flags, count_high, count_low, ..] = *header;
        let has_id = self.bytes.starts_with(&[id_high, id_low]);
        let outcome = more_flags & OUTCOME;
        let has_question = match [count_high, count_low] {
            [0, 0] => outcome != 0,
            [0, 1] => self.is_own_question(message),
            _ => false,
        };
        if !has_id || flags & RESPONSE == 0 || !has_question {
            return Verdict::Foreign;
        }
        let mut bytes = message.to_vec();
        if let Some(id) = bytes.first_chunk_mut::<2>() {
            *id = self.client_id;
        }
        if let Some(flags) = bytes.get_mut(FLAGS) {
            *flags &= !AUTHORITATIVE;
        }
        // SERVFAIL, NOTIMP, REFUSED: RFC 1035, 4.1.1.
        Verdict::Answer { bytes, is_poor: matches!(outcome, 2 | 4 | 5) }
    }

    /// Length octets are below 64 and thereby no letters, so that comparing without regard to case is sound.
    fn is_own_question(&self, message: &[u8]) -> bool {
        let part = HEADER..self.question_end;
        match (self.bytes.get(part.clone()), message.get(part)) {
            (Some(own), Some(other)) => own.eq_ignore_ascii_case(other),
            _ => false,
        }
    }
}

/// Where the first question ends; `None` when it is not whole or uses compression, which makes no sense there.
fn question_end(message: &[u8]) -> Option<usize> {
    /// Type and class.
    const TAIL: usize = 4;
    let mut position = HEADER;
    loop {
        match *message.get(position)? {
            0 => break,
            length @ 1..64 => position += 1 + usize::from(length),
            _ => return None,
        }
    }
    let end = position + 1 + TAIL;
    (end <= message.len()).then_some(end)
}
