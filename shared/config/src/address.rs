//! Addresses of servers, and where roots and tokens come from.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

use crate::Value;

/// Where a control-plane server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddress {
    /// `https` as opposed to `http`.
    pub tls: bool,
    /// A name or an IP address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Value for ServerAddress {
    const KIND: &'static str = "address";

    /// Reads `[https://|http://]host:port`, with or without a slash at the end.
    fn parse(text: &str) -> Result<Self, String> {
        parse_server(text).ok_or_else(|| "an address such as https://aquifer.aquifer-system.svc:15012".to_owned())
    }
}

fn parse_server(text: &str) -> Option<ServerAddress> {
    let (tls, rest) = match text.split_once("://") {
        None => (true, text),
        Some(("https", rest)) => (true, rest),
        Some(("http", rest)) => (false, rest),
        Some(_) => return None,
    };
    let (host, port) = rest.strip_suffix('/').unwrap_or(rest).rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(bracketed) => bracketed.strip_suffix(']').filter(|ip| ip.parse::<Ipv6Addr>().is_ok())?,
        None => Some(host).filter(|name| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        })?,
    };
    let port = Some(port).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()?;
    Some(ServerAddress { tls, host: host.to_owned(), port })
}

impl ServerAddress {
    /// Host and port as a socket address or CONNECT authority writes them.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }
}

impl Serialize for ServerAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Where the roots are that prove a control-plane server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootSource {
    /// A PEM file, to be read again at each connect.
    File(PathBuf),
    /// The operating system's roots.
    System,
    /// PEM text.
    Pem(String),
}

impl RootSource {
    /// Reads the forms of `XDS_ROOT_CA`: `SYSTEM`, PEM text, otherwise a path.
    #[must_use]
    pub fn new(text: &str) -> Self {
        match text {
            "SYSTEM" => Self::System,
            pem if pem.contains("-----BEGIN") => Self::Pem(pem.to_owned()),
            path => Self::File(PathBuf::from(path)),
        }
    }
}

impl Serialize for RootSource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::File(path) => serializer.collect_str(&path.display()),
            Self::System => serializer.serialize_str("SYSTEM"),
            Self::Pem(_) => serializer.serialize_str("(inline)"),
        }
    }
}

/// Where the ServiceAccount token comes from; neither `Debug` nor serialization shows a literal one.
#[derive(Clone, PartialEq, Eq)]
pub enum Token {
    /// No token is sent.
    None,
    /// A file, to be read again at each call.
    File(PathBuf),
    /// The token itself.
    Literal(String),
}

impl Token {
    /// Reads the forms of `AUTH_TOKEN`: what begins as a path does, or exists, is a file.
    #[must_use]
    pub fn new(text: &str) -> Self {
        if text.is_empty() {
            Self::None
        } else if text.starts_with('/') || text.starts_with("./") || std::path::Path::new(text).exists() {
            Self::File(PathBuf::from(text))
        } else {
            Self::Literal(text.to_owned())
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("(none)"),
            Self::File(path) => path.display().fmt(f),
            Self::Literal(_) => f.write_str("(literal)"),
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Token {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_address_is_https_unless_it_says_http() {
        for (text, shown) in [
            ("aquifer.aquifer-system.svc:15012", "https://aquifer.aquifer-system.svc:15012"),
            ("https://[fd00::1]:15012/", "https://[fd00::1]:15012"),
            ("http://127.0.0.1:15010", "http://127.0.0.1:15010"),
        ] {
            assert_eq!(ServerAddress::parse(text).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_server_address_is_refused() {
        for text in
            ["host", "ftp://host:1", "host:", ":1", "host:http", "host:+1", "ho st:1", "[::1:1", "[x]:1", "a/b:1"]
        {
            assert!(ServerAddress::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_literal_token_is_never_shown() {
        let token = Token::new("eyJhbGciOiJub25lIn0.e30.");
        assert_eq!(format!("{token:?} {token}"), "(literal) (literal)");
        assert_eq!(serde_json::to_string(&token).unwrap(), "\"(literal)\"");
    }

    #[test]
    fn roots_are_a_file_the_system_or_text() {
        assert_eq!(RootSource::new("SYSTEM"), RootSource::System);
        assert_eq!(RootSource::new("/r.pem"), RootSource::File(PathBuf::from("/r.pem")));
        assert!(matches!(RootSource::new("-----BEGIN CERTIFICATE-----\n"), RootSource::Pem(_)));
    }
}
