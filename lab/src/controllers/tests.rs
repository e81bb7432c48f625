//! The controllers against the in-memory API server, without a kubelet: the tests play it.
