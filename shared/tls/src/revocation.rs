//! Revocation lists: which certificates no longer prove anything although they have not expired.

use std::fmt;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use webpki::{
    CertRevocationList, EndEntityCert, Error, ExpirationPolicy, KeyUsage, OwnedCertRevocationList,
    RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy,
};

use crate::mesh::{Peer, Side};
use crate::{Refusal, TlsError};

/// What authorities have revoked; nothing by default.
///
/// A list counts for the certificates of its issuer, whose key must have signed it, and goes on to count when the time
/// has passed at which a newer one should have come.
/// What no list speaks of is not revoked.
#[derive(Default)]
pub struct RevocationLists(Vec<CertRevocationList<'static>>);

impl RevocationLists {
    /// Reads lists: any number as PEM, or one as DER; empty text means that nothing is revoked.
    ///
    /// # Errors
    /// [`TlsError::Malformed`] when something else is found, or a list that cannot be understood.
    pub fn parse(bytes: &[u8]) -> Result<Self, TlsError> {
        let malformed = |reason: String| TlsError::malformed("revocation list", reason);
        if bytes.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        // The first byte of a DER sequence, which no text begins with that is of use here.
        const SEQUENCE: u8 = 0x30;
        let ders = if bytes.first() == Some(&SEQUENCE) {
            vec![CertificateRevocationListDer::from(bytes.to_vec())]
        } else {
            let ders: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(bytes).collect();
            ders.map_err(|error| malformed(error.to_string()))?
        };
        if ders.is_empty() {
            return Err(malformed("neither PEM nor DER".to_owned()));
        }
        let lists = ders.iter().map(|der| OwnedCertRevocationList::from_der(der).map(CertRevocationList::Owned));
        lists.collect::<Result<_, _>>().map(Self).map_err(|error| malformed(error.to_string()))
    }

    /// How many lists there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks the whole chain of a peer that has proven itself otherwise.
    ///
    /// # Errors
    /// [`Refusal::Revoked`].
    pub fn check(&self, peer: &Peer) -> Result<(), Refusal> {
        // Each by itself: of two lists whose issuers have one name and two keys, only one is of use for a chain.
        let revokes = |list: &CertRevocationList<'static>| is_revoked(peer, list);
        if self.0.iter().any(revokes) { Err(Refusal::Revoked) } else { Ok(()) }
    }
}

impl fmt::Debug for RevocationLists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevocationLists").field("len", &self.len()).finish()
    }
}

fn is_revoked(peer: &Peer, list: &CertRevocationList<'static>) -> bool {
    let Some((leaf, intermediates)) = peer.certificates().split_first() else { return false };
    let Ok(leaf) = EndEntityCert::try_from(leaf) else { return false };
    let lists: [&CertRevocationList<'_>; 1] = [list];
    let Ok(options) = RevocationOptionsBuilder::new(&lists) else { return false };
    let options = options
        .with_depth(RevocationCheckDepth::Chain)
        .with_status_policy(UnknownStatusPolicy::Allow)
        .with_expiration_policy(ExpirationPolicy::Ignore)
        .build();
    let usage = match peer.side() {
        Side::Client => KeyUsage::client_auth(),
        Side::Server => KeyUsage::server_auth(),
    };
    let intermediates: &[CertificateDer<'_>] = intermediates;
    let trust = peer.trust();
    // At the time of the handshake: whether the chain has expired since is another question.
    let verified = leaf.verify_for_usage(
        trust.algorithms.all,
        &trust.roots.roots,
        intermediates,
        peer.proven_at(),
        usage,
        Some(options),
        None,
    );
    matches!(verified, Err(Error::CertRevoked))
}
