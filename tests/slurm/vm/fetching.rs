//! A job that is suspended while it fetches an image has it when it goes on, whoever has fetched it by then.

use std::path::Path;

use super::life::node_is_back;
use super::root;
use crate::support::registry::{Answer, Server, plain, slow_way};
use crate::{Site, site, support};

fn digest(file: &Path) -> String {
    let said = root(&format!("sha256sum {}", file.display()));
    format!("sha256:{}", said.ok().split(' ').next().unwrap())
}

/// A registry that has the small image, with something in it that takes its time: `team/app:1`.
fn registry(site: &Site) -> Server {
    let (layer, configuration) = (site.here().join("layer"), site.here().join("configuration"));
    root(&format!("tar -C {} -cf {} .", site.image, layer.display())).ok();
    std::fs::write(
        &configuration,
        r#"{"architecture":"amd64","os":"linux","config":{}}"#,
    )
    .unwrap();
    let blobs = [configuration, layer].map(|file| (digest(&file), std::fs::read(file).unwrap()));
    let described = |at: usize| {
        let (name, bytes): &(String, Vec<u8>) = &blobs[at];
        format!("{{\"digest\":\"{name}\",\"size\":{}}}", bytes.len())
    };
    let manifest = format!(
        "{{\"schemaVersion\":2,\"config\":{},\"layers\":[{}]}}",
        described(0),
        described(1)
    );
    Server::start(move |asked| {
        let blob = blobs
            .iter()
            .find(|(name, _)| asked.path.ends_with(name.as_str()));
        match blob {
            Some((_, bytes)) => Answer::ok(bytes.clone()),
            None if asked.path.contains("/manifests/") => Answer::ok(manifest.clone()),
            None => Answer::ok("{}"),
        }
    })
}

#[test]
#[ignore = "alone: suspends jobs"]
fn a_job_that_was_suspended_while_it_fetched_its_image_has_it() {
    let site = site!();
    let server = registry(&site);
    let slow = slow_way(&server.host, 150_000);
    let begun = || {
        let found = root(&format!(
            "find {}/.cache -name '.*.part.*' 2>/dev/null",
            site.here().display()
        ));
        !found.out.is_empty()
    };
    // It is suspended for longer than anybody waits for its container.
    let file = format!("{}[waits]\ncontainer = 15\n", plain(&slow));
    site.with_file(&file, || {
        let image = format!("docker://{slow}/team/app:1");
        for another in [false, true] {
            site.run("rm -rf .cache; sync").ok();
            std::thread::scope(|scope| {
                let step = scope.spawn(|| site.run(&format!("srun -J long --ch-image={image} cat /etc/motd")));
                support::until("the fetch begins", begun);
                let job = site.run("squeue -h -n long -o %A");
                root(&format!("scontrol suspend {}", job.ok())).ok();
                let other = match another {
                    true => site.run(&format!("srun --ch-image={image} cat /etc/motd")).ok().to_owned(),
                    false => {
                        std::thread::sleep(std::time::Duration::from_secs(20));
                        "an image in a file".to_owned()
                    }
                };
                root(&format!("scontrol resume {}", job.ok())).ok();
                let said = step.join().unwrap();
                println!("{another}: {said:#?}");
                assert_eq!(other, "an image in a file");
                assert_eq!(said.ok(), "an image in a file", "{another}: {said:#?}");
            });
            let left = site.run("find .cache -name '.*.part.*' -o -path '*/leases/*'; ls .cache/chariot/images | wc -l");
            assert_eq!(left.ok(), "1", "{another}: {left:#?}");
        }
    });
    node_is_back(&site);
}
