//! What a registry says when it wants to know who is asking: `WWW-Authenticate`, RFC 9110.

use std::collections::HashMap;

/// `realm="…",service="…"`, in which commas can be quoted.
pub fn parameters(text: &str) -> HashMap<String, String> {
    let mut found = HashMap::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        found.insert(
            name.trim_matches([' ', ',']).to_ascii_lowercase(),
            value.to_owned(),
        );
        rest = after;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_read_whatever_its_quotes_hold() {
        let read =
            parameters(r#"realm="https://a/t?x=1,2",service="s",scope="repository:a/b:pull,push""#);
        assert_eq!(read["realm"], "https://a/t?x=1,2");
        assert_eq!(read["scope"], "repository:a/b:pull,push");
        assert_eq!(parameters("realm=x, service=y")["service"], "y");
        assert!(parameters("").is_empty());
        let _ = parameters("=\"=\",=");
    }
}
