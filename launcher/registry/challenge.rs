//! What a registry says when it wants to know who is asking: `WWW-Authenticate`, RFC 9110.

use http_auth::parser::ChallengeParser;

/// A way to say who one is.
#[derive(Debug, PartialEq, Eq)]
pub enum Challenge {
    /// A name and a password.
    Basic,
    /// A token, which somebody else gives.
    Bearer {
        /// Who gives it: a URL.
        realm: String,
        /// For whom, and for what, if the registry says so.
        service: String,
        /// As `repository:NAME:pull`.
        scope: Option<String>,
    },
}

/// The ways that a registry offers in its headers, those with a token first: they say less of who one is. What is no
/// such header, and what nobody here can do, is nothing.
pub fn offered<'a>(headers: impl Iterator<Item = &'a str>) -> Vec<Challenge> {
    let all = headers.flat_map(|header| ChallengeParser::new(header).map_while(Result::ok));
    let mut known: Vec<Challenge> = all
        .filter_map(|offer| {
            let parameter = |name: &str| {
                let mut all = offer.params.iter();
                let found = all.find(|(known, _)| known.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.to_unescaped())
            };
            match offer.scheme.to_ascii_lowercase().as_str() {
                "basic" => Some(Challenge::Basic),
                "bearer" => Some(Challenge::Bearer {
                    realm: parameter("realm")?,
                    service: parameter("service").unwrap_or_default(),
                    scope: parameter("scope"),
                }),
                _ => None,
            }
        })
        .collect();
    known.sort_by_key(|challenge| *challenge == Challenge::Basic);
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: &str, scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.into(),
            service: service.into(),
            scope: scope.map(String::from),
        }
    }

    #[test]
    fn a_challenge_is_read_whatever_its_quotes_hold() {
        let header =
            r#"Bearer realm="https://a/t?x=1,2",service="s",scope="repository:a/b:pull,push""#;
        let expected = bearer("https://a/t?x=1,2", "s", Some("repository:a/b:pull,push"));
        assert_eq!(offered([header].into_iter()), [expected]);
        let header = "bearer Realm=x, service=y";
        assert_eq!(offered([header].into_iter()), [bearer("x", "y", None)]);
        for header in [
            "",
            "=\"=\",=",
            "Bearer",
            "Negotiate",
            "Bearer service=\"s\"",
        ] {
            assert_eq!(offered([header].into_iter()), [], "{header}");
        }
    }

    #[test]
    fn of_several_challenges_all_are_seen_in_one_header_or_in_many() {
        let token = r#"Bearer realm="https://a/t",service="s""#;
        let both = [bearer("https://a/t", "s", None), Challenge::Basic];
        let in_one = format!("Negotiate, Basic realm=\"a, b\", {token}");
        assert_eq!(offered([in_one.as_str()].into_iter()), both);
        let in_many = ["Negotiate", "Basic realm=\"x\"", token];
        assert_eq!(offered(in_many.into_iter()), both);
    }
}
