//! Images from registries: Debian's own on loopback, and servers that lie.

mod caches;
mod kinds;
mod known;
pub(crate) mod lying;

use crate::support::Said;
use crate::support::registry::{Access, Answer, Registry, Server, oci, plain};
use crate::{Place, place};

/// A registry, or a skip.
macro_rules! registry {
    ($access:expr) => {
        match Registry::start($access) {
            Some(registry) => registry,
            None => $crate::skip!("no registry: tests/run prepares one"),
        }
    };
}
use registry;

/// Runs a script in which `$R` is the launcher with a site's file, and `$H` a registry.
fn run(place: &Place, site: &str, host: &str, script: &str) -> Said {
    std::fs::write(place.here().join("site.toml"), site).unwrap();
    let site = place.here().join("site.toml");
    let launcher = format!("{} --config {}", place.launcher, site.display());
    place.run_with(script, &[("R", &launcher), ("H", host)])
}

#[test]
fn a_pulled_tree_is_what_skopeo_and_umoci_make_of_the_image() {
    let place = place!();
    let registry = registry!(Access::Plain);
    if !oci().unwrap().join("layers/debian.tar.gz").exists() {
        crate::skip!("no Debian image");
    }
    let script = r#"
        umask 0
        export TMPDIR=$PWD XDG_RUNTIME_DIR=$PWD
        $R pull --quiet $H/team/debian:1 ours &&
        skopeo --insecure-policy copy --quiet --src-no-creds --src-tls-verify=false docker://$H/team/debian:1 oci:copy:1 &&
        umoci unpack --rootless --image copy:1 theirs && python3 - ours theirs/rootfs <<'EOF'
import hashlib, os, sys
ADDED = {".chariot", ".chariot/image.json", "dev", "etc/hosts", "etc/machine-id", "etc/resolv.conf"}
def look(root):
    found = {}
    for directory, names, files in os.walk(root):
        for name in names + files:
            full = os.path.join(directory, name)
            path = os.path.relpath(full, root)
            if path in ADDED or path.startswith("dev/"): continue
            data = os.lstat(full)
            kind = data.st_mode & 0o170000
            link = os.readlink(full) if os.path.islink(full) else ""
            isfile = kind == 0o100000
            text = hashlib.sha256(open(full, "rb").read()).hexdigest() if isfile else ""
            # Set-user-ID bits are left out on purpose.
            mode = 0 if link else data.st_mode & 0o1777
            found[path] = (kind, mode, data.st_size if isfile else 0, link, text, data.st_nlink if isfile else 0)
    return found
ours, theirs = look(sys.argv[1]), look(sys.argv[2])
for path in sorted(set(ours) | set(theirs)):
    if ours.get(path) != theirs.get(path): print(path, ours.get(path), theirs.get(path))
print(len(ours) > 3000, len(theirs) > 3000)
EOF"#;
    let said = run(&place, &plain(&registry.host), &registry.host, script);
    assert_eq!(said.ok(), "True True");
}

#[test]
fn an_image_is_run_by_its_registry_name_and_its_blobs_are_fetched_once() {
    let place = place!();
    let registry = registry!(Access::Plain);
    // Three images of the same layers.
    let site = format!("keep_layers = true\n{}", plain(&registry.host));
    for name in ["small", "small-list", "docker"] {
        let image = format!("docker://{}/team/{name}:1", registry.host);
        let script = format!(
            "$R run {image} && cd / && $R run {image} -- sh -c 'pwd; echo $GREETING; ls /srv/data; cat /srv/data/*; ls -d /opt/old/file' && \
             $R run --entrypoint {image} -- echo with arguments"
        );
        let said = run(&place, &site, &registry.host, &script);
        let lines: Vec<_> = said.out.lines().collect();
        assert_eq!(
            lines[..2],
            ["entrypoint: echo the command", "the command"],
            "{name}: {said:#?}"
        );
        assert_eq!(lines[2], "/srv", "{name}: {said:#?}");
        assert!(
            lines[3].starts_with("hello from small"),
            "{name}: {said:#?}"
        );
        if name != "docker" {
            assert_eq!(lines[4..6], ["last", "last"], "{name}: {said:#?}");
            assert!(said.err.contains("/opt/old"), "{name}: {said:#?}");
        }
        assert!(
            said.out.ends_with("with arguments\n") || said.code != 0,
            "{name}: {said:#?}"
        );
    }
    let mut blobs = registry.blobs();
    let count = blobs.len();
    blobs.sort();
    blobs.dedup();
    assert_eq!(count, blobs.len(), "{}", registry.log());
    let said = run(
        &place,
        &site,
        &registry.host,
        "$R run docker://$H/team/small:1 -- echo warm",
    );
    assert_eq!(said.ok(), "warm");
    assert_eq!(registry.blobs().len(), count);
}

