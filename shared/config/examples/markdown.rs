//! Prints the configuration reference: `cargo run -q -p config --example markdown > docs/configuration.md`.
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

fn main() {
    print!("{}", config::markdown());
}
