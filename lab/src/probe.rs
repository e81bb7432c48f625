//! Probes: the state machine that turns outcomes into verdicts, and the requests themselves.

mod attempt;
mod plan;
mod state;

pub(crate) use attempt::attempt;
pub(crate) use plan::{Action, Plan};
pub(crate) use state::{State, Verdict};
