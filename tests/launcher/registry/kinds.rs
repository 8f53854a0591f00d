//! What a registry can have behind a name: lists in lists, images for other machines, digests of another kind, and
//! what is no image at all.

use std::collections::HashMap;

use super::run;
use crate::support::Said;
use crate::support::registry::{Answer, Server, plain};
use crate::{Place, place};

const OCI: &str = "application/vnd.oci.image.";

/// This machine in a registry's words.
fn here() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a registry holds, by digest.
struct Held {
    is_wide: bool,
    blobs: HashMap<String, Vec<u8>>,
}

impl Held {
    fn new(is_wide: bool) -> Held {
        Held {
            is_wide,
            blobs: HashMap::new(),
        }
    }

    fn digest(&self, bytes: &[u8]) -> String {
        use sha2::Digest as _;
        match self.is_wide {
            true => format!("sha512:{}", hex(&sha2::Sha512::digest(bytes))),
            false => format!("sha256:{}", hex(&sha2::Sha256::digest(bytes))),
        }
    }

    /// Adds a blob and gives its descriptor.
    fn add(&mut self, bytes: impl Into<Vec<u8>>, kind: &str, more: &str) -> String {
        let bytes = bytes.into();
        let (digest, size) = (self.digest(&bytes), bytes.len());
        self.blobs.insert(digest.clone(), bytes);
        format!("{{\"mediaType\":\"{kind}\",\"digest\":\"{digest}\",\"size\":{size}{more}}}")
    }

    /// Adds a manifest of one layer, with the digest that its configuration says the layer has.
    fn image(&mut self, architecture: &str, layer: Vec<u8>, diff_id: &str, more: &str) -> String {
        let configuration = format!(
            "{{\"architecture\":\"{architecture}\",\"os\":\"linux\",\"config\":{{}},\
             \"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[{diff_id}]}}}}"
        );
        let configuration = self.add(configuration, &format!("{OCI}config.v1+json"), "");
        let layer = self.add(layer, &format!("{OCI}layer.v1.tar"), "");
        self.manifest(&configuration, &layer, more)
    }

    fn manifest(&mut self, configuration: &str, layer: &str, more: &str) -> String {
        let kind = format!("{OCI}manifest.v1+json");
        let text = format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"{kind}\",\"config\":{configuration},\"layers\":[{layer}]}}"
        );
        self.add(text, &kind, more)
    }

    fn index(&mut self, manifests: &str) -> String {
        let kind = format!("{OCI}index.v1+json");
        let text =
            format!("{{\"schemaVersion\":2,\"mediaType\":\"{kind}\",\"manifests\":[{manifests}]}}");
        self.add(text, &kind, "")
    }

    /// A registry in which `team/app:1` is what a descriptor names. `bend` may change its answers.
    fn serve(
        self,
        top: &str,
        bend: impl Fn(&str, Answer) -> Answer + Send + Sync + 'static,
    ) -> Server {
        let top = self.blobs[digest_in(top)].clone();
        Server::start(move |asked| {
            let name = asked.path.rsplit('/').next().unwrap_or_default();
            let found = match name {
                "1" => Some(&top),
                digest => self.blobs.get(digest),
            };
            match found {
                Some(bytes) => bend(&asked.path, Answer::ok(bytes.clone())),
                None => Answer::status(404),
            }
        })
    }
}

fn digest_in(descriptor: &str) -> &str {
    let (_, rest) = descriptor.split_once("\"digest\":\"").unwrap();
    rest.split('"').next().unwrap()
}

fn layer() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, text) in [("bin/file", "one"), ("etc/issue", "two")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o755);
        tar.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

/// The layer's own digest, as a configuration names it.
fn diff_id() -> String {
    format!("\"{}\"", Held::new(false).digest(&layer()))
}

fn pull(place: &Place, server: &Server) -> Said {
    run(
        place,
        &plain(&server.host),
        &server.host,
        "rm -rf .local .cache i; $R pull --quiet $H/team/app:1 ./i && cat i/etc/issue && grep '\"digest\"' i/.chariot/image.json",
    )
}

