//! Layer-7 decisions: route match, rewriting, retry and fault decisions over plain request data.
//!
//! Nothing lives here yet: the crate reserves its place in the layer table for the waypoint.
