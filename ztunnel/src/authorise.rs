//! Policy at the destination.

use std::net::SocketAddr;
use std::sync::Arc;

use discovery::Workload;
use policy::{Connection, Decision};
use types::Identity;

use crate::error::ConnectionError;
use crate::live::{Judged, Live};
use crate::shared::Shared;

/// Who wants to connect where.
pub(crate) struct Attempt<'a> {
    pub(crate) workload: &'a Arc<Workload>,
    pub(crate) source: SocketAddr,
    pub(crate) identity: Option<&'a Identity>,
    pub(crate) destination: SocketAddr,
}

/// Decides by the policies of this moment, and makes sure that later ones decide as well.
pub(crate) fn authorise(shared: &Shared, live: &Live, attempt: Attempt<'_>) -> Result<(), ConnectionError> {
    let connection = Connection {
        source_ip: attempt.source.ip(),
        identity: attempt.identity.cloned(),
        destination: attempt.destination,
    };
    // In this order: whoever changes the policies from here on finds the connection.
    let Judged { workload, connection } = live.judge_by(Judged { workload: Arc::clone(attempt.workload), connection });
    let policies = Arc::clone(&shared.policies.borrow());
    let evaluation = policies.evaluate(&workload.namespace, &workload.authorization_policies, connection);
    for dry_run in &evaluation.dry_run {
        log(shared, &attempt, &dry_run.decision, Some(&dry_run.key));
    }
    log(shared, &attempt, &evaluation.decision, None);
    match evaluation.decision {
        Decision::Allow { .. } => Ok(()),
        Decision::Deny(denial) => Err(ConnectionError::Denied(denial)),
    }
}

fn log(shared: &Shared, attempt: &Attempt<'_>, decision: &Decision, dry_run: Option<&types::NamespacedName>) {
    let outcome = if decision.is_allowed() { "allowed" } else { "denied" };
    let identity = attempt.identity.map(tracing::field::display);
    let (source, destination, dry_run) = (attempt.source, attempt.destination, dry_run.map(tracing::field::display));
    if shared.settings.authorization_info_log {
        tracing::info!(target: "rbac", { dry_run, src.addr = %source, src.identity = identity, dst.addr = %destination,
            reason = %decision }, "{outcome}");
    } else {
        tracing::debug!(target: "rbac", { dry_run, src.addr = %source, src.identity = identity, dst.addr = %destination,
            reason = %decision }, "{outcome}");
    }
}
