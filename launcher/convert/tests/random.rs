//! Random layers, against a model that knows nothing of how trees are kept: a map from paths to what is there.

use super::*;
use std::collections::BTreeSet;
use tar::EntryType;

/// What a random member is.
#[derive(Debug, Clone)]
enum Said {
    File(String, String),
    Directory(String),
    Symlink(String, String),
    Link(String, String),
    Fifo(String),
    Whiteout(String),
    Opaque(String),
}

/// xorshift: the same seed gives the same layers.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % sides
    }

    fn path(&mut self) -> String {
        let depth = 1 + self.roll(3);
        let names: Vec<&str> = (0..depth).map(|_| ["a", "b", "c"][self.roll(3)]).collect();
        format!("usr/{}", names.join("/"))
    }

    fn layer(&mut self, is_first: bool) -> Vec<Said> {
        let count = 1 + self.roll(10);
        (0..count)
            .map(|number| match self.roll(if is_first { 6 } else { 9 }) {
                0 | 1 => Said::File(self.path(), format!("{} {number}", self.0)),
                2 => Said::Directory(self.path()),
                3 => Said::Symlink(self.path(), format!("to{}", self.roll(9))),
                4 => Said::Link(self.path(), self.path()),
                5 => Said::Fifo(self.path()),
                6 | 7 => Said::Whiteout(self.path()),
                _ => Said::Opaque(self.path()),
            })
            .collect()
    }
}

/// What the model has at a path: files have an identity, for their names.
#[derive(Debug, Clone, PartialEq)]
enum Node {
    Directory,
    Symlink(String),
    File(String),
    /// A FIFO, which is not in the image.
    Nothing,
}

#[derive(Debug, Clone, Default)]
struct Model(BTreeMap<String, Node>);

impl Model {
    fn remove(&mut self, path: &str) {
        let below = format!("{path}/");
        self.0
            .retain(|name, _| name != path && !name.starts_with(&below));
    }

    fn empty(&mut self, path: &str) {
        let below = format!("{path}/");
        self.0.retain(|name, _| !name.starts_with(&below));
    }

    /// Whether the directories above are there or can be made. Links lead to names that never are, so that a path
    /// through one is a member that the generator does not want.
    fn can_have(&self, path: &str) -> bool {
        above(path).all(|above| {
            matches!(
                self.0.get(above),
                None | Some(Node::Directory | Node::Nothing)
            )
        })
    }

    fn put(&mut self, path: &str, node: Node) {
        if node != Node::Directory || self.0.get(path) != Some(&Node::Directory) {
            self.remove(path);
        }
        for above in above(path) {
            self.0.insert(above.to_owned(), Node::Directory);
        }
        self.0.insert(path.to_owned(), node);
    }

    /// Applies a layer: what it takes away first, of what was below. Gives the members that make sense.
    fn apply(&mut self, said: Vec<Said>) -> Vec<Said> {
        let lower = self.clone();
        for one in &said {
            match one {
                Said::Whiteout(path) if lower.can_have(path) => self.remove(path),
                Said::Opaque(path) => self.empty(path),
                _ => {}
            }
        }
        said.into_iter()
            .filter(|one| self.take(one, &lower))
            .collect()
    }

    fn take(&mut self, one: &Said, lower: &Model) -> bool {
        let (path, node) = match one {
            Said::Whiteout(_) | Said::Opaque(_) => return true,
            Said::File(path, text) => (path, Node::File(text.clone())),
            Said::Directory(path) => (path, Node::Directory),
            Said::Symlink(path, target) => (path, Node::Symlink(target.clone())),
            Said::Fifo(path) => (path, Node::Nothing),
            Said::Link(path, target) => match self.0.get(target).or_else(|| lower.0.get(target)) {
                // A link to a name of its own, or to what it would remove, is for others to try.
                Some(node)
                    if !path.starts_with(target.as_str())
                        && !target.starts_with(path.as_str())
                        && *node != Node::Directory =>
                {
                    (path, node.clone())
                }
                _ => return false,
            },
        };
        if !self.can_have(path) {
            return false;
        }
        self.put(path, node);
        true
    }

    fn shown(&self) -> Contents {
        let all = self.0.iter().filter_map(|(path, node)| {
            let shown = match node {
                Node::Directory => "d 755".to_owned(),
                Node::Symlink(target) => format!("l {target}"),
                Node::File(text) => format!("f 644 {text}"),
                Node::Nothing => return None,
            };
            Some((path.clone(), shown))
        });
        all.collect()
    }
}

fn above(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

fn written(said: &[Said]) -> Vec<u8> {
    archive(|tar| {
        for one in said {
            match one {
                Said::File(path, text) => add(tar, path, text),
                Said::Directory(path) => add_link(tar, EntryType::Directory, path, ""),
                Said::Symlink(path, target) => add_link(tar, EntryType::Symlink, path, target),
                Said::Link(path, target) => add_link(tar, EntryType::Link, path, target),
                Said::Fifo(path) => add_link(tar, EntryType::Fifo, path, ""),
                Said::Whiteout(path) => {
                    let (above, name) = path.rsplit_once('/').unwrap();
                    add(tar, &format!("{above}/.wh.{name}"), "");
                }
                Said::Opaque(path) => add(tar, &format!("{path}/.wh..wh..opq"), ""),
            }
        }
    })
}

#[test]
fn random_layers_are_what_a_simple_model_says_in_every_form() {
    for seed in 1..150_u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut model = Model::default();
        let count = 1 + dice.roll(3);
        let mut all = Vec::new();
        for number in 0..count {
            let said = dice.layer(number == 0);
            all.push(model.apply(said));
        }
        if model
            .shown()
            .keys()
            .filter(|path| !path.contains('/'))
            .count()
            == 0
        {
            continue;
        }
        let archives: Vec<Vec<u8>> = all.iter().map(|said| written(said)).collect();
        let place = tempfile::tempdir().unwrap();
        let image = layers(&archives, true);
        let told = |what: &str| format!("{what}, seed {seed}: {all:#?}");
        let tree = as_directory(&image, place.path())
            .unwrap_or_else(|error| panic!("{error}: {}", told("")));
        let own: BTreeSet<&str> = ["dev", "proc", "sys", "tmp", "etc", ".chariot"].into();
        let is_own = |path: &str| own.contains(path.split('/').next().unwrap());
        let found: Contents = tree
            .clone()
            .into_iter()
            .filter(|(path, _)| !is_own(path))
            .collect();
        assert_eq!(found, model.shown(), "{}", told("tree"));
        assert_eq!(as_squashfs(&image).unwrap(), tree, "{}", told("SquashFS"));
        assert_eq!(as_archive(&image).unwrap(), tree, "{}", told("tar"));
    }
}
