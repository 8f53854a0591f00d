//! Images that are cut off, damaged or made to deceive: an error at the most.

use std::time::{Duration, Instant};

use super::*;

#[test]
fn an_image_that_ends_anywhere_is_refused_or_read_without_harm() {
    let whole = std::fs::read(corpus("zstd.sqfs")).unwrap();
    for length in (0..whole.len()).step_by(37) {
        let file = in_memory(&whole[..length]);
        let error = SquashFs::open(file, 0, length as u64, MEMORY).unwrap_err();
        assert!(error.to_string().contains("at offset"), "{error}");
        // And one that becomes shorter while it is open.
        let file = in_memory(&whole);
        let image =
            SquashFs::open(file.try_clone().unwrap(), 0, whole.len() as u64, MEMORY).unwrap();
        file.set_len(length as u64).unwrap();
        walk(&image);
    }
}

/// Numbers that are the same in each run; xorshift.
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    pub(super) fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
}

#[test]
fn flipped_bits_and_false_numbers_cost_no_more_than_an_error() {
    let names = ["gzip", "lzo", "xz", "lz4", "zstd", "plain"];
    let images = names.map(|name| std::fs::read(corpus(&format!("{name}.sqfs"))).unwrap());
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    let start = Instant::now();
    let mut rounds = 0;
    // Without compression the tables lie open: most of the time goes there.
    while start.elapsed() < Duration::from_secs(10) {
        let which = match rounds % 2 {
            0 => names.len() - 1,
            _ => numbers.next(names.len() - 1),
        };
        let mut bytes = images[which].clone();
        for _ in 0..=numbers.next(4) {
            let at = match numbers.next(4) {
                // The superblock; the tables, which are at the end; anywhere.
                0 => numbers.next(superblock::SIZE),
                1 | 2 => bytes.len() - 1 - numbers.next(bytes.len() / 2),
                _ => numbers.next(bytes.len()),
            };
            match numbers.next(3) {
                0 => bytes[at] ^= 1 << numbers.next(8),
                1 => bytes[at] = 0xff,
                _ => bytes[at] = numbers.next(256) as u8,
            }
        }
        let began = Instant::now();
        let length = bytes.len() as u64;
        if let Ok(image) = SquashFs::open(in_memory(&bytes), 0, length, MEMORY) {
            walk(&image);
        }
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "round {rounds} takes too long"
        );
        rounds += 1;
    }
    assert!(rounds > 100, "only {rounds} rounds");
}

#[test]
fn a_block_gives_no_more_than_it_may_whatever_it_holds() {
    let bomb = vec![0; 10 << 20];
    let mut gzip = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut gzip, &bomb).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::bulk::compress(&bomb, 19).unwrap();
    let lz4 = lz4_flex::block::compress(&bomb);
    let mut xz = Vec::new();
    std::io::copy(
        &mut liblzma::read::XzEncoder::new(bomb.as_slice(), 6),
        &mut xz,
    )
    .unwrap();
    for (compressor, bytes) in [
        (Compressor::Gzip, gzip),
        (Compressor::Zstd, zstd),
        (Compressor::Lz4, lz4),
        (Compressor::Xz, xz),
    ] {
        assert_eq!(
            compressor.decompress(&bytes, 8192),
            None,
            "{}",
            compressor.name()
        );
        assert_eq!(
            compressor
                .decompress(&bytes, bomb.len())
                .map(|bytes| bytes.len()),
            Some(bomb.len())
        );
    }
}

#[test]
fn a_file_that_begins_at_the_end_of_all_numbers_is_damage_and_no_overflow() {
    let whole = std::fs::read(corpus("plain.sqfs")).unwrap();
    let open = || SquashFs::open(in_memory(&whole), 0, whole.len() as u64, MEMORY).unwrap();
    let block = u64::from(open().block_size());
    let mut found = 0;
    for number in 1..=u64::from(open().inode_count()) {
        let image = open();
        let Ok(mut inode) = image.inode(number) else {
            continue;
        };
        if let inode::Body::File { start, .. } = &mut inode.body
            && inode.size > block
        {
            *start = u64::MAX - 1;
            found += 1;
            for offset in (0..inode.size).step_by(block as usize) {
                // Of a hole or a fragment nothing is read there.
                let _ = image.piece(&inode, offset);
            }
        }
    }
    assert!(found > 0);
}
