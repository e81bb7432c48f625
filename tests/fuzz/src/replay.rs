//! Every corpus again, and each of its inputs slightly spoilt in many ways.

use std::path::{Path, PathBuf};
use std::{fs, panic, thread};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::{TARGETS, Target};

/// How many spoilt inputs each target gets.
const SPOILT: usize = 20_000;

/// An input is not made longer than this.
const MAX_LENGTH: usize = 64 << 10;

#[test]
fn no_input_of_a_corpus_breaks_its_parser() {
    for target in TARGETS {
        let corpus = corpus(&target);
        assert!(corpus.len() >= 3, "the corpus of {} is no corpus", target.name);
        for (path, bytes) in corpus {
            attempt(&target, &bytes, || path.display().to_string());
        }
    }
}

#[test]
fn no_spoilt_input_breaks_its_parser() {
    thread::scope(|scope| {
        for target in TARGETS {
            scope.spawn(move || spoil_all(&target));
        }
    });
}

#[test]
fn the_fuzzer_knows_every_target() {
    let manifest = fs::read_to_string(folder().join("engine/Cargo.toml")).unwrap();
    for target in TARGETS {
        assert!(manifest.contains(&format!("name = \"{}\"", target.name)), "engine/Cargo.toml lacks {}", target.name);
    }
}

fn spoil_all(target: &Target) {
    let corpus = corpus(target);
    for seed in 0..SPOILT {
        let mut random = SmallRng::seed_from_u64(seed as u64);
        let mut bytes = corpus[random.random_range(0..corpus.len())].1.clone();
        let other = &corpus[random.random_range(0..corpus.len())].1;
        for _ in 0..random.random_range(1..6) {
            spoil(&mut bytes, other, &mut random);
        }
        attempt(target, &bytes, || format!("seed {seed}: {bytes:?}"));
    }
}

/// Changes, removes, repeats or inserts a few bytes.
fn spoil(bytes: &mut Vec<u8>, other: &[u8], random: &mut SmallRng) {
    let at = random.random_range(0..=bytes.len());
    let end = at + random.random_range(0..=(bytes.len() - at).min(16));
    match random.random_range(0..6) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(at..end)),
        2 => bytes[at..end].iter_mut().for_each(|byte| *byte = random.random()),
        3 => bytes[at..end].iter_mut().for_each(|byte| *byte ^= 1 << random.random_range(0..8)),
        4 => {
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
        _ => {
            let from = random.random_range(0..=other.len());
            let to = from + random.random_range(0..=(other.len() - from).min(64));
            bytes.splice(at..end, other[from..to].iter().copied());
        }
    }
    bytes.truncate(MAX_LENGTH);
}

fn attempt(target: &Target, bytes: &[u8], which: impl Fn() -> String) {
    let outcome = panic::catch_unwind(|| (target.run)(bytes));
    assert!(outcome.is_ok(), "{} broke on {}", target.name, which());
}

fn corpus(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = folder().join("corpus").join(target.name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
