//! What lies in registries and layouts beside images of file systems: charts, signatures, SIF files. They have
//! manifests of the same form, and their layers are no archives; what they are is said by their types.

use super::Manifest;

/// The types of an image's configuration; tools that say none mean an image.
const CONFIGURATIONS: [&str; 4] = [
    "",
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
    "application/octet-stream",
];

/// What is known by a part of its type.
const KNOWN: [(&str, &str); 10] = [
    ("helm", "a Helm chart"),
    ("sylabs.sif", "a SIF file"),
    ("docker.plugin", "a plugin of Docker"),
    ("wasm", "a WebAssembly module"),
    ("cosign", "a signature"),
    ("notary", "a signature"),
    ("in-toto", "a statement on how an image was built"),
    ("spdx", "a list of what an image has in it"),
    ("cyclonedx", "a list of what an image has in it"),
    ("buildkit.cacheconfig", "a cache of BuildKit"),
];

impl Manifest {
    /// Refuses what is no image of a file system.
    ///
    /// # Errors
    /// What it is.
    pub fn refuse_artifact(&self) -> Result<(), String> {
        let configuration = self.config.media_type.as_str();
        let kind = match CONFIGURATIONS.contains(&configuration) {
            true => self.odd_layer(),
            // A configuration without a type of its own says nothing; then the whole has a type.
            false if configuration.contains("oci.empty") && !self.artifact_type.is_empty() => {
                Some(self.artifact_type.as_str())
            }
            false => Some(configuration),
        };
        let Some(kind) = kind else { return Ok(()) };
        if kind.ends_with("+encrypted") {
            return Err("its layers are encrypted".into());
        }
        let known = KNOWN.iter().find(|(part, _)| kind.contains(part));
        let what = known.map_or("something else", |(_, what)| what);
        Err(format!("it is {what} ({kind}), and no image"))
    }

    /// The type of a layer that is no archive of files. Which compression a type names is not asked: tools err there.
    fn odd_layer(&self) -> Option<&str> {
        let is_odd = |kind: &&str| {
            let is_archive = kind.contains("tar") || kind.contains("rootfs.diff");
            let says_nothing = kind.is_empty() || *kind == "application/octet-stream";
            !(is_archive || says_nothing) || kind.ends_with("+encrypted")
        };
        self.layers
            .iter()
            .map(|layer| layer.media_type.as_str())
            .find(is_odd)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Document;

    fn refused(config: &str, layer: &str, more: &str) -> Result<(), String> {
        let digest = format!("sha256:{}", "0".repeat(64));
        let text = format!(
            "{{\"config\":{{\"mediaType\":\"{config}\",\"digest\":\"{digest}\",\"size\":1}},\
             \"layers\":[{{\"mediaType\":\"{layer}\",\"digest\":\"{digest}\",\"size\":1}}]{more}}}"
        );
        match Document::parse(text.as_bytes()).unwrap() {
            Document::Manifest(manifest) => manifest.refuse_artifact(),
            Document::Index(_) => panic!("{text}"),
        }
    }

    #[test]
    fn what_is_no_image_is_refused_with_what_it_is() {
        let image = "application/vnd.oci.image.config.v1+json";
        let layer = "application/vnd.oci.image.layer.v1.tar+gzip";
        for (config, layer) in [
            (image, layer),
            ("", ""),
            (
                "application/vnd.docker.container.image.v1+json",
                "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            ),
        ] {
            assert_eq!(refused(config, layer, ""), Ok(()), "{config} {layer}");
        }
        let artifact = ",\"artifactType\":\"application/vnd.example.thing\"";
        for (config, layer, more, expected) in [
            (
                "application/vnd.cncf.helm.config.v1+json",
                "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
                "",
                "it is a Helm chart (application/vnd.cncf.helm.config.v1+json), and no image",
            ),
            (
                "application/vnd.sylabs.sif.config.v1+json",
                "application/vnd.sylabs.sif.layer.v1.sif",
                "",
                "a SIF file",
            ),
            (
                image,
                "application/vnd.dev.cosign.simplesigning.v1+json",
                "",
                "a signature",
            ),
            (
                "application/vnd.oci.empty.v1+json",
                "text/plain",
                artifact,
                "something else (application/vnd.example.thing)",
            ),
            (
                image,
                "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
                "",
                "encrypted",
            ),
        ] {
            let reason = refused(config, layer, more).unwrap_err();
            assert!(reason.contains(expected), "{reason}");
        }
    }
}
