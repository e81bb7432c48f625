//! `aquifer bench` in a lab of its own or on a cluster: the site, the pods of each mode, and the load that runs in them.

pub(crate) mod arguments;
mod cluster;
mod envoy;
mod field;
mod ground;
mod lab;
mod nodes;
mod objects;
mod places;
mod proxies;
mod replay;
mod show;
mod site;

pub(crate) use self::envoy::Envoy;
pub(crate) use self::field::Field;
pub(crate) use self::ground::Ground;
pub(crate) use self::show::{Progress, Report};
pub(crate) use self::site::Site;
