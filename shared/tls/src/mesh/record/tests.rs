//! Records of the right and the wrong kind.

use rustls::crypto::cipher::{AeadKey, Iv};

use super::*;

type Secrets = (u64, ConnectionTrafficSecrets);

fn aes(sequence: u64) -> Secrets {
    let (key, iv) = (AeadKey::from([9; 32]), Iv::copy(&[7; NONCE]));
    (sequence, ConnectionTrafficSecrets::Aes256Gcm { key, iv })
}

fn chacha(sequence: u64) -> Secrets {
    let (key, iv) = (AeadKey::from([9; 32]), Iv::copy(&[7; NONCE]));
    (sequence, ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv })
}

fn pair(secrets: fn(u64) -> Secrets) -> (Sealer, Opener) {
    (Sealer::new(secrets(0)).unwrap(), Opener::new(secrets(0)).unwrap())
}

/// A record around `inner`, which should end with the type of its content.
fn around(inner: &[u8]) -> Vec<u8> {
    let mut record = vec![0; HEADER];
    record.extend_from_slice(inner);
    record.extend_from_slice(&[0; TAG]);
    record
}

fn sealed(sealer: &mut Sealer, plain: &[u8], content: ContentType) -> Vec<u8> {
    let mut record = around(&[plain, &[0]].concat());
    sealer.seal(&mut record, content).unwrap();
    record
}

#[test]
fn what_was_sealed_can_be_opened_in_order_and_once() {
    for secrets in [aes, chacha] {
        let (mut sealer, mut opener) = pair(secrets);
        for (plain, content) in [
            (vec![1; 100], ContentType::ApplicationData),
            (Vec::new(), ContentType::ApplicationData),
            (vec![0; LARGEST_PLAINTEXT], ContentType::ApplicationData),
            (vec![1, 0], ContentType::Alert),
        ] {
            let mut record = sealed(&mut sealer, &plain, content);
            assert_eq!(record.len(), HEADER + plain.len() + TRAILER);
            assert_eq!(length(&record), Ok(Some(record.len())));
            let again = record.clone();
            let (found, place) = opener.open(&mut record).unwrap();
            assert_eq!((found, &record[place]), (content, plain.as_slice()));
            assert_eq!(opener.open(&mut again.clone()), Err(Error::DecryptError));
            // A failure uses a number up, too; a connection does not go on after it.
            opener.0.sequence -= 1;
        }
    }
}

#[test]
fn equal_plaintexts_make_different_records() {
    let mut sealer = Sealer::new(aes(0)).unwrap();
    let mut one = || sealed(&mut sealer, b"same", ContentType::ApplicationData);
    assert_ne!(one(), one());
}

#[test]
fn every_bit_of_a_record_is_protected() {
    let mut sealer = Sealer::new(aes(0)).unwrap();
    let record = sealed(&mut sealer, b"text", ContentType::ApplicationData);
    for position in 0..record.len() * 8 {
        let mut spoilt = record.clone();
        spoilt[position / 8] ^= 1 << (position % 8);
        assert_eq!(Opener::new(aes(0)).unwrap().open(&mut spoilt), Err(Error::DecryptError), "bit {position}");
    }
}

#[test]
fn padding_is_taken_off() {
    let (mut sealer, mut opener) = pair(aes);
    // The sealer writes the type behind the padding; its own place is where the padding begins.
    let mut record = around(&[b"text".as_slice(), &[23], &[0; 200]].concat());
    sealer.seal(&mut record, ContentType::Unknown(0)).unwrap();
    let (content, place) = opener.open(&mut record).unwrap();
    assert_eq!((content, &record[place]), (ContentType::ApplicationData, b"text".as_slice()));
}

#[test]
fn nothing_but_padding_and_too_much_plaintext_are_errors() {
    let (mut sealer, mut opener) = pair(aes);
    let mut empty = around(&[0; 9]);
    sealer.seal(&mut empty, ContentType::Unknown(0)).unwrap();
    assert_eq!(opener.open(&mut empty), Err(PeerMisbehaved::IllegalTlsInnerPlaintext.into()));
    let mut large = sealed(&mut sealer, &[1; LARGEST_PLAINTEXT + 1], ContentType::ApplicationData);
    assert_eq!(opener.open(&mut large), Err(Error::PeerSentOversizedRecord));
}

#[test]
fn a_header_says_how_long_its_record_is_or_that_it_is_none() {
    assert_eq!(length(&[]), Ok(None));
    assert_eq!(length(&[23, 3, 3, 1]), Ok(None));
    assert_eq!(length(&[23, 3, 3, 1, 2]), Ok(Some(HEADER + 258)));
    assert_eq!(length(&[23, 3, 3, 0x41, 0]), Ok(Some(LARGEST_RECORD)));
    assert_eq!(length(&[23, 3, 3, 0x41, 1]), Err(Error::PeerSentOversizedRecord));
    // Alerts and the rest are protected by now, and look like application data.
    assert!(matches!(length(&[21, 3, 3, 0, 2, 1, 0]), Err(Error::InvalidMessage(_))));
}

#[test]
fn a_key_wears_out() {
    let mut sealer = Sealer::new(aes(RECORDS_PER_KEY - 1)).unwrap();
    assert!(!sealer.is_worn());
    drop(sealed(&mut sealer, b"", ContentType::ApplicationData));
    assert!(sealer.is_worn());
    let mut last = Sealer::new(aes(u64::MAX)).unwrap();
    assert!(last.seal(&mut around(&[0]), ContentType::ApplicationData).is_err(), "no number is used twice");
}
