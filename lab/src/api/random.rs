//! Names, uids and secrets that nobody guesses or has used before.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

/// The letters of generated names: no vowels, so that no words appear (`k8s.io/apimachinery/pkg/util/rand`).
const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// The end of a generated name.
pub(crate) fn suffix(length: usize) -> String {
    (0..length).map(|_| letter(rand::random::<u32>() as usize)).collect()
}

/// Ten letters that depend on the text alone: the name of a pod template.
pub(crate) fn digest(text: &str) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(text.as_bytes()).iter().take(10).map(|byte| letter(usize::from(*byte))).collect()
}

fn letter(number: usize) -> char {
    LETTERS.get(number % LETTERS.len()).map_or('x', |letter| char::from(*letter))
}

/// A UUID of version 4 (RFC 9562, section 5.4).
pub(crate) fn uid() -> String {
    let (version, variant) = (0xf_u128 << 76, 0x3_u128 << 62);
    let bits = (rand::random::<u128>() & !version & !variant) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default().to_owned();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

/// A secret of 256 bits, as text.
pub(crate) fn secret() -> String {
    BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}
