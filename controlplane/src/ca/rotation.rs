//! Replacing the authority without a gap: pure, time is an argument.
//!
//! 1. A new authority is there: its roots are trusted at once, and the old authority goes on signing.
//! 2. When every certificate from before has ended, everybody trusts the new roots: the new authority signs.
//! 3. When every certificate of the old authority has ended, its roots go.
//!
//! How long a certificate may last is therefore part of the record, and only ever grows.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use serde::{Deserialize, Serialize};
use tls::{Authority, AuthorityPem, TlsError};

use super::root::certificates;

/// Keys of the Secret that a record is kept in.
const SIGNING: (&str, &str) = ("signing-cert.pem", "signing-key.pem");
const NEXT: (&str, &str) = ("next-cert.pem", "next-key.pem");
const STATE: &str = "state.json";

/// Who signs, who will, and whose certificates may still be about.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rotation {
    signing: Signer,
    /// Signs from the given moment on.
    next: Option<(Signer, SystemTime)>,
    retired: Vec<Retired>,
    /// The longest validity that a certificate was given.
    longest: Duration,
}

/// An authority with what has to be known of it.
#[derive(Debug, Clone, PartialEq)]
struct Signer {
    pem: AuthorityPem,
    roots: String,
    not_after: SystemTime,
}

/// Roots of an authority that signs no more.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Retired {
    roots: String,
    until: SystemTime,
}

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("the key {0} is missing or no text")]
    Missing(&'static str),
    #[error("the key {STATE} cannot be read")]
    State(#[source] serde_json::Error),
    #[error("an authority in it cannot be used")]
    Authority(#[source] TlsError),
}

impl Signer {
    fn new(pem: AuthorityPem) -> Result<Self, TlsError> {
        let authority = Authority::from_pem(&pem.certificate, &pem.key)?;
        Ok(Self { roots: authority.roots_pem().to_owned(), not_after: authority.not_after(), pem })
    }
}

impl Rotation {
    /// A mesh whose only authority this is.
    pub(crate) fn begin(pem: AuthorityPem, longest: Duration) -> Result<Self, TlsError> {
        Ok(Self { signing: Signer::new(pem)?, next: None, retired: Vec::new(), longest })
    }

    /// Takes note of the authority that the operator wants; nothing happens if it is known.
    pub(crate) fn want(&mut self, wanted: AuthorityPem, now: SystemTime) -> Result<(), TlsError> {
        if wanted == self.signing.pem {
            // Nobody holds a certificate of an authority that never signed.
            self.next = None;
            return Ok(());
        }
        if self.next.as_ref().is_some_and(|(next, _)| next.pem == wanted) {
            return Ok(());
        }
        let wanted = Signer::new(wanted)?;
        let trusted: Vec<&str> = certificates(&self.signing.roots).collect();
        if certificates(&wanted.roots).all(|root| trusted.contains(&root)) {
            // Another key below the same roots: everybody trusts it already.
            self.replace(wanted, now);
        } else {
            // Who is over signs nothing, so that there is nothing to wait for.
            let from = self.all_ended(now).min(self.signing.not_after);
            self.next = Some((wanted, from));
        }
        self.advance(now);
        Ok(())
    }

    /// Takes the steps whose time has come; whether there were any.
    pub(crate) fn advance(&mut self, now: SystemTime) -> bool {
        let mut has_changed = false;
        if let Some((next, _)) = self.next.take_if(|(_, from)| *from <= now) {
            self.replace(next, now);
            has_changed = true;
        }
        let before = self.retired.len();
        self.retired.retain(|retired| now < retired.until);
        has_changed || self.retired.len() < before
    }

    /// A certificate is about to be given this validity; whether that has to be written down before.
    pub(crate) fn grow(&mut self, validity: Duration) -> bool {
        let is_longer = validity > self.longest;
        self.longest = self.longest.max(validity);
        is_longer
    }

    /// The longest validity that may be given without asking.
    pub(crate) fn longest(&self) -> Duration {
        self.longest
    }

    /// The next moment at which a step is due.
    pub(crate) fn due(&self) -> Option<SystemTime> {
        let next = self.next.iter().map(|(_, from)| *from);
        next.chain(self.retired.iter().map(|retired| retired.until)).min()
    }

    /// The authority that signs, with everybody's roots in its answers.
    pub(crate) fn authority(&self) -> Result<Authority, TlsError> {
        let authority = Authority::from_pem(&self.signing.pem.certificate, &self.signing.pem.key)?;
        let next = self.next.iter().map(|(next, _)| next.roots.as_str());
        let others: String = next.chain(self.retired.iter().map(|retired| retired.roots.as_str())).collect();
        authority.trusting(&others)
    }

    /// What is going on, for the log.
    pub(crate) fn phase(&self) -> &'static str {
        match (&self.next, self.retired.is_empty()) {
            (Some(_), _) => "the new root is being distributed, the old authority signs",
            (None, false) => "the new authority signs, the old root is trusted until its certificates have ended",
            (None, true) => "one authority signs and is trusted",
        }
    }

    fn replace(&mut self, next: Signer, now: SystemTime) {
        let until = self.all_ended(now).min(self.signing.not_after);
        let old = std::mem::replace(&mut self.signing, next);
        let trusted: Vec<&str> = certificates(&self.signing.roots).collect();
        let left: String = certificates(&old.roots).filter(|root| !trusted.contains(root)).map(line).collect();
        // One set of roots may have been retired before; then it lasts as long as the later of the two.
        self.retired.retain(|retired| retired.roots != left);
        if !left.is_empty() && now < until {
            self.retired.push(Retired { roots: left, until });
        }
    }

    /// When every certificate that was signed before `now` has ended, on clocks that differ a little.
    fn all_ended(&self, now: SystemTime) -> SystemTime {
        let margin = (self.longest / 10).clamp(Duration::from_secs(1), Duration::from_secs(600));
        now.checked_add(self.longest + margin).unwrap_or(self.signing.not_after)
    }
}

fn line(certificate: &str) -> String {
    format!("{certificate}\n")
}

/// What a record holds besides keys; moments in seconds since 1970.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct State {
    longest_seconds: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_from: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    retired: Vec<RetiredState>,
}

