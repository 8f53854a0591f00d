//! The manual's pages are what programs that show manuals take without complaint.

use std::process::{Command, Stdio};

use crate::skip;

const PAGES: [&str; 3] = ["chariot", "chariot-slurm", "chariot.toml"];

/// What a program says of each page, in a file; nothing where all is well. None without the program.
fn said_of_pages(program: &str, arguments: &[&str]) -> Option<Vec<String>> {
    Command::new(program).arg("--version").output().ok()?;
    let place = tempfile::tempdir().unwrap();
    let said = PAGES.map(|page| {
        let file = place.path().join(page);
        let mut launcher = Command::new(env!("CARGO_BIN_EXE_chariot"));
        let text = launcher.args(["man", page]).output().unwrap().stdout;
        assert!(!text.is_empty(), "{page}");
        std::fs::write(&file, text).unwrap();
        let mut show = Command::new(program);
        show.args(arguments).arg(&file).stdin(Stdio::null());
        // As lintian shows pages to find what is wrong with them.
        show.env("MANROFFSEQ", "")
            .env("MANWIDTH", "80")
            .env("LC_ALL", "C.UTF-8");
        let output = show.output().unwrap();
        let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
        let shown = match arguments.contains(&"lint") {
            true => String::from_utf8_lossy(&output.stdout).into_owned(),
            false => String::new(),
        };
        format!("{complaints}{shown}")
    });
    Some(said.into())
}

#[test]
fn man_shows_every_page_without_a_warning() {
    let arguments = ["--warnings", "-E", "UTF-8", "-Tutf8", "-Z", "-l"];
    let Some(said) = said_of_pages("man", &arguments) else {
        skip!("no man(1): package man-db");
    };
    assert!(said.iter().all(String::is_empty), "{said:#?}");
    // A warning would be seen.
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("bad.1");
    std::fs::write(&file, ".TH bad 1\n.nosuchmacro\n").unwrap();
    let output = Command::new("man")
        .args(arguments)
        .arg(&file)
        .output()
        .unwrap();
    assert!(!output.stderr.is_empty(), "{output:?}");
}

#[test]
fn mandoc_finds_no_error_in_any_page() {
    // Not among what CI installs: it would be man(1) in place of the other.
    let Some(said) = said_of_pages("mandoc", &["-T", "lint", "-W", "error"]) else {
        eprintln!("skipped: no mandoc(1)");
        return;
    };
    assert!(said.iter().all(String::is_empty), "{said:#?}");
}
