//! Names that are near to one which is not known.

/// The name that somebody who wrote `name` may have meant.
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let near = |known: &&str| strsim::jaro_winkler(known, name);
    let best = known.iter().copied();
    let best = best.max_by(|a, b| near(a).total_cmp(&near(b)));
    best.filter(|best| near(best) > 0.7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_near_and_another_word_is_not() {
        assert_eq!(nearest("debain", &["ubuntu", "debian"]), Some("debian"));
        assert_eq!(nearest("octave", &["ubuntu", "debian"]), None);
        assert_eq!(nearest("x", &[]), None);
    }
}
