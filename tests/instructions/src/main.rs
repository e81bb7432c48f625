//! Hot functions, repeated as often as asked: `cargo xtask instructions` lets valgrind count their instructions.
//!
//! `instructions` alone prints the names, each with how often it is repeated; `instructions NAME 2` repeats it twice as
//! often. What making the world and shaking hands takes is the same both times, and falls out of the difference.
#![expect(clippy::print_stdout, reason = "it speaks to xtask")]

mod decisions;
mod frames;
mod streams;

use anyhow::{Context as _, Result};

/// A hot function.
struct Hot {
    name: &'static str,
    /// How often it is repeated: so often that chance (random keys, seeds of hash tables) is less than a percent of it.
    times: u32,
    run: fn(u32) -> Result<()>,
}

const ALL: [Hot; 5] = [
    Hot { name: "resolve", times: 20_000, run: decisions::resolve },
    Hot { name: "evaluate", times: 20_000, run: decisions::evaluate },
    Hot { name: "frame", times: 2_000, run: frames::frame },
    Hot { name: "seal-and-open-16KiB", times: 1_000, run: streams::seal_and_open },
    Hot { name: "copy-16KiB", times: 1_000, run: streams::copy },
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, factor] = arguments.as_slice() else {
        ALL.iter().for_each(|hot| println!("{} {}", hot.name, hot.times));
        return Ok(());
    };
    let hot = ALL.iter().find(|hot| hot.name == name).with_context(|| format!("no function {name:?}"))?;
    (hot.run)(hot.times * factor.parse::<u32>()?)
}
