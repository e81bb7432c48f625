//! The hash that brings requests of one kind to the same endpoint.

mod xx;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

pub(crate) use self::xx::xx_hash64;
use crate::{Connection, Pattern, Request};

/// One thing that the hash of a request is made of, as Envoy's [`HashPolicy`] says it.
///
/// [`HashPolicy`]: https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/route/v3/route_components.proto#config-route-v3-routeaction-hashpolicy
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashPolicy {
    /// What is hashed.
    pub source: HashSource,
    /// Whether those after it make no difference once there is a hash.
    pub is_terminal: bool,
}

/// What is hashed of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashSource {
    /// A header or pseudo header; the order of several values makes no difference.
    Header {
        /// Its name.
        name: Box<str>,
        /// A pattern whose occurrences are replaced in each value before, and what takes their place.
        rewrite: Option<(Pattern, Box<str>)>,
    },
    /// A cookie.
    Cookie(CookieSource),
    /// The address of the client, without the port.
    SourceIp,
    /// The first value of a parameter of the query, as it was sent.
    QueryParameter(Box<str>),
}

/// A cookie that is hashed, and that clients are given where they have none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CookieSource {
    /// Its name.
    pub name: Box<str>,
    /// How long clients keep it, in whole seconds, zero for as long as the client runs; with `None` they are given none.
    pub ttl: Option<Duration>,
    /// The path that it is for; empty for that of the request.
    pub path: Box<str>,
    /// Further attributes and their values, which may be empty.
    pub attributes: Vec<(Box<str>, Box<str>)>,
}

/// The hash of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hashed {
    /// The hash; `None` where the request has nothing of what is hashed.
    pub hash: Option<u64>,
    /// Values of `set-cookie` headers for the response of an endpoint; what a proxy answers itself has none.
    pub set_cookies: Vec<HeaderValue>,
}

/// The hash of a request: the policies one after the other, each of which changes what those before it gave.
///
/// The request is what the route [makes it](crate::Choice::change_request): what it changes is hashed as it is afterwards.
///
/// A client without the cookie is given one that says which connection it came with, so that requests that are sent before
/// the first response reach the same endpoint.
#[must_use]
pub fn hash_of(policies: &[HashPolicy], request: &Request<'_>) -> Hashed {
    let mut hashed = Hashed::default();
    for policy in policies {
        if let Some(new) = policy.source.hash(request, &mut hashed.set_cookies) {
            // Rotated, so that two policies that give the same do not cancel each other out.
            hashed.hash = Some(hashed.hash.map_or(0, |old| old.rotate_left(1)) ^ new);
        }
        if policy.is_terminal && hashed.hash.is_some() {
            break;
        }
    }
    hashed
}

impl HashSource {
    fn hash(&self, request: &Request<'_>, set_cookies: &mut Vec<HeaderValue>) -> Option<u64> {
        match self {
            Self::Header { name, rewrite } => hash_header(request, name, rewrite.as_ref()),
            Self::Cookie(cookie) => cookie.hash(request, set_cookies),
            Self::SourceIp => Some(xx_hash64(request.connection.source_ip().to_string().as_bytes(), 0)),
            Self::QueryParameter(name) => {
                let mut parameters = request.query().split('&').filter(|parameter| !parameter.is_empty());
                let value = parameters.find_map(|parameter| {
                    let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
                    (key == &**name).then_some(value)
                })?;
                Some(xx_hash64(value.as_bytes(), 0))
            }
        }
    }
}

fn hash_header(request: &Request<'_>, name: &str, rewrite: Option<&(Pattern, Box<str>)>) -> Option<u64> {
    // A pseudo header has one value, and is not among the others.
    let mut values: Vec<Cow<'_, [u8]>> =
        request.headers.get_all(name).iter().map(|value| Cow::Borrowed(value.as_bytes())).collect();
    if values.is_empty() {
        values.push(request.header(name)?);
    }
    if let Some((pattern, substitution)) = rewrite {
        for value in &mut values {
            *value = Cow::Owned(pattern.replace_all(value, substitution));
        }
    }
    values.sort_unstable();
    // Each is the seed of the next one's hash, so that it matters where one ends.
    Some(values.iter().fold(0, |seed, value| xx_hash64(value, seed)))
}

impl CookieSource {
    fn hash(&self, request: &Request<'_>, set_cookies: &mut Vec<HeaderValue>) -> Option<u64> {
        let sent = cookie(request.headers, &self.name).filter(|value| !value.is_empty());
        match (sent, self.ttl) {
            (Some(value), _) => Some(xx_hash64(value, 0)),
            (None, Some(ttl)) => {
                let value = cookie_for(request.connection);
                set_cookies.extend(self.set_cookie(&value, ttl));
                Some(xx_hash64(value.as_bytes(), 0))
            }
            (None, None) => None,
        }
    }

    /// The `set-cookie` header; `None` where the configured texts make no legal header.
    fn set_cookie(&self, value: &str, ttl: Duration) -> Option<HeaderValue> {
        let mut text = format!("{}=\"{value}\"", self.name);
        if ttl.as_secs() > 0 {
            let _ = write!(text, "; Max-Age={}", ttl.as_secs());
        }
        if !self.path.is_empty() {
            let _ = write!(text, "; Path={}", self.path);
        }
        for (name, value) in &self.attributes {
            let separator = if value.is_empty() { "" } else { "=" };
            let _ = write!(text, "; {name}{separator}{value}");
        }
        text.push_str("; HttpOnly");
        HeaderValue::from_str(&text).ok()
    }
}

/// The value of a cookie that clients of a connection are given.
fn cookie_for(connection: &Connection) -> String {
    let ends = format!("{}{}", connection.source, connection.destination);
    format!("{:016x}", xx_hash64(ends.as_bytes(), 0))
}

/// The value of a cookie, without the quotes around it.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let mut pairs = headers.get_all(COOKIE).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    pairs.find_map(|pair| {
        let mut parts = pair.trim_ascii_start().splitn(2, |byte| *byte == b'=');
        let key = parts.next()?;
        let value = parts.next()?;
        (key == name.as_bytes()).then_some(match value {
            [b'"', quoted @ .., b'"'] => quoted,
            plain => plain,
        })
    })
}

#[cfg(test)]
mod tests;