#[test]
fn lists_in_lists_are_followed_and_digests_may_be_long() {
    let place = place!();
    for is_wide in [false, true] {
        let mut held = Held::new(is_wide);
        let platform =
            |name: &str| format!(",\"platform\":{{\"os\":\"linux\",\"architecture\":\"{name}\"}}");
        let own = held.image(here(), layer(), &diff_id(), &platform(here()));
        let other = held.image("s390x", layer(), &diff_id(), &platform("s390x"));
        let note = held.manifest(
            &own,
            &own,
            ",\"platform\":{\"os\":\"unknown\",\"architecture\":\"unknown\"}",
        );
        let inner = held.index(&format!("{note},{other},{own}"));
        let outer = held.index(&format!("{note},{inner}"));
        let server = held.serve(&outer, |_, answer| answer);
        let said = pull(&place, &server);
        assert!(said.ok().starts_with("two"), "{said:#?}");
        assert!(said.out.contains(digest_in(&own)), "{said:#?}");
    }
    // Not for ever.
    let mut held = Held::new(false);
    let mut top = held.image(here(), layer(), &diff_id(), "");
    for _ in 0..10 {
        top = held.index(&top);
    }
    let server = held.serve(&top, |_, answer| answer);
    let said = pull(&place, &server);
    assert_eq!(said.code, 125, "{said:#?}");
    assert!(said.err.contains("nested too deeply"), "{said:#?}");
}

#[test]
fn an_image_for_another_machine_is_said_before_its_layers_come() {
    let place = place!();
    let mut held = Held::new(false);
    let top = held.image("mips64", layer(), &diff_id(), "");
    let server = held.serve(&top, |_, answer| answer);
    let said = pull(&place, &server);
    said.failed(
        125,
        &format!("it is for mips64, and this machine is {}", here()),
        1,
    );
    let blobs = server.paths();
    let blobs: Vec<_> = blobs
        .iter()
        .filter(|path| path.contains("/blobs/"))
        .collect();
    assert_eq!(blobs.len(), 1, "only the configuration: {blobs:?}");
}

#[test]
fn what_is_not_what_it_says_is_refused() {
    let place = place!();
    // A header that other tools believe.
    let mut held = Held::new(false);
    let top = held.image(here(), layer(), &diff_id(), "");
    let other = held.digest(b"other");
    let server = held.serve(&top, move |path, answer| {
        match path.contains("/manifests/") {
            true => Answer {
                headers: vec![("Docker-Content-Digest".into(), other.clone())],
                ..answer
            },
            false => answer,
        }
    });
    pull(&place, &server).failed(125, "its digest is wrong", 1);
    // Layers that are not those that the configuration means, by digest and by number.
    let wrong = Held::new(false).digest(b"wrong");
    for (diff_ids, sentence) in [
        (
            format!("\"{wrong}\""),
            "it is not what the image's configuration names",
        ),
        (
            format!("{},\"{wrong}\"", diff_id()),
            "its configuration speaks of 2 layers, and there are 1",
        ),
    ] {
        let mut held = Held::new(false);
        let top = held.image(here(), layer(), &diff_ids, "");
        let server = held.serve(&top, |_, answer| answer);
        let said = pull(&place, &server);
        assert_eq!(said.code, 125, "{said:#?}");
        assert_eq!(said.err.matches(sentence).count(), 1, "{said:#?}");
    }
}

#[test]
fn what_is_no_image_is_named_and_not_unpacked() {
    let place = place!();
    for (configuration, layer, sentence) in [
        (
            "application/vnd.cncf.helm.config.v1+json",
            "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
            "it is a Helm chart",
        ),
        (
            "application/vnd.sylabs.sif.config.v1+json",
            "application/vnd.sylabs.sif.layer.v1.sif",
            "it is a SIF file",
        ),
        (
            "application/vnd.oci.image.config.v1+json",
            "application/vnd.in-toto+json",
            "it is a statement on how",
        ),
    ] {
        let mut held = Held::new(false);
        let configuration = held.add("{}", configuration, "");
        let layer = held.add("name: chart\n".repeat(100), layer, "");
        let top = held.manifest(&configuration, &layer, "");
        let server = held.serve(&top, |_, answer| answer);
        pull(&place, &server).failed(125, sentence, 1);
        assert!(server.paths().iter().all(|path| !path.contains("/blobs/")));
    }
}

#[test]
fn a_layer_that_was_changed_in_the_cache_is_fetched_again() {
    let place = place!();
    let mut held = Held::new(false);
    let top = held.image(here(), layer(), &diff_id(), "");
    let server = held.serve(&top, |_, answer| answer);
    let script = "$R pull --quiet $H/team/app:1 ./one.sqfs && cd .cache/chariot/blobs/sha256 && \
                  for blob in *; do grep -q two $blob && sed -i 's/^two/TWO/; s/two/TWO/' $blob; done; cd $OLDPWD; \
                  $R pull --quiet $H/team/app:1 ./two && cat two/etc/issue";
    let said = run(&place, &plain(&server.host), &server.host, script);
    assert_eq!(said.ok(), "two");
}
