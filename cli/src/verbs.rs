//! What the command can do, one module per verb.

pub(crate) mod bench;
pub(crate) mod completion;
pub(crate) mod controlplane;
pub(crate) mod down;
pub(crate) mod echo;
pub(crate) mod exec;
pub(crate) mod fetch;
pub(crate) mod kubeconfig;
pub(crate) mod load;
pub(crate) mod log;
pub(crate) mod logs;
pub(crate) mod manifest;
pub(crate) mod mtls;
pub(crate) mod node;
pub(crate) mod status;
pub(crate) mod supervisor;
pub(crate) mod up;
pub(crate) mod version;
pub(crate) mod ztunnel;
pub(crate) mod ztunnel_config;
