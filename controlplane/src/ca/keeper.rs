//! Keeps the record of the authority, follows the operator's Secret, and says who signs and who is trusted.
//!
//! The record is a Secret of its own, shared by all replicas, so that a replacement which happens while nobody runs is
//! as free of gaps as any other. It is never replaced by a guess: every certificate of the mesh hangs on it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Map, Value, json};
use telemetry::metrics::Gauge;
use tls::Authority;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info, warn};
use types::TrustDomain;

use super::root::{self, RootError};
use super::rotation::Rotation;

/// The Secret that holds the record.
const RECORD: &str = "aquifer-ca-rotation";
/// How often Secrets are looked at: a replaced one is acted on within this time.
const LOOK: Duration = Duration::from_secs(5);
/// How long one look may take.
const LOOK_DEADLINE: Duration = Duration::from_secs(10);
/// Pauses before the first success.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How many requests for a longer validity may wait.
const WAITING: usize = 64;
/// Replicas that write at the same time make each other try again.
const ATTEMPTS: u32 = 5;

/// What certificates are made with at one moment.
#[derive(Debug)]
pub(crate) struct Issuing {
    /// Who signs; its answers name everybody's roots.
    pub(crate) authority: Authority,
    /// Revocations that the operator wants to be distributed, PEM.
    pub(crate) revocations: Option<Arc<str>>,
    rotation: Rotation,
}

impl Issuing {
    fn new(rotation: Rotation, revocations: Option<Arc<str>>) -> Result<Self, RootError> {
        let authority = rotation.authority().map_err(|source| RootError::Unusable { secret: RECORD, source })?;
        Ok(Self { authority, revocations, rotation })
    }

    /// Certificates of an authority that nothing is recorded of.
    #[cfg(test)]
    pub(super) fn of(authority: &Authority) -> Self {
        let rotation = Rotation::begin(authority.to_pem(), Duration::MAX).unwrap();
        Self::new(rotation, None).unwrap()
    }
}

/// Asks for a validity to be recorded.
type Growth = (Duration, oneshot::Sender<()>);

/// Who signs, for those who make certificates.
#[derive(Clone)]
pub(crate) struct Signing {
    issuing: watch::Receiver<Arc<Issuing>>,
    growth: mpsc::Sender<Growth>,
}

impl Signing {
    /// What is to be signed with, after it has been recorded that certificates last this long; `None` if that failed.
    pub(crate) async fn lasting(&self, validity: Duration) -> Option<Arc<Issuing>> {
        let now = self.now();
        if validity <= now.rotation.longest() {
            return Some(now);
        }
        let (sender, recorded) = oneshot::channel();
        let asked = async {
            self.growth.send((validity, sender)).await.ok()?;
            recorded.await.ok()
        };
        tokio::time::timeout(LOOK_DEADLINE, asked).await.ok().flatten()?;
        Some(self.now())
    }

    /// What is signed with at the moment.
    pub(crate) fn now(&self) -> Arc<Issuing> {
        Arc::clone(&self.issuing.borrow())
    }

    /// Tells of changes.
    pub(crate) fn changes(&self) -> watch::Receiver<Arc<Issuing>> {
        self.issuing.clone()
    }

    /// An authority that stays.
    #[cfg(test)]
    pub(super) fn with(authority: &Authority) -> Self {
        let (growth, _nobody) = mpsc::channel(1);
        Self { issuing: watch::channel(Arc::new(Issuing::of(authority))).1, growth }
    }
}

/// Keeps the record.
pub(crate) struct Keeper {
    secrets: Api<Secret>,
    trust_domain: TrustDomain,
    root_ttl: Duration,
    /// What is taken for the longest validity as long as nothing is recorded.
    usual: Duration,
}

/// What a keeper that has found its authority goes on with.
pub(crate) struct Kept {
    keeper: Keeper,
    issuing: watch::Sender<Arc<Issuing>>,
    growth: mpsc::Receiver<Growth>,
}

impl Keeper {
    pub(crate) fn new(client: &Client, config: &crate::Config) -> Self {
        Self {
            secrets: Api::namespaced(client.clone(), &config.pod_namespace),
            trust_domain: config.trust_domain.clone(),
            root_ttl: config.root_ttl,
            usual: config.default_certificate_ttl,
        }
    }

    /// Finds the authority, or makes the first one; tries until it has one or finds that it never will.
    ///
    /// # Errors
    /// When what is stored cannot be used.
    pub(crate) async fn begin(self) -> Result<(Signing, Kept), RootError> {
        let mut pause = FIRST_PAUSE;
        let issuing = loop {
            match self.look(None).await {
                Err(error) if error.is_passing() => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    warn!(%error, cause, "no certificate authority yet");
                }
                outcome => break outcome?,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        };
        info!(phase = issuing.rotation.phase(), "the certificate authority is ready");
        let (sender, receiver) = watch::channel(Arc::new(issuing));
        let (growth, asked) = mpsc::channel(WAITING);
        Ok((Signing { issuing: receiver, growth }, Kept { keeper: self, issuing: sender, growth: asked }))
    }

