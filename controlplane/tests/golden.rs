//! Manifests in, resources out: each `golden/*.yaml` is derived and compared with the `.json` beside it.
//!
//! `UPDATE_GOLDEN=1 cargo test -p controlplane --test golden` writes the files anew; read the difference before you
//! commit it.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "the code of a test, its helpers included")]

#[path = "golden/render.rs"]
mod render;

use std::path::{Path, PathBuf};

use controlplane::objects::Objects;
use controlplane::translate::{Options, resources};

#[test]
fn manifests_derive_the_resources_beside_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut inputs: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    inputs.sort();
    assert!(inputs.len() >= 5, "where are the inputs? {inputs:?}");
    let different: Vec<String> = inputs.iter().filter_map(|input| compare(input)).collect();
    assert!(different.is_empty(), "{}", different.join("\n"));
}

/// What is different, if anything.
fn compare(input: &Path) -> Option<String> {
    let derived = derive(&std::fs::read_to_string(input).unwrap());
    let output = input.with_extension("json");
    if is_update() {
        std::fs::write(&output, &derived).unwrap();
        return None;
    }
    let expected = std::fs::read_to_string(&output).unwrap_or_default();
    if expected == derived {
        return None;
    }
    let difference = derived.lines().zip(expected.lines()).position(|(new, old)| new != old);
    let line = difference.unwrap_or_else(|| derived.lines().count().min(expected.lines().count()));
    let show = |text: &str| text.lines().skip(line.saturating_sub(3)).take(8).collect::<Vec<_>>().join("\n");
    let (old, new) = (show(&expected), show(&derived));
    Some(format!("{} differs at line {}\n--- expected\n{old}\n--- derived\n{new}", output.display(), line + 1))
}

fn derive(text: &str) -> String {
    let mut objects = Objects::default();
    for object in kinds::manifest::read(text).unwrap() {
        let name = format!("{} {}", object["kind"], object["metadata"]["name"]);
        assert!(objects.add(object).unwrap(), "{name} is not read by the control plane");
    }
    let rendered = render::resources(&resources(&objects, &Options::default()));
    serde_json::to_string_pretty(&rendered).unwrap() + "\n"
}

#[expect(clippy::disallowed_methods, reason = "a switch of the test itself, not of the product")]
fn is_update() -> bool {
    std::env::var("UPDATE_GOLDEN").is_ok_and(|value| value == "1")
}
