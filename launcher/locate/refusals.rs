//! Words that Chariot does not take, and images that the site does not.

use std::path::Path;

use chariot_core::config::Config;
use chariot_core::error::{Error, Explain, Result};

/// Says what to write instead of what other tools understand.
pub(super) fn foreign(word: &str, scheme: &str, advice: &str) -> Error {
    Error::new(format!(
        "can't use the image {word}: Chariot does not know what {scheme}: means"
    ))
    .hint(advice)
}

pub(super) fn refuse_outside(word: &str, path: &Path, config: &Config) -> Result<()> {
    if !config.only_image_dirs {
        return Ok(());
    }
    let real = path
        .canonicalize()
        .explain(|| format!("can't use the image {word}"))?;
    // Path::starts_with compares whole components: /images2 does not lie in /images.
    let allowed = config.image_dirs.iter().any(|directory| {
        directory
            .canonicalize()
            .is_ok_and(|place| real.starts_with(place))
    });
    if allowed {
        return Ok(());
    }
    let places: Vec<_> = config
        .image_dirs
        .iter()
        .map(|directory| directory.display().to_string())
        .collect();
    Err(Error::new(format!(
        "can't use the image {word}: this site allows only its own images"
    ))
    .hint(format!("these lie in {}", places.join(" and "))))
}
