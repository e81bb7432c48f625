//! A request that Envoy and we are asked about.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use routing::{Connection, Metadata, Request};

use crate::peer::{Answer, Client};

/// A request.
#[derive(Debug)]
pub(crate) struct Ask {
    method: Method,
    path: String,
    host: String,
    /// As they are sent.
    lines: Vec<(String, String)>,
    /// The same as we have them.
    headers: HeaderMap,
    connection: Connection,
    metadata: Metadata,
}

impl Ask {
    pub(crate) fn new(method: &Method, host: &str, path: &str, lines: Vec<(String, String)>) -> Self {
        let header = |(name, value): &(String, String)| {
            (HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap())
        };
        Self {
            method: method.clone(),
            path: path.to_owned(),
            host: host.to_owned(),
            headers: lines.iter().map(header).collect(),
            lines,
            connection: Connection {
                source: "127.0.0.1:1".parse().unwrap(),
                destination: "127.0.0.1:2".parse().unwrap(),
                principal: None,
                server_name: None,
            },
            metadata: Metadata::default(),
        }
    }

    /// What Envoy answers.
    pub(crate) fn send(&self, client: &mut Client) -> Answer {
        client.ask(self.method.as_str(), &self.path, &self.host, &self.lines)
    }

    /// What we decide about.
    pub(crate) fn request(&self) -> Request<'_> {
        Request {
            method: &self.method,
            scheme: "http",
            authority: &self.host,
            path: &self.path,
            headers: &self.headers,
            connection: &self.connection,
            metadata: &self.metadata,
        }
    }
}
