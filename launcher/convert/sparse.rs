//! Sparse files in PAX's form, as GNU tar writes them with `--format=posix --sparse`: the data without the
//! holes, and a map of where it belongs. (The tar crate itself reads the older form.)

use std::io::{self, Read};

use super::names::wrong;

/// The most stretches of data of one file that are believed.
const MOST: usize = 1 << 20;

/// Where a stretch of data belongs in its file, and its length.
pub(super) type Stretch = (u64, u64);

/// The map of a sparse file.
#[derive(Debug)]
pub(super) enum Map {
    /// It stood in the header.
    Known(Vec<Stretch>),
    /// It stands in front of the data.
    InFront,
}

/// What a PAX header says of a sparse file.
#[derive(Debug, Default)]
pub(super) struct Header {
    /// The file's real name.
    pub(super) name: Option<Vec<u8>>,
    /// The file's real length.
    pub(super) length: Option<u64>,
    major: Option<u64>,
    map: Option<Vec<u64>>,
    offsets: Vec<u64>,
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

impl Map {
    /// The map, read from in front of the data if it stands there.
    ///
    /// # Errors
    /// It is damaged.
    pub(super) fn read(self, data: &mut impl Read) -> io::Result<Vec<Stretch>> {
        match self {
            Map::Known(map) => Ok(map),
            Map::InFront => read_map(data),
        }
    }
}

impl Header {
    /// Takes one record of a header.
    pub(super) fn take(&mut self, key: &str, value: &[u8]) {
        match key {
            "GNU.sparse.name" => self.name = Some(value.to_vec()),
            "GNU.sparse.size" | "GNU.sparse.realsize" => self.length = number(value),
            "GNU.sparse.major" => self.major = number(value),
            "GNU.sparse.map" => {
                self.map = value.split(|byte| *byte == b',').map(number).collect();
            }
            "GNU.sparse.offset" | "GNU.sparse.numbytes" => self.offsets.extend(number(value)),
            _ => {}
        }
    }

    /// The map, if this is a sparse file.
    ///
    /// # Errors
    /// The header contradicts itself.
    pub(super) fn map(&mut self) -> io::Result<Option<Map>> {
        if self.major == Some(1) {
            return Ok(Some(Map::InFront));
        }
        let numbers = self
            .map
            .take()
            .or_else(|| (!self.offsets.is_empty()).then(|| std::mem::take(&mut self.offsets)));
        match numbers {
            None => Ok(None),
            Some(numbers) if numbers.len() % 2 == 0 => Ok(Some(Map::Known(
                numbers.chunks(2).map(|pair| (pair[0], pair[1])).collect(),
            ))),
            Some(_) => Err(wrong("the map of a sparse file is damaged")),
        }
    }
}

/// Reads a map that stands in front of the data: decimal numbers in lines, filled up to whole blocks.
fn read_map(reader: &mut impl Read) -> io::Result<Vec<Stretch>> {
    let mut read = 0;
    let mut next = || -> io::Result<u64> {
        let mut line = Vec::new();
        let mut byte = [0];
        loop {
            reader.read_exact(&mut byte)?;
            read += 1;
            match byte[0] {
                b'\n' => break,
                byte if line.len() < 20 => line.push(byte),
                _ => return Err(wrong("the map of a sparse file is damaged")),
            }
        }
        number(&line).ok_or_else(|| wrong("the map of a sparse file is damaged"))
    };
    let count = usize::try_from(next()?).unwrap_or(usize::MAX);
    if count > MOST {
        return Err(wrong("a sparse file has too many parts"));
    }
    let map = (0..count)
        .map(|_| Ok((next()?, next()?)))
        .collect::<io::Result<Vec<_>>>()?;
    let rest: usize = (512 - read % 512) % 512;
    reader.read_exact(&mut [0; 512][..rest])?;
    Ok(map)
}

/// A sparse file with its holes as zeroes.
pub(super) struct Dense<'a, R> {
    data: &'a mut R,
    map: std::vec::IntoIter<Stretch>,
    at: u64,
    current: Stretch,
    length: u64,
}

impl<'a, R: Read> Dense<'a, R> {
    /// A file of `length` bytes.
    pub(super) fn new(data: &'a mut R, map: Vec<Stretch>, length: u64) -> Self {
        Dense {
            data,
            map: map.into_iter(),
            at: 0,
            current: (0, 0),
            length,
        }
    }
}

impl<R: Read> Read for Dense<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let (start, length) = self.current;
            let end = start
                .checked_add(length)
                .ok_or_else(|| wrong("a sparse file is too long"))?;
            if self.at < start {
                let count = usize::try_from(start - self.at)
                    .unwrap_or(usize::MAX)
                    .min(buffer.len());
                buffer[..count].fill(0);
                self.at += count as u64;
                return Ok(count);
            }
            if self.at < end {
                let most = usize::try_from(end - self.at)
                    .unwrap_or(usize::MAX)
                    .min(buffer.len());
                let count = self.data.read(&mut buffer[..most])?;
                if count == 0 && most > 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.at += count as u64;
                return Ok(count);
            }
            match self.map.next() {
                Some(next) if next.0 >= self.at => self.current = next,
                Some(_) => return Err(wrong("the parts of a sparse file are not in order")),
                None if self.at < self.length => self.current = (self.length, 0),
                None => return Ok(0),
            }
        }
    }
}
