//! What a handshake led to.

use rustls::{CommonState, HandshakeKind};

/// What two peers agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// The protocol version, such as `TLSv1_3`.
    pub version: String,
    /// The cipher suite, such as `TLS13_AES_128_GCM_SHA256`.
    pub cipher_suite: String,
    /// The key exchange, such as `X25519MLKEM768`.
    pub key_exchange: String,
    /// The application protocol, such as `h2`; empty when none was negotiated.
    pub alpn: String,
    /// Whether it went on with an earlier session: without certificates, which were shown then.
    pub is_resumed: bool,
}

impl Negotiated {
    pub(crate) fn of(connection: &CommonState) -> Self {
        Self {
            version: connection.protocol_version().map(|version| format!("{version:?}")).unwrap_or_default(),
            cipher_suite: connection
                .negotiated_cipher_suite()
                .map(|suite| format!("{:?}", suite.suite()))
                .unwrap_or_default(),
            key_exchange: connection
                .negotiated_key_exchange_group()
                .map(|group| format!("{:?}", group.name()))
                .unwrap_or_default(),
            alpn: connection
                .alpn_protocol()
                .map(|protocol| String::from_utf8_lossy(protocol).into_owned())
                .unwrap_or_default(),
            is_resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }
}
