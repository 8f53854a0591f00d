//! Compression of archives: gzip, bzip2, xz and zstd, told by content. What a name or a type says is not asked.

use std::io::{self, BufRead, BufReader, Read};

/// How much is read of a source at a time, in bytes.
pub(super) const CHUNK: usize = 1 << 18;

/// A way of compressing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Gzip,
    Bzip2,
    Xz,
    Zstd,
}

impl Format {
    fn of(start: &[u8]) -> Option<Format> {
        match start {
            [0x1f, 0x8b, ..] => Some(Format::Gzip),
            [b'B', b'Z', b'h', ..] => Some(Format::Bzip2),
            [0xfd, b'7', b'z', b'X', b'Z', ..] => Some(Format::Xz),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Format::Zstd),
            // A frame to be skipped, with which pzstd(1) begins and in which others keep a table of contents.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Format::Zstd),
            _ => None,
        }
    }
}

/// Whether something that begins so is compressed.
pub(super) fn is_compressed(start: &[u8]) -> bool {
    Format::of(start).is_some()
}

/// Undoes the compression.
///
/// # Errors
/// The first bytes cannot be read.
pub fn decompressed(source: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    let mut source = BufReader::with_capacity(CHUNK, source);
    Ok(match Format::of(source.fill_buf()?) {
        Some(Format::Gzip) => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        Some(Format::Bzip2) => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
        Some(Format::Xz) => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(source)),
        Some(Format::Zstd) => Box::new(zstd::Decoder::with_buffer(source)?),
        None => Box::new(source),
    })
}

/// Whether a file begins as a tar archive does, compressed or not.
pub fn is_archive(start: &[u8]) -> bool {
    is_compressed(start) || is_plain_tar(start)
}

/// A header's sum, which every tar since the first has.
fn is_plain_tar(start: &[u8]) -> bool {
    let Some(block) = start.get(..512) else {
        return false;
    };
    let said = std::str::from_utf8(&block[148..156])
        .ok()
        .and_then(|text| u32::from_str_radix(text.trim_matches(['\0', ' ']), 8).ok());
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| {
            if (148..156).contains(&at) {
                32
            } else {
                u32::from(*byte)
            }
        })
        .sum();
    block[0] != 0 && said == Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_to_be_skipped_are_skipped_wherever_they_stand() {
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0][..], b"what"].concat();
        let frame = |text: &[u8]| zstd::encode_all(text, 0).unwrap();
        let frames = [frame(b"one "), frame(b"two")];
        let whole = [&skipped, &frames[0], &skipped, &frames[1], &skipped].map(Vec::as_slice);
        let whole = whole.concat();
        assert!(is_archive(&whole));
        let mut text = String::new();
        let reader = decompressed(io::Cursor::new(whole)).unwrap();
        io::BufReader::new(reader)
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "one two");
    }
}
