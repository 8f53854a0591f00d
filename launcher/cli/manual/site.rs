//! The page of the site configuration file, made of the file as it is shipped: what its comments say, under the keys that
//! they stand over, with each default as such.

use super::roff::Page;
use chariot_core::options::table;

/// The site configuration file with every key and its default.
const FILE: &str = include_str!("../../../etc/chariot.toml");

const EXAMPLE: &str = "\
A site whose users share caches on a parallel file system, with a default image and NVIDIA's GPUs:
  image_dirs = [\"/images\"]
  cache = \"/scratch/$USER/.chariot\"

  [gpu]
  kind = \"nvidia.com/gpu\"

  [defaults]
  image = \"debian\"
  bind = [\"/scratch\"]";

/// A comment, and the table or keys under it.
#[derive(Debug, Default)]
struct Block {
    comment: String,
    table: Option<String>,
    keys: Vec<Key>,
}

#[derive(Debug)]
struct Key {
    name: String,
    value: String,
    /// False of a key that is only shown.
    is_default: bool,
}

pub(super) fn page() -> String {
    let mut page = Page::new(
        "chariot.toml",
        5,
        "the site configuration file of chariot(1)",
    );
    page.section("SYNOPSIS");
    page.text("  /etc/chariot/chariot.toml");
    page.section("DESCRIPTION");
    let blocks = blocks(FILE);
    let mut blocks = blocks.iter();
    if let Some(first) = blocks.next() {
        page.text(&first.comment);
    }
    page.section("OPTIONS");
    for block in blocks {
        write(&mut page, block);
    }
    page.section("EXAMPLES");
    page.text(EXAMPLE);
    page.section("FILES");
    let files = [
        (
            "/etc/chariot/chariot.toml",
            "the file, unless `config=` in plugstack.conf or `--config` names another; root's, and writable by nobody else, with all directories above it",
        ),
        (
            "/etc/slurm/plugstack.conf.d/chariot.conf",
            "the line by which Slurm loads the plugin, with `config=`, `launcher=` and `strict`",
        ),
    ];
    super::items(&mut page, &files);
    page.section("ENVIRONMENT");
    page.text("Values that name a directory of the user may have variables of the user in them, as said above. No variable says where the file is.");
    page.section("EXIT STATUS");
    page.text("With a mistake in the file, `chariot check` exits with 1, and what asks for a container with 125.");
    page.section("SEE ALSO");
    page.text("`chariot`(1), `chariot-slurm`(1), `spank`(8)");
    page.finish()
}

fn write(page: &mut Page, block: &Block) {
    if let Some(table) = &block.table {
        page.subsection(table);
    }
    if block.keys.is_empty() {
        if !block.comment.is_empty() {
            page.text(&block.comment);
        }
        return;
    }
    let names: Vec<_> = block.keys.iter().map(|key| key.name.clone()).collect();
    let option = table::TABLE
        .iter()
        .find(|row| block.comment.is_empty() && row.key() == names[0]);
    let comment = option.map_or(block.comment.clone(), |row| super::sentence(row.short));
    let values = block.keys.iter().map(|key| {
        let name = match block.keys.len() {
            1 => String::new(),
            _ => format!("{} = ", key.name),
        };
        match key.is_default {
            true => format!("Default: `{name}{}`", key.value),
            false => format!("No default. Example: `{name}{}`", key.value),
        }
    });
    let values = values.collect::<Vec<_>>().join("\n\n");
    page.item(&names, format!("{comment}\n\n{values}").trim_start());
}

fn blocks(file: &str) -> Vec<Block> {
    let mut blocks = vec![Block::default()];
    for line in file.lines() {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        let last = blocks
            .last_mut()
            .filter(|block| !bare.is_empty() && bare != "#" && block.table.is_none());
        let is_shown = bare != line;
        if bare.is_empty() || bare == "#" {
            blocks.push(Block::default());
        } else if bare.starts_with('[') {
            let mut block = last
                .filter(|block| block.keys.is_empty())
                .map(std::mem::take)
                .unwrap_or_default();
            block.table = Some(bare.to_owned());
            blocks.push(block);
        } else if let Some((name, value)) = key(bare) {
            let key = Key {
                name: name.to_owned(),
                value: value.to_owned(),
                is_default: !is_shown,
            };
            // Keys that are only shown are each told by itself.
            match last.filter(|block| !is_shown || block.keys.is_empty()) {
                Some(block) => block.keys.push(key),
                None => blocks.push(Block {
                    keys: vec![key],
                    ..Block::default()
                }),
            }
        } else {
            match last.filter(|block| block.keys.is_empty()) {
                Some(block) => block.comment += &format!("{bare}\n"),
                None => blocks.push(Block {
                    comment: format!("{bare}\n"),
                    ..Block::default()
                }),
            }
        }
    }
    blocks.retain(|block| {
        !block.comment.is_empty() || block.table.is_some() || !block.keys.is_empty()
    });
    blocks
}

/// A key and its value, also in a comment.
fn key(line: &str) -> Option<(&str, &str)> {
    let is_name = |name: &str| {
        !name.is_empty()
            && name
                .chars()
                .all(|character| character.is_ascii_lowercase() || character == '_')
    };
    line.split_once(" = ").filter(|(name, _)| is_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_told_once_and_defaults_are_told_from_examples() {
        let blocks = blocks(FILE);
        let keys: Vec<_> = blocks.iter().flat_map(|block| &block.keys).collect();
        for row in table::TABLE {
            assert!(
                keys.iter()
                    .any(|key| key.name == row.key() && !key.is_default),
                "{}",
                row.key()
            );
        }
        let number = |name: &str| {
            keys.iter()
                .filter(|key| key.name == name && key.is_default)
                .count()
        };
        for name in [
            "enabled",
            "kernel_mount",
            "stage_dir",
            "look_up",
            "audit",
            "cache_size",
        ] {
            assert_eq!(number(name), 1, "{name}");
        }
        let page = page();
        assert!(
            page.contains(".SS \"[waits]\"\n.PP\nLimits of waits"),
            "{page}"
        );
        assert!(page.contains(".TP\n\\fBlook_up\\fR\n"), "{page}");
        assert!(page.contains("Default: \\fB5\\fR"), "{page}");
        assert!(
            page.contains("No default. Example: \\fB\\(dqdebian\\(dq\\fR"),
            "{page}"
        );
    }
}
