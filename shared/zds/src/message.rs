//! Messages, and their form on the wire.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use prost::Message;
use proto::istio::workload::zds;
use proto::istio::workload::zds::workload_request::Payload;
use types::PodUid;

use crate::ZdsError;

/// The longest message: the size of the buffer that every implementation reads into.
pub const MAX_MESSAGE: usize = 1024;

/// What the proxy says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Whether the peer speaks version 1; the agent only logs it when it does not.
    pub is_version_1: bool,
    /// Names the implementation; empty unless the proxy is ours (field 100, which others ignore).
    pub implementation: String,
}

impl Hello {
    /// The name by which our proxy makes itself known.
    pub const AQUIFER: &'static str = "aquifer";

    /// Our proxy's.
    #[must_use]
    pub fn aquifer() -> Self {
        Self { is_version_1: true, implementation: Self::AQUIFER.to_owned() }
    }

    /// Whether the proxy drains a removed pod instead of cutting its connections.
    #[must_use]
    pub fn drains_on_del(&self) -> bool {
        self.implementation == Self::AQUIFER
    }

    /// The bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let version = if self.is_version_1 { zds::Version::V1 } else { zds::Version::NotUsed };
        zds::ZdsHello { version: version.into(), implementation: self.implementation.clone() }.encode_to_vec()
    }

    /// Reads the bytes.
    ///
    /// # Errors
    /// When they are no hello.
    pub fn decode(bytes: &[u8]) -> Result<Self, ZdsError> {
        let hello = zds::ZdsHello::decode(bytes).map_err(malformed)?;
        let is_version_1 = hello.version == i32::from(zds::Version::V1);
        Ok(Self { is_version_1, implementation: hello.implementation })
    }
}

/// Which pod it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadInfo {
    /// The pod's name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its ServiceAccount.
    pub service_account: String,
}

/// What the agent asks of the proxy; `F` is the descriptor's type, owned on receipt and borrowed to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request<F = OwnedFd> {
    /// Serve this pod.
    Add {
        /// The pod's Kubernetes UID.
        uid: PodUid,
        /// Which pod it is.
        info: WorkloadInfo,
        /// Its network namespace.
        netns: F,
    },
    /// Keep serving this pod, if it is served; its namespace is not known to the agent.
    Keep(PodUid),
    /// Stop serving this pod.
    Del(PodUid),
    /// All pods that there are have been mentioned.
    SnapshotSent,
}

impl<F: AsFd> Request<F> {
    /// The bytes and the descriptor to send.
    ///
    /// # Errors
    /// When the message would not fit into the peer's buffer.
    pub fn encode(&self) -> Result<(Vec<u8>, Option<BorrowedFd<'_>>), ZdsError> {
        let (payload, descriptor) = match self {
            Self::Add { uid, info, netns } => {
                let info = zds::WorkloadInfo {
                    name: info.name.clone(),
                    namespace: info.namespace.clone(),
                    service_account: info.service_account.clone(),
                };
                let add = zds::AddWorkload { uid: uid.to_string(), workload_info: Some(info) };
                (Payload::Add(add), Some(netns.as_fd()))
            }
            Self::Keep(uid) => (Payload::Keep(zds::KeepWorkload { uid: uid.to_string() }), None),
            Self::Del(uid) => (Payload::Del(zds::DelWorkload { uid: uid.to_string() }), None),
            Self::SnapshotSent => (Payload::SnapshotSent(zds::SnapshotSent {}), None),
        };
        let bytes = zds::WorkloadRequest { payload: Some(payload) }.encode_to_vec();
        if bytes.len() > MAX_MESSAGE { Err(ZdsError::TooLong(bytes.len())) } else { Ok((bytes, descriptor)) }
    }
}

impl Request {
    /// Reads the bytes and takes the descriptor.
    ///
    /// # Errors
    /// When the bytes are no request, a pod is not described, or a descriptor is missing or too many.
    pub fn decode(bytes: &[u8], descriptor: Option<OwnedFd>) -> Result<Self, ZdsError> {
        let request = zds::WorkloadRequest::decode(bytes).map_err(malformed)?;
        let payload = request.payload.ok_or_else(|| ZdsError::Malformed("a request without payload".to_owned()))?;
        if let Payload::Add(add) = payload {
            let Some(info) = add.workload_info else { return Err(ZdsError::MissingInfo(add.uid)) };
            let netns = descriptor
                .ok_or(ZdsError::Descriptor("a pod was added without the descriptor of its network namespace"))?;
            let info =
                WorkloadInfo { name: info.name, namespace: info.namespace, service_account: info.service_account };
            return Ok(Self::Add { uid: PodUid::from(add.uid), info, netns });
        }
        if descriptor.is_some() {
            return Err(ZdsError::Descriptor("a message that adds no pod came with a descriptor"));
        }
        match payload {
            Payload::Del(del) => Ok(Self::Del(PodUid::from(del.uid))),
            Payload::Keep(keep) => Ok(Self::Keep(PodUid::from(keep.uid))),
            Payload::SnapshotSent(_) | Payload::Add(_) => Ok(Self::SnapshotSent),
        }
    }
}

/// What the proxy answers: nothing more to say, or why it could not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack(pub Result<(), String>);

impl Ack {
    /// The bytes; a reason that is too long is cut.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // What the two length prefixes and tags around the reason take, generously.
        const FRAMING: usize = 16;
        let reason = match &self.0 {
            Ok(()) => "",
            Err(reason) if reason.is_empty() => "unspecified",
            Err(reason) => reason.get(..reason.floor_char_boundary(MAX_MESSAGE - FRAMING)).unwrap_or_default(),
        };
        let ack = zds::Ack { error: reason.to_owned() };
        zds::WorkloadResponse { payload: Some(zds::workload_response::Payload::Ack(ack)) }.encode_to_vec()
    }

    /// Reads the bytes.
    ///
    /// # Errors
    /// When they are no acknowledgement.
    pub fn decode(bytes: &[u8]) -> Result<Self, ZdsError> {
        let response = zds::WorkloadResponse::decode(bytes).map_err(malformed)?;
        match response.payload {
            Some(zds::workload_response::Payload::Ack(ack)) if ack.error.is_empty() => Ok(Self(Ok(()))),
            Some(zds::workload_response::Payload::Ack(ack)) => Ok(Self(Err(ack.error))),
            None => Err(ZdsError::Malformed("a response without payload".to_owned())),
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "used as the argument of map_err")]
fn malformed(error: prost::DecodeError) -> ZdsError {
    ZdsError::Malformed(error.to_string())
}
