//! The log: a filter that can change while the program runs, two layouts, and a writer off the data path.

mod filter;
mod layer;
mod queue;
mod render;

use std::io::Write;
use std::sync::Arc;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;

pub use filter::{Filter, FilterError};
pub(crate) use queue::{Line, Queue};
pub(crate) use render::{Entry, FieldValue};

use crate::AccessLog;

/// The layout of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Time, level, target, message and fields, separated by tabs.
    Plain,
    /// A JSON object.
    Json,
}

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is malformed.
    #[error("the log filter is malformed")]
    Filter(#[from] FilterError),
    /// The writer's thread could not be started.
    #[error("the log writer cannot be started")]
    Writer(#[from] std::io::Error),
    /// Something in this process logs already.
    #[error("the log is set up already")]
    AlreadySetUp,
}

/// The process's log; dropping it writes what is left.
#[derive(Debug)]
pub struct Logging {
    queue: Arc<Queue>,
    filter: FilterHandle,
}

/// Sets up the log of this process: lines go to standard output.
///
/// # Errors
/// When the filter is malformed, or the log is set up already.
pub fn init(filter: &str, layout: Layout) -> Result<Logging, LogError> {
    init_with(filter, layout, std::io::stdout())
}

/// As [`init`], with lines going elsewhere.
///
/// # Errors
/// When the filter is malformed, or the log is set up already.
pub fn init_with(filter: &str, layout: Layout, out: impl Write + Send + 'static) -> Result<Logging, LogError> {
    let filter: Filter = filter.parse()?;
    let queue = Queue::start(layout, out)?;
    let (reloadable, handle) = reload::Layer::new(filter.targets());
    let subscriber = tracing_subscriber::registry().with(reloadable).with(layer::LineLayer::new(Arc::clone(&queue)));
    tracing::subscriber::set_global_default(subscriber).map_err(|_error| LogError::AlreadySetUp)?;
    let state = std::sync::Mutex::new(filter.clone());
    let reload = Box::new(move |targets| handle.reload(targets).is_ok());
    Ok(Logging { queue, filter: FilterHandle(Arc::new(FilterState { at_start: filter, state, reload })) })
}

impl Logging {
    /// The filter, to be read and changed while the program runs.
    #[must_use]
    pub fn filter(&self) -> FilterHandle {
        self.filter.clone()
    }

    /// Where access records go.
    #[must_use]
    pub fn access(&self) -> AccessLog {
        AccessLog::to_queue(Arc::clone(&self.queue))
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        self.queue.finish();
    }
}

/// Reads and changes the filter.
#[derive(Clone)]
pub struct FilterHandle(Arc<FilterState>);

struct FilterState {
    at_start: Filter,
    state: std::sync::Mutex<Filter>,
    reload: Box<dyn Fn(Targets) -> bool + Send + Sync>,
}

impl FilterHandle {
    /// A handle that changes nothing but itself, for tests and for programs that do not log.
    #[must_use]
    pub fn detached(filter: Filter) -> Self {
        let state = std::sync::Mutex::new(filter.clone());
        Self(Arc::new(FilterState { at_start: filter, state, reload: Box::new(|_targets| true) }))
    }

    /// The filter in force.
    #[must_use]
    pub fn current(&self) -> Filter {
        self.lock().clone()
    }

    /// Puts further clauses on top of the filter in force, or of the one at start if `reset`.
    ///
    /// # Errors
    /// When a clause is malformed; nothing has changed then.
    pub fn change(&self, clauses: &str, reset: bool) -> Result<Filter, FilterError> {
        let mut current = self.lock();
        let mut next = if reset { self.0.at_start.clone() } else { current.clone() };
        next.append(clauses)?;
        if !(self.0.reload)(next.targets()) {
            return Err(FilterError("the log is shutting down".to_owned()));
        }
        current.clone_from(&next);
        Ok(next)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Filter> {
        self.0.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl std::fmt::Debug for FilterHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("FilterHandle").field(&self.current()).finish()
    }
}
