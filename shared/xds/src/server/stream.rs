//! One client's stream: requests in, responses out, driven by whoever polls the responses.
//!
//! There is no task: the transport polls the stream while the client has room for a response, and drops it when the
//! client goes. A client that takes nothing is therefore not read either, and costs no more than its place.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, timeout};
use tonic::{Status, Streaming};
use tracing::{debug, info, warn};

use super::registry::Entered;
use super::session::Session;
use super::snapshot::Snapshot;
use super::{Caller, Options, ResponseStream};
use crate::node::metadata_text;

struct ClientStream {
    options: Arc<Options>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    requests: Streaming<DeltaDiscoveryRequest>,
    caller: Caller,
    entered: Entered,
    _place: OwnedSemaphorePermit,
    session: Session,
    is_introduced: bool,
    /// The first snapshot that the client has not processed, and since when it could have.
    behind: Option<(u64, Instant)>,
}

/// What happened on a stream.
enum Event {
    Request(Box<DeltaDiscoveryRequest>),
    Snapshot,
    Over,
}

pub(super) fn serve(
    options: Arc<Options>,
    requests: Streaming<DeltaDiscoveryRequest>,
    caller: Caller,
    (entered, place): (Entered, OwnedSemaphorePermit),
) -> ResponseStream {
    let mut snapshots = options.snapshots.clone();
    let session = Session::new(Arc::clone(&snapshots.borrow_and_update()), options.limits.names);
    let client = ClientStream {
        options,
        snapshots,
        requests,
        caller,
        entered,
        _place: place,
        session,
        is_introduced: false,
        behind: None,
    };
    Box::pin(futures::stream::unfold(Some(client), |client| async move {
        let mut client = client?;
        match client.next().await {
            Ok(Some(response)) => Some((Ok(response), Some(client))),
            Ok(None) => {
                info!(client = %client.caller, "client left");
                None
            }
            Err(status) => {
                info!(client = %client.caller, code = ?status.code(), reason = status.message(), "client's stream ended");
                Some((Err(status), None))
            }
        }
    }))
}

impl ClientStream {
    /// Waits for the next response that is due; `None` when the stream is over.
    async fn next(&mut self) -> Result<Option<DeltaDiscoveryResponse>, Status> {
        if !self.is_introduced {
            let deadline = self.options.limits.first_request;
            let first = timeout(deadline, self.event())
                .await
                .map_err(|_elapsed| Status::deadline_exceeded(format!("no request within {deadline:?}")))??;
            if self.take(first)?.is_none() {
                return Ok(None);
            }
        }
        loop {
            let begin = Instant::now();
            let response = self.session.push();
            let told = self.session.told();
            self.entered.report(told, self.session.status());
            if let Some((_, since)) = self.behind.take_if(|(version, _)| *version <= told) {
                self.options.observer.converged(since.elapsed());
            }
            if let Some(response) = response {
                self.log(&response, begin.elapsed());
                return Ok(Some(response));
            }
            // No deadline: a client whose mesh does not change has nothing to say, and one that does not acknowledge
            // gets nothing more and shows in the list of clients.
            let event = self.event().await?;
            if self.take(event)?.is_none() {
                return Ok(None);
            }
        }
    }

    async fn event(&mut self) -> Result<Event, Status> {
        tokio::select! {
            biased;
            () = self.options.drain.draining() => Ok(Event::Over),
            request = self.requests.message() => Ok(request?.map_or(Event::Over, |request| Event::Request(Box::new(request)))),
            // The sender is gone when the control plane ends; its clients go elsewhere.
            changed = self.snapshots.changed(), if self.is_introduced => {
                Ok(if changed.is_ok() { Event::Snapshot } else { Event::Over })
            }
        }
    }

    /// Applies what happened; `None` ends the stream.
    fn take(&mut self, event: Event) -> Result<Option<()>, Status> {
        match event {
            Event::Over => Ok(None),
            Event::Snapshot => {
                let snapshot = Arc::clone(&self.snapshots.borrow_and_update());
                self.behind.get_or_insert_with(|| (snapshot.version, Instant::now()));
                self.session.update(snapshot);
                Ok(Some(()))
            }
            Event::Request(request) => self.receive(*request).map(Some),
        }
    }

    fn receive(&mut self, mut request: DeltaDiscoveryRequest) -> Result<(), Status> {
        if !self.is_introduced {
            let node = request.node.take().unwrap_or_default();
            self.introduce(&node)?;
        }
        let type_url = request.type_url.clone();
        let rejection =
            self.session.receive(request).map_err(|violation| Status::invalid_argument(violation.to_string()))?;
        if let Some(rejection) = rejection {
            self.options.observer.rejected(&type_url);
            warn!(
                client = %self.caller,
                type_url,
                resources = ?rejection.names,
                message = rejection.message,
                "client refused resources; they are not sent again until they change"
            );
        }
        Ok(())
    }

    fn introduce(&mut self, node: &Node) -> Result<(), Status> {
        (self.options.admit)(&self.caller, node)?;
        info!(client = %self.caller, node = node.id, "client connected");
        self.entered.introduce(&node.id);
        self.session.serve_node(metadata_text(node, "NODE_NAME").filter(|name| !name.is_empty()));
        self.is_introduced = true;
        Ok(())
    }

    fn log(&self, response: &DeltaDiscoveryResponse, took: Duration) {
        let bytes = response.resources.iter().map(Message::encoded_len).sum();
        self.options.observer.pushed(&response.type_url, bytes, took);
        debug!(
            client = %self.caller,
            type_url = response.type_url,
            nonce = response.nonce,
            resources = response.resources.len(),
            removed = response.removed_resources.len(),
            bytes,
            "pushed"
        );
    }
}
