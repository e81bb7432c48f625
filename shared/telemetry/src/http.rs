//! The small HTTP/1.1 server for metrics, readiness and admin requests, and for a component's own few endpoints.
//!
//! Requests are bounded in headers, body and time; answers may be streamed.

mod body;
mod crowd;
mod router;
mod server;
mod stall;

pub use body::{Body, BodySender};
pub use router::{Request, Response, Router, html, json, metrics, text};
pub use server::{Accept, serve};
