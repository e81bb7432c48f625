//! The cryptography that is offered: which cipher suites, key exchanges and protocols.

use std::sync::{Arc, LazyLock};

use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};

/// Which key exchanges a connection may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyExchange {
    /// X25519MLKEM768 preferred; X25519, P-256 and P-384 for peers without it.
    #[default]
    Hybrid,
    /// Nothing but X25519MLKEM768 (`COMPLIANCE_POLICY=pqc`).
    PostQuantumOnly,
}

/// The application protocols of a control-plane connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpn {
    /// HTTP/2 alone: gRPC.
    H2,
    /// HTTP/1.1 alone.
    Http1,
    /// Both, HTTP/2 preferred: the Kubernetes API.
    H2AndHttp1,
}

/// The protocol id of HTTP/2 (RFC 9113, section 3.2); the only one that HBONE offers or accepts.
pub(crate) const H2: &[u8] = b"h2";

impl Alpn {
    pub(crate) fn protocols(self) -> Vec<Vec<u8>> {
        let http1 = b"http/1.1".to_vec();
        match self {
            Self::H2 => vec![H2.to_vec()],
            Self::Http1 => vec![http1],
            Self::H2AndHttp1 => vec![H2.to_vec(), http1],
        }
    }
}

const HYBRID: &[&dyn SupportedKxGroup] =
    &[kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];

const POST_QUANTUM_ONLY: &[&dyn SupportedKxGroup] = &[kx_group::X25519MLKEM768];

static MESH: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(mesh_provider(KeyExchange::Hybrid)));

static MESH_POST_QUANTUM: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(mesh_provider(KeyExchange::PostQuantumOnly)));

static CONTROL: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(control_provider(HYBRID)));

static CONTROL_POST_QUANTUM: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(control_provider(POST_QUANTUM_ONLY)));

/// The provider of mesh connections: TLS 1.3 with AES-GCM only.
///
/// AES-128 comes first: both are far beyond reach, and it has ten rounds per block where AES-256 has fourteen.
/// With the post-quantum policy the order is reversed, as that policy's readers expect AES-256.
pub(crate) fn mesh(key_exchange: KeyExchange) -> Arc<CryptoProvider> {
    match key_exchange {
        KeyExchange::Hybrid => Arc::clone(&MESH),
        KeyExchange::PostQuantumOnly => Arc::clone(&MESH_POST_QUANTUM),
    }
}

/// The provider of control-plane connections: what aws-lc-rs holds safe, the post-quantum hybrid first or alone.
pub(crate) fn control(key_exchange: KeyExchange) -> Arc<CryptoProvider> {
    match key_exchange {
        KeyExchange::Hybrid => Arc::clone(&CONTROL),
        KeyExchange::PostQuantumOnly => Arc::clone(&CONTROL_POST_QUANTUM),
    }
}

fn control_provider(groups: &[&'static dyn SupportedKxGroup]) -> CryptoProvider {
    CryptoProvider { kx_groups: groups.to_vec(), ..aws_lc_rs::default_provider() }
}

fn mesh_provider(key_exchange: KeyExchange) -> CryptoProvider {
    let (aes128, aes256) = (cipher_suite::TLS13_AES_128_GCM_SHA256, cipher_suite::TLS13_AES_256_GCM_SHA384);
    let (cipher_suites, groups) = match key_exchange {
        KeyExchange::Hybrid => (vec![aes128, aes256], HYBRID),
        KeyExchange::PostQuantumOnly => (vec![aes256, aes128], POST_QUANTUM_ONLY),
    };
    CryptoProvider { cipher_suites, kx_groups: groups.to_vec(), ..aws_lc_rs::default_provider() }
}
