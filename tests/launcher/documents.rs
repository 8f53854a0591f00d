//! What the documents say is so: links lead somewhere, commands can be typed, and each table is the program's own.
//!
//! Tables between `<!-- NAME: written by tests/launcher/documents.rs -->` and `<!-- end -->` are made of the option
//! table. `CHARIOT_WRITE_DOCUMENTS=1 cargo test --test launcher documents` writes them anew.

mod commands;
mod links;
mod manual;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use chariot_core::error::Exit;
use chariot_core::options::table::{self, OptionRow};

/// The options that README shows.
const MOST_USED: [&str; 10] = [
    "image", "bind", "workdir", "set-env", "device", "edf", "home", "writable", "overlay", "root",
];

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap_or_else(|why| panic!("{path}: {why}"))
}

/// A page, by its path in the repository.
struct Page {
    path: PathBuf,
    text: String,
}

/// All pages, in no order.
fn pages() -> Vec<Page> {
    let top = [
        "README.md",
        "SECURITY.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
    ];
    let mut paths: Vec<PathBuf> = top.iter().map(PathBuf::from).collect();
    let mut directories = vec![PathBuf::from("docs")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(repository().join(&directory)).unwrap() {
            let path = directory.join(entry.unwrap().file_name());
            if repository().join(&path).is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|kind| kind == "md") {
                paths.push(path);
            }
        }
    }
    let page = |path: PathBuf| Page {
        text: read(path.to_str().unwrap()),
        path,
    };
    let pages: Vec<_> = paths.into_iter().map(page).collect();
    assert!(pages.len() > 20);
    pages
}

/// A cell of a table, in which a stroke would end it.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn all_options() -> String {
    let mut text = String::from("| option | argument | meaning |\n|---|---|---|\n");
    for row in table::TABLE {
        let more = match (row.long, row.slurm_only) {
            ("", _) => String::new(),
            (long, false) => format!(". {long}"),
            (long, true) => format!(". For Slurm's commands alone. {long}"),
        };
        let meaning = cell(&format!("{}{more}", row.short));
        writeln!(
            text,
            "| `{}` | `{}` | {meaning} |",
            row.name,
            cell(row.value)
        )
        .unwrap();
    }
    text
}

fn most_used_options() -> String {
    let mut text = String::from("| option | argument | meaning |\n|---|---|---|\n");
    let rows = MOST_USED.map(|name| table::find(name).unwrap());
    for OptionRow {
        name, value, short, ..
    } in rows
    {
        writeln!(text, "| `{name}` | `{}` | {} |", cell(value), cell(short)).unwrap();
    }
    text
}

#[test]
fn tables_of_options_are_the_programs_own() {
    let pages = [
        ("README.md", "most used options", most_used_options()),
        ("docs/guide/options.md", "all options", all_options()),
        (
            "docs/guide/options.md",
            "variables of places",
            variables_of_places(),
        ),
    ];
    for (path, name, table) in pages {
        let text = read(path);
        let begin = format!("<!-- {name}: written by tests/launcher/documents.rs -->\n");
        let (before, rest) = text.split_once(&begin).unwrap();
        let (now, after) = rest.split_once("<!-- end -->").unwrap();
        if std::env::var_os("CHARIOT_WRITE_DOCUMENTS").is_some() {
            let text = format!("{before}{begin}{table}<!-- end -->{after}");
            std::fs::write(repository().join(path), text).unwrap();
        } else {
            assert_eq!(
                now, table,
                "{path}; CHARIOT_WRITE_DOCUMENTS=1 writes it anew"
            );
        }
    }
}

/// What becomes of variables that name places of the host.
fn variables_of_places() -> String {
    let mut table = "| variables | what becomes of them | why |\n|---|---|---|\n".to_owned();
    for row in chariot::plan::environment::table::TABLE {
        let names: Vec<String> = row.names.iter().map(|name| format!("`{name}`")).collect();
        table += &format!(
            "| {} | {} | {} |\n",
            names.join(", "),
            row.rule.told(),
            row.why
        );
    }
    table
}

