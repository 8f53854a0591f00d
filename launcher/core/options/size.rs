//! Amounts of memory as people write them: `512M`, `1G`.

/// Reads a number of bytes with an optional K, M, G or T (powers of 1024).
///
/// # Errors
/// Says what the text should look like.
pub fn parse(text: &str) -> Result<u64, String> {
    let wrong = || format!("\"{text}\" is not a size such as 512M or 1G");
    let (digits, factor) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1 << 10),
        Some((at, 'm' | 'M')) => (&text[..at], 1 << 20),
        Some((at, 'g' | 'G')) => (&text[..at], 1 << 30),
        Some((at, 't' | 'T')) => (&text[..at], 1_u64 << 40),
        _ => (text, 1),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number
        .checked_mul(factor)
        .filter(|bytes| *bytes > 0)
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(parse("7"), Ok(7));
        assert_eq!(parse("10k"), Ok(10_240));
        assert_eq!(parse("1G"), Ok(1_073_741_824));
    }

    #[test]
    fn nonsense_zero_and_overflow_are_refused() {
        for text in ["", "G", "-1", "1X", "0", "99999999999T", "1.5G"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
