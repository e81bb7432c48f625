//! What it costs to seal a record of TLS with AES-128-GCM, by the two libraries at hand.
//!
//! `cargo run --release -p tls --example record_ciphers`
#![allow(clippy::disallowed_methods, reason = "what is measured is real time")]
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

/// Turns of each library for each size, of which the fastest counts.
const TURNS: usize = 5;

/// How many bytes are sealed in a turn.
const BYTES: usize = 200 << 20;

/// A measurement with one library's types, which have the same names in both.
macro_rules! nanoseconds_a_record {
    ($library:ident, $size:expr) => {{
        use $library::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
        let key = UnboundKey::new(&AES_128_GCM, &[7; 16]).map_err(|_error| "a key of the wrong length")?;
        let (key, mut record) = (LessSafeKey::new(key), vec![1; $size]);
        let count = u32::try_from(BYTES / ($size + 512))?;
        let begin = Instant::now();
        for number in 0..count {
            let mut nonce = [0; 12];
            let (low, _) = nonce.split_at_mut(4);
            low.copy_from_slice(&number.to_be_bytes());
            let sealed =
                key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from([23; 5]), &mut record);
            black_box(sealed.map(|tag| tag.as_ref().len()).map_err(|_error| "a record that is too long")?);
        }
        begin.elapsed().as_secs_f64() * 1e9 / f64::from(count)
    }};
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("{:>12}  {:>14}  {:>14}", "bytes", "aws-lc-rs, ns", "ring, ns");
    for size in [64, 1024, 16384] {
        let (mut aws, mut other) = (f64::MAX, f64::MAX);
        for _turn in 0..TURNS {
            aws = aws.min(nanoseconds_a_record!(aws_lc_rs, size));
            other = other.min(nanoseconds_a_record!(ring, size));
        }
        println!("{size:>12}  {aws:>14.0}  {other:>14.0}");
    }
    Ok(())
}
