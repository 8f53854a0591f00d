//! What the package brings beside the programs.

use std::process::Command;

use crate::skip;

#[test]
fn the_package_has_the_manual_the_documents_and_everybodys_licence() {
    let Some(package) = std::env::var_os("CHARIOT_TEST_DEB") else {
        skip!("no package: tests/run makes one");
    };
    let place = tempfile::tempdir().unwrap();
    let unpack = Command::new("dpkg-deb")
        .arg("--extract")
        .arg(&package)
        .arg(place.path())
        .status();
    assert!(unpack.unwrap().success());
    let share = place.path().join("usr/share");
    // cargo-deb compresses the manual and the changelog, as Debian wants it.
    for file in [
        "man/man1/chariot.1.gz",
        "man/man1/chariot-slurm.1.gz",
        "man/man5/chariot.toml.5.gz",
        "bash-completion/completions/chariot",
        "doc/chariot/copyright",
        "doc/chariot/LICENSE",
        "doc/chariot/README.md",
        "doc/chariot/SECURITY.md",
        "doc/chariot/docs/failures.md",
        "doc/chariot/docs/guide/options.md",
        "doc/chariot/docs/admin/requirements.md",
    ] {
        assert!(share.join(file).exists(), "{file}");
    }
    let licences = std::fs::read_to_string(share.join("doc/chariot/THIRD-PARTY-LICENCES")).unwrap();
    for part in [
        "\nclap ",
        "\nzstd-sys ",
        "\nglibc ",
        "\nRust's standard library ",
        "======== glibc",
        "======== zstd of ",
        "======== xz of ",
    ] {
        assert!(licences.contains(part), "{part}");
    }
    // Every crate that is linked, as the lock file has it, has one of the lines, or is not linked into these.
    assert!(
        licences
            .lines()
            .filter(|line| line.contains(": ") && line.contains("https://"))
            .count()
            > 60
    );
}

#[test]
fn the_version_is_the_packages_and_the_commit_where_one_is_known() {
    let output = Command::new(env!("CARGO_BIN_EXE_chariot"))
        .arg("--version")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let name = concat!("chariot ", env!("CARGO_PKG_VERSION"));
    let rest = said
        .trim_end()
        .strip_prefix(name)
        .unwrap_or_else(|| panic!("{said}"));
    let commit = rest
        .strip_prefix(" (")
        .and_then(|rest| rest.strip_suffix(')'));
    let is_commit =
        |text: &str| text.len() >= 7 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(rest.is_empty() || commit.is_some_and(is_commit), "{said}");
}
