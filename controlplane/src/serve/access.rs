//! Who may read discovery data: the accounts of node proxies and of waypoints, by token, always.

use std::sync::Arc;

use futures::FutureExt;
use proto::envoy::service::discovery::v3::Node;
use tokio::sync::watch;
use tonic::Status;
use types::{NamespacedName, TrustDomain};
use xds::node::metadata_text;
use xds::server::{Authenticate, Call, Caller};

use crate::Config;
use crate::ca::{Account, Authenticator, bearer};
use crate::pods::PodIndex;

/// Judges callers of the discovery service.
pub(super) struct Rules {
    authenticator: Arc<Authenticator>,
    accounts: Vec<NamespacedName>,
    trust_domain: TrustDomain,
    pods: watch::Receiver<Arc<PodIndex>>,
}

impl Rules {
    pub(super) fn new(
        config: &Config,
        authenticator: Arc<Authenticator>,
        pods: watch::Receiver<Arc<PodIndex>>,
    ) -> Arc<Self> {
        let (accounts, trust_domain) = (config.trusted_node_accounts.clone(), config.trust_domain.clone());
        Arc::new(Self { authenticator, accounts, trust_domain, pods })
    }

    pub(super) fn authenticate(self: Arc<Self>) -> Authenticate {
        Arc::new(move |call| {
            let rules = Arc::clone(&self);
            async move { rules.judge(&call).await }.boxed()
        })
    }

    async fn judge(&self, call: &Call) -> Result<Caller, Status> {
        let account = self.authenticator.account(bearer(&call.metadata)?).await?;
        if !self.accounts.contains(&account.name) {
            let pods = Arc::clone(&self.pods.borrow());
            waypoint(&account, &pods)?;
        }
        let pod = account.pod.as_ref().map(|(name, _)| format!(" (pod {name})")).unwrap_or_default();
        Ok(Caller {
            description: format!("{}{pod}", account.name).into(),
            identity: Some(account.identity(&self.trust_domain)),
        })
    }
}

/// Lets the account of a waypoint pass: that of the very pod that its token is bound to.
fn waypoint(account: &Account, pods: &PodIndex) -> Result<NamespacedName, Status> {
    let refused = |reason: String| {
        let name = &account.name;
        let text = "may not read the mesh's workloads: it is no node proxy's account, and";
        Status::permission_denied(format!("{name} {text} {reason}"))
    };
    let (name, uid) = account.pod.as_ref().ok_or_else(|| refused("its token is not bound to a pod".to_owned()))?;
    pods.waypoint(&account.name, (name, uid)).map_err(|reason| refused(reason.to_string()))
}

/// What a node says of itself must agree with its token.
pub(super) fn admit(caller: &Caller, node: &Node) -> Result<(), Status> {
    let identity = caller.identity.as_ref().ok_or_else(|| Status::unauthenticated("the caller has no identity"))?;
    let namespace = metadata_text(node, "NAMESPACE").unwrap_or_default();
    if *namespace != *identity.namespace {
        return Err(Status::unauthenticated(format!(
            "NAMESPACE is {namespace:?} but the token is of {:?}",
            identity.namespace
        )));
    }
    match metadata_text(node, "SERVICE_ACCOUNT") {
        Some(account) if *account != *identity.service_account => Err(Status::unauthenticated(format!(
            "SERVICE_ACCOUNT is {account:?} but the token is of {:?}",
            identity.service_account
        ))),
        _ => Ok(()),
    }
}

/// Lets everybody in, for the listener that only this machine reaches.
pub(super) fn anybody() -> Authenticate {
    Arc::new(|_| async { Ok(Caller { description: "local".into(), identity: None }) }.boxed())
}
