//! One parser, chosen by `CHARIOT_FUZZ`; with `list` and a directory it writes each one's examples there instead.

#![no_main]
#![allow(clippy::disallowed_methods, reason = "tests make what they need")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../examples.rs"]
mod examples;
#[path = "../targets.rs"]
mod targets;

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

/// Chosen once.
static TARGET: LazyLock<&targets::Target> = LazyLock::new(|| {
    let name = std::env::var("CHARIOT_FUZZ").unwrap();
    targets::ALL
        .iter()
        .find(|target| target.name == name)
        .unwrap()
});

fuzz_target!(
    init: {
        if let Some(place) = std::env::var_os("CHARIOT_FUZZ_SEEDS") {
            for (number, seed) in TARGET.seeds().iter().enumerate() {
                std::fs::write(Path::new(&place).join(format!("seed{number}")), seed).unwrap();
            }
        }
    },
    |bytes: &[u8]| (TARGET.run)(bytes)
);
