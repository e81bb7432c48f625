//! Sessions: what two workloads agreed on in an earlier handshake, so that the next one needs no certificates.
//!
//! A session stands for proofs that were given once. It counts for no longer than they would: [`Proof`] goes with it
//! wherever it is kept, and is looked at when it is offered, when it is accepted and when the handshake is over.

mod places;
mod tickets;

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use rustls::pki_types::UnixTime;

pub use self::places::Place;
pub(crate) use self::places::Places;
pub(crate) use self::tickets::Tickets;

/// For how long a peer that has shown its certificate need not show it again; every handshake that resumes counts from
/// there, not from the one before it.
///
/// Shorter than any certificate lives, and longer than an unused tunnel is kept.
const LONGEST: Duration = Duration::from_secs(3600);

/// From when until when certificates prove what they proved in a handshake; in seconds of Unix time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Proof {
    since: u64,
    /// Not any more at this moment.
    until: u64,
}

impl Proof {
    /// What certificates prove that were shown at a moment, each of which has a validity.
    pub(crate) fn given(at: UnixTime, validities: impl IntoIterator<Item = (SystemTime, SystemTime)>) -> Self {
        let all = Self { since: 0, until: at.as_secs().saturating_add(LONGEST.as_secs()) };
        validities.into_iter().fold(all, |proof, (not_before, not_after)| Self {
            since: proof.since.max(seconds(not_before)),
            until: proof.until.min(seconds(not_after)),
        })
    }

    pub(crate) fn counts_at(self, now: UnixTime) -> bool {
        (self.since..self.until).contains(&now.as_secs())
    }

    /// For how many seconds it still counts.
    fn left(self, now: UnixTime) -> u64 {
        if self.counts_at(now) { self.until - now.as_secs() } else { 0 }
    }
}

fn seconds(moment: SystemTime) -> u64 {
    moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

thread_local! {
    /// The proof of the connection that rustls is at work for on this thread.
    static CURRENT: Cell<Option<Proof>> = const { Cell::new(None) };
}

/// Lets rustls work for a connection, whose proof its callbacks find with [`noted`] and change with [`note`].
///
/// rustls asks verifiers, session stores and ticketers without saying for which connection; it does so within the call
/// that moves the connection.
pub(crate) fn with<T>(proof: &mut Option<Proof>, work: impl FnOnce() -> T) -> T {
    CURRENT.set(*proof);
    let outcome = work();
    *proof = CURRENT.take();
    outcome
}

/// The peer of this connection has given a proof, or comes back with an earlier one.
pub(crate) fn note(proof: Proof) {
    CURRENT.set(Some(proof));
}

fn noted() -> Option<Proof> {
    CURRENT.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    fn between(since: u64, until: u64) -> (SystemTime, SystemTime) {
        let moment = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        (moment(since), moment(until))
    }

    #[test]
    fn a_proof_counts_while_every_certificate_does() {
        let proof = Proof::given(at(1000), [between(900, 1500), between(950, 2000), between(10, 1400)]);
        assert_eq!(proof, Proof { since: 950, until: 1400 });
        for (now, counts) in [(949, false), (950, true), (1399, true), (1400, false)] {
            assert_eq!(proof.counts_at(at(now)), counts, "{now}");
        }
        assert_eq!((proof.left(at(1000)), proof.left(at(1400)), proof.left(at(949))), (400, 0, 0));
    }

    #[test]
    fn a_proof_counts_for_an_hour_at_most() {
        let proof = Proof::given(at(1000), [between(0, 1_000_000)]);
        assert!(proof.counts_at(at(4599)) && !proof.counts_at(at(4600)));
    }

    #[test]
    fn each_connection_has_its_own_proof() {
        let (first, second) = (Proof { since: 1, until: 2 }, Proof { since: 3, until: 4 });
        let (mut one, mut other) = (None, Some(second));
        with(&mut one, || note(first));
        assert_eq!(with(&mut other, noted), Some(second));
        assert_eq!((one, other, noted()), (Some(first), Some(second), None));
    }
}
