//! Probes: the state machine that turns outcomes into verdicts, and the requests and programs themselves.

mod attempt;
mod exec;
mod plan;
mod state;

pub(crate) use attempt::{Target, attempt};
pub(crate) use plan::{Action, Plan};
pub(crate) use state::{State, Verdict};