#[test]
fn a_pulled_image_is_found_by_its_name_and_digests_stay_pinned() {
    let place = place!();
    let registry = registry!(Access::Plain);
    let script = "$R pull --quiet docker://$H/team/small:1 && $R run team+small:1 -- echo from the store && \
                  $R pull $H/team/small:1 2>&1 | grep -q 'in your store already, as team+small:1' && \
                  D=$($R inspect --json team+small:1 | sed -n 's/.*\"digest\": \"\\(sha256:[^\"]*\\)\".*/\\1/p' | head -1) && \
                  $R pull --quiet $H/team/small@$D ./by-digest.sqfs && $R inspect ./by-digest.sqfs && \
                  $R pull --quiet $H/team/small@sha256:$(printf %064d 0) ./wrong.sqfs; echo $?; ls";
    let said = run(&place, &plain(&registry.host), &registry.host, script);
    assert!(said.out.starts_with("from the store\n"), "{said:#?}");
    for expected in [
        "label        org.example.label=small",
        "workdir      /srv",
        "command      echo the command",
        "@sha256:",
        "\n125\n",
    ] {
        assert!(said.out.contains(expected), "{expected}: {said:#?}");
    }
    assert!(
        said.out.ends_with("by-digest.sqfs\nimg\nsite.toml\n"),
        "{said:#?}"
    );
}

/// As Apptainer and enroot name them, which read SquashFS whatever it is called.
#[test]
fn a_pull_into_what_is_called_a_file_makes_one_and_takes_apptainers_order() {
    let place = place!();
    let lying = lying::Lying::start(|_, _, answer| answer);
    let host = &lying.server.host;
    let endings = ["sqfs", "sqsh", "squashfs", "sfs", "sif", "simg", "img"];
    let script = format!(
        "for end in {}; do $R pull --quiet $H/team/app:1 my.$end && head -c4 my.$end; echo; done; \
         for name in docker://$H/team/app:1 $H/team/app:1; do \
             $R pull --quiet mine.sif $name && head -c4 mine.sif && rm mine.sif; echo; \
         done; $R pull --quiet $H/team/app:1 tree.d && ls tree.d/bin; \
         for again in 1 2; do $R export --quiet docker://$H/team/app:1 o.tar.gz || echo not; done; $R pull --help",
        endings.join(" ")
    );
    let said = run(&place, &plain(host), host, &script);
    let expected = "hsqs\n".repeat(endings.len() + 2) + "file\nFetch";
    assert!(said.ok().starts_with(&expected), "{said:#?}");
    let guide = include_str!("../../docs/guide/images.md");
    for ending in endings {
        let is_named = |text: &str| text.contains(&format!(".{ending}"));
        assert!(
            is_named(&said.out) && is_named(guide),
            "{ending}: {said:#?}"
        );
    }
}

#[test]
fn tls_needs_certificates_that_the_site_or_the_machine_knows() {
    let place = place!();
    let registry = registry!(Access::Tls);
    let pull = "$R pull --quiet $H/team/small:1 ./i.sqfs && $R run ./i.sqfs -- echo pulled";
    let said = run(&place, "", &registry.host, pull);
    said.failed(125, "can't reach 127.0.0.1", 1);
    let lines = format!(
        "`[registries.\"{}\"]` and below it `ca = \"FILE\"`",
        registry.host
    );
    assert!(said.err.contains(&lines), "{said:#?}");
    let ca = oci().unwrap().join("ca.pem");
    let site = format!(
        "[registries.\"{}\"]\nca = \"{}\"\n",
        registry.host,
        ca.display()
    );
    assert_eq!(run(&place, &site, &registry.host, pull).ok(), "pulled");
    let plain_to_tls = run(
        &place,
        &plain(&registry.host),
        &registry.host,
        pull.replace("i.sqfs", "j.sqfs").as_str(),
    );
    assert_eq!(plain_to_tls.code, 125, "{plain_to_tls:#?}");
}

