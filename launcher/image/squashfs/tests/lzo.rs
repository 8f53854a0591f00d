//! The decompression of LZO1X, against streams that are put together here, instruction by instruction, and against
//! what mksquashfs(1) makes of a tree.

use super::damaged::Numbers;
use super::*;
use crate::image::squashfs::lzo::decompress;

/// The longest block of an image.
const MOST: usize = 1 << 20;

/// The end of a stream.
const END: [u8; 3] = [17, 0, 0];

/// A stream as it grows, and what it has to become.
#[derive(Default)]
struct Made {
    stream: Vec<u8>,
    plain: Vec<u8>,
    /// How many literals the last instruction ended with.
    last: usize,
}

impl Made {
    /// The bits of a length in an instruction; what does not fit into them goes behind it.
    fn length(length: usize, most: usize) -> (u8, Vec<u8>) {
        match length {
            1.. if length <= most => (length as u8, Vec::new()),
            _ => {
                let (zeroes, last) = ((length - most - 1) / 255, (length - most - 1) % 255 + 1);
                let mut more = vec![0; zeroes];
                more.push(last as u8);
                (0, more)
            }
        }
    }

    fn copy(&mut self, literals: &[u8]) {
        self.stream.extend(literals);
        self.plain.extend(literals);
    }

    /// The first byte of a stream can stand for literals.
    fn begin(&mut self, literals: &[u8]) {
        self.stream.push(17 + literals.len() as u8);
        self.copy(literals);
        self.last = literals.len().min(4);
    }

    /// Four literals or more, which may follow no others.
    fn literals(&mut self, literals: &[u8]) {
        assert_eq!(self.last, 0);
        let (bits, more) = Made::length(literals.len() - 3, 15);
        self.stream.push(bits);
        self.stream.extend(more);
        self.copy(literals);
        self.last = 4;
    }

    /// A match by the instruction of this number, which has to be able to have it.
    fn repeat(&mut self, how: usize, distance: usize, length: usize, literals: &[u8]) {
        let behind = literals.len() as u8;
        let two = |distance: usize| ((distance << 2) as u16 | u16::from(behind)).to_le_bytes();
        match how {
            0 | 1 => {
                let far = distance - if how == 0 { 1 } else { 2049 };
                self.stream.push((far as u8 & 3) << 2 | behind);
                self.stream.push((far >> 2) as u8);
            }
            2 => {
                let far = distance - 16_384;
                let (bits, more) = Made::length(length - 2, 7);
                self.stream.push(16 | ((far >> 14) as u8) << 3 | bits);
                self.stream.extend(more);
                self.stream.extend(two(far & 0x3fff));
            }
            3 => {
                let (bits, more) = Made::length(length - 2, 31);
                self.stream.push(32 | bits);
                self.stream.extend(more);
                self.stream.extend(two(distance - 1));
            }
            _ => {
                let far = distance - 1;
                let bits = if length < 5 { 2 } else { 4 } << 5
                    | (length as u8 - if length < 5 { 3 } else { 5 }) << 5;
                self.stream.push(bits | (far as u8 & 7) << 2 | behind);
                self.stream.push((far >> 3) as u8);
            }
        }
        for _ in 0..length {
            self.plain.push(self.plain[self.plain.len() - distance]);
        }
        self.copy(literals);
        self.last = literals.len();
    }

    /// What an instruction can have, if anything: the bounds of its distance and of its length.
    fn bounds(&self, how: usize) -> Option<((usize, usize), (usize, usize))> {
        let (distances, lengths) = match how {
            0 if (1..4).contains(&self.last) => ((1, 1024), (2, 2)),
            1 if self.last == 4 => ((2049, 3072), (3, 3)),
            2 => ((16_385, 49_151), (3, 3000)),
            3 => ((1, 16_384), (3, 3000)),
            4 => ((1, 2048), (3, 8)),
            _ => return None,
        };
        let reach = self.plain.len().min(distances.1);
        (reach >= distances.0).then_some(((distances.0, reach), lengths))
    }

    /// A stream of so many instructions, all kinds of them.
    fn random(numbers: &mut Numbers, count: usize) -> Made {
        let mut made = Made::default();
        let some = |numbers: &mut Numbers, least: usize, most: usize| -> Vec<u8> {
            let count = least + numbers.next(most - least + 1);
            (0..count).map(|_| numbers.next(256) as u8).collect()
        };
        match numbers.next(2) {
            0 => made.begin(&some(numbers, 1, 238)),
            _ => made.literals(&some(numbers, 4, 3000)),
        }
        for _ in 0..count {
            let how = numbers.next(6);
            match made.bounds(how) {
                None if made.last == 0 => made.literals(&some(numbers, 4, 2000)),
                None => {}
                Some((distances, lengths)) => {
                    // Often at the edges, where the forms of an instruction change.
                    let mut within = |(least, most): (usize, usize)| match numbers.next(4) {
                        0 => least,
                        1 => most,
                        2 => least + numbers.next((most - least).min(40) + 1),
                        _ => least + numbers.next(most - least + 1),
                    };
                    let (distance, length) = (within(distances), within(lengths));
                    let literals = some(numbers, 0, 3);
                    made.repeat(how, distance, length, &literals);
                }
            }
        }
        made.stream.extend(END);
        made
    }
}

