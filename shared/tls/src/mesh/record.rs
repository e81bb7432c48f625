//! Records of an established TLS 1.3 connection: [RFC 8446, section 5](https://www.rfc-editor.org/rfc/rfc8446#section-5).
//!
//! Both directions work in place: a record is sealed where its plaintext was put together, and opened where it was
//! received.
//! The cipher is `ring`'s: on processors with vector AES and without AVX-512 a record costs a half to two thirds of what it
//! costs with `aws-lc-rs` (`cargo run --release -p tls --example record_ciphers`).

use std::ops::Range;

use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use rustls::{ConnectionTrafficSecrets, ContentType, Error, PeerMisbehaved};

/// Bytes before a record's content: type, version, length.
pub(super) const HEADER: usize = 5;

/// The most plaintext that a record carries, in bytes.
pub(super) const LARGEST_PLAINTEXT: usize = 1 << 14;

/// Bytes behind the plaintext that is sent: the type of the content, and the tag.
pub(super) const TRAILER: usize = 1 + TAG;

/// The largest record that a peer may send: it may pad.
pub(super) const LARGEST_RECORD: usize = HEADER + LARGEST_PLAINTEXT + 256;

const TAG: usize = 16;
const NONCE: usize = 12;

/// How many records one key may seal: AES-GCM must not do more than 2^24.5 of full size (section 5.5).
const RECORDS_PER_KEY: u64 = 1 << 24;

/// One direction's key, and how many records it has seen.
struct Protection {
    key: LessSafeKey,
    iv: [u8; NONCE],
    sequence: u64,
}

/// Seals what is sent.
pub(super) struct Sealer(Protection);

/// Opens what is received.
pub(super) struct Opener(Protection);

impl Protection {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Result<Self, Error> {
        let (algorithm, key, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(Error::General("a cipher suite without a record layer".to_owned())),
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_error| Error::EncryptError)?;
        let iv = iv.as_ref().try_into().map_err(|_error| Error::EncryptError)?;
        Ok(Self { key: LessSafeKey::new(key), iv, sequence })
    }

    /// Each record has its own (section 5.3): no key sees the same nonce twice.
    fn next_nonce(&mut self) -> Result<Nonce, Error> {
        let mut nonce = self.iv;
        let (_, low) = nonce.split_at_mut(NONCE - size_of::<u64>());
        for (byte, count) in low.iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= count;
        }
        self.sequence = self.sequence.checked_add(1).ok_or(Error::EncryptError)?;
        Ok(Nonce::assume_unique_for_key(nonce))
    }
}

impl Sealer {
    pub(super) fn new(secrets: (u64, ConnectionTrafficSecrets)) -> Result<Self, Error> {
        Protection::new(secrets).map(Self)
    }

    /// Whether it is time for the next key.
    pub(super) fn is_worn(&self) -> bool {
        self.0.sequence >= RECORDS_PER_KEY
    }

    /// Seals a record in place: room for the header, the plaintext, room for the trailer.
    pub(super) fn seal(&mut self, record: &mut [u8], content: ContentType) -> Result<(), Error> {
        let length = record.len().checked_sub(HEADER).ok_or(Error::EncryptError)?;
        let header = header(length)?;
        let (start, rest) = record.split_at_mut(HEADER);
        start.copy_from_slice(&header);
        let (inner, tag) = rest.split_at_mut(length.checked_sub(TAG).ok_or(Error::EncryptError)?);
        *inner.last_mut().ok_or(Error::EncryptError)? = content.into();
        let nonce = self.0.next_nonce()?;
        let sealed = self.0.key.seal_in_place_separate_tag(nonce, Aad::from(header), inner);
        tag.copy_from_slice(sealed.map_err(|_error| Error::EncryptError)?.as_ref());
        Ok(())
    }
}

impl Opener {
    pub(super) fn new(secrets: (u64, ConnectionTrafficSecrets)) -> Result<Self, Error> {
        Protection::new(secrets).map(Self)
    }

    /// Opens a whole record in place; what it is, and where in it the plaintext lies.
    pub(super) fn open(&mut self, record: &mut [u8]) -> Result<(ContentType, Range<usize>), Error> {
        let (start, body) = record.split_at_mut(HEADER.min(record.len()));
        let header: [u8; HEADER] = (&*start).try_into().map_err(|_error| Error::DecryptError)?;
        let nonce = self.0.next_nonce()?;
        let opened = self.0.key.open_in_place(nonce, Aad::from(header), body);
        let opened = opened.map_err(|_error| Error::DecryptError)?;
        // Zeroes behind the type are padding (section 5.4).
        let last = opened.iter().rposition(|byte| *byte != 0);
        let last = last.ok_or(PeerMisbehaved::IllegalTlsInnerPlaintext)?;
        if last > LARGEST_PLAINTEXT {
            return Err(Error::PeerSentOversizedRecord);
        }
        let content = opened.get(last).copied().unwrap_or_default();
        Ok((ContentType::from(content), HEADER..HEADER + last))
    }
}

/// The length of the record that begins here; `None` while there are not enough bytes to tell.
///
/// # Errors
/// For what cannot be a protected record.
pub(super) fn length(bytes: &[u8]) -> Result<Option<usize>, Error> {
    let Some([kind, _, _, high, low]) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
    if ContentType::from(*kind) != ContentType::ApplicationData {
        return Err(Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType));
    }
    let length = HEADER + usize::from(u16::from_be_bytes([*high, *low]));
    if length > LARGEST_RECORD {
        return Err(Error::PeerSentOversizedRecord);
    }
    Ok(Some(length))
}

/// Every protected record looks like application data of TLS 1.2.
fn header(length: usize) -> Result<[u8; HEADER], Error> {
    let [high, low] = u16::try_from(length).map_err(|_error| Error::EncryptError)?.to_be_bytes();
    Ok([ContentType::ApplicationData.into(), 3, 3, high, low])
}

#[cfg(test)]
mod tests;
