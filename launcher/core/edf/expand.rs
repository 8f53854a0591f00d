//! Variables in the values of an environment definition file: `${NAME}`, `${NAME:-DEFAULT}`, and `$$` for a dollar.

/// Replaces them; anything else stays as it is.
///
/// # Errors
/// A variable that is not set and has no default, or braces that do not close.
pub(super) fn expand(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<String, String> {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        result += before;
        if let Some(after) = after.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let (inside, after) = after
                .split_once('}')
                .ok_or_else(|| "${ without }".to_owned())?;
            result += &value(inside, variable)?;
            rest = after;
        } else {
            result.push('$');
            rest = after;
        }
    }
    Ok(result + rest)
}

fn value(inside: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let is_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
    if name.is_empty()
        || !name.chars().all(is_name)
        || name.starts_with(|c: char| c.is_ascii_digit())
    {
        return Err(format!("${{{inside}}} names no variable"));
    }
    match (variable(name), default) {
        // As in a shell, :- is for an empty one too.
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (Some(value), None) => Ok(value),
        (None, None) => Err(format!(
            "the variable {name} is not set; ${{{name}:-}} takes nothing in its place"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_defaults_and_dollars() {
        let variable = |name: &str| match name {
            "A" => Some("a".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        for (text, expected) in [
            ("plain", "plain"),
            ("${A}/${A}", "a/a"),
            ("${B:-b}${B:-}${EMPTY:-e}${EMPTY}", "be"),
            ("$$A $${A} $A $", "$A ${A} $A $"),
            ("$(touch /x) `x`", "$(touch /x) `x`"),
        ] {
            assert_eq!(expand(text, &variable).as_deref(), Ok(expected), "{text}");
        }
        for text in ["${B}", "${A", "${}", "${a b}", "${1}", "${:-x}"] {
            assert!(expand(text, &variable).is_err(), "{text}");
        }
    }
}
