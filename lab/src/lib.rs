//! Being written.

pub mod api;
pub mod controllers;
