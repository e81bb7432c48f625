//! The hook through which the kubelet provides the logs of pods.

use std::io;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::Pod;

use super::Status;

/// Log bytes, in chunks of any size, in the form in which the user sees them.
pub type LogStream = BoxStream<'static, io::Result<Bytes>>;

/// What a user asked for, as in the query of the pod's `log` subresource. The provider honours every field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogRequest {
    /// The container; the pod has exactly one when it is absent.
    pub container: Option<String>,
    /// Go on with what is written later, until the container ends.
    pub follow: bool,
    /// The log of the container's previous run.
    pub previous: bool,
    /// Put the time of writing before each line.
    pub timestamps: bool,
    /// At most so many of the last lines.
    pub tail_lines: Option<u64>,
    /// At most so many bytes.
    pub limit_bytes: Option<u64>,
    /// Only lines written since.
    pub since: Option<jiff::Timestamp>,
}

/// Who has the logs of pods. The pod exists, is bound to a node, and the named container is part of it.
pub trait PodLogs: Send + Sync + 'static {
    /// Opens the log of one container.
    ///
    /// # Errors
    /// A [`Status`] is shown to the user as it is, for example [`Status::bad_request`] while the container has not
    /// started yet.
    fn open(&self, pod: &Pod, request: LogRequest) -> BoxFuture<'static, Result<LogStream, Status>>;
}