#[derive(Serialize, Deserialize)]
struct RetiredState {
    roots: String,
    until: u64,
}

/// The record, as data of a Secret.
impl Rotation {
    pub(crate) fn to_data(&self) -> BTreeMap<String, ByteString> {
        let retired =
            self.retired.iter().map(|one| RetiredState { roots: one.roots.clone(), until: seconds(one.until) });
        let state = State {
            // Rounded up: too long is safe.
            longest_seconds: self.longest.as_secs() + u64::from(self.longest.subsec_nanos() > 0),
            next_from: self.next.as_ref().map(|(_, from)| seconds(*from)),
            retired: retired.collect(),
        };
        let mut data = BTreeMap::new();
        let mut put = |key: &str, text: &str| data.insert(key.to_owned(), ByteString(text.as_bytes().to_vec()));
        put(SIGNING.0, &self.signing.pem.certificate);
        put(SIGNING.1, &self.signing.pem.key);
        if let Some((next, _)) = &self.next {
            put(NEXT.0, &next.pem.certificate);
            put(NEXT.1, &next.pem.key);
        }
        put(STATE, &serde_json::to_string(&state).unwrap_or_default());
        data
    }

    pub(crate) fn from_data(data: &BTreeMap<String, ByteString>) -> Result<Self, RecordError> {
        let text = |key: &'static str| {
            let bytes = data.get(key).ok_or(RecordError::Missing(key))?;
            std::str::from_utf8(&bytes.0).map_err(|_not_text| RecordError::Missing(key))
        };
        let signer = |(certificate, key): (&'static str, &'static str)| {
            let pem = AuthorityPem { certificate: text(certificate)?.to_owned(), key: text(key)?.to_owned() };
            Signer::new(pem).map_err(RecordError::Authority)
        };
        let state: State = serde_json::from_str(text(STATE)?).map_err(RecordError::State)?;
        let moment = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let next = state.next_from.map(|from| Ok::<_, RecordError>((signer(NEXT)?, moment(from)))).transpose()?;
        let retired = state.retired.into_iter().map(|one| Retired { roots: one.roots, until: moment(one.until) });
        Ok(Self {
            signing: signer(SIGNING)?,
            next,
            retired: retired.collect(),
            longest: Duration::from_secs(state.longest_seconds),
        })
    }
}

/// Rounded up: too late is safe.
fn seconds(moment: SystemTime) -> u64 {
    let since = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_secs() + u64::from(since.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests;
