//! The crate seen from outside: what it puts on the wire, whom it lets in, and what it signs.

#[cfg(test)]
#[path = "tls/authority.rs"]
mod authority;
#[cfg(test)]
#[path = "tls/certificate.rs"]
mod certificate;
#[cfg(test)]
#[path = "tls/client_hello.rs"]
mod client_hello;
#[cfg(test)]
#[path = "tls/control.rs"]
mod control;
#[cfg(test)]
#[path = "tls/mesh.rs"]
mod mesh;
#[cfg(test)]
#[path = "tls/openssl.rs"]
mod openssl;
#[cfg(test)]
#[path = "tls/records.rs"]
mod records;
#[cfg(test)]
#[path = "tls/revocation.rs"]
mod revocation;
#[cfg(test)]
#[path = "tls/sessions.rs"]
mod sessions;
#[cfg(test)]
#[path = "tls/support.rs"]
mod support;
