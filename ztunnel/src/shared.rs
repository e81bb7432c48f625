//! What all connections of the node share.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use discovery::View;
use identity::CertificateStore;
use policy::PolicySet;
use telemetry::AccessLog;
use telemetry::metrics::HandshakeMetrics;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::knowledge::Knowledge;
use crate::labels::Labels;
use crate::live::Registry;
use crate::lookups::Lookups;
use crate::names::Names;
use crate::residents::Residents;
use crate::revocation::Revocations;

/// How long a connection waits for discovery to learn of the pod it belongs to.
pub(crate) const LOCAL_WORKLOAD_DEADLINE: Duration = Duration::from_secs(5);

/// How long connecting may take, over all endpoints that are tried.
pub(crate) const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// What all connections of the node share.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) view: View,
    pub(crate) knowledge: Knowledge,
    pub(crate) policies: watch::Receiver<Arc<PolicySet>>,
    /// Whether discovery has been complete once: before that, nobody knows what a connection may do.
    pub(crate) discovered: watch::Receiver<bool>,
    pub(crate) certificates: CertificateStore,
    pub(crate) access: AccessLog,
    pub(crate) labels: Labels,
    pub(crate) live: Arc<Registry>,
    pub(crate) names: Names,
    pub(crate) residents: Residents,
    pub(crate) lookups: Lookups,
    pub(crate) revocations: Arc<Revocations>,
    pub(crate) handshakes: HandshakeMetrics,
    /// Warnings about source addresses that cannot be kept.
    pub(crate) source_warnings: Seldom,
}

impl Shared {
    /// Whether discovery has been complete once.
    pub(crate) fn is_discovered(&self) -> bool {
        *self.discovered.borrow()
    }

    /// Waits for it.
    pub(crate) async fn discovered(&self) {
        if self.discovered.clone().wait_for(|discovered| *discovered).await.is_err() {
            std::future::pending().await
        }
    }
}

/// Lets something happen once a minute: for warnings that every connection could cause.
#[derive(Default)]
pub(crate) struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    /// Whether it may happen now.
    pub(crate) fn may(&self) -> bool {
        const PAUSE: Duration = Duration::from_secs(60);
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|last| last.elapsed() >= PAUSE);
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }
}

/// What of the configuration connections look at.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The mark on every socket inside a pod, but for those to its application.
    pub(crate) mark: u32,
    /// SO_REUSEPORT on listeners inside pods.
    pub(crate) reuse_port: bool,
    /// Listen on both families.
    pub(crate) ipv6: bool,
    /// Serve SOCKS on the loopback address of pods.
    pub(crate) socks: bool,
    /// Keep the client's address towards the application.
    pub(crate) keeps_source: bool,
    pub(crate) keepalive: Option<linux::socket::Keepalive>,
    pub(crate) user_timeout: Option<Duration>,
    pub(crate) hbone: hbone::Parameters,
    /// Describe the destination in the answer to CONNECT.
    pub(crate) response_baggage: bool,
    /// Hand connections between two pods of the node over inside the process.
    pub(crate) hands_over: bool,
    /// Reach applications that want a PROXY header on loopback.
    pub(crate) local_application_tunnel: bool,
    /// Log policy decisions at level info.
    pub(crate) authorization_info_log: bool,
}

impl Settings {
    pub(crate) fn new(config: &config::Ztunnel, keeps_source: bool) -> Self {
        let keepalive = config.keepalive.as_ref();
        Self {
            mark: config.in_pod.mark,
            reuse_port: config.in_pod.reuse_port,
            ipv6: config.in_pod.ipv6,
            socks: config.in_pod.socks,
            keeps_source,
            keepalive: keepalive.map(|keepalive| linux::socket::Keepalive {
                time: keepalive.time,
                interval: keepalive.interval,
                retries: keepalive.retries,
            }),
            user_timeout: keepalive.and_then(|keepalive| keepalive.user_timeout),
            hbone: hbone::Parameters {
                stream_window: config.http2.stream_window,
                connection_window: config.http2.connection_window,
                frame_size: config.http2.frame_size,
                client_streams: usize::from(config.http2.pool_max_streams),
                idle_timeout: config.http2.pool_unused_release,
                ..hbone::Parameters::default()
            },
            response_baggage: config.response_baggage,
            hands_over: config.same_node_handover,
            local_application_tunnel: config.local_application_tunnel,
            authorization_info_log: config.authorization_info_log,
        }
    }
}

impl Settings {
    /// Whether the port belongs to a listener that this proxy has only where it was asked for.
    pub(crate) fn is_own_port(&self, port: u16) -> bool {
        self.socks && port == crate::socks::PORT
    }

    /// Whether a connection would come back to such a listener.
    pub(crate) fn is_own_loopback(&self, destination: SocketAddr) -> bool {
        destination.ip().to_canonical().is_loopback() && self.is_own_port(destination.port())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_happens_seldom_happens_once_a_minute() {
        let seldom = Seldom::default();
        assert!(seldom.may());
        assert!(!seldom.may());
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(seldom.may());
    }
}