/// The cells of the lines of a page's tables.
fn rows(text: &str) -> impl Iterator<Item = Vec<String>> {
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix('|'));
    lines.map(|line| {
        let line = line.replace("\\|", "\0");
        line.split('|')
            .map(|cell| cell.trim().replace('\0', "|"))
            .collect()
    })
}

/// The texts of source files below a directory.
fn sources(directory: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &sources(&path);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            text += &std::fs::read_to_string(path).unwrap();
        }
    }
    text
}

#[test]
fn the_table_of_failures_quotes_what_is_printed() {
    let page = read("docs/failures.md");
    let sources =
        sources(&repository().join("launcher")) + &sources(&repository().join("spank-plugin"));
    let mut quoted = 0;
    for row in rows(&page).filter(|row| row.len() == 4) {
        for quote in row[1]
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|quote| quote.contains('…'))
        {
            for part in quote
                .split('…')
                .map(str::trim)
                .filter(|part| !part.is_empty())
            {
                assert!(
                    sources.contains(part),
                    "docs/failures.md: no message has {part:?}"
                );
                quoted += 1;
            }
        }
    }
    assert!(quoted > 10);
}

#[test]
fn the_exit_statuses_that_are_documented_are_the_programs() {
    let page = read("docs/failures.md");
    let documented: Vec<u8> = rows(&page).filter_map(|row| row[0].parse().ok()).collect();
    let all = [Exit::Container, Exit::CannotRun, Exit::NotFound];
    assert_eq!(documented, all.map(Exit::code));
}

#[test]
fn the_releases_of_slurm_that_are_documented_are_those_that_the_plugin_takes_on() {
    let source = read("spank-plugin/spank/release.rs");
    let numbers = source.lines().filter_map(|line| {
        let number = line.trim().strip_suffix("),")?.rsplit_once(", 0x")?.1;
        let mut parts = number
            .split('_')
            .map(|part| u8::from_str_radix(part, 16).unwrap());
        Some(format!("{:02}.{:02}", parts.next()?, parts.next()?))
    });
    let mut known: Vec<_> = numbers.collect();
    let page = read("docs/admin/requirements.md");
    let is_release = |word: &&str| word.len() == 5 && word.as_bytes()[2] == b'.';
    let mut documented: Vec<String> = Vec::new();
    for row in rows(&page).filter(|row| row.len() == 2) {
        documented.extend(row[0].split(", ").filter(is_release).map(String::from));
    }
    known.sort();
    documented.sort();
    assert!(known.len() >= 8);
    assert_eq!(documented, known);
}

#[test]
fn the_kernel_that_is_asked_for_is_the_oldest_that_the_launcher_takes() {
    let source = read("launcher/host.rs");
    let numbers = source
        .split("OLDEST_KERNEL: (u32, u32) = (")
        .nth(1)
        .unwrap();
    let oldest = numbers.split(')').next().unwrap().replace(", ", ".");
    for page in ["README.md", "docs/admin/requirements.md"] {
        assert!(
            read(page).contains(&format!("Linux {oldest} or newer")),
            "{page}: {oldest}"
        );
    }
}

#[test]
fn the_rust_that_readme_asks_for_is_what_cargo_asks_for() {
    let cargo = read("Cargo.toml");
    let version = cargo
        .split("rust-version = \"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let page = read("README.md");
    assert!(
        page.contains(&format!("Rust ({version} or newer)")),
        "{version}"
    );
}

#[test]
fn the_oldest_glibc_is_what_the_build_holds_the_plugin_to() {
    let build = read("etc/build");
    let oldest = build
        .lines()
        .find_map(|line| line.strip_prefix("oldest_glibc="));
    let oldest = oldest.unwrap();
    for page in [
        "README.md",
        "docs/admin/install.md",
        "docs/admin/requirements.md",
    ] {
        let text = read(page);
        let said = text.lines().filter(|line| line.contains("glibc"));
        let said: Vec<_> = said.filter(|line| line.contains("or newer")).collect();
        assert!(!said.is_empty(), "{page}");
        assert!(
            said.iter()
                .all(|line| line.contains(&format!("{oldest} or newer"))),
            "{page}: {said:?}"
        );
    }
}
