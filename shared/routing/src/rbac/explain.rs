//! Why no policy is for a subject.

use std::fmt;

use super::condition::PEER_PRINCIPAL;
use super::{Condition, Policy, Subject};
use crate::{HeaderMatch, HeaderMatchKind, TextMatch, ValueMatch};

/// Which policy is for a subject, or why none is; `Display` tells it in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Explanation {
    /// This policy is.
    Matched(Box<str>),
    /// None is: what each of them misses, in the order of their names.
    Unmatched(Vec<Miss>),
}

/// What a policy misses first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Miss {
    /// The policy's name.
    pub policy: Box<str>,
    /// Where in the policy it is asked for; of several alternatives the first one counts.
    pub place: Place,
    /// What was looked at, such as `methods`.
    pub looked_at: String,
    /// What was found; `None` where there was nothing.
    pub found: Option<String>,
    /// What would have been right, or wrong where it is negated.
    pub wanted: Vec<String>,
    /// Whether the contrary of `wanted` was asked for.
    pub is_negated: bool,
}

/// A part of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Among the permissions.
    To,
    /// Among the principals.
    From,
}

/// Headers of which nobody is to see the value in a log.
const SECRET: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

impl Miss {
    /// What `policy` misses to be for `subject`; `None` if it is, or if it can be for nothing.
    pub(super) fn find(name: &str, policy: &Policy, subject: &Subject<'_>) -> Option<Self> {
        let parts = [(Place::To, &policy.permissions), (Place::From, &policy.principals)];
        let is_missed = |conditions: &[Condition]| !conditions.iter().any(|condition| condition.matches(subject));
        let (place, conditions) = parts.into_iter().find(|(_, conditions)| is_missed(conditions))?;
        let (missed, is_negated) = missed(conditions.first()?, subject);
        let leaves = leaves(missed);
        let first = leaves.first()?;
        let looked_at = looked_at(first);
        Some(Self {
            policy: name.into(),
            place,
            found: found(first, subject),
            wanted: leaves.iter().filter(|leaf| self::looked_at(leaf) == looked_at).map(|leaf| wanted(leaf)).collect(),
            looked_at,
            is_negated,
        })
    }
}

/// The part of a condition that is not met, and whether it is negated.
fn missed<'c>(condition: &'c Condition, subject: &Subject<'_>) -> (&'c Condition, bool) {
    match condition {
        Condition::And(all) => match all.iter().find(|part| !part.matches(subject)) {
            Some(part) => missed(part, subject),
            None => (condition, false),
        },
        Condition::Or(any) => match any.first() {
            Some(part @ (Condition::And(_) | Condition::Not(_))) => missed(part, subject),
            _ => (condition, false),
        },
        Condition::Not(part) => (part, true),
        _ => (condition, false),
    }
}

/// What a condition asks for in the end.
fn leaves(condition: &Condition) -> Vec<&Condition> {
    match condition {
        Condition::And(parts) | Condition::Or(parts) => parts.iter().flat_map(leaves).collect(),
        Condition::Not(part) => leaves(part),
        leaf => vec![leaf],
    }
}

fn looked_at(leaf: &Condition) -> String {
    match leaf {
        Condition::Header(header) => match header.name.to_ascii_lowercase().as_str() {
            ":method" => "methods".to_owned(),
            ":authority" | "host" => "hosts".to_owned(),
            name => format!("headers[{name}]"),
        },
        Condition::UrlPath(_) | Condition::UriTemplate(_) => "paths".to_owned(),
        Condition::DestinationIp(_) => "destination.ip".to_owned(),
        Condition::DestinationPort(_) => "ports".to_owned(),
        Condition::Metadata(metadata) => format!("metadata[{}/{}]", metadata.filter, metadata.path.join("/")),
        Condition::RequestedServerName(_) => "connection.sni".to_owned(),
        Condition::Authenticated(_) => "principals".to_owned(),
        Condition::FilterState { key, .. } if &**key == PEER_PRINCIPAL => "principals".to_owned(),
        Condition::FilterState { key, .. } => format!("state[{key}]"),
        Condition::SourceIp(_) => "source.ip".to_owned(),
        Condition::RemoteIp(_) => "remote.ip".to_owned(),
        Condition::Any | Condition::And(_) | Condition::Or(_) | Condition::Not(_) => "any".to_owned(),
    }
}

