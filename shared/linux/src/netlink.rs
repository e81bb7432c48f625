//! One netlink request and its answer.
