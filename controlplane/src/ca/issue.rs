//! The gRPC service that certifies keys.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prost_types::value::Kind;
use proto::istio::v1::auth::istio_certificate_service_server::IstioCertificateService;
use proto::istio::v1::auth::{IstioCertificateRequest, IstioCertificateResponse};
use tls::SigningRequest;
use tokio::sync::watch;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};
use tracing::{debug, info};
use types::Identity;

use super::authenticate::{Account, Authenticator, bearer};
use super::impersonate::Rules;
use super::keeper::Signing;
use crate::metrics::CaMetrics;
use crate::pods::PodIndex;

/// All that a caller learns about a refused impersonation.
const IMPERSONATION_FAILURE: &str = "request impersonation authentication failure";
const IMPERSONATED_IDENTITY: &str = "ImpersonatedIdentity";

/// Certifies the keys of authenticated callers.
pub(crate) struct CertificateService {
    pub(crate) signing: Signing,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) rules: Rules,
    pub(crate) cluster_id: String,
    pub(crate) default_ttl: Duration,
    pub(crate) max_ttl: Duration,
    pub(crate) pods: watch::Receiver<Arc<PodIndex>>,
    pub(crate) metrics: CaMetrics,
}

#[tonic::async_trait]
impl IstioCertificateService for CertificateService {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        self.metrics.requests.increment();
        let caller = self.authenticate(request.metadata()).await.inspect_err(|status| {
            self.metrics.authentication_failures.increment();
            debug!(reason = status.message(), "turned down a certificate request");
        })?;
        let identity = self.identity(&caller, request.get_ref())?;
        let cert_chain = self.certify(&caller, &identity, request.get_ref()).await?;
        self.metrics.issued.increment();
        debug!(caller = %caller.name, %identity, "issued a certificate");
        Ok(Response::new(IstioCertificateResponse { cert_chain }))
    }
}

impl CertificateService {
    async fn authenticate(&self, metadata: &MetadataMap) -> Result<Account, Status> {
        if let Some(cluster) = metadata.get("clusterid")
            && cluster.as_bytes() != self.cluster_id.as_bytes()
        {
            return Err(Status::unauthenticated("the caller belongs to another cluster"));
        }
        Ok(self.authenticator.account(bearer(metadata)?).await?)
    }

    fn identity(&self, caller: &Account, request: &IstioCertificateRequest) -> Result<Identity, Status> {
        let refused = |reason: String| {
            self.metrics.authentication_failures.increment();
            // Peers can cause this at will, but only those with a good token.
            info!(caller = %caller.name, reason, "refused to certify another identity");
            Status::unauthenticated(IMPERSONATION_FAILURE)
        };
        let requested = impersonated(request).map(str::parse::<Identity>).transpose();
        let requested = requested.map_err(|error| refused(error.to_string()))?;
        let pods = Arc::clone(&self.pods.borrow());
        self.rules.grant(caller, requested, &pods).map_err(|refusal| refused(refusal.to_string()))
    }

    async fn certify(
        &self,
        caller: &Account,
        identity: &Identity,
        request: &IstioCertificateRequest,
    ) -> Result<Vec<String>, Status> {
        let ttl = self.ttl(request.validity_duration)?;
        let signing =
            SigningRequest::parse(&request.csr).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let granted = identity.to_string();
        if let Some(other) = signing.names().iter().find(|name| **name != granted) {
            info!(caller = %caller.name, requested = %other, %granted, "refused a request that names somebody else");
            let text = format!("the certificate request names {other:?}, the caller may have {granted:?}");
            return Err(Status::permission_denied(text));
        }
        // What is signed does not outlive its signer.
        let left = self.signing.now().authority.not_after().duration_since(SystemTime::now()).unwrap_or_default();
        let issuing = self.signing.lasting(ttl.min(left)).await;
        let issuing = issuing.ok_or_else(|| Status::unavailable("the validity could not be recorded"))?;
        issuing.authority.sign(&signing, identity, ttl, SystemTime::now()).map_err(|error| {
            tracing::error!(%error, "the authority cannot sign");
            Status::internal("the authority cannot sign")
        })
    }

    /// Seconds asked for; none means the default.
    fn ttl(&self, seconds: i64) -> Result<Duration, Status> {
        let Some(seconds) = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0) else {
            return Ok(self.default_ttl);
        };
        let ttl = Duration::from_secs(seconds);
        if ttl > self.max_ttl {
            let longest = self.max_ttl.as_secs();
            return Err(Status::invalid_argument(format!("the longest validity is {longest} s, not {seconds} s")));
        }
        Ok(ttl)
    }
}

/// The identity that the caller wants instead of its own.
fn impersonated(request: &IstioCertificateRequest) -> Option<&str> {
    match &request.metadata.as_ref()?.fields.get(IMPERSONATED_IDENTITY)?.kind {
        Some(Kind::StringValue(identity)) => Some(identity),
        // Whatever else it is, it is not to be taken for a request for the caller's own identity.
        _ => Some(""),
    }
}
