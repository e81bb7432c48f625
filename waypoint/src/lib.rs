//! The layer-7 proxy of a namespace.
//!
//! Nothing lives here yet: the crate reserves its place in the layer table; the node proxy stands first.
