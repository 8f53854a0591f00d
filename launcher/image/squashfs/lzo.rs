//! Decompression of LZO1X, by the description that Linux has in Documentation/staging/lzo.rst. The crates that read it
//! panic at hostile bytes or give more than they are asked for. A stream is a row of instructions: each copies what
//! was put out before (a match) or bytes that follow it (literals), and how the next one is read depends on how many
//! literals were the last.

/// From how many literals on it makes no difference how many they were.
const MANY: usize = 4;

/// What `input` is uncompressed, if that is no more than `most` bytes, and all of `input` belongs to it.
pub(super) fn decompress(input: &[u8], most: usize) -> Option<Vec<u8>> {
    let mut stream = Stream {
        input,
        output: Vec::with_capacity(most),
        most,
    };
    // Nothing to match is there yet: the first byte may stand for literals alone.
    let mut last = 0;
    if let Some(count @ 1..) = input.first()?.checked_sub(17) {
        stream.byte()?;
        last = stream.literals(usize::from(count))?;
    }
    while let Some(literals) = stream.instruction(last)? {
        last = literals;
    }
    stream.input.is_empty().then_some(stream.output)
}

struct Stream<'a> {
    /// What was not read yet.
    input: &'a [u8],
    output: Vec<u8>,
    most: usize,
}

impl Stream<'_> {
    /// Carries out one instruction, which follows `last` literals; gives how many it ended with. `Some(None)` is the
    /// end of the stream.
    fn instruction(&mut self, last: usize) -> Option<Option<usize>> {
        let byte = usize::from(self.byte()?);
        let (length, distance, literals) = match (byte, last) {
            (0..16, 0) => {
                let count = 3 + self.length(byte, 15)?;
                return self.literals(count).map(Some);
            }
            (0..16, 1..MANY) => (2, 1 + self.far(byte >> 2, 2)?, byte),
            (0..16, _) => (3, 2049 + self.far(byte >> 2, 2)?, byte),
            (16..32, _) => {
                let length = 2 + self.length(byte & 7, 7)?;
                let (distance, literals) = self.pair()?;
                match (byte & 8) << 11 | distance {
                    0 => return (length == 3).then_some(None),
                    distance => (length, 16_384 + distance, literals),
                }
            }
            (32..64, _) => {
                let length = 2 + self.length(byte & 31, 31)?;
                let (distance, literals) = self.pair()?;
                (length, 1 + distance, literals)
            }
            (64..128, _) => (3 + (byte >> 5 & 1), 1 + self.far(byte >> 2 & 7, 3)?, byte),
            _ => (5 + (byte >> 5 & 3), 1 + self.far(byte >> 2 & 7, 3)?, byte),
        };
        self.repeat(distance, length)?;
        self.literals(literals & 3).map(Some)
    }

    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.input.split_first()?;
        self.input = rest;
        Some(*byte)
    }

    /// The rest of a length: 0 stands for more than `most`, with bytes that are to be added up.
    fn length(&mut self, bits: usize, most: usize) -> Option<usize> {
        if bits != 0 {
            return Some(bits);
        }
        let zeroes = self.input.iter().position(|byte| *byte != 0)?;
        self.input = self.input.get(zeroes..)?;
        let last = usize::from(self.byte()?);
        zeroes.checked_mul(255)?.checked_add(most + last)
    }

    /// A distance whose lowest `count` bits were in the instruction.
    fn far(&mut self, bits: usize, count: u32) -> Option<usize> {
        Some(usize::from(self.byte()?) << count | bits)
    }

    /// A distance of 14 bits, and the number of literals, which is below them.
    fn pair(&mut self) -> Option<(usize, usize)> {
        let both = usize::from(u16::from_le_bytes([self.byte()?, self.byte()?]));
        Some((both >> 2, both))
    }

    /// Refuses `count` more bytes than there may be.
    fn has_room(&self, count: usize) -> Option<()> {
        (count <= self.most.checked_sub(self.output.len())?).then_some(())
    }

    /// Copies so many bytes of the input; gives how many, as the next instruction wants to know it.
    fn literals(&mut self, count: usize) -> Option<usize> {
        self.has_room(count)?;
        let (bytes, rest) = self.input.split_at_checked(count)?;
        self.output.extend_from_slice(bytes);
        self.input = rest;
        Some(count.min(MANY))
    }

    /// Copies so many bytes of the output, `distance` before its end. What is copied may itself have to be copied
    /// again: each round then has twice as much to take from.
    fn repeat(&mut self, distance: usize, mut count: usize) -> Option<()> {
        self.has_room(count)?;
        let start = self.output.len().checked_sub(distance)?;
        while count > 0 {
            let step = count.min(self.output.len() - start);
            self.output.extend_from_within(start..start + step);
            count -= step;
        }
        Some(())
    }
}
