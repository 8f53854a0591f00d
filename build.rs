//! Reads what the installed Slurm's plugin interface looks like, where its headers are installed, for
//! the plugin to compare with what it was written for (`spank-plugin/abi.rs`).

#![allow(
    clippy::disallowed_methods,
    reason = "it writes for the compiler, where that says"
)]

use std::path::{Path, PathBuf};
use std::{env, fs, panic};

fn main() {
    println!("cargo::rerun-if-env-changed=SLURM_INCLUDE_DIR");
    let include = env::var_os("SLURM_INCLUDE_DIR").map_or("/usr/include".into(), PathBuf::from);
    let header = include.join("slurm/spank.h");
    println!("cargo::rerun-if-changed={}", header.display());
    let numbers = installed(&header, &include).unwrap_or_else(|why| {
        println!("cargo::warning=the plugin's idea of Slurm's interface is not checked: {why}");
        Vec::new()
    });
    let rows: String = numbers
        .iter()
        .map(|(name, value)| format!("    ({name:?}, {value}),\n"))
        .collect();
    let text = format!("pub(super) const INSTALLED: &[(&str, u64)] = &[\n{rows}];\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    if let Err(error) = fs::write(out.join("slurm_abi.rs"), text) {
        println!("cargo::error=can't write slurm_abi.rs: {error}");
    }
}

/// The names and numbers of the interface: items, contexts, errors, and the size of an option.
fn installed(header: &Path, include: &Path) -> Result<Vec<(String, u64)>, String> {
    if !header.exists() {
        return Err(format!("{} is not installed", header.display()));
    }
    let builder = bindgen::Builder::default()
        .header(header.to_string_lossy())
        .clang_arg(format!("-I{}", include.display()))
        .allowlist_type("spank_.*")
        .allowlist_var("ESPANK_.*|SLURM_VERSION_NUMBER");
    // bindgen panics where there is no libclang.
    panic::set_hook(Box::new(|_| {}));
    let bindings = panic::catch_unwind(panic::AssertUnwindSafe(move || builder.generate()))
        .map_err(|_| "libclang is not installed".to_owned())?
        .map_err(|error| format!("bindgen cannot read {}: {error}", header.display()))?
        .to_string();
    Ok(numbers(&bindings))
}

/// Constants and sizes in bindgen's output: `pub const spank_item_S_JOB_ID: spank_item = 2;` and
/// `["Size of spank_option"][::std::mem::size_of::<spank_option>() - 48usize];`.
fn numbers(bindings: &str) -> Vec<(String, u64)> {
    let mut numbers = Vec::new();
    for line in bindings.lines().map(str::trim) {
        let row = match line.strip_prefix("pub const ") {
            Some(rest) => rest.split_once(':').and_then(|(name, rest)| {
                Some((
                    name.to_owned(),
                    rest.rsplit_once("= ")?.1.trim_end_matches(';'),
                ))
            }),
            None => line.strip_prefix("[\"Size of ").and_then(|rest| {
                let (name, rest) = rest.split_once('"')?;
                Some((
                    format!("size of {name}"),
                    rest.rsplit_once("- ")?.1.trim_end_matches("usize];"),
                ))
            }),
        };
        if let Some((name, value)) = row
            && let Ok(value) = value.parse()
        {
            numbers.push((name, value));
        }
    }
    numbers
}
