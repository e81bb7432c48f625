//! The `log` subresource of pods.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use http::Response;

use super::respond::{Body, streamed};
use super::{Call, container};
use crate::api::core::Target;
use crate::api::store::Object;
use crate::api::{LogRequest, PodLogs, Status};

/// How long the kubelet may take to open a log.
const DEADLINE: Duration = Duration::from_secs(10);

/// Streams the log of one container.
///
/// # Errors
/// `NotFound`, `BadRequest` for another container or a pod that no node runs yet.
pub(super) async fn serve(call: &Call, target: Target<'_>) -> Result<Response<Body>, Status> {
    let pod = container::bound(call, target)?;
    let request = read(call, &pod)?;
    let logs = call.core.logs.get().map(Arc::clone);
    let logs: Arc<dyn PodLogs> = logs.ok_or_else(|| Status::unavailable("no kubelet provides logs yet"))?;
    let pod = container::typed(&pod)?;
    let limit = request.limit_bytes;
    let opened = tokio::time::timeout(DEADLINE, logs.open(&pod, request)).await;
    let log = opened.map_err(|_elapsed| Status::unavailable("the kubelet did not answer in time"))??;
    let stopped = call.core.stopped.clone().cancelled_owned();
    let log: BoxStream<'static, std::io::Result<Bytes>> = match limit {
        Some(limit) => limited(log, limit).boxed(),
        None => log,
    };
    Ok(streamed("text/plain", log.take_until(stopped)))
}

fn read(call: &Call, pod: &Object) -> Result<LogRequest, Status> {
    let query = &call.query;
    let container = container::asked_for(call, pod)?;
    let since = match (query.number("sinceSeconds")?, query.text("sinceTime")) {
        (Some(seconds), _) => jiff::Timestamp::now().saturating_sub(Duration::from_secs(seconds)).ok(),
        (None, "") => None,
        (None, time) => Some(time.parse().map_err(|_invalid| Status::bad_request("sinceTime is no time"))?),
    };
    Ok(LogRequest {
        container: Some(container),
        follow: query.flag("follow"),
        previous: query.flag("previous"),
        timestamps: query.flag("timestamps"),
        tail_lines: query.number("tailLines")?,
        limit_bytes: query.number("limitBytes")?,
        since,
    })
}

/// Holds a provider to the limit that it was given.
fn limited(
    log: BoxStream<'static, std::io::Result<Bytes>>,
    limit: u64,
) -> impl futures::Stream<Item = std::io::Result<Bytes>> + Send {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    log.scan(limit, |left, chunk| {
        let chunk = chunk.map(|chunk| chunk.slice(..chunk.len().min(*left)));
        let is_over = *left == 0;
        *left -= chunk.as_ref().map_or(0, Bytes::len);
        std::future::ready((!is_over).then_some(chunk))
    })
}
