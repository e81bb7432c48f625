//! The pods that this process serves, by the names under which discovery knows them: whom a connection can be handed
//! over to.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use discovery::LocalName;
use drain::{Guard, Watch};

use crate::lane::Pod;

/// The pods that this process serves.
#[derive(Default)]
pub(crate) struct Residents(RwLock<HashMap<LocalName, Vec<Resident>>>);

#[derive(Clone)]
struct Resident {
    pod: Arc<Pod>,
    drain: Watch,
}

impl Residents {
    /// A pod is served from now on.
    pub(crate) fn arrive(&self, pod: Arc<Pod>, drain: Watch) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.entry(pod.name.clone()).or_default().push(Resident { pod, drain });
    }

    /// A pod is no longer served.
    pub(crate) fn leave(&self, pod: &Arc<Pod>) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let Some(residents) = all.get_mut(&pod.name) else { return };
        residents.retain(|resident| !Arc::ptr_eq(&resident.pod, pod));
        if residents.is_empty() {
            all.remove(&pod.name);
        }
    }

    /// The pod of this name whose network namespace has the address, and a guard that its drain waits for.
    ///
    /// The name alone does not do: a pod that is replaced by one of the same name may still be served, and a connection
    /// made in its namespace would leave it, towards the other, in plaintext.
    pub(crate) fn serving(&self, name: &LocalName, address: IpAddr) -> Option<(Arc<Pod>, Guard)> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let residents = all.get(name)?.clone();
        drop(all);
        let resident =
            residents.into_iter().find(|resident| !resident.drain.is_draining() && has(resident, address))?;
        Some((resident.pod, resident.drain.guard()))
    }
}

fn has(resident: &Resident, address: IpAddr) -> bool {
    let outcome = resident.pod.netns.run(|| linux::socket::is_own(address)).flatten();
    outcome.unwrap_or_else(|error| {
        tracing::debug!(pod = %resident.pod.uid, %address, %error, "cannot look for an address");
        false
    })
}
