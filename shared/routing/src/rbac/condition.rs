//! What a permission or a principal asks for.

use std::ops::RangeInclusive;

use types::Cidr;

use super::{PathTemplate, Subject};
use crate::{HeaderMatch, Metadata, MetadataMatch, TextMatch};

/// What a subject has to be: one type for Envoy's permissions and principals, of which each may ask for what the other may.
///
/// A bare connection has no headers, no path and no metadata.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// Anything.
    Any,
    /// All of these.
    And(Vec<Self>),
    /// One of these.
    Or(Vec<Self>),
    /// The contrary.
    Not(Box<Self>),
    /// A request with such a header.
    Header(HeaderMatch),
    /// A request with this path, without its query and fragment.
    UrlPath(TextMatch),
    /// The same.
    UriTemplate(PathTemplate),
    /// Where the client wants to go.
    DestinationIp(Cidr),
    /// The port that the client wants to go to.
    DestinationPort(RangeInclusive<u16>),
    /// What filters found out.
    Metadata(MetadataMatch),
    /// The name that the client asked for in its TLS handshake; empty where it asked for none.
    RequestedServerName(TextMatch),
    /// A client with a certificate, and with this SPIFFE URI in it.
    Authenticated(Option<TextMatch>),
    /// The peer of the connection (`source_ip` and `direct_remote_ip`).
    SourceIp(Cidr),
    /// Where the request comes from in the end, behind all proxies that are trusted.
    RemoteIp(Cidr),
    /// What filters share under `key`; only `io.istio.peer_principal` is known, the SPIFFE URI of the client.
    FilterState {
        /// The name of what is shared.
        key: Box<str>,
        /// What its text is.
        text: TextMatch,
    },
}

/// The key of the SPIFFE URI of the client among what filters share.
pub(super) const PEER_PRINCIPAL: &str = "io.istio.peer_principal";

impl Condition {
    /// Whether `subject` is what is asked for.
    pub(super) fn matches(&self, subject: &Subject<'_>) -> bool {
        let connection = subject.connection;
        match self {
            Self::Any => true,
            Self::And(all) => all.iter().all(|condition| condition.matches(subject)),
            Self::Or(any) => any.iter().any(|condition| condition.matches(subject)),
            Self::Not(condition) => !condition.matches(subject),
            Self::Header(header) => match subject.request {
                Some(request) => header.matches(request),
                None => header.matches_values([]),
            },
            Self::UrlPath(text) => subject.request.is_some_and(|request| text.matches(request.plain_path().as_bytes())),
            Self::UriTemplate(template) => {
                subject.request.is_some_and(|request| template.matches(request.plain_path()))
            }
            Self::DestinationIp(range) => range.contains(connection.destination.ip()),
            Self::DestinationPort(range) => range.contains(&connection.destination.port()),
            Self::Metadata(metadata) => match subject.request {
                Some(request) => metadata.matches(request.metadata),
                None => metadata.matches(&Metadata::default()),
            },
            Self::RequestedServerName(text) => {
                text.matches(connection.server_name.as_deref().unwrap_or_default().as_bytes())
            }
            Self::Authenticated(None) => connection.principal.is_some(),
            Self::Authenticated(Some(text)) => has_uri(subject, text),
            Self::SourceIp(range) => range.contains(connection.source_ip()),
            Self::RemoteIp(range) => range.contains(subject.remote),
            Self::FilterState { key, text } => &**key == PEER_PRINCIPAL && has_uri(subject, text),
        }
    }
}

fn has_uri(subject: &Subject<'_>, text: &TextMatch) -> bool {
    subject.uri().is_some_and(|uri| text.matches(uri.as_bytes()))
}
