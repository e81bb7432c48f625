//! What is said over the socket: one message per packet, a letter and its content.

use serde::{Deserialize, Serialize};

use crate::families::Families;

/// Largest content of one message, in bytes; longer texts come in pieces.
pub(super) const MAX_CONTENT: usize = 32 * 1024;

/// What a command wants; the first message of each connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Request {
    /// What runs.
    Status,
    /// Run a program inside; three messages with descriptors follow.
    Exec(ExecRequest),
    /// The log of a container.
    Logs(LogsRequest),
    /// End.
    Down,
}

/// Runs a program inside the lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExecRequest {
    pub(crate) target: Target,
    pub(crate) command: Vec<String>,
    /// Added to the environment of the container, or to an empty one.
    pub(crate) environment: Vec<(String, String)>,
}

/// Where a program runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// In a container of a pod: its network, its files, its environment.
    Pod {
        /// The pod's namespace.
        namespace: String,
        /// The pod's name.
        pod: String,
        /// The container; without it the first one that runs.
        container: Option<String>,
    },
    /// In the network namespace of a node.
    Node(String),
    /// In the network namespace that joins the nodes.
    Fabric,
}

/// Which log, and how much of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogsRequest {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The container, if the pod has several.
    pub container: Option<String>,
    /// Go on with what is written later.
    pub follow: bool,
    /// The run before the current one.
    pub previous: bool,
    /// At most so many of the last lines.
    pub tail: Option<u64>,
    /// Put the time before each line.
    pub timestamps: bool,
}

/// One packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    /// A request.
    Request(Request),
    /// News of a lab that comes up.
    Announcement(Announcement),
    /// A descriptor comes with it.
    Descriptor,
    /// A signal for the program that runs.
    Signal(Signal),
    /// A piece of text or of a log.
    Data(Vec<u8>),
    /// It did not work, and why.
    Failed(String),
    /// It is done, with this exit code.
    Done(i32),
}

/// What a lab says while it comes up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Announcement {
    /// The next step.
    Progress(String),
    /// The lab is up.
    Ready {
        /// For the administrator.
        kubeconfig: String,
        /// In which address families.
        families: Families,
    },
    /// The lab is not going to come up.
    Failed(String),
}

/// A signal that is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Signal {
    Interrupt,
    Terminate,
    Hangup,
}

impl Message {
    /// The packet's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let json = |letter: u8, content: serde_json::Result<Vec<u8>>| {
            // Content of these types has string keys only, which is all that JSON asks for.
            let mut packet = vec![letter];
            packet.extend(content.unwrap_or_default());
            packet
        };
        match self {
            Self::Request(request) => json(b'r', serde_json::to_vec(request)),
            Self::Announcement(announcement) => json(b'a', serde_json::to_vec(announcement)),
            Self::Descriptor => vec![b'f'],
            Self::Signal(signal) => json(b's', serde_json::to_vec(signal)),
            Self::Data(bytes) => [b"d", bytes.as_slice()].concat(),
            Self::Failed(why) => {
                let mut text: Vec<u8> = why.bytes().take(MAX_CONTENT).collect();
                text.insert(0, b'e');
                text
            }
            Self::Done(code) => json(b'x', serde_json::to_vec(code)),
        }
    }

    /// Reads a packet; `None` for what no side sends.
    pub(crate) fn decode(packet: &[u8]) -> Option<Self> {
        let (letter, content) = packet.split_first()?;
        Some(match letter {
            b'r' => Self::Request(serde_json::from_slice(content).ok()?),
            b'a' => Self::Announcement(serde_json::from_slice(content).ok()?),
            b'f' if content.is_empty() => Self::Descriptor,
            b's' => Self::Signal(serde_json::from_slice(content).ok()?),
            b'd' => Self::Data(content.to_vec()),
            b'e' => Self::Failed(String::from_utf8_lossy(content).into_owned()),
            b'x' => Self::Done(serde_json::from_slice(content).ok()?),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_round_trips() {
        let target = Target::Pod { namespace: "shop".into(), pod: "cart".into(), container: None };
        let exec = ExecRequest { target, command: vec!["curl".into()], environment: vec![("A".into(), "b".into())] };
        for message in [
            Message::Request(Request::Status),
            Message::Request(Request::Exec(exec)),
            Message::Request(Request::Logs(LogsRequest { follow: true, tail: Some(3), ..LogsRequest::default() })),
            Message::Request(Request::Down),
            Message::Announcement(Announcement::Ready { kubeconfig: "k".into(), families: Families::Dual }),
            Message::Descriptor,
            Message::Signal(Signal::Terminate),
            Message::Data(vec![0, 255, b'x']),
            Message::Failed("no such pod".into()),
            Message::Done(-1),
        ] {
            assert_eq!(Message::decode(&message.encode()), Some(message));
        }
    }

    #[test]
    fn what_no_side_sends_is_refused() {
        for packet in [&b""[..], b"q", b"r", b"r{}", b"rnull", b"fx", b"s9", b"x", b"xabc"] {
            assert_eq!(Message::decode(packet), None, "{packet:?}");
        }
    }
}
