//! A request for tests.

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::{Connection, Metadata, Request};

/// What a request is made of.
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) scheme: &'static str,
    pub(crate) authority: String,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) metadata: Metadata,
    pub(crate) connection: Connection,
}

impl Asked {
    /// A GET from 1.2.3.4:55 to 5.6.7.8:80.
    pub(crate) fn new(authority: &str, path: &str) -> Self {
        Self {
            method: Method::GET,
            scheme: "http",
            authority: authority.to_owned(),
            path: path.to_owned(),
            headers: HeaderMap::new(),
            metadata: Metadata::default(),
            connection: Connection {
                source: "1.2.3.4:55".parse().unwrap(),
                destination: "5.6.7.8:80".parse().unwrap(),
                principal: None,
                server_name: None,
            },
        }
    }

    /// With one more header.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
        self
    }

    /// With more headers.
    pub(crate) fn with_all(self, headers: &[(&'static str, &str)]) -> Self {
        headers.iter().fold(self, |asked, (name, value)| asked.with(name, value))
    }

    pub(crate) fn request(&self) -> Request<'_> {
        Request {
            method: &self.method,
            scheme: self.scheme,
            authority: &self.authority,
            path: &self.path,
            headers: &self.headers,
            connection: &self.connection,
            metadata: &self.metadata,
        }
    }
}
