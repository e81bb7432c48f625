//! The listener's own certificate: from our authority, for our names, renewed long before it ends.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tls::{Alpn, Authority, HttpsAcceptor, TlsError};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::ca::Issuing;

/// How long one is valid.
const TTL: Duration = Duration::from_secs(24 * 3600);
/// Pause after a failed renewal.
const RETRY: Duration = Duration::from_secs(60);

pub(super) fn acceptor(authority: &Authority, names: &[String]) -> Result<HttpsAcceptor, TlsError> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let certificate = authority.issue_server(&names, TTL)?;
    HttpsAcceptor::new(&certificate.certificate, &certificate.key, Alpn::H2)
}

/// Replaces the certificate whenever half of its life is over or its authority changes; ends with the program.
pub(crate) async fn keep_fresh(
    mut issuing: watch::Receiver<Arc<Issuing>>,
    acceptor: HttpsAcceptor,
    names: Vec<String>,
) {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    loop {
        let end = issuing.borrow_and_update().authority.not_after();
        let end = SystemTime::now().checked_add(TTL).unwrap_or(end).min(end);
        let left = end.duration_since(SystemTime::now()).unwrap_or_default();
        tokio::select! {
            () = tokio::time::sleep((left / 2).max(RETRY)) => {}
            changed = issuing.changed() => if changed.is_err() { return },
        }
        let current = Arc::clone(&issuing.borrow());
        let renewed = current
            .authority
            .issue_server(&names, TTL)
            .and_then(|certificate| acceptor.replace(&certificate.certificate, &certificate.key));
        match renewed {
            Ok(()) => info!("renewed the server's certificate"),
            Err(error) => warn!(%error, "could not renew the server's certificate"),
        }
    }
}
