//! A query as it came, and the messages that answer it.

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query as Question, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType};

/// The size that any resolver takes in a datagram, in bytes; [RFC 1035, 4.2.1](https://www.rfc-editor.org/rfc/rfc1035).
const LEAST_DATAGRAM: u16 = 512;

/// The size that the length field of a stream allows, in bytes; RFC 1035, 4.2.2.
const LARGEST_STREAM_MESSAGE: u16 = u16::MAX;

/// How a query came, which bounds the size of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// In a datagram.
    Udp,
    /// In a stream, with its length before it.
    Tcp,
}

impl Transport {
    /// The lower-case name, as in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// A query with exactly one question.
#[derive(Debug, Clone)]
pub struct Query {
    message: Message,
    question: Question,
    transport: Transport,
}

/// What to do with bytes that are not a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unusable {
    /// Nothing: an answer would be wrong.
    Ignore,
    /// Send these bytes back.
    Refuse(Vec<u8>),
}

impl Query {
    /// Reads a query.
    ///
    /// # Errors
    /// What to do instead: kinds of operation other than a query are `NOTIMP`, what cannot be read and responses are
    /// `FORMERR`. Responses that report a failure are ignored, or two proxies could answer each other for ever.
    pub fn parse(bytes: &[u8], transport: Transport) -> Result<Self, Unusable> {
        let Ok(message) = Message::from_vec(bytes) else { return Err(malformed(bytes)) };
        let metadata = &message.metadata;
        if metadata.message_type == MessageType::Response {
            return Err(match metadata.response_code {
                ResponseCode::NoError => refusal(&message, ResponseCode::FormErr),
                _ => Unusable::Ignore,
            });
        }
        if metadata.op_code != OpCode::Query {
            return Err(refusal(&message, ResponseCode::NotImp));
        }
        match message.queries.as_slice() {
            [question] => Ok(Self { question: question.clone(), message, transport }),
            _ => Err(refusal(&message, ResponseCode::FormErr)),
        }
    }

    /// The name that is asked for.
    #[must_use]
    pub fn name(&self) -> &Name {
        self.question.name()
    }

    /// The type of record that is asked for.
    #[must_use]
    pub fn record_type(&self) -> RecordType {
        self.question.query_type()
    }

    /// The class and everything else of the question.
    #[must_use]
    pub fn question(&self) -> &Question {
        &self.question
    }

    /// How the query came.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// The answer that says only this.
    #[must_use]
    pub fn failure(&self, code: ResponseCode) -> Vec<u8> {
        let mut response = self.response();
        response.metadata.response_code = code;
        self.encode(response)
    }

    /// The answer with these records, of which as many are sent as fit.
    pub(crate) fn success(&self, records: Vec<Record>) -> Vec<u8> {
        let mut response = self.response();
        response.metadata.authoritative = true;
        response.answers = records;
        self.encode(response)
    }

    fn response(&self) -> Message {
        let mut response = Message::new(self.message.metadata.id, MessageType::Response, OpCode::Query);
        response.metadata = Metadata::response_from_request(&self.message.metadata);
        response.metadata.recursion_available = true;
        response.queries.push(self.question.clone());
        response.edns = self.message.edns.as_ref().map(echo);
        response
    }

    /// The largest answer that the client takes, in bytes.
    #[must_use]
    pub fn limit(&self) -> usize {
        match (self.transport, &self.message.edns) {
            (Transport::Tcp, _) => LARGEST_STREAM_MESSAGE.into(),
            (Transport::Udp, Some(edns)) => edns.max_payload().max(LEAST_DATAGRAM).into(),
            (Transport::Udp, None) => LEAST_DATAGRAM.into(),
        }
    }

    /// Some resolvers never ask again over TCP: a truncated answer holds what fits instead of nothing.
    fn encode(&self, mut response: Message) -> Vec<u8> {
        let limit = self.limit();
        let fits = |response: &Message| response.to_vec().ok().filter(|bytes| bytes.len() <= limit);
        if let Some(bytes) = fits(&response) {
            return bytes;
        }
        response.metadata.truncation = true;
        let all = std::mem::take(&mut response.answers);
        let (mut fitting, mut too_many) = (0, all.len());
        let mut best = Vec::new();
        while fitting < too_many {
            let middle = (fitting + too_many) / 2;
            response.answers = all.iter().take(middle).cloned().collect();
            match fits(&response) {
                Some(bytes) => {
                    best = bytes;
                    fitting = middle + 1;
                }
                None => too_many = middle,
            }
        }
        best
    }
}

/// [RFC 6891](https://www.rfc-editor.org/rfc/rfc6891): an answer to a query with EDNS has EDNS; options are not echoed.
fn echo(request: &Edns) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(request.max_payload().max(LEAST_DATAGRAM));
    edns.set_version(request.version());
    edns.set_dnssec_ok(request.flags().dnssec_ok);
    edns
}

fn refusal(message: &Message, code: ResponseCode) -> Unusable {
    let response = Message::error_msg(message.metadata.id, message.metadata.op_code, code);
    response.to_vec().map_or(Unusable::Ignore, Unusable::Refuse)
}

/// The identifier is all that can be trusted of what cannot be read.
fn malformed(bytes: &[u8]) -> Unusable {
    /// The bit of the third byte that marks a response.
    const RESPONSE: u8 = 0x80;
    let (Some(id), Some(flags)) = (bytes.first_chunk::<2>(), bytes.get(2)) else { return Unusable::Ignore };
    if flags & RESPONSE != 0 {
        return Unusable::Ignore;
    }
    let response = Message::error_msg(u16::from_be_bytes(*id), OpCode::Query, ResponseCode::FormErr);
    response.to_vec().map_or(Unusable::Ignore, Unusable::Refuse)
}
