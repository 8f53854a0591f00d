//! The variables of a command outside: its caller's, without what the container made of them.

use crate::host::{self, Environment};
use crate::plan::environment::{Edit, STAYS_OUTSIDE};

/// What the caller has, but for variables that are still as the container set them: those are as they were before. The
/// host's libraries are for the host's programs, whatever the container's are.
pub(super) fn outside(inside: Environment, before: &Environment, edits: &[Edit]) -> Environment {
    let mut result = inside;
    for edit in edits {
        let name = edit.name.to_string_lossy();
        let is_untouched = host::find(&result, &name) == edit.value.as_deref();
        if !(is_untouched || STAYS_OUTSIDE.contains(&name.as_ref())) {
            continue;
        }
        result.retain(|(known, _)| *known != edit.name);
        if let Some(value) = host::find(before, &name) {
            result.push((edit.name.clone(), value.to_owned()));
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        let owned = |(name, value): &(&str, &str)| ((*name).into(), (*value).into());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn what_the_image_put_there_goes_and_what_the_user_put_there_stays() {
        let before = environment(&[("PATH", "/usr/bin"), ("LANG", "C"), ("GONE", "1")]);
        let edits = [
            Edit::set("PATH", "/image/bin", ""),
            Edit::set("LANG", "de", ""),
            Edit::set("IMAGE", "1", ""),
            Edit::unset("GONE", ""),
        ];
        let inside = [
            ("PATH", "/mine:/image/bin"),
            ("LANG", "de"),
            ("IMAGE", "1"),
            ("MINE", "1"),
        ];
        let mut seen = outside(environment(&inside), &before, &edits);
        seen.sort();
        assert_eq!(
            seen,
            environment(&[
                ("GONE", "1"),
                ("LANG", "C"),
                ("MINE", "1"),
                ("PATH", "/mine:/image/bin"),
            ])
        );
    }

    #[test]
    fn libraries_of_the_container_are_not_loaded_into_commands_of_the_host() {
        let before = environment(&[("LD_PRELOAD", "/host.so")]);
        let edits = [
            Edit::unset("LD_PRELOAD", ""),
            Edit::set("LD_LIBRARY_PATH", "/image/lib", ""),
        ];
        let inside = environment(&[("LD_PRELOAD", "/mine.so"), ("LD_LIBRARY_PATH", "/more")]);
        assert_eq!(outside(inside, &before, &edits), before);
    }
}
