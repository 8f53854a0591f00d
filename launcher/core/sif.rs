//! SIF, the files of Apptainer and Singularity: a header, a table of descriptors, and what they describe, of
//! which one is the file system to run in.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// What a SIF file has at byte 32, after the line that makes it executable.
const MAGIC: &[u8] = b"SIF_MAGIC\0";
const MAGIC_AT: usize = 32;

/// Bytes of the header, and of one descriptor.
const HEADER: usize = 128;
const DESCRIPTOR: usize = 585;

/// The most descriptors that are looked at; files in use have fewer than ten.
const MOST: i64 = 1024;

/// Numbers in a descriptor: it describes a partition, which holds SquashFS, and is the one to run in.
const PARTITION: i32 = 0x4004;
const SQUASHFS: i32 = 1;
const PRIMARY_SYSTEM: i32 = 2;

/// Whether a file begins as SIF does.
pub fn is_sif(start: &[u8]) -> bool {
    start
        .get(MAGIC_AT..)
        .is_some_and(|rest| rest.starts_with(MAGIC))
}

/// Where the SquashFS image lies in a SIF file, and how long it is, in bytes. None if it has none to run in:
/// an old or encrypted one, or one of data alone.
///
/// # Errors
/// The file cannot be read, or ends before its table does.
pub fn system_partition(file: &File) -> io::Result<Option<(u64, u64)>> {
    let mut header = [0; HEADER];
    file.read_exact_at(&mut header, 0)?;
    let number = |bytes: &[u8], at: usize| {
        bytes[at..at + 8]
            .iter()
            .rev()
            .fold(0_i64, |number, byte| number << 8 | i64::from(*byte))
    };
    let (count, table) = (number(&header, 88), number(&header, 96));
    let Ok(table) = u64::try_from(table) else {
        return Ok(None);
    };
    for index in 0..count.clamp(0, MOST).unsigned_abs() {
        let mut descriptor = [0; DESCRIPTOR];
        let at = table.saturating_add(index * DESCRIPTOR as u64);
        file.read_exact_at(&mut descriptor, at)?;
        let word = |at: usize| i32::from_le_bytes([0, 1, 2, 3].map(|byte| descriptor[at + byte]));
        let is_used = descriptor[4] != 0;
        let kinds = (word(0), word(201), word(205));
        if is_used && kinds == (PARTITION, SQUASHFS, PRIMARY_SYSTEM) {
            let place = (number(&descriptor, 17), number(&descriptor, 25));
            return Ok(u64::try_from(place.0).ok().zip(u64::try_from(place.1).ok()));
        }
    }
    Ok(None)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A SIF file around a SquashFS image, as `apptainer build` makes them: a definition, then the partition.
    pub(crate) fn wrap(image: &[u8]) -> Vec<u8> {
        let start = 32_768;
        let mut file = b"#!/usr/bin/env run-singularity\n\0SIF_MAGIC\x0001\x0002\0".to_vec();
        file.resize(HEADER, 0);
        let mut put =
            |at: usize, number: i64| file[at..at + 8].copy_from_slice(&number.to_le_bytes());
        put(88, 48);
        put(96, 4096);
        put(112, start);
        let descriptor = |kind: i32, fs: i32, part: i32, at: i64, length: usize| {
            let mut bytes = [0; DESCRIPTOR];
            bytes[..4].copy_from_slice(&kind.to_le_bytes());
            bytes[4] = 1;
            bytes[17..25].copy_from_slice(&at.to_le_bytes());
            bytes[25..33].copy_from_slice(&i64::try_from(length).unwrap().to_le_bytes());
            bytes[201..205].copy_from_slice(&fs.to_le_bytes());
            bytes[205..209].copy_from_slice(&part.to_le_bytes());
            bytes
        };
        file.resize(4096, 0);
        file.extend(descriptor(0x4001, 0, 0, 20_000, 100));
        file.extend(descriptor(
            PARTITION,
            SQUASHFS,
            PRIMARY_SYSTEM,
            start,
            image.len(),
        ));
        file.resize(usize::try_from(start).unwrap(), 0);
        file.extend(image);
        file
    }

    fn found(bytes: &[u8]) -> io::Result<Option<(u64, u64)>> {
        let file = crate::sys::memory_file_of(c"sif", bytes).unwrap();
        system_partition(&File::from(file))
    }

    #[test]
    fn the_partition_to_run_in_is_found_among_the_others() {
        let file = wrap(&[7; 5000]);
        assert!(is_sif(&file[..64]));
        assert_eq!(found(&file).unwrap(), Some((32_768, 5000)));
        let mut other = file.clone();
        other[4096 + DESCRIPTOR + 205] = 3;
        assert_eq!(found(&other).unwrap(), None);
    }

    #[test]
    fn false_numbers_in_a_header_cost_no_more_than_an_error() {
        let file = wrap(&[7; 100]);
        for at in (80..128)
            .chain(4096..4096 + DESCRIPTOR)
            .chain(4096 + DESCRIPTOR..4096 + DESCRIPTOR + 33)
        {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = file.clone();
                bytes[at] = value;
                let _ = found(&bytes);
            }
        }
        for length in 0..200 {
            assert!(
                found(&file[..length * 29]).is_err() || length * 29 >= 5266,
                "{length}"
            );
        }
    }
}
