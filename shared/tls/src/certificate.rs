//! The certificate of a workload: parsed once, its TLS configurations built once.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::{Resumption, TicketRequest};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use types::Identity;

use crate::mesh::Trust;
use crate::session::{Places, Tickets};
use crate::verify::{ClientVerifier, ServerVerifier};
use crate::x509::{self, CertificateDetails, Leaf, Validity};
use crate::{KeyExchange, Place, TlsError, provider};

/// Even a certificate that was nearly over when it came is not asked for more often than this.
const SHORTEST_REFRESH: Duration = Duration::from_secs(1);

/// A workload's certificate chain, private key and trusted roots, ready to be used on any number of connections.
///
/// `Debug` shows who and until when, never the key.
pub struct WorkloadCertificate {
    identity: Identity,
    validity: Validity,
    /// Servers to which it may come back.
    places: Places,
    /// Leaf first, without the root.
    chain: Vec<CertificateDer<'static>>,
    roots: Vec<CertificateDer<'static>>,
    trust: Arc<RootCertStore>,
    /// Refuses every server until [`ClientConfig::dangerous`] names those that are expected.
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl WorkloadCertificate {
    /// Puts a certificate together from PEM texts: the chain (leaf first), the key (PKCS#8) and the roots to trust.
    ///
    /// The identity is that of the leaf.
    ///
    /// # Errors
    /// [`TlsError::Malformed`] for text that is no PEM, [`TlsError::Peer`] when the leaf does not name exactly one
    /// workload, [`TlsError::Configuration`] when key and leaf do not belong together.
    pub fn from_pem(chain: &str, key: &str, roots: &str) -> Result<Self, TlsError> {
        let (chain, key, roots) = (x509::certificates(chain)?, x509::private_key(key)?, x509::certificates(roots)?);
        Self::new(chain, key, roots, KeyExchange::default())
    }

    pub(crate) fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        roots: Vec<CertificateDer<'static>>,
        key_exchange: KeyExchange,
    ) -> Result<Self, TlsError> {
        let leaf = chain.first().ok_or_else(|| TlsError::Response("no certificate".to_owned()))?;
        let Leaf { identity, validity } = Leaf::parse(leaf)?;
        let trust = Arc::new(root_store(&roots)?);
        let crypto = provider::mesh(key_exchange);
        let own = CertifiedKey::from_der(chain.clone(), key, &crypto).map_err(TlsError::Configuration)?;
        let own = Arc::new(SingleCertAndKey::from(own));

        let nobody = ServerVerifier::new(Arc::clone(&trust), &crypto, Vec::new(), validity);
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&crypto))
            .with_protocol_versions(&[&TLS13])
            .map_err(TlsError::Configuration)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(nobody))
            .with_client_cert_resolver(Arc::clone(&own) as _);
        client.alpn_protocols = vec![provider::H2.to_vec()];
        client.enable_sni = false;
        client.resumption = Resumption::disabled();
        // Records are sealed and opened by `mesh::record`.
        client.enable_secret_extraction = true;

        let verifier = ClientVerifier::new(Arc::clone(&trust), &crypto, identity.trust_domain.clone(), validity)?;
        let mut server = ServerConfig::builder_with_provider(crypto)
            .with_protocol_versions(&[&TLS13])
            .map_err(TlsError::Configuration)?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(own);
        server.alpn_protocols = vec![provider::H2.to_vec()];
        // Tickets are for those who ask for them (RFC 9149); to others they would be a kilobyte that nobody wants.
        server.send_tls13_tickets = 0;
        server.max_tls13_tickets = 1;
        server.ticketer = Arc::new(Tickets::default());
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.enable_secret_extraction = true;

        Ok(Self {
            identity,
            validity,
            places: Places::default(),
            chain,
            roots,
            trust,
            client: Arc::new(client),
            server: Arc::new(server),
        })
    }

    /// Whose certificate it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// From when it is valid; authorities back-date it by minutes.
    #[must_use]
    pub fn not_before(&self) -> SystemTime {
        self.validity.0
    }

    /// Until when it is valid.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.validity.1
    }

    /// Whether a peer with a right clock would accept it.
    #[must_use]
    pub fn is_valid_at(&self, now: SystemTime) -> bool {
        self.not_before() <= now && now < self.not_after()
    }

    /// When to ask for the next one: after half of the validity that remained at receipt, never sooner than 1 s.
    #[must_use]
    pub fn refresh_at(&self, received_at: SystemTime) -> SystemTime {
        let remaining = self.not_after().duration_since(received_at).unwrap_or_default();
        received_at + (remaining / 2).max(SHORTEST_REFRESH)
    }

    /// The chain as an operator wants to see it: leaf first, then intermediates.
    #[must_use]
    pub fn chain(&self) -> Vec<CertificateDetails> {
        // Certificates that made a TLS configuration have been parsed before.
        self.chain.iter().filter_map(|der| CertificateDetails::from_der(der).ok()).collect()
    }

    /// The trusted roots as an operator wants to see them.
    #[must_use]
    pub fn roots(&self) -> Vec<CertificateDetails> {
        self.roots.iter().filter_map(|der| CertificateDetails::from_der(der).ok()).collect()
    }

    /// A client configuration that accepts servers with one of the identities, and comes back to them if they have a
    /// place.
    pub(crate) fn client_config(&self, expected: &[Identity], place: Option<Place>) -> Arc<ClientConfig> {
        match place {
            None => Arc::new(self.expecting(expected)),
            Some(place) => self.places.config(place, expected, |sessions| {
                let mut config = self.expecting(expected);
                config.resumption = Resumption::store(Arc::clone(sessions) as _);
                config.send_ticket_request = Some(TicketRequest { new_session_count: 1, resumption_count: 1 });
                config
            }),
        }
    }

    /// All it costs is a shallow copy: everything of weight is shared.
    fn expecting(&self, expected: &[Identity]) -> ClientConfig {
        let mut config = ClientConfig::clone(&self.client);
        let crypto = self.client.crypto_provider();
        let verifier = ServerVerifier::new(Arc::clone(&self.trust), crypto, expected.to_vec(), self.validity);
        config.dangerous().set_certificate_verifier(Arc::new(verifier));
        config
    }

    /// What peers are measured by.
    pub(crate) fn trust(&self) -> Trust {
        let algorithms = self.client.crypto_provider().signature_verification_algorithms;
        Trust { roots: Arc::clone(&self.trust), algorithms }
    }

    pub(crate) fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }
}

impl fmt::Debug for WorkloadCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkloadCertificate")
            .field("identity", &self.identity)
            .field("not_before", &self.not_before())
            .field("not_after", &self.not_after())
            .finish_non_exhaustive()
    }
}

fn root_store(roots: &[CertificateDer<'static>]) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).map_err(|error| TlsError::malformed("root certificate", error))?;
    }
    if store.is_empty() {
        return Err(TlsError::Response("no root certificate".to_owned()));
    }
    Ok(store)
}
