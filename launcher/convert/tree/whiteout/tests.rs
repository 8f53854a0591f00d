//! Whiteouts by the image specification: of the layers below alone, wherever they stand in their layer. A model that
//! knows nothing of inodes says what is right.

use std::collections::BTreeMap;

use super::*;
use crate::convert::member::Member;
use crate::convert::tree::ROOT;

/// What a layer says, in any order.
#[derive(Debug, Clone)]
enum Said {
    Directory(Vec<u8>, u16),
    File(Vec<u8>, u16),
    Link(Vec<u8>, Vec<u8>),
    Gone(Vec<u8>),
    AllGone(Vec<u8>),
}

fn member(said: &Said) -> Member {
    let join = |path: &[u8], name: &[u8]| match path.is_empty() {
        true => name.to_vec(),
        false => [path, name].join(&b'/'),
    };
    let (path, kind, permissions) = match said {
        Said::Directory(path, mode) => (path.clone(), Kind::Directory, *mode),
        Said::File(path, mode) => (path.clone(), Kind::File, *mode),
        Said::Link(path, to) => (path.clone(), Kind::Link(to.clone()), 0),
        Said::Gone(path) => {
            let at = path.iter().rposition(|byte| *byte == b'/');
            let (above, name) =
                at.map_or((&b""[..], &path[..]), |at| (&path[..at], &path[at + 1..]));
            (join(above, &[WHITEOUT, name].concat()), Kind::File, 0)
        }
        Said::AllGone(path) => (join(path, OPAQUE), Kind::File, 0),
    };
    Member {
        path,
        kind,
        length: 0,
        attributes: Attributes::new(permissions),
    }
}

/// Paths with a mode for a file, and a mode with this bit for a directory.
const DIRECTORY: u16 = 0o10000;
type Model = BTreeMap<Vec<u8>, u16>;

fn is_below(path: &[u8], directory: &[u8]) -> bool {
    directory.is_empty()
        || path
            .strip_prefix(directory)
            .is_some_and(|rest| rest.first() == Some(&b'/'))
}

/// Takes away first, and adds then: so no order of the layer counts.
fn apply(model: &mut Model, layer: &[Said]) {
    for said in layer {
        match said {
            Said::Gone(gone) => model.retain(|path, _| path != gone && !is_below(path, gone)),
            Said::AllGone(gone) => model.retain(|path, _| !is_below(path, gone)),
            _ => {}
        }
    }
    for said in layer {
        let (path, mode) = match said {
            Said::Directory(path, mode) => (path, DIRECTORY | mode | 0o700),
            Said::File(path, mode) => (path, *mode),
            Said::Link(path, to) => (path, model[to]),
            _ => continue,
        };
        if mode & DIRECTORY == 0 {
            model.retain(|other, _| !is_below(other, path));
        }
        for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            model
                .entry(path[..at].to_vec())
                .or_insert(DIRECTORY | 0o755);
        }
        model.insert(path.clone(), mode);
    }
}

fn found(tree: &Tree) -> Model {
    let mut all = Model::new();
    tree.walk_all(&mut |number, path| {
        let bit = if tree.directory(number).is_some() {
            DIRECTORY
        } else {
            0
        };
        all.insert(
            path.to_vec(),
            bit | tree.inode(number).attributes.permissions,
        );
        Ok(())
    })
    .unwrap();
    all
}

/// Numbers that look like chance, the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        usize::try_from(self.0 >> 33).unwrap() % most
    }

    fn path(&mut self) -> Vec<u8> {
        let names: Vec<&[u8]> = (0..1 + self.below(3))
            .map(|_| [b"a", b"b", b"c"][self.below(3)].as_slice())
            .collect();
        names.join(&b'/')
    }

    fn mode(&mut self) -> u16 {
        [0o600, 0o644, 0o700, 0o755][self.below(4)]
    }
}

