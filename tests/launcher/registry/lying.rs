//! Registries that lie, fall silent, break off or are busy.

use super::run;
use crate::support::Said;
use crate::support::registry::{Answer, Server, plain};
use crate::{Place, place};

/// A registry with one image of one layer, `team/app:1`, that does what `bend` makes of its answers.
pub(crate) struct Lying {
    pub(super) server: Server,
    pub(super) layer: Vec<u8>,
}

pub(super) fn digest(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    let hex: String = sha2::Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}

impl Lying {
    pub(crate) fn start(
        bend: impl Fn(&str, &crate::support::registry::Asked, Answer) -> Answer + Send + Sync + 'static,
    ) -> Lying {
        let layer = {
            let mut tar = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.set_size(300_000);
            header.set_mode(0o755);
            tar.append_data(&mut header, "bin/file", &vec![7; 300_000][..])
                .unwrap();
            tar.into_inner().unwrap()
        };
        let configuration = br#"{"architecture":"amd64","os":"linux","config":{}}"#.to_vec();
        let manifest = format!(
            "{{\"schemaVersion\":2,\"config\":{{\"digest\":\"{}\",\"size\":{}}},\"layers\":[{{\"digest\":\"{}\",\"size\":{}}}]}}",
            digest(&configuration),
            configuration.len(),
            digest(&layer),
            layer.len()
        );
        let blobs = [
            (digest(&configuration), configuration),
            (digest(&layer), layer.clone()),
        ];
        let layer_digest = digest(&layer);
        let server = Server::start(move |asked| {
            let (kind, answer) = if asked.path.contains("/manifests/") {
                ("manifest", Answer::ok(manifest.clone()))
            } else if let Some((name, bytes)) = blobs
                .iter()
                .find(|(name, _)| asked.path.ends_with(name.as_str()))
            {
                let kind = if *name == layer_digest {
                    "layer"
                } else {
                    "config"
                };
                (kind, Answer::ok(bytes.clone()))
            } else {
                ("other", Answer::status(404))
            };
            bend(kind, asked, answer)
        });
        Lying { server, layer }
    }

    pub(crate) fn port(&self) -> &str {
        self.server.host.rsplit(':').next().unwrap()
    }

    pub(super) fn pull(&self, place: &Place) -> Said {
        let site = format!("{}[waits]\nbyte = 2\n", plain(&self.server.host));
        run(
            place,
            &site,
            &self.server.host,
            "$R pull --quiet $H/team/app:1; code=$?; find .local -name '*.sqfs' -o -name '.*.part*'; exit $code",
        )
    }
}

/// What a liar makes of an answer, by what was asked for.
type Bend = fn(&str, Answer) -> Answer;

#[test]
fn a_registry_that_lies_or_falls_silent_ends_in_an_error_and_the_store_is_as_it_was() {
    let place = place!();
    let cases: [(&str, Bend); 7] = [
        ("it does not answer in time", |kind, answer| match kind {
            "manifest" => Answer {
                claimed: Some(100),
                body: Vec::new(),
                hangs: true,
                ..answer
            },
            _ => answer,
        }),
        ("damaged or forged", |kind, answer| match kind {
            "layer" => Answer::ok(vec![8; answer.body.len()]),
            _ => answer,
        }),
        ("sends more than the", |kind, answer| match kind {
            "layer" => Answer::ok([answer.body, vec![0; 100]].concat()),
            _ => answer,
        }),
        ("bytes of", |kind, answer| match kind {
            "layer" => Answer::ok(answer.body[..5000].to_vec()),
            _ => answer,
        }),
        ("sent nothing for too long", |kind, answer| match kind {
            "layer" => Answer {
                claimed: Some(answer.body.len()),
                body: answer.body[..5000].to_vec(),
                hangs: true,
                ..answer
            },
            _ => answer,
        }),
        ("can't understand the manifest", |kind, answer| match kind {
            "manifest" => Answer::ok("{\"layers\": 7}"),
            _ => answer,
        }),
        ("bytes to", |kind, answer| match kind {
            "manifest" => {
                let text = String::from_utf8(answer.body).unwrap();
                let (head, _) = text.rsplit_once("\"size\":").unwrap();
                Answer::ok(format!("{head}\"size\":99999999999999}}]}}"))
            }
            _ => answer,
        }),
    ];
    for (sentence, bend) in cases {
        let lying = Lying::start(move |kind, _, answer| bend(kind, answer));
        let said = lying.pull(&place);
        if sentence == "bytes to" {
            assert!(said.err.contains("it says that it has"), "{said:#?}");
            continue;
        }
        said.failed(125, sentence, 1);
        assert_eq!(said.out, "", "{sentence}");
    }
}

#[test]
fn a_connection_that_breaks_is_taken_up_where_it_broke() {
    let place = place!();
    let lying = Lying::start(|kind, asked, answer| {
        if kind != "layer" {
            return answer;
        }
        let from = asked.headers.get("range").and_then(|range| {
            range
                .strip_prefix("bytes=")?
                .strip_suffix('-')?
                .parse()
                .ok()
        });
        let from: usize = from.unwrap_or(0);
        let rest = &answer.body[from..];
        Answer {
            status: if from > 0 { 206 } else { 200 },
            claimed: Some(rest.len()),
            body: rest[..rest.len().min(120_000)].to_vec(),
            ..Answer::default()
        }
    });
    let said = lying.pull(&place);
    assert_eq!(said.code, 0, "{said:#?}");
    let ranges: Vec<String> = lying
        .server
        .seen
        .lock()
        .unwrap()
        .iter()
        .filter_map(|asked| asked.headers.get("range").cloned())
        .collect();
    assert_eq!(
        ranges,
        ["bytes=120000-", "bytes=240000-"],
        "{} bytes",
        lying.layer.len()
    );
}

#[test]
fn a_registry_that_is_busy_is_asked_again_and_tokens_are_fetched_where_it_says() {
    let place = place!();
    let busy = std::sync::atomic::AtomicU32::new(0);
    let lying = Lying::start(move |kind, asked, answer| {
        let host = &asked.headers["host"];
        if asked.path.starts_with("/token?") {
            assert!(
                asked.path.contains("service=s")
                    && asked.path.contains("scope=repository%3Ateam%2Fapp%3Apull"),
                "{}",
                asked.path
            );
            return Answer::ok("{\"access_token\":\"T\"}");
        }
        if asked.headers.get("authorization").map(String::as_str) != Some("Bearer T") {
            let challenge = format!(
                "Bearer realm=\"http://{host}/token\",service=\"s\",scope=\"repository:team/app:pull\""
            );
            return Answer {
                headers: vec![("WWW-Authenticate".into(), challenge)],
                ..Answer::status(401)
            };
        }
        match kind == "layer" && busy.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 2 {
            true => Answer::status(503),
            false => answer,
        }
    });
    let said = lying.pull(&place);
    assert_eq!(said.code, 0, "{said:#?} {:?}", lying.server.paths());
}
