//! `forwarded`: the client's address and the host that it dialled ([RFC 7239](https://www.rfc-editor.org/rfc/rfc7239)).

use std::fmt;
use std::net::SocketAddr;

use http::{HeaderMap, HeaderValue};
use types::Hostname;

const NAME: &str = "forwarded";

/// The longest header that is read: an address, a host name and their quotes need a tenth of it.
const LONGEST: usize = 4 << 10;

/// The first element of a `forwarded` header.
///
/// ```
/// let forwarded = hbone::Forwarded { client: "[::1]:123".parse().ok(), host: Some("cart.shop".into()) };
/// assert_eq!(forwarded.to_string(), r#"for="[::1]:123";host=cart.shop"#);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Forwarded {
    /// `for`: the address of the client.
    pub client: Option<SocketAddr>,
    /// `host`: the service that was addressed; absent when an address was dialled that belongs to none.
    pub host: Option<Hostname>,
}

impl Forwarded {
    /// Reads `for` and `host` of the first element; what is malformed counts as absent.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut forwarded = Self::default();
        if text.len() > LONGEST || !text.is_ascii() {
            return forwarded;
        }
        let first = text.split(',').next().unwrap_or_default();
        for pair in first.split(';') {
            let Some((name, value)) = pair.split_once('=') else { continue };
            let value = unquoted(value.trim());
            if name.trim().eq_ignore_ascii_case("for") {
                forwarded.client = value.parse().ok();
            } else if name.trim().eq_ignore_ascii_case("host") && is_host(value) {
                forwarded.host = Some(Hostname::from(value));
            }
        }
        forwarded
    }

    /// Reads the first `forwarded` header of a message; empty when there is none.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Self {
        headers.get(NAME).and_then(|value| value.to_str().ok()).map(Self::parse).unwrap_or_default()
    }

    pub(crate) fn insert_into(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::try_from(self.to_string())
            && !value.is_empty()
        {
            headers.insert(NAME, value);
        }
    }
}

impl fmt::Display for Forwarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(client) = self.client {
            write!(f, "for=\"{client}\"")?;
        }
        if let Some(host) = self.host.as_ref().filter(|host| is_host(host.as_str())) {
            let separator = if self.client.is_some() { ";" } else { "" };
            write!(f, "{separator}host={host}")?;
        }
        Ok(())
    }
}

fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value)
}

/// A host name, an address or either with a port: what `Host` may hold (RFC 9110, section 7.2), without user info.
fn is_host(value: &str) -> bool {
    let is_host_byte =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'*' | b':' | b'[' | b']');
    !value.is_empty() && value.bytes().all(is_host_byte)
}
