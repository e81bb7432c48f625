//! `aquifer bench` in a lab of its own: the lab, the pods of each mode, and the load that runs in them.

pub(crate) mod arguments;
mod envoy;
mod field;
mod lab;
mod objects;
mod places;
mod show;

pub(crate) use self::envoy::{Envoy, NO_ENVOY};
pub(crate) use self::field::Field;
pub(crate) use self::lab::Lab;
pub(crate) use self::show::{Progress, Report};
