//! Decompression of blocks; write/compress.rs has the other direction. None gives more than it is asked for, so that no block can be a bomb.

use std::cell::RefCell;
use std::io::Read;

use super::{Damage, Result, lzo};

/// How the blocks of an image are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compressor {
    /// zlib's format.
    Gzip,
    /// A bare LZO1X stream; it is only read.
    Lzo,
    /// xz(1)'s.
    Xz,
    /// One bare LZ4 block.
    Lz4,
    /// A Zstandard frame.
    Zstd,
}

/// The memory that liblzma may take to decompress a block; the largest dictionary that a block of 1 MiB
/// can use is small.
const XZ_MEMORY: u64 = 16 << 20;

thread_local! {
    /// A context for Zstandard is expensive to make.
    static ZSTD: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
    static ZLIB: RefCell<flate2::Decompress> = RefCell::new(flate2::Decompress::new(true));
}

impl Compressor {
    /// Its number in a superblock.
    pub fn number(self) -> u16 {
        match self {
            Compressor::Gzip => 1,
            Compressor::Lzo => 3,
            Compressor::Xz => 4,
            Compressor::Lz4 => 5,
            Compressor::Zstd => 6,
        }
    }

    pub(super) fn from_number(number: u16) -> Result<Compressor> {
        Ok(match number {
            1 => Compressor::Gzip,
            3 => Compressor::Lzo,
            4 => Compressor::Xz,
            5 => Compressor::Lz4,
            6 => Compressor::Zstd,
            2 => {
                let what = "it is compressed by lzma, which Chariot cannot read";
                return Err(Damage::unknown(20, what));
            }
            _ => {
                let what = "it is compressed in a way that Chariot does not know";
                return Err(Damage::unknown(20, what));
            }
        })
    }

    /// The name that mksquashfs(1) knows it by.
    pub fn name(self) -> &'static str {
        match self {
            Compressor::Gzip => "gzip",
            Compressor::Lzo => "lzo",
            Compressor::Xz => "xz",
            Compressor::Lz4 => "lz4",
            Compressor::Zstd => "zstd",
        }
    }

    /// What `input` is uncompressed, if that is no more than `most` bytes.
    pub(super) fn decompress(self, input: &[u8], most: usize) -> Option<Vec<u8>> {
        match self {
            Compressor::Gzip => zlib(input, most),
            Compressor::Lzo => lzo::decompress(input, most),
            Compressor::Xz => xz(input, most),
            Compressor::Lz4 => lz4(input, most),
            Compressor::Zstd => zstd(input, most),
        }
    }
}

fn zlib(input: &[u8], most: usize) -> Option<Vec<u8>> {
    ZLIB.with_borrow_mut(|context| {
        context.reset(true);
        let mut output = Vec::with_capacity(most);
        let done = context
            .decompress_vec(input, &mut output, flate2::FlushDecompress::Finish)
            .ok()?;
        (done == flate2::Status::StreamEnd).then_some(output)
    })
}

fn xz(input: &[u8], most: usize) -> Option<Vec<u8>> {
    let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, 0).ok()?;
    let mut output = Vec::with_capacity(most);
    let mut reader = liblzma::read::XzDecoder::new_stream(input, stream).take(most as u64 + 1);
    reader.read_to_end(&mut output).ok()?;
    (output.len() <= most).then_some(output)
}

fn lz4(input: &[u8], most: usize) -> Option<Vec<u8>> {
    let mut output = vec![0; most];
    let length = lz4_flex::block::decompress_into(input, &mut output).ok()?;
    output.truncate(length);
    Some(output)
}

fn zstd(input: &[u8], most: usize) -> Option<Vec<u8>> {
    ZSTD.with_borrow_mut(|context| {
        if context.is_none() {
            *context = zstd::bulk::Decompressor::new().ok();
        }
        let mut output = Vec::with_capacity(most);
        context
            .as_mut()?
            .decompress_to_buffer(input, &mut output)
            .ok()?;
        Some(output)
    })
}