/// Asked so often, it would let a user wait for the same answer.
#[test]
fn a_registry_that_cannot_be_talked_to_is_asked_once_and_the_user_told_what_to_write() {
    use std::io::Write as _;
    let place = place!();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let count = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counted = std::sync::Arc::clone(&count);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
            // What it has not read would take the answer away.
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    let said = run(&place, "", &host, "$R pull $H/team/small:1 ./i.sqfs");
    said.failed(125, "it does not speak TLS", 1);
    let lines = format!(
        "write `[registries.\"{host}\"]` and below it `plain_http = true` into the site configuration file, or into a file of \
         your own and give that with --config FILE"
    );
    assert!(said.err.contains(&lines), "{said:#?}");
    assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 1);
    let mirror = format!("[registries.\"example.invalid\"]\nmirrors = [\"{host}\"]\n");
    let script = "printf '#!/bin/sh\\necho >>%s/asked; exit 2\\n' $PWD >getent; chmod +x getent; \
                  unshare -Urm sh -c 'mount --bind getent /usr/bin/getent && $R pull $H/team/small:1 ./i.sqfs'; \
                  echo $?; wc -l <asked";
    let said = run(&place, &mirror, "example.invalid", script);
    assert_eq!(said.ok(), "125\n1", "{said:#?}");
    assert!(
        said.err
            .contains("can't reach example.invalid: unknown host"),
        "{said:#?}"
    );
    assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 2);
}

#[test]
fn credentials_are_found_where_docker_and_podman_leave_them() {
    let place = place!();
    let registry = registry!(Access::Basic);
    let site = plain(&registry.host);
    let said = run(
        &place,
        &site,
        &registry.host,
        "$R pull --quiet $H/team/small:1 ./i.sqfs",
    );
    said.failed(125, "says 401", 1);
    assert!(said.err.contains("docker login"), "{said:#?}");
    // ada:secret
    let auth = format!(
        "{{\"auths\":{{\"{}\":{{\"auth\":\"YWRhOnNlY3JldA==\"}}}}}}",
        registry.host
    );
    for (name, variables) in [
        (".docker/config.json", ""),
        ("elsewhere/config.json", "DOCKER_CONFIG=$PWD/elsewhere"),
        ("auth.json", "REGISTRY_AUTH_FILE=$PWD/auth.json"),
        ("containers/auth.json", "XDG_RUNTIME_DIR=$PWD"),
        // As a job has it.
        (".config/containers/auth.json", "env -u XDG_RUNTIME_DIR"),
        (
            "here/containers/auth.json",
            "XDG_CONFIG_HOME=$PWD/here XDG_RUNTIME_DIR=/none",
        ),
    ] {
        let script = format!(
            "mkdir -p .docker elsewhere containers .config/containers here/containers; echo '{auth}' > {name}; {variables} $R pull --quiet $H/team/small:1 ./i.sqfs && echo ok; rm {name}"
        );
        assert_eq!(
            run(&place, &site, &registry.host, &script).ok(),
            "ok",
            "{name}"
        );
    }
    // A part of the registry, as podman has it; and a helper that is not on this machine is no reason to fail.
    for (name, text) in [
        (
            "containers/auth.json",
            auth.replace(&registry.host, &format!("{}/team", registry.host)),
        ),
        (
            ".docker/config.json",
            auth.replacen('{', "{\"credsStore\":\"desktop\",", 1),
        ),
    ] {
        let script = format!(
            "echo '{text}' > {name}; XDG_RUNTIME_DIR=$PWD $R pull --quiet $H/team/small:1 ./i.sqfs && echo ok; rm {name}"
        );
        assert_eq!(
            run(&place, &site, &registry.host, &script).ok(),
            "ok",
            "{name}"
        );
    }
    let wrong = auth.replace("YWRhOnNlY3JldA==", "YWRhOndyb25n");
    let script =
        format!("echo '{wrong}' > .docker/config.json; $R pull --quiet $H/team/small:1 ./j.sqfs");
    run(&place, &site, &registry.host, &script).failed(125, "says 401", 1);
}