fn found(leaf: &Condition, subject: &Subject<'_>) -> Option<String> {
    let connection = subject.connection;
    match leaf {
        Condition::Header(header) => {
            let value = subject.request?.header(&header.name)?;
            let is_secret = SECRET.iter().any(|name| header.name.eq_ignore_ascii_case(name));
            Some(if is_secret { "a secret".to_owned() } else { String::from_utf8_lossy(&value).into_owned() })
        }
        Condition::UrlPath(_) | Condition::UriTemplate(_) => Some(subject.request?.plain_path().to_owned()),
        Condition::DestinationIp(_) => Some(connection.destination.ip().to_string()),
        Condition::DestinationPort(_) => Some(connection.destination.port().to_string()),
        Condition::Metadata(metadata) => {
            let path = metadata.path.iter().map(|key| &**key);
            let value = subject.request?.metadata.find(&metadata.filter, path)?;
            Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        }
        Condition::RequestedServerName(_) => connection.server_name.as_deref().map(str::to_owned),
        Condition::FilterState { key, .. } if &**key != PEER_PRINCIPAL => None,
        Condition::Authenticated(_) | Condition::FilterState { .. } => subject.uri().map(str::to_owned),
        Condition::SourceIp(_) => Some(connection.source_ip().to_string()),
        Condition::RemoteIp(_) => Some(subject.remote.to_string()),
        Condition::Any | Condition::And(_) | Condition::Or(_) | Condition::Not(_) => Some("any".to_owned()),
    }
}

fn wanted(leaf: &Condition) -> String {
    match leaf {
        Condition::Header(header) => header_text(header),
        Condition::UrlPath(text)
        | Condition::RequestedServerName(text)
        | Condition::Authenticated(Some(text))
        | Condition::FilterState { text, .. } => text_of(text),
        Condition::UriTemplate(template) => template.to_string(),
        Condition::DestinationIp(range) | Condition::SourceIp(range) | Condition::RemoteIp(range) => range.to_string(),
        Condition::DestinationPort(range) if range.start() == range.end() => range.start().to_string(),
        Condition::DestinationPort(range) => format!("{}-{}", range.start(), range.end()),
        Condition::Metadata(metadata) if metadata.inverts => format!("not {}", value_text(&metadata.value)),
        Condition::Metadata(metadata) => value_text(&metadata.value),
        _ => "any".to_owned(),
    }
}

fn header_text(header: &HeaderMatch) -> String {
    let text = match &header.kind {
        HeaderMatchKind::Present(true) => "present".to_owned(),
        HeaderMatchKind::Present(false) => "absent".to_owned(),
        HeaderMatchKind::Text(text) => text_of(text),
        HeaderMatchKind::Range(start, end) => format!("{start}..{end}"),
    };
    if header.inverts { format!("not {text}") } else { text }
}

fn value_text(value: &ValueMatch) -> String {
    match value {
        ValueMatch::Text(text) => text_of(text),
        ValueMatch::ListWith(element) => value_text(element),
        other => format!("{other:?}"),
    }
}

fn text_of(text: &TextMatch) -> String {
    match text {
        TextMatch::Exact { text, .. } => text.to_string(),
        TextMatch::Prefix { text, .. } => format!("{text}*"),
        TextMatch::Suffix { text, .. } => format!("*{text}"),
        TextMatch::Contains { text, .. } => format!("*{text}*"),
        TextMatch::Pattern(pattern) => format!("/{}/", pattern.as_str()),
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Matched(policy) => write!(f, "{} matches", Name(policy)),
            Self::Unmatched(misses) if misses.is_empty() => f.write_str("no policy can match"),
            Self::Unmatched(misses) => {
                for (index, miss) in misses.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "; " };
                    write!(f, "{separator}{miss}")?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.place {
            Place::To => "to",
            Place::From => "from",
        };
        let found = self.found.as_deref().unwrap_or("nothing");
        let kind = if self.is_negated { "none" } else { "one" };
        let (policy, looked_at, wanted) = (Name(&self.policy), &self.looked_at, self.wanted.join(", "));
        write!(f, "{policy} {place}[0].{looked_at}: saw {found}, want {kind} of [{wanted}]")
    }
}

/// A policy's name: `ns[shop]-policy[get]-rule[0]` is told as `shop/get rule[0]`.
struct Name<'a>(&'a str);

impl Name<'_> {
    fn parts(&self) -> Option<(&str, &str, &str)> {
        let (namespace, rest) = self.0.strip_prefix("ns[")?.split_once("]-policy[")?;
        let (policy, rule) = rest.split_once("]-rule[")?;
        Some((namespace, policy, rule.strip_suffix(']')?))
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            Some((namespace, policy, rule)) => write!(f, "{namespace}/{policy} rule[{rule}]"),
            None => write!(f, "policy {}", self.0),
        }
    }
}