#[test]
fn every_instruction_does_what_the_format_says() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for round in 0..400 {
        let count = 1 + numbers.next(300);
        let made = Made::random(&mut numbers, count);
        let length = made.plain.len();
        if length > MOST {
            continue;
        }
        let read = decompress(&made.stream, length);
        assert!(read.is_some_and(|read| read == made.plain), "round {round}");
        // One byte too many for its room; one missing; one left over.
        assert!(decompress(&made.stream, length - 1).is_none(), "{round}");
        let (_, cut) = made.stream.split_last().unwrap();
        assert!(decompress(cut, MOST).is_none(), "{round}");
        let longer = [made.stream, vec![0]].concat();
        assert!(decompress(&longer, MOST).is_none(), "{round}");
    }
    assert_eq!(decompress(&END, MOST), Some(Vec::new()));
}

#[test]
fn hostile_streams_give_an_error_or_no_more_than_they_may() {
    for bytes in [
        &[][..],
        // A match of what is not there, also behind a literal.
        &[17, 4, 0],
        &[18, b'a', 64 + 4, 0, 17, 0, 0],
        &[32, 1, 4, 0],
        // Literals that do not follow, and lengths without an end.
        &[255, 1, 2, 3],
        &[0, 0, 0, 0],
        // An end of another length than Linux takes.
        &[18, b'a', 18, 0, 0],
    ] {
        assert_eq!(decompress(bytes, MOST), None, "{bytes:?}");
    }
    // A length of a megabyte and more, of literals and of a match.
    let mut long = vec![0; 5000];
    long.extend([1, 2, 3]);
    assert_eq!(decompress(&long, MOST), None);
    let mut long = vec![18, b'a', 32];
    long.extend([0; 5000]);
    long.extend([1, 0, 0, 17, 0, 0]);
    assert_eq!(decompress(&long, MOST), None);
    assert_eq!(
        decompress(&long, 2 << 20).map(|plain| plain.len()),
        Some(1 + 2 + 31 + 5000 * 255 + 1)
    );

    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    for _ in 0..20_000 {
        let most = 1 + numbers.next(MOST / 64);
        let mut stream = match numbers.next(4) {
            0 => (0..numbers.next(300))
                .map(|_| numbers.next(256) as u8)
                .collect(),
            // Small numbers, since most of those are instructions with the longest lengths and distances.
            1 => (0..numbers.next(300))
                .map(|_| numbers.next(34) as u8)
                .collect(),
            _ => Made::random(&mut numbers, 8).stream,
        };
        for _ in 0..numbers.next(4).min(stream.len()) {
            let at = numbers.next(stream.len());
            stream[at] = match numbers.next(3) {
                0 => 0,
                1 => 255,
                _ => numbers.next(256) as u8,
            };
        }
        stream.truncate(stream.len() - numbers.next(4).min(stream.len()));
        let read = decompress(&stream, most);
        assert!(read.is_none_or(|read| read.len() <= most && read.capacity() <= MOST));
    }
}

#[test]
fn images_by_each_algorithm_and_level_hold_what_was_packed() {
    let place = tempfile::tempdir().unwrap();
    let tree = place.path().join("tree");
    std::fs::create_dir_all(tree.join("some")).unwrap();
    // Numbers repeat near, zeroes overlap, and a program and noise repeat from far away.
    let text: String = (0..40_000).map(|number| format!("{number}\n")).collect();
    let mut numbers = Numbers(7);
    let noise: Vec<u8> = (0..45_000).map(|_| numbers.next(256) as u8).collect();
    let program = std::fs::read("/proc/self/exe").unwrap();
    let program = program.get(..400_000.min(program.len())).unwrap();
    for (name, bytes) in [
        ("text", text.as_bytes()),
        (
            "far",
            &[noise.as_slice(), &noise, &noise[7..30_000]].concat(),
        ),
        ("zeroes", &[&[1, 2, 3][..], &[0; 300_000], &[4]].concat()),
        ("program", program),
        ("some/small", b"small"),
    ] {
        std::fs::write(tree.join(name), bytes).unwrap();
    }
    for number in 0..500 {
        std::fs::write(tree.join(format!("some/{number}")), number.to_string()).unwrap();
    }
    let fast = ["lzo1x_1", "lzo1x_1_11", "lzo1x_1_12", "lzo1x_1_15"];
    let fast = fast.map(|algorithm| vec!["-Xalgorithm", algorithm]);
    let levels = ["1", "2", "3", "4", "5", "6", "7", "8", "9"];
    let slow = levels.map(|level| vec!["-Xcompression-level", level]);
    for (index, options) in fast.into_iter().chain(slow).enumerate() {
        let size = ["128K", "1M", "4K"][index % 3];
        let path = place.path().join(format!("{index}.sqfs"));
        let options = [vec!["-comp", "lzo", "-b", size], options].concat();
        if !packed(&tree, &path, &options) {
            return;
        }
        let image = open(&path).unwrap();
        assert_eq!(image.compressor(), Compressor::Lzo);
        compare(&image, &tree, Path::new(""), &image.root().unwrap());
    }
}
