//! `/etc/ld.so.cache`: where glibc's loader looks up libraries. ldconfig(8) writes it, which an image need not have, and
//! which would need write access to the image; so it is written here, as the image's own with more in front.
//!
//! The form is that of glibc 2.2 and newer: a header, entries in falling order of names, and strings; offsets count from
//! the header. Since 2.33 an extension behind them says which entries are for newer processors.

use std::cmp::Ordering;
use std::collections::HashSet;

const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const HEADER: usize = 48;
const ENTRY: usize = 24;
/// The byte order, as newer releases note it: 2 is little endian.
const LITTLE_ENDIAN: u8 = 2;
/// What an extension begins with, and the tag of the list of processors.
const EXTENSION: u32 = 0xeaa4_2174;
const PROCESSORS: u32 = 1;

/// A library.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The name by which programs ask for it.
    pub(super) name: String,
    /// Its file.
    pub(super) path: String,
    /// For which machine and C library.
    pub(super) flags: u32,
    /// For which processor: a number of the list in the extension, or 0.
    processor: u64,
}

impl Entry {
    /// A library for every processor.
    pub fn new(name: &str, path: &str, flags: u32) -> Entry {
        Entry {
            name: name.to_owned(),
            path: path.to_owned(),
            flags,
            processor: 0,
        }
    }
}

/// A cache as it is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cache {
    pub(super) entries: Vec<Entry>,
    /// The names of processors that entries are for.
    processors: Vec<String>,
}

impl Cache {
    /// Reads one; none if it is something else or damaged.
    pub fn parse(bytes: &[u8]) -> Option<Cache> {
        // Older releases have an older form in front.
        let start = bytes
            .windows(MAGIC.len())
            .position(|window| window == MAGIC)?;
        let bytes = bytes.get(start..)?;
        let count = usize::try_from(number(bytes, 20)?).ok()?;
        let string = |offset: u32| {
            let rest = bytes.get(usize::try_from(offset).ok()?..)?;
            let end = rest.iter().position(|byte| *byte == 0)?;
            String::from_utf8(rest.get(..end)?.to_vec()).ok()
        };
        let mut entries = Vec::new();
        for index in 0..count {
            let at = HEADER + index * ENTRY;
            let processor =
                u64::from(number(bytes, at + 16)?) | u64::from(number(bytes, at + 20)?) << 32;
            entries.push(Entry {
                flags: number(bytes, at)?,
                name: string(number(bytes, at + 4)?)?,
                path: string(number(bytes, at + 8)?)?,
                processor,
            });
        }
        let processors = processors(bytes, number(bytes, 32)?).unwrap_or_default();
        let processors = processors.into_iter().map_while(string).collect();
        Some(Cache {
            entries,
            processors,
        })
    }

    /// Puts libraries in front of those of the same name.
    pub fn prepend(&mut self, new: Vec<Entry>) {
        let old = std::mem::take(&mut self.entries);
        let mut seen = HashSet::new();
        let all = new.into_iter().chain(old);
        self.entries = all.filter(|entry| seen.insert(entry.clone())).collect();
        // Stable, so that what was in front stays there among equals.
        self.entries
            .sort_by(|one, other| by_name(&other.name, &one.name));
    }

    /// The cache as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut strings = Strings {
            start: HEADER + self.entries.len() * ENTRY,
            bytes: Vec::new(),
        };
        let mut table = Vec::new();
        for entry in &self.entries {
            table.extend(entry.flags.to_le_bytes());
            table.extend(strings.add(&entry.name).to_le_bytes());
            table.extend(strings.add(&entry.path).to_le_bytes());
            table.extend([0; 4]);
            table.extend(entry.processor.to_le_bytes());
        }
        let names: Vec<u32> = self
            .processors
            .iter()
            .map(|name| strings.add(name))
            .collect();
        while !strings.position().is_multiple_of(4) {
            strings.bytes.push(0);
        }
        let extension = match names.is_empty() {
            true => 0,
            false => strings.position(),
        };
        let mut bytes = MAGIC.to_vec();
        for number in [count(self.entries.len()), count(strings.bytes.len())] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend([LITTLE_ENDIAN, 0, 0, 0]);
        bytes.extend(extension.to_le_bytes());
        bytes.resize(HEADER, 0);
        bytes.extend(table);
        bytes.extend(&strings.bytes);
        if extension != 0 {
            let size = count(names.len() * 4);
            for number in [EXTENSION, 1, PROCESSORS, 0, extension + 24, size] {
                bytes.extend(number.to_le_bytes());
            }
            names
                .iter()
                .for_each(|name| bytes.extend(name.to_le_bytes()));
        }
        bytes
    }
}

/// The strings behind the entries.
struct Strings {
    start: usize,
    bytes: Vec<u8>,
}

impl Strings {
    fn position(&self) -> u32 {
        count(self.start + self.bytes.len())
    }

    fn add(&mut self, text: &str) -> u32 {
        let position = self.position();
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
        position
    }
}