    async fn look(&self, validity: Option<Duration>) -> Result<Issuing, RootError> {
        let looking = async {
            for _ in 0..ATTEMPTS {
                if let Some(issuing) = self.attempt(validity).await? {
                    return Ok(issuing);
                }
            }
            Err(RootError::Contended)
        };
        tokio::time::timeout(LOOK_DEADLINE, looking).await.unwrap_or(Err(RootError::Slow))
    }

    /// Brings the record up to date; `None` if somebody else wrote it meanwhile.
    async fn attempt(&self, validity: Option<Duration>) -> Result<Option<Issuing>, RootError> {
        let now = SystemTime::now();
        let record = self.secrets.get_opt(RECORD).await.map_err(Box::new)?;
        let wanted = match root::wanted(&self.secrets).await {
            // A mistake of the operator must not stop a mesh that has an authority.
            Err(cause @ (RootError::Incomplete { .. } | RootError::Unusable { .. })) if record.is_some() => {
                let reason = std::error::Error::source(&cause).map(ToString::to_string);
                error!(error = %cause, reason, "the authority before stays in force");
                None
            }
            outcome => outcome?,
        };
        let (mut rotation, revocations) = match (&record, wanted) {
            (Some(record), wanted) => {
                let data = record.data.clone().unwrap_or_default();
                let mut rotation = Rotation::from_data(&data).map_err(RootError::Record)?;
                let mut revocations = None;
                if let Some(wanted) = wanted {
                    let made = rotation.want(wanted.pem, now);
                    made.map_err(|source| RootError::Unusable { secret: wanted.secret, source })?;
                    revocations = wanted.revocations;
                }
                (rotation, revocations)
            }
            (None, Some(wanted)) => {
                let begun = Rotation::begin(wanted.pem, self.usual);
                (begun.map_err(|source| RootError::Unusable { secret: wanted.secret, source })?, wanted.revocations)
            }
            (None, None) => {
                let pem = root::create(&self.secrets, &self.trust_domain, self.root_ttl).await?;
                (Rotation::begin(pem, self.usual).map_err(RootError::Make)?, None)
            }
        };
        rotation.advance(now);
        if let Some(validity) = validity {
            rotation.grow(validity);
        }
        let is_written = self.write(record.as_ref(), &rotation).await?;
        if is_written { Issuing::new(rotation, revocations).map(Some) } else { Ok(None) }
    }

    /// Whether the record says this now; not if somebody else wrote it meanwhile.
    async fn write(&self, record: Option<&Secret>, rotation: &Rotation) -> Result<bool, RootError> {
        let data = rotation.to_data();
        let written = match record {
            Some(record) if record.data.as_ref() == Some(&data) => return Ok(true),
            Some(record) => {
                let mut patch: Map<String, Value> =
                    record.data.iter().flatten().map(|(key, _)| (key.clone(), Value::Null)).collect();
                patch.extend(data.into_iter().map(|(key, value)| (key, json!(value))));
                let patch = json!({"metadata": {"resourceVersion": record.metadata.resource_version}, "data": patch});
                self.secrets.patch(RECORD, &PatchParams::default(), &Patch::Merge(&patch)).await
            }
            None => {
                let metadata = ObjectMeta { name: Some(RECORD.to_owned()), ..ObjectMeta::default() };
                let secret = Secret {
                    metadata,
                    type_: Some("aquifer.dev/ca-rotation".to_owned()),
                    data: Some(data),
                    ..Secret::default()
                };
                self.secrets.create(&PostParams::default(), &secret).await
            }
        };
        match written {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(Box::new(error).into()),
        }
    }
}

impl Kept {
    /// Follows the operator's Secret until nobody signs any more.
    pub(crate) async fn run(mut self, expiry: Gauge) {
        loop {
            let due = self.issuing.borrow().rotation.due();
            set_expiry(&expiry, &self.issuing.borrow().authority);
            let due = due.map(|due| due.duration_since(SystemTime::now()).unwrap_or_default());
            let asked = tokio::select! {
                asked = self.growth.recv() => match asked {
                    Some(asked) => Some(asked),
                    None => return,
                },
                () = tokio::time::sleep(due.unwrap_or(LOOK).clamp(FIRST_PAUSE, LOOK)) => None,
            };
            let (validity, recorded) = asked.unzip();
            match self.keeper.look(validity).await {
                Ok(issuing) => {
                    self.publish(issuing);
                    // Who asked may have given up.
                    let _ = recorded.map(|recorded| recorded.send(()));
                }
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    warn!(%error, cause, "could not look after the certificate authority; it stays as it is");
                }
            }
        }
    }

    fn publish(&self, issuing: Issuing) {
        self.issuing.send_if_modified(|current| {
            let is_new = current.rotation != issuing.rotation || current.revocations != issuing.revocations;
            if is_new {
                if current.authority.roots_pem() != issuing.authority.roots_pem()
                    || current.rotation.phase() != issuing.rotation.phase()
                {
                    info!(phase = issuing.rotation.phase(), "the certificate authority changes");
                }
                *current = Arc::new(issuing);
            }
            is_new
        });
    }
}

fn set_expiry(gauge: &Gauge, authority: &Authority) {
    let expiry = authority.not_after().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    gauge.set(i64::try_from(expiry.as_secs()).unwrap_or(i64::MAX));
}
