//! The server's side: it keeps nothing but keys; what it has to know of a session is sealed in the client's ticket.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use rustls::pki_types::UnixTime;
use rustls::server::ProducesTickets;

use super::{LONGEST, Proof, note, noted};

/// A ticket begins with its nonce and the times of its proof, which are authenticated and no secret.
const NONCE: usize = 12;
const TIMES: usize = 16;

/// Seals sessions with keys of its own, which are made when they are needed, are used for an hour and open tickets for
/// another, and end with the certificate that they belong to.
#[derive(Default)]
pub(crate) struct Tickets(Mutex<Keys>);

#[derive(Default)]
struct Keys {
    current: Option<Key>,
    previous: Option<Key>,
}

struct Key {
    seal: Arc<RandomizedNonceKey>,
    /// Made at this moment, in seconds of Unix time.
    made: u64,
}

impl Tickets {
    fn seal(&self, session: &[u8], proof: Proof, now: UnixTime) -> Option<Vec<u8>> {
        if !proof.counts_at(now) {
            return None;
        }
        let key = self.keys(now).sealing(now)?;
        let times = times(proof);
        let mut sealed = session.to_vec();
        let nonce = key.seal_in_place_append_tag(Aad::from(times), &mut sealed).ok()?;
        Some([nonce.as_ref().as_slice(), &times, &sealed].concat())
    }

    fn open(&self, ticket: &[u8], now: UnixTime) -> Option<(Vec<u8>, Proof)> {
        let (nonce, rest) = ticket.split_first_chunk::<NONCE>()?;
        let (since, rest) = rest.split_first_chunk()?;
        let (until, sealed) = rest.split_first_chunk()?;
        let proof = Proof { since: u64::from_be_bytes(*since), until: u64::from_be_bytes(*until) };
        if !proof.counts_at(now) {
            return None;
        }
        let keys = self.keys(now).opening();
        keys.into_iter().flatten().find_map(|key| {
            let mut session = sealed.to_vec();
            let length = key.open_in_place(Nonce::from(nonce), Aad::from(times(proof)), &mut session).ok()?.len();
            session.truncate(length);
            Some((session, proof))
        })
    }

    fn keys(&self, now: UnixTime) -> MutexGuard<'_, Keys> {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.retire(now);
        keys
    }
}

impl Keys {
    /// Drops keys that have done their time, or were made in what is now the future.
    fn retire(&mut self, now: UnixTime) {
        let age = |key: &Key| now.as_secs().checked_sub(key.made);
        if self.current.as_ref().is_some_and(|key| age(key).is_none_or(|age| age >= LONGEST.as_secs())) {
            self.previous = self.current.take();
        }
        let limit = 2 * LONGEST.as_secs();
        self.previous.take_if(|key| age(key).is_none_or(|age| age >= limit));
    }

    fn sealing(&mut self, now: UnixTime) -> Option<Arc<RandomizedNonceKey>> {
        if self.current.is_none() {
            let mut bytes = [0; 32];
            aws_lc_rs::rand::fill(&mut bytes).ok()?;
            let seal = Arc::new(RandomizedNonceKey::new(&AES_256_GCM, &bytes).ok()?);
            self.current = Some(Key { seal, made: now.as_secs() });
        }
        self.current.as_ref().map(|key| Arc::clone(&key.seal))
    }

    fn opening(&self) -> [Option<Arc<RandomizedNonceKey>>; 2] {
        [&self.current, &self.previous].map(|key| key.as_ref().map(|key| Arc::clone(&key.seal)))
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    /// For how long the session of this connection is worth offering.
    fn lifetime(&self) -> u32 {
        let left = noted().map_or(0, |proof| proof.left(UnixTime::now()));
        u32::try_from(left).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        self.seal(session, noted()?, UnixTime::now())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (session, proof) = self.open(ticket, UnixTime::now())?;
        note(proof);
        Some(session)
    }
}

fn times(proof: Proof) -> [u8; TIMES] {
    let mut times = [0; TIMES];
    let (since, until) = times.split_at_mut(TIMES / 2);
    since.copy_from_slice(&proof.since.to_be_bytes());
    until.copy_from_slice(&proof.until.to_be_bytes());
    times
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HOUR: u64 = 3600;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn a_ticket_is_opened_by_who_sealed_it_while_its_proof_counts() {
        let (tickets, proof) = (Tickets::default(), Proof { since: 100, until: 200 });
        let ticket = tickets.seal(b"session", proof, at(150)).unwrap();
        assert_eq!(tickets.open(&ticket, at(199)), Some((b"session".to_vec(), proof)));
        assert_eq!((tickets.open(&ticket, at(200)), tickets.open(&ticket, at(99))), (None, None));
        assert_eq!(Tickets::default().open(&ticket, at(150)), None, "another certificate's keys");
        assert_eq!(tickets.seal(b"session", proof, at(200)), None);
    }

    #[test]
    fn no_byte_of_a_ticket_can_be_changed_or_left_out() {
        let (tickets, proof) = (Tickets::default(), Proof { since: 0, until: 1 << 40 });
        let ticket = tickets.seal(b"session", proof, at(1)).unwrap();
        for position in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[position] ^= 1;
            assert_eq!(tickets.open(&changed, at(1)), None, "{position}");
            assert_eq!(tickets.open(&ticket[..position], at(1)), None, "{position}");
        }
        assert!(tickets.open(&ticket, at(1)).is_some());
    }

    #[test]
    fn a_key_seals_for_an_hour_and_opens_for_another() {
        let (tickets, proof) = (Tickets::default(), Proof { since: 0, until: 1 << 40 });
        let old = tickets.seal(b"old", proof, at(1000)).unwrap();
        let last = tickets.seal(b"last", proof, at(1000 + HOUR - 1)).unwrap();
        let new = tickets.seal(b"new", proof, at(1000 + HOUR)).unwrap();
        let opens = |now| [&old, &last, &new].map(|ticket| tickets.open(ticket, at(now)).is_some());
        assert_eq!(opens(1000 + 2 * HOUR - 1), [true, true, true]);
        assert_eq!(opens(1000 + 2 * HOUR), [false, false, true]);
        assert_eq!(opens(1000 + 3 * HOUR), [false, false, false], "the second key, unused for an hour, has gone too");
    }
}
