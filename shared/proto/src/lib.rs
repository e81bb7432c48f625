//! Generated messages and services of the wire: workload discovery, authorization, certificates, the node agent's
//! socket, delta discovery, and the test application.
//!
//! Everything below `gen/` comes from the definitions in `proto/` by `cargo xtask codegen`; a test compares them.
//! The crate refuses to hold logic: conversions to the project's own model live where the model is fed.
#![allow(
    clippy::pedantic,
    clippy::all,
    clippy::restriction,
    unused_qualifications,
    unreachable_pub,
    elided_lifetimes_in_paths,
    reason = "generated code keeps its generator's style"
)]

/// Packages of our own.
pub mod aquifer {
    /// The test application.
    pub mod echo {
        /// Version 1 of its service.
        pub mod v1 {
            include!("gen/aquifer.echo.v1.rs");

            /// The encoded definition, for server reflection.
            pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/aquifer.echo.v1.bin");
        }
    }
}

/// Packages below `istio`.
pub mod istio {
    /// Workloads and services.
    pub mod workload {
        include!("gen/istio.workload.rs");
        /// The socket between node agent and node proxy.
        pub mod zds {
            include!("gen/istio.workload.zds.rs");
        }
    }
    /// Layer-4 authorization.
    pub mod security {
        include!("gen/istio.security.rs");
    }
    /// Version 1 packages.
    pub mod v1 {
        /// The certificate authority.
        pub mod auth {
            include!("gen/istio.v1.auth.rs");
        }
    }
}

/// Packages below `envoy`.
pub mod envoy {
    /// Discovery.
    pub mod service {
        /// Discovery.
        pub mod discovery {
            /// Version 3 of the discovery service.
            pub mod v3 {
                include!("gen/envoy.service.discovery.v3.rs");
            }
        }
    }
}

/// Packages below `google`.
pub mod google {
    /// The status message.
    pub mod rpc {
        include!("gen/google.rpc.rs");
    }
}

/// Type URL of [`istio::workload::Address`].
pub const ADDRESS_TYPE: &str = "type.googleapis.com/istio.workload.Address";
/// Type URL of [`istio::workload::Workload`], which older clients subscribe to.
pub const WORKLOAD_TYPE: &str = "type.googleapis.com/istio.workload.Workload";
/// Type URL of [`istio::security::Authorization`].
pub const AUTHORIZATION_TYPE: &str = "type.googleapis.com/istio.security.Authorization";
