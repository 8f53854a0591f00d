//! What a shared library says of itself: the name by which programs ask for it, and for which machine it is.

use std::path::Path;

use object::elf::{
    DT_NEEDED, DT_SONAME, DT_STRSZ, DT_STRTAB, DynamicTag, EM_386, EM_AARCH64, EM_PPC64, EM_X86_64,
    FileType, Machine,
};
use object::read::ReadCache;
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Endianness, ReadRef, elf};

use chariot_core::open;

/// A shared library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// Its DT_SONAME; none if it has none, as a library that is loaded by name alone.
    pub soname: Option<String>,
    /// The flags of its kind in ld.so.cache.
    pub flags: u32,
}

impl Library {
    /// Whether the dynamic loader of this machine's own programs takes it.
    pub fn is_for_this_machine(&self) -> bool {
        let machine = match std::env::consts::ARCH {
            "x86_64" => 0x0300,
            "aarch64" => 0x0a00,
            "powerpc64" => 0x0500,
            _ => return true,
        };
        self.flags == LIBC6 | machine
    }
}

/// Flags of ld.so.cache: a library for glibc 2, and for which machine.
const LIBC6: u32 = 0x0003;

/// The most that the names in a file may be together, in bytes: a sparse one can say anything.
const MOST_TEXT: u64 = 64 << 20;

/// The most entries that are looked at, and the longest name, in bytes.
const MOST_ENTRIES: usize = 10_000;
const LONGEST_NAME: usize = 4096;

/// Reads a file; none if it is no shared library. Only what is needed of it is read: these files are large.
pub fn read(path: &Path) -> Option<Library> {
    let dynamic = dynamic(path)?;
    let machine = match dynamic.machine {
        EM_X86_64 => 0x0300,
        EM_AARCH64 => 0x0a00,
        EM_PPC64 => 0x0500,
        EM_386 => 0,
        _ => return None,
    };
    (dynamic.kind == elf::ET_DYN).then(|| Library {
        soname: dynamic.names(DT_SONAME).next(),
        flags: LIBC6 | machine,
    })
}

/// The libraries that a program or a library asks for by name, DT_NEEDED; none where it is neither, or static.
pub fn needed(path: &Path) -> Vec<String> {
    dynamic(path).map_or_else(Vec::new, |dynamic| dynamic.names(DT_NEEDED).collect())
}

/// What an ELF file says to the dynamic loader, elf(5).
struct Dynamic {
    kind: FileType,
    machine: Machine,
    /// Tags with their values.
    entries: Vec<(DynamicTag, u64)>,
    /// Where names are.
    texts: Vec<u8>,
}

impl Dynamic {
    fn names(&self, wanted: DynamicTag) -> impl Iterator<Item = String> {
        let entries = self.entries.iter().filter(move |(tag, _)| *tag == wanted);
        entries.filter_map(|(_, offset)| {
            let rest = self.texts.get(usize::try_from(*offset).ok()?..)?;
            let name = rest
                .iter()
                .take(LONGEST_NAME)
                .take_while(|byte| **byte != 0);
            String::from_utf8(name.copied().collect()).ok()
        })
    }
}

fn dynamic(path: &Path) -> Option<Dynamic> {
    let cache = ReadCache::new(open::regular(path).ok()?);
    let class = cache.read_bytes_at(0, 5).ok()?;
    match class {
        [0x7f, b'E', b'L', b'F', 2] => read_dynamic::<elf::FileHeader64<Endianness>, _>(&cache),
        [0x7f, b'E', b'L', b'F', 1] => read_dynamic::<elf::FileHeader32<Endianness>, _>(&cache),
        _ => None,
    }
}

fn read_dynamic<'a, Elf, R>(data: R) -> Option<Dynamic>
where
    Elf: FileHeader<Endian = Endianness>,
    R: ReadRef<'a>,
{
    let header = Elf::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, data).ok()?;
    let entries = segments
        .iter()
        .find_map(|segment| segment.dynamic(endian, data).ok().flatten())?;
    let entries: Vec<(DynamicTag, u64)> = entries
        .iter()
        .take(MOST_ENTRIES)
        .map(|entry| (entry.tag(endian), entry.d_val(endian).into()))
        .collect();
    let value = |wanted| entries.iter().find(|(tag, _)| *tag == wanted);
    let size = value(DT_STRSZ).filter(|(_, size)| *size <= MOST_TEXT);
    let texts = value(DT_STRTAB).zip(size).and_then(|(table, size)| {
        segments.iter().find_map(|segment| {
            segment
                .data_range(endian, data, table.1, size.1)
                .ok()
                .flatten()
        })
    });
    Some(Dynamic {
        kind: header.e_type(endian),
        machine: header.e_machine(endian),
        texts: texts.unwrap_or_default().to_vec(),
        entries,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_c_library_says_its_name_and_a_text_says_none() {
        let place =
            std::env::split_paths("/lib/x86_64-linux-gnu:/lib64:/lib/aarch64-linux-gnu:/usr/lib")
                .map(|directory| directory.join("libc.so.6"))
                .find(|path| path.exists());
        let Some(path) = place else { return };
        let library = read(&path).unwrap();
        assert_eq!(library.soname.as_deref(), Some("libc.so.6"));
        assert_eq!(library.flags & 3, 3);
        assert_eq!(read(Path::new("/etc/passwd")), None);
        let own = needed(&std::env::current_exe().unwrap());
        assert!(own.iter().any(|name| name.starts_with("libc.")), "{own:?}");
        assert_eq!(needed(Path::new("/etc/passwd")), [""; 0]);
    }
}
