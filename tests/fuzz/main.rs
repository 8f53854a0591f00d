//! Foreign bytes into every parser, for a bounded time: nothing may panic, hang or take much memory. `cargo test`
//! changes good examples at random, and tries what was found earlier; `tests/fuzz/guide` has a fuzzer that learns
//! from the code that it reaches.

#![allow(clippy::disallowed_methods, reason = "tests make what they need")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod examples;
mod targets;

use std::time::Duration;

use bolero::check;
use chariot::convert::tree::Tree;

/// How long each parser is tried.
const TIME: Duration = Duration::from_secs(2);

/// Changes to a good example: bytes at places, and a length to cut it to.
type Changes = (Vec<(u16, u8)>, Option<u16>);

fn changed(example: &[u8], (bytes, length): &Changes) -> Vec<u8> {
    let mut changed = example.to_vec();
    if let Some(length) = length {
        changed.truncate(usize::from(*length) % (example.len() + 1));
    }
    for (place, byte) in bytes {
        let place = usize::from(*place) % example.len();
        if let Some(slot) = changed.get_mut(place) {
            *slot = *byte;
        }
    }
    changed
}

/// One test a parser, since each can be tried beside the others.
macro_rules! each {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            hold(stringify!($name));
        })*

        #[test]
        fn each_parser_is_tried() {
            let names = targets::ALL.iter().map(|target| target.name);
            assert!(names.eq([$(stringify!($name)),*]));
        }
    };
}

each!(archive cdi compression documents edf elf handover ld_cache makers options references registry saved sif site squashfs);

fn hold(name: &str) {
    let target = targets::ALL
        .iter()
        .find(|target| target.name == name)
        .unwrap();
    let seeds = target.seeds();
    for seed in &seeds {
        (target.run)(seed);
    }
    let (run, seeds) = (target.run, std::panic::AssertUnwindSafe(seeds));
    check!()
        .with_test_time(TIME)
        .with_type::<(u8, Changes)>()
        .for_each(|(which, changes)| {
            let seeds = &seeds;
            let seed = &seeds[usize::from(*which) % seeds.len()];
            if !seed.is_empty() {
                run(&changed(seed, changes));
            }
        });
}

#[test]
fn trees_stay_trees() {
    use chariot::convert::member::{Attributes, Kind, Member};
    type Given = Vec<(u8, Vec<u8>, Vec<u8>)>;
    check!()
        .with_test_time(TIME)
        .with_type::<Given>()
        .for_each(|members| {
            let mut tree = Tree::new(1000);
            for (kind, path, target) in members {
                // Few names, so that they meet.
                let words = |bytes: &[u8]| -> Vec<u8> {
                    let word = |byte: &u8| {
                        [
                            b"a".as_slice(),
                            b"b",
                            b"..",
                            b".wh.a",
                            b".wh..wh..opq",
                            b"",
                            b"c",
                        ][usize::from(byte % 7)]
                    };
                    bytes
                        .iter()
                        .take(6)
                        .map(word)
                        .collect::<Vec<_>>()
                        .join(&b'/')
                };
                let member = Member {
                    path: words(path),
                    kind: match kind % 4 {
                        0 => Kind::Directory,
                        1 => Kind::File,
                        2 => Kind::Symlink(words(target)),
                        _ => Kind::Link(words(target)),
                    },
                    length: 0,
                    attributes: Attributes::default(),
                };
                if kind % 11 == 0 {
                    tree.next_layer(true);
                }
                let _ = tree.apply(&member);
            }
            let mut seen = 0;
            tree.walk_all(&mut |number, path| {
                assert!(tree.inode(number).links > 0);
                assert!(
                    !path
                        .split(|byte| *byte == b'/')
                        .any(|name| name.is_empty() || name == b"..")
                );
                seen += 1;
                assert!(seen <= 100_000, "a circle");
                Ok(())
            })
            .unwrap();
        });
}