#[test]
fn mirrors_are_asked_first_and_the_registry_if_they_do_not_have_it() {
    let place = place!();
    let registry = registry!(Access::Plain);
    let mirror = Server::start(|_| Answer::status(404));
    let site = format!(
        "[registries.\"example.invalid\"]\nmirrors = [\"http://{}/sub\", \"http://{}\"]\n",
        mirror.host, registry.host
    );
    let said = run(
        &place,
        &site,
        "example.invalid",
        "$R pull --quiet $H/team/small:1 ./i.sqfs && $R inspect ./i.sqfs",
    );
    assert!(
        said.ok()
            .contains("docker://example.invalid/team/small:1@sha256:"),
        "{said:#?}"
    );
    assert!(
        mirror
            .paths()
            .iter()
            .all(|path| path.starts_with("/v2/sub/team/small/")),
        "{:?}",
        mirror.paths()
    );
}

#[test]
fn proxies_are_used_as_the_usual_variables_say() {
    let place = place!();
    let proxy = Server::start(|_| Answer::status(502));
    let variables = format!("http_proxy=http://{0} https_proxy=http://{0}", proxy.host);
    let script = format!(
        "{variables} $R run docker://registry.invalid/a:1 -- true; {variables} no_proxy=registry.invalid $R run docker://registry.invalid/a:1 -- true"
    );
    let said = run(&place, "[waits]\nlook_up = 2\n", "", &script);
    assert_eq!(said.code, 125, "{said:#?}");
    assert_eq!(
        said.err
            .matches("can't find docker://registry.invalid/a:1")
            .count(),
        2,
        "{said:#?}"
    );
    assert!(
        proxy
            .paths()
            .iter()
            .all(|path| path.contains("registry.invalid:443")),
        "{:?}",
        proxy.paths()
    );
    assert!(!proxy.paths().is_empty());
}

#[test]
fn a_name_that_is_not_there_is_one_sentence_with_a_hint() {
    let place = place!();
    let registry = registry!(Access::Plain);
    let site = plain(&registry.host);
    for (what, sentence) in [
        (
            "run docker://$H/team/nothing:1",
            "has no manifests/1 of team/nothing",
        ),
        ("run docker://$H/team/UPPER", "is not an image name"),
        (
            "explain docker://$H/team/small:1",
            "is not in the cache yet",
        ),
    ] {
        let said = run(&place, &site, &registry.host, &format!("$R {what} -- true"));
        said.failed(125, sentence, 1);
    }
}

#[test]
fn a_terminal_shows_bytes_rate_and_time_left_a_log_gets_lines_and_quiet_nothing() {
    let place = place!();
    let registry = registry!(Access::Plain);
    let slow = crate::support::registry::slow_way(&registry.host, 300_000);
    let pull = |more: &str| {
        let command = format!("$R pull {more} $H/team/small:1 ./i.sqfs");
        run(
            &place,
            &plain(&slow),
            &slow,
            &format!("rm -rf .cache i.sqfs; {command}"),
        )
    };
    let terminal = run(
        &place,
        &plain(&slow),
        &slow,
        "stty cols 100 2>/dev/null; TERM=xterm script -qec \"stty cols 100; $R pull $H/team/small:1 ./i.sqfs\" /dev/null",
    );
    for expected in ["layer 8cd1", "KiB/s", "0s", "packed"] {
        let expected = expected.replace("8cd1", "");
        assert!(
            terminal.out.contains(&expected),
            "{expected}: {terminal:#?}"
        );
    }
    let log = pull("");
    assert!(
        !log.err.contains('\r') && log.err.contains("chariot: packed"),
        "{log:#?}"
    );
    let quiet = pull("--quiet");
    assert_eq!(
        (quiet.out.as_str(), quiet.err.as_str(), quiet.code),
        ("", "", 0)
    );
}

#[test]
fn an_interrupted_fetch_leaves_nothing_half_done() {
    let place = place!();
    let registry = registry!(Access::Plain);
    let slow = crate::support::registry::slow_way(&registry.host, 100_000);
    // What has come of a layer stays for the next try, and goes with the next collection.
    let script = "for signal in INT TERM; do timeout -s $signal 2 $R run docker://$H/team/small:1 -- true; echo $?; done; \
                  left() { find .cache -path '*/leases/*' -o -path '*/images/*' -o -path \"$1\"; }; \
                  for i in {1..100}; do [ -z \"$(left)\" ] && break; sleep 0.1; done; left; \
                  $R gc --quiet; left '*/.*.part*'";
    let said = run(&place, &plain(&slow), &slow, script);
    assert_eq!(said.ok(), "124\n124");
}
