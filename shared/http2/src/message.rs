//! Header fields as a request or an answer ([RFC 9113, section 8](https://www.rfc-editor.org/rfc/rfc9113#section-8)).

use bytes::Bytes;
use http::header::{CONNECTION, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::hpack::Encoder;

/// A request.
#[derive(Debug)]
pub struct Request {
    /// What shall be done.
    pub method: Method,
    /// Where the tunnel shall lead; as the peer wrote it.
    pub authority: Option<String>,
    /// The fields that are no pseudo headers.
    pub headers: HeaderMap,
}

/// An answer.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The fields that are no pseudo headers.
    pub headers: HeaderMap,
}

/// The fields of a header block, as they come in.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    method: Option<Bytes>,
    scheme: Option<Bytes>,
    authority: Option<Bytes>,
    path: Option<Bytes>,
    protocol: Option<Bytes>,
    status: Option<Bytes>,
    headers: HeaderMap,
    is_malformed: bool,
}

impl Fields {
    pub(crate) fn take(&mut self, name: &[u8], value: Bytes) {
        if name.first() == Some(&b':') {
            self.take_pseudo(name, value);
            return;
        }
        // Upper case is refused, too.
        let (Ok(name), Ok(value)) = (HeaderName::from_lowercase(name), HeaderValue::from_maybe_shared(value)) else {
            self.is_malformed = true;
            return;
        };
        // They belong to a connection of HTTP/1 (section 8.2.2).
        let is_of_connection = name == CONNECTION
            || name == TRANSFER_ENCODING
            || name == UPGRADE
            || matches!(name.as_str(), "keep-alive" | "proxy-connection")
            || (name == TE && value != "trailers");
        self.is_malformed |= is_of_connection;
        self.headers.append(name, value);
    }

    /// Each at most once, and before all other fields.
    fn take_pseudo(&mut self, name: &[u8], value: Bytes) {
        let place = match name {
            b":method" => &mut self.method,
            b":scheme" => &mut self.scheme,
            b":authority" => &mut self.authority,
            b":path" => &mut self.path,
            b":protocol" => &mut self.protocol,
            b":status" => &mut self.status,
            _ => {
                self.is_malformed = true;
                return;
            }
        };
        self.is_malformed |= place.replace(value).is_some() || !self.headers.is_empty();
    }

    /// As a request; `None` if it is malformed.
    pub(crate) fn into_request(self) -> Option<Request> {
        let method = Method::from_bytes(&self.method?).ok()?;
        let is_connect = method == Method::CONNECT;
        // CONNECT has an authority and nothing else (section 8.5); everything else has a scheme and a path.
        let has_what_it_needs = if is_connect {
            self.authority.is_some() && self.scheme.is_none() && self.path.is_none()
        } else {
            self.scheme.is_some() && self.path.is_some_and(|path| !path.is_empty())
        };
        if self.is_malformed || !has_what_it_needs || self.protocol.is_some() || self.status.is_some() {
            return None;
        }
        let authority = match self.authority {
            Some(authority) => Some(String::from_utf8(authority.into()).ok()?),
            None => None,
        };
        Some(Request { method, authority, headers: self.headers })
    }

    /// As an answer; `None` if it is malformed.
    pub(crate) fn into_response(self) -> Option<Response> {
        let of_a_request = [&self.method, &self.scheme, &self.authority, &self.path, &self.protocol];
        if self.is_malformed || of_a_request.iter().any(|field| field.is_some()) {
            return None;
        }
        let status = match *self.status? {
            [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
                u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0')
            }
            _ => return None,
        };
        Some(Response { status, headers: self.headers })
    }

    /// Whether it may be what follows a body.
    pub(crate) fn is_trailers(&self) -> bool {
        let pseudo = [&self.method, &self.scheme, &self.authority, &self.path, &self.protocol, &self.status];
        !self.is_malformed && pseudo.iter().all(|field| field.is_none())
    }
}

/// Appends the block of a CONNECT request.
pub(crate) fn write_connect(out: &mut Vec<u8>, encoder: &mut Encoder, authority: &str, headers: &HeaderMap) {
    encoder.start(out);
    encoder.field(out, ":method", b"CONNECT");
    encoder.field(out, ":authority", authority.as_bytes());
    write_headers(out, encoder, headers);
}

/// Appends the block of an answer.
pub(crate) fn write_status(out: &mut Vec<u8>, encoder: &mut Encoder, status: u16, headers: &HeaderMap) {
    encoder.start(out);
    let digits = [status / 100, status / 10, status].map(|number| b'0' + (number % 10).to_le_bytes()[0]);
    encoder.field(out, ":status", &digits);
    write_headers(out, encoder, headers);
}

fn write_headers(out: &mut Vec<u8>, encoder: &Encoder, headers: &HeaderMap) {
    headers.iter().for_each(|(name, value)| encoder.field(out, name.as_str(), value.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(list: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::default();
        list.iter().for_each(|(name, value)| fields.take(name.as_bytes(), Bytes::copy_from_slice(value.as_bytes())));
        fields
    }

    #[test]
    fn a_connect_request_is_method_authority_and_headers() {
        let list = [(":method", "CONNECT"), (":authority", "a:80"), ("baggage", "b"), ("te", "trailers")];
        let request = fields(&list).into_request().unwrap();
        assert_eq!((request.method, request.authority.as_deref()), (Method::CONNECT, Some("a:80")));
        assert_eq!(request.headers.len(), 2);
    }

    #[test]
    fn malformed_requests() {
        let connect = [(":method", "CONNECT"), (":authority", "a:80")];
        for more in [
            (":method", "CONNECT"),
            (":scheme", "https"),
            (":path", "/"),
            (":protocol", "websocket"),
            (":status", "200"),
            (":unknown", ""),
            ("Upper", "case"),
            ("", "nameless"),
            ("a b", "c"),
            ("a", "b\nc"),
            ("connection", "close"),
            ("keep-alive", "1"),
            ("proxy-connection", "close"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "gzip"),
        ] {
            assert!(fields(&[connect[0], connect[1], more]).into_request().is_none(), "{more:?}");
        }
        for list in [
            &connect[..1],
            &connect[1..],
            &[],
            &[(":method", "GET")],
            &[("a", "b"), connect[0], connect[1]],
            &[(":method", "GET"), (":scheme", "http"), (":path", "")],
        ] {
            assert!(fields(list).into_request().is_none(), "{list:?}");
        }
    }

    #[test]
    fn malformed_answers() {
        assert_eq!(fields(&[(":status", "200"), ("a", "b")]).into_response().unwrap().status, 200);
        for list in [&[][..], &[(":status", "20")], &[(":status", "099")], &[(":status", "2x0")], &[("a", "b")]] {
            assert!(fields(list).into_response().is_none(), "{list:?}");
        }
        assert!(fields(&[(":status", "200"), (":path", "/")]).into_response().is_none());
        assert!(fields(&[(":status", "200"), (":status", "200")]).into_response().is_none());
    }
}
