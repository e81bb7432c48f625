//! What the command can do, one module per verb.

pub(crate) mod controlplane;
pub(crate) mod down;
pub(crate) mod echo;
pub(crate) mod exec;
pub(crate) mod kubeconfig;
pub(crate) mod logs;
pub(crate) mod node;
pub(crate) mod status;
pub(crate) mod supervisor;
pub(crate) mod up;
pub(crate) mod ztunnel;
