//! What the crate does to a real kernel, each test in a network namespace of its own.
//!
//! Root runs the tests on threads of this process; an ordinary user's run starts this program again, per test, as
//! root of a user namespace.

#[cfg(test)]
mod behaviour {
    pub(crate) mod capture;
    pub(crate) mod confine;
    pub(crate) mod link;
    pub(crate) mod netns;
    pub(crate) mod nft;
    pub(crate) mod packet;
    pub(crate) mod process;
    pub(crate) mod route;
    pub(crate) mod rulesets;
    pub(crate) mod seqpacket;
    pub(crate) mod socket;
    pub(crate) mod support;
    pub(crate) mod syscalls;
}
