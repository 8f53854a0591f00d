//! Compression of blocks. Each thread has a context of its own.

use std::io::{self, Read};

use crate::image::squashfs::Compressor;

/// How blocks are to be compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compression {
    /// The format.
    pub compressor: Compressor,
    /// The effort, from 1 on; formats differ in what they take.
    pub level: i32,
}

impl Compression {
    /// Reads `zstd`, `zstd:19` and the like.
    ///
    /// # Errors
    /// What would be right.
    pub fn parse(text: &str) -> Result<Compression, String> {
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => (name, Some(level)),
            None => (text, None),
        };
        let (compressor, usual, most) = match name {
            "zstd" => (Compressor::Zstd, 9, 22),
            "gzip" => (Compressor::Gzip, 9, 9),
            "xz" => (Compressor::Xz, 6, 9),
            "lz4" => (Compressor::Lz4, 1, 1),
            "lzo" => {
                return Err("lzo is read, and not written: zstd, gzip, xz and lz4 are".to_owned());
            }
            _ => return Err(format!("\"{name}\" is not one of zstd, gzip, xz and lz4")),
        };
        let level = level.map_or(Some(usual), |level| level.parse().ok());
        level
            .filter(|level| (1..=most).contains(level))
            .map(|level| Compression { compressor, level })
            .ok_or_else(|| format!("the level of {name} is a number from 1 to {most}"))
    }

    /// The largest bytes that the kernel's decompressor wants to know beforehand, after the superblock.
    pub(super) fn options(self) -> Option<[u8; 8]> {
        // The version of LZ4's format, and no flags.
        (self.compressor == Compressor::Lz4).then_some([1, 0, 0, 0, 0, 0, 0, 0])
    }
}

impl Default for Compression {
    fn default() -> Compression {
        Compression {
            compressor: Compressor::Zstd,
            level: 9,
        }
    }
}

/// Compresses blocks of one image, of at most `block` bytes each.
pub(super) struct Context {
    how: Compression,
    block: u32,
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl Context {
    pub(super) fn new(how: Compression, block: u32) -> io::Result<Context> {
        let zstd = match how.compressor {
            Compressor::Zstd => Some(zstd::bulk::Compressor::new(how.level)?),
            _ => None,
        };
        Ok(Context { how, block, zstd })
    }

    /// `input` compressed, unless that makes it no shorter.
    pub(super) fn compress(&mut self, input: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let output = match self.how.compressor {
            Compressor::Zstd => match &mut self.zstd {
                Some(zstd) => zstd.compress(input)?,
                None => return Ok(None),
            },
            Compressor::Gzip => self.gzip(input)?,
            Compressor::Xz => self.xz(input)?,
            Compressor::Lz4 => lz4_flex::block::compress(input),
            // Compression::parse() never asks for it.
            Compressor::Lzo => return Ok(None),
        };
        Ok((output.len() < input.len()).then_some(output))
    }

    fn gzip(&self, input: &[u8]) -> io::Result<Vec<u8>> {
        let level = flate2::Compression::new(self.how.level.unsigned_abs());
        let mut output = Vec::with_capacity(input.len());
        flate2::read::ZlibEncoder::new(input, level).read_to_end(&mut output)?;
        Ok(output)
    }

    fn xz(&self, input: &[u8]) -> io::Result<Vec<u8>> {
        use liblzma::stream::{Check, Filters, LzmaOptions, Stream};
        let mut options = LzmaOptions::new_preset(self.how.level.unsigned_abs())?;
        // The kernel refuses a larger dictionary than the image's blocks need.
        options.dict_size(self.block);
        let mut filters = Filters::new();
        filters.lzma2(&options);
        let stream = Stream::new_stream_encoder(&filters, Check::Crc32)?;
        let mut output = Vec::with_capacity(input.len());
        liblzma::read::XzEncoder::new_stream(input, stream).read_to_end(&mut output)?;
        Ok(output)
    }
}