/// A number of the file; one that did not fit would be a cache of 4 GiB, of an image file read up to 4 MiB.
fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(field.try_into().ok()?))
}

/// Where the names of processors are.
fn processors(bytes: &[u8], extension: u32) -> Option<Vec<u32>> {
    let at = usize::try_from(extension).ok().filter(|at| *at != 0)?;
    if number(bytes, at)? != EXTENSION {
        return None;
    }
    let sections = usize::try_from(number(bytes, at + 4)?).ok()?;
    let place = (0..sections.min(16)).map(|index| at + 8 + index * 16);
    let section = place
        .into_iter()
        .find(|at| number(bytes, *at) == Some(PROCESSORS))?;
    let offset = usize::try_from(number(bytes, section + 8)?).ok()?;
    let size = usize::try_from(number(bytes, section + 12)?).ok()?;
    (0..size / 4)
        .map(|index| number(bytes, offset + index * 4))
        .collect()
}

/// The order of names in a cache, as the loader's binary search has it: digits count as numbers.
fn by_name(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (one.as_bytes(), other.as_bytes());
    while let Some((first, rest)) = one.split_first() {
        let second = other.first().copied().unwrap_or(0);
        match (first.is_ascii_digit(), second.is_ascii_digit()) {
            (true, true) => {
                let (left, right) = (digits(&mut one), digits(&mut other));
                match left.cmp(&right) {
                    Ordering::Equal => {}
                    unequal => return unequal,
                }
            }
            (true, false) => return Ordering::Greater,
            (false, true) => return Ordering::Less,
            (false, false) if *first != second => return first.cmp(&second),
            (false, false) => {
                one = rest;
                other = other.split_first().map_or(&[], |(_, rest)| rest);
            }
        }
    }
    match other.is_empty() {
        true => Ordering::Equal,
        false => Ordering::Less,
    }
}

/// Takes a number from the front.
fn digits(text: &mut &[u8]) -> u64 {
    let mut value = 0_u64;
    while let Some((digit, rest)) = text
        .split_first()
        .filter(|(digit, _)| digit.is_ascii_digit())
    {
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
        *text = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ordered_as_the_loader_looks_them_up() {
        for (less, more) in [
            ("liba.so.2", "liba.so.10"),
            ("liba.so", "liba.so.1"),
            ("liba.so", "libb.so"),
            ("lib-x.so", "lib1.so"),
            ("libc.so.6", "libc1.so"),
        ] {
            assert_eq!(by_name(less, more), Ordering::Less, "{less} {more}");
            assert_eq!(by_name(more, less), Ordering::Greater, "{less} {more}");
        }
        assert_eq!(by_name("liba.so.1", "liba.so.1"), Ordering::Equal);
    }

    #[test]
    fn a_cache_is_read_as_it_was_written_and_new_libraries_come_first() {
        let old = Cache {
            entries: vec![
                Entry::new("libz.so.1", "/lib/libz.so.1", 0x303),
                Entry::new("liba.so.10", "/lib/liba.so.10", 0x303),
                Entry {
                    processor: 1 << 62,
                    ..Entry::new("liba.so.2", "/lib/v3/liba.so.2", 0x303)
                },
                Entry::new("liba.so.2", "/lib/liba.so.2", 0x303),
            ],
            processors: vec!["x86-64-v3".into()],
        };
        let mut cache = Cache::parse(&old.encode()).unwrap();
        assert_eq!(cache, old);
        cache.prepend(vec![Entry::new("liba.so.2", "/new/liba.so.2", 0x303)]);
        let paths: Vec<_> = cache
            .entries
            .iter()
            .map(|entry| entry.path.as_str())
            .collect();
        assert_eq!(
            paths,
            [
                "/lib/libz.so.1",
                "/lib/liba.so.10",
                "/new/liba.so.2",
                "/lib/v3/liba.so.2",
                "/lib/liba.so.2"
            ]
        );
        assert_eq!(Cache::parse(&cache.encode()), Some(cache));
    }

    #[test]
    fn damage_is_no_cache_and_no_harm() {
        let bytes = Cache {
            entries: vec![Entry::new("liba.so.1", "/lib/liba.so.1", 0x303)],
            processors: vec!["x86-64-v3".into()],
        }
        .encode();
        for length in 0..bytes.len() {
            let _ = Cache::parse(&bytes[..length]);
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xff;
            let _ = Cache::parse(&damaged);
        }
        assert_eq!(Cache::parse(b"something else"), None);
    }

    #[test]
    fn this_machines_own_cache_is_written_as_ldconfig_wrote_it() {
        let Ok(bytes) = std::fs::read("/etc/ld.so.cache") else {
            return;
        };
        let Some(cache) = Cache::parse(&bytes) else {
            return;
        };
        let again = Cache::parse(&cache.encode()).unwrap();
        assert_eq!(again, cache);
        let mut sorted = cache.clone();
        sorted.prepend(Vec::new());
        let names = |cache: &Cache| {
            cache
                .entries
                .iter()
                .map(|entry| entry.name.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&sorted), names(&cache), "another order");
    }
}