/// A layer that can be on a file system: nothing lies in what is no directory.
fn layer(chance: &mut Chance, model: &Model) -> Vec<Said> {
    let mut own = Model::new();
    let mut said = Vec::new();
    let lower: Vec<&Vec<u8>> = model.keys().collect();
    for _ in 0..chance.below(4) {
        match (chance.below(4), lower.is_empty()) {
            (0, _) => said.push(Said::AllGone(Vec::new())),
            (_, true) => {}
            (number, false) => {
                let path = lower[chance.below(lower.len())].clone();
                let is_directory = model[&path] & DIRECTORY != 0;
                said.push(match number == 1 && is_directory {
                    true => Said::AllGone(path),
                    false => Said::Gone(path),
                });
            }
        }
    }
    // A directory of which all is taken away is one in this layer too.
    let opaque: Vec<Vec<u8>> = said
        .iter()
        .filter_map(|said| match said {
            Said::AllGone(path) if !path.is_empty() => Some(path.clone()),
            _ => None,
        })
        .collect();
    for path in opaque {
        declare(chance, &mut own, &mut said, &path);
    }
    for _ in 0..chance.below(5) {
        let path = chance.path();
        let is_in_file = own
            .iter()
            .any(|(other, mode)| mode & DIRECTORY == 0 && is_below(&path, other));
        let is_directory = own.get(&path).is_some_and(|mode| mode & DIRECTORY != 0);
        if is_in_file || is_directory || own.contains_key(&path) {
            continue;
        }
        if let Some(at) = path.iter().rposition(|byte| *byte == b'/') {
            declare(chance, &mut own, &mut said, &path[..at]);
        }
        let mode = chance.mode();
        own.insert(path.clone(), mode);
        said.push(Said::File(path, mode));
    }
    said
}

fn declare(chance: &mut Chance, own: &mut Model, said: &mut Vec<Said>, path: &[u8]) {
    let ends = path
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'/')
        .map(|(at, _)| at);
    for end in ends.chain([path.len()]) {
        let path = path[..end].to_vec();
        if !own.contains_key(&path) {
            let mode = chance.mode();
            own.insert(path.clone(), DIRECTORY | mode);
            said.push(Said::Directory(path, mode));
        }
    }
}

#[test]
fn what_a_layer_takes_away_is_of_the_layers_below_in_whatever_order_it_is_said() {
    for seed in 0..3000 {
        let mut chance = Chance(seed);
        let (mut model, mut tree) = (Model::new(), Tree::new(1000));
        let mut all = Vec::new();
        for _ in 0..4 {
            let mut said = layer(&mut chance, &model);
            apply(&mut model, &said);
            // What takes away moves to anywhere; the rest stays in its order.
            for _ in 0..said.len() {
                let (from, to) = (chance.below(said.len()), chance.below(said.len()));
                if matches!(said[from], Said::Gone(_) | Said::AllGone(_)) {
                    let moved = said.remove(from);
                    said.insert(to, moved);
                }
            }
            tree.next_layer(true);
            for said in &said {
                tree.apply(&member(said)).unwrap();
            }
            all.push(said);
        }
        assert_eq!(found(&tree), model, "{seed}: {all:#?}");
    }
}

#[test]
fn a_name_that_a_layer_gives_to_a_file_of_those_below_is_its_own() {
    let mut tree = Tree::new(100);
    tree.next_layer(true);
    for said in [
        Said::File(b"a".into(), 0o600),
        Said::File(b"b".into(), 0o644),
    ] {
        tree.apply(&member(&said)).unwrap();
    }
    tree.next_layer(true);
    for said in [
        Said::Link(b"a".into(), b"b".into()),
        Said::Gone(b"a".into()),
    ] {
        tree.apply(&member(&said)).unwrap();
    }
    let expected = Model::from([(b"a".to_vec(), 0o644), (b"b".to_vec(), 0o644)]);
    assert_eq!(found(&tree), expected);
    assert_eq!(tree.lookup(ROOT, b"a"), tree.lookup(ROOT, b"b"));
}
