//! Digests of blobs: SHA-256, which everybody uses, and SHA-512, which the image specification has beside it.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The algorithms and how many digits each has. Another would be a name that is taken for a path.
const ALGORITHMS: [(&str, usize); 2] = [("sha256", 64), ("sha512", 128)];

/// The digest of a blob.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(String);

impl Digest {
    /// Reads `sha256:` and 64 digits, or `sha512:` and 128.
    pub fn parse(text: &str) -> Option<Digest> {
        let (algorithm, digits) = text.split_once(':')?;
        let (_, length) = ALGORITHMS.into_iter().find(|known| known.0 == algorithm)?;
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (digits.len() == length && digits.bytes().all(is_hex)).then(|| Digest(text.to_owned()))
    }

    /// The name of the algorithm, which is a safe file name.
    pub fn algorithm(&self) -> &str {
        self.0
            .split_once(':')
            .map_or("", |(algorithm, _)| algorithm)
    }

    /// The digits, which are a safe file name.
    pub fn hex(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, digits)| digits)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(from)?;
        Digest::parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format!("\"{text}\" is not a SHA-256 or SHA-512 digest"))
        })
    }
}

mod hashing {
    use std::io;

    use sha2::{Digest as _, Sha256, Sha512};

    use super::{ALGORITHMS, Digest};

    impl Digest {
        /// The digest of these bytes.
        pub fn of(bytes: &[u8]) -> Digest {
            Digest::from_hash(&Sha256::digest(bytes))
        }

        /// The digest that a finished hash gives.
        pub fn from_hash(hash: &[u8]) -> Digest {
            let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            let named = ALGORITHMS.iter().find(|known| known.1 == digits.len());
            let (algorithm, _) = named.unwrap_or(&ALGORITHMS[0]);
            Digest(format!("{algorithm}:{digits}"))
        }

        /// Whether these bytes have it.
        pub fn fits(&self, bytes: &[u8]) -> bool {
            let mut hasher = self.hasher();
            hasher.update(bytes);
            hasher.finish() == *self
        }

        /// Computes what something that should have this digest really has.
        pub fn hasher(&self) -> Hasher {
            match self.algorithm() {
                "sha512" => Hasher::Sha512(Sha512::new()),
                _ => Hasher::Sha256(Sha256::new()),
            }
        }
    }

    /// Computes a digest while bytes come in.
    #[derive(Debug, Clone)]
    pub enum Hasher {
        /// A SHA-256 digest.
        Sha256(Sha256),
        /// A SHA-512 digest.
        Sha512(Sha512),
    }

    impl Hasher {
        /// One for the digests that Chariot makes itself.
        pub fn sha256() -> Hasher {
            Hasher::Sha256(Sha256::new())
        }

        /// Takes more bytes.
        pub fn update(&mut self, bytes: &[u8]) {
            match self {
                Hasher::Sha256(hash) => hash.update(bytes),
                Hasher::Sha512(hash) => hash.update(bytes),
            }
        }

        /// The digest of all that came in.
        pub fn finish(self) -> Digest {
            match self {
                Hasher::Sha256(hash) => Digest::from_hash(&hash.finalize()),
                Hasher::Sha512(hash) => Digest::from_hash(&hash.finalize()),
            }
        }
    }

    impl io::Write for Hasher {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.update(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}

pub use hashing::Hasher;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_a_safe_file_name_or_none() {
        assert!(Digest::parse(&format!("sha256:{}", "0".repeat(64))).is_some());
        assert!(Digest::parse(&format!("sha512:{}", "0".repeat(128))).is_some());
        for text in [
            "",
            "sha256:",
            "sha256:../../etc/passwd",
            &format!("sha256:{}", "G".repeat(64)),
            &format!("sha512:{}", "0".repeat(64)),
            &format!("md5:{}", "0".repeat(32)),
            &"0".repeat(64),
        ] {
            assert_eq!(Digest::parse(text), None, "{text}");
        }
    }

    #[test]
    fn both_algorithms_are_held_against_the_bytes() {
        // As sha256sum(1) and sha512sum(1) give them for "abc".
        let short = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let long = "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                    2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
        for text in [short, long] {
            let digest = Digest::parse(text).unwrap();
            assert!(digest.fits(b"abc") && !digest.fits(b"abd"), "{text}");
            assert_eq!(digest.to_string(), text);
        }
    }
}
