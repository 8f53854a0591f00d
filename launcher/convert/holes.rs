//! Copying contents into a file, with holes where they have nothing but zeroes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// Whole chunks of zeroes become holes.
const CHUNK: usize = 64 << 10;

/// Copies until the source has ended.
pub(super) fn copy(contents: &mut dyn Read, file: &mut File) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut length = 0;
    let mut has_hole_at_end = false;
    loop {
        let count = fill(contents, &mut chunk)?;
        if count == 0 {
            break;
        }
        length += count as u64;
        has_hole_at_end = count == CHUNK && chunk.iter().all(|byte| *byte == 0);
        match has_hole_at_end {
            true => drop(file.seek(SeekFrom::Current(CHUNK as i64))?),
            false => file.write_all(&chunk[..count])?,
        }
    }
    match has_hole_at_end {
        true => file.set_len(length),
        false => Ok(()),
    }
}

/// Reads until the buffer is full or the source has ended.
pub(crate) fn fill(source: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match source.read(&mut buffer[count..]) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}
