//! Packing, exporting, listing, removing and building: what users do with images between making and running them.

use crate::place;
use crate::support::{self, registry::oci};

/// The forms in which `tests/tools/make-layered-images` made the small image, as words for `--ch-image`.
fn forms() -> Option<Vec<String>> {
    let oci = oci()?;
    let path = |name: &str| oci.join(name).display().to_string();
    Some(vec![
        format!("oci:{}:small", path("layout")),
        format!("docker-archive:{}", path("docker.tar")),
        path("docker.tar"),
        format!("oci-archive:{}", path("oci.tar")),
        path("oci.tar"),
        path("plain"),
    ])
}

macro_rules! forms {
    () => {
        match forms() {
            Some(forms) => forms,
            None => $crate::skip!("no images of layers: tests/run prepares them"),
        }
    };
}

#[test]
fn every_kind_of_image_is_run_and_packed_with_what_it_says_of_itself() {
    let place = place!();
    for form in forms!() {
        let script = format!(
            "$C run {form} && cd / && $C run {form} -- sh -c 'pwd; cat data/last' && cd - >/dev/null && \
             $C pack --quiet {form} packed.sqfs && $C unpack --quiet packed.sqfs tree && $C pack --quiet ./tree again.tar.zst && \
             $C run ./again.tar.zst && $C inspect --json ./again.tar.zst >/dev/null && $C run ./tree && $C inspect ./packed.sqfs; rm -rf packed.sqfs tree again.tar.zst"
        );
        let said = place.run(&script);
        let lines: Vec<_> = said
            .out
            .lines()
            .filter(|line| !line.ends_with("/tmp"))
            .collect();
        assert_eq!(
            lines[..4],
            [
                "entrypoint: echo the command",
                "the command",
                "/srv",
                "last"
            ],
            "{form}: {said:#?}"
        );
        assert_eq!(
            said.out.matches("entrypoint: echo the command\n").count(),
            3,
            "{form}: {said:#?}"
        );
        assert!(
            said.out.contains("label        org.example.label=small"),
            "{form}: {said:#?}"
        );
    }
    let said = place.run("ls -A");
    assert_eq!(said.ok(), ".cache\nimg", "nothing but the cache is left");
}

#[test]
fn an_archive_is_converted_once_whatever_it_is_called() {
    let place = place!();
    let said = place.run(
        "tar czf a.tgz -C img . && $C run ./a.tgz -- echo one && cp a.tgz b && $C run ./b -- echo two && \
         ls .cache/chariot/images | wc -l && touch -d yesterday a.tgz && $C run ./a.tgz -- echo three && ls .cache/chariot/images | wc -l && \
         $C images | grep -c a.tgz",
    );
    assert_eq!(said.ok(), "one\ntwo\n1\nthree\n1\n1");
}

#[test]
fn a_packed_image_is_what_unsquashfs_and_the_kernel_understand() {
    let place = place!();
    let said = place.run(
        "cp -r img own && mkdir -p own/deep && ln own/bin/busybox own/deep/hard && echo x > own/deep/file && chmod 640 own/deep/file && truncate -s 1M own/deep/hole && \
         for c in zstd gzip:1 xz:1 lz4; do $C pack --quiet --compression $c ./own i.sqfs && unsquashfs -q -n -d out i.sqfs >/dev/null && \
         diff -r --no-dereference own out | grep -v -e '^Only in out: \\(.chariot\\|dev\\|proc\\|sys\\|tmp\\)' -e 'Only in out/etc: \\(hosts\\|machine-id\\|resolv.conf\\)'; \
         stat -c '%h %a' out/deep/hard out/deep/file; rm -rf out i.sqfs; done",
    );
    assert_eq!(said.ok(), ["2 755\n1 640"; 4].join("\n"));
}

#[test]
fn archives_are_exported_for_other_programs() {
    let place = place!();
    let said = place.run(
        "mkdir -p .local/share/chariot && $C pack --quiet ./img .local/share/chariot/mine.sqfs && $C export mine out.tar.gz && \
         tar tzf out.tar.gz | grep -c bin/ && $C export mine out.zip; echo $?; echo precious > out.tar; $C export mine out.tar; echo $?; cat out.tar",
    );
    assert!(said.out.ends_with("125\n125\nprecious\n"), "{said:#?}");
    assert!(
        said.err.contains("packed mine into out.tar.gz"),
        "{said:#?}"
    );
}

#[test]
fn an_interrupted_pack_leaves_nothing() {
    let place = place!();
    let said = place.run(
        "left() { for i in {1..100}; do [ $(ls -A | grep -c .) = 2 ] && break; sleep 0.1; done; ls -A; }; \
         cp -r img own; head -c 100M /dev/urandom > own/big; \
         for signal in INT TERM; do timeout -s $signal 1 $C pack --quiet --compression zstd:19 ./own i.sqfs; done; left; \
         $C pack --quiet --compression zstd:19 ./own i.sqfs & sleep 1; kill -KILL $!; left",
    );
    assert_eq!(said.ok(), "img\nown\nimg\nown");
}

#[test]
fn images_are_listed_removed_and_collected_but_not_while_they_are_in_use() {
    let place = place!();
    let said = place.run(&format!(
        "{} {}",
        support::SERVERS,
        // The server of an image, which keeps it, ends a moment after the container.
        "served() { while [ -n \"$(servers $PWD)\" ]; do sleep 0.1; done; }; \
         mkdir -p .local/share/chariot && $C pack --quiet ./img .local/share/chariot/mine.sqfs && tar cf a.tar -C img . && $C run ./a.tar true; \
         $C images; $C images --json | grep -c '\"name\"'; \
         $C df | cut -d' ' -f1 | tr '\\n' ' '; $C df --json | grep -c /chariot; \
         script -qec 'stty rows 24 cols 60; $C images; $C df' /dev/null | sed 's/…/./' | awk 'length($0) > 61' | wc -l; \
         $C run mine sh -c 'touch up; while [ ! -e go ]; do sleep 0.1; done' & until [ -e up ]; do sleep 0.1; done; $C rm mine; echo $?; touch go; wait; \
         served; $C rm mine; echo $?; $C rm mine ../img; echo $?; rm -f up go; \
         $C run ./a.tar sh -c 'touch up; while [ ! -e go ]; do sleep 0.1; done' & until [ -e up ]; do sleep 0.1; done; $C gc --all; touch go; wait; served; \
         $C gc; ls .cache/chariot/images | wc -l; $C gc --all; ls .cache/chariot/images | wc -l",
    ));
    let lines: Vec<_> = said.out.lines().collect();
    assert!(
        lines[0].starts_with("NAME")
            && lines[1].starts_with("mine ")
            && lines[2].starts_with("sha256:"),
        "{said:#?}"
    );
    let used = ["2", "WHAT store cache 2", "0"];
    assert_eq!(lines[3..6], used, "{said:#?}");
    assert_eq!(lines[6..], ["125", "0", "125", "1", "0"], "{said:#?}");
    assert!(
        said.err
            .contains("something on this machine is running in it"),
        "{said:#?}"
    );
    assert!(
        said.err.contains("removed 0 files, 0 B; 1 are in use"),
        "{said:#?}"
    );
}

#[test]
fn a_cache_that_cannot_be_written_or_is_somebody_elses_is_refused_with_a_hint() {
    let place = place!();
    let said = place.run(
        "tar cf a.tar -C img .; mkdir ro; chmod 555 ro; XDG_CACHE_HOME=$PWD/ro $C run ./a.tar true",
    );
    if said.code != 0 {
        said.failed(125, "can't use the cache", 1);
    }
    let said = place.run("mkdir -p .cache/chariot; chmod 777 .cache/chariot; $C run ./a.tar true");
    said.failed(125, "can be written by everybody", 1);
}

#[test]
fn a_build_is_handed_to_what_the_site_prefers_with_its_proxies() {
    let place = place!();
    let script = r#"
        mkdir -p tools context; echo FROM scratch > context/Dockerfile
        for tool in docker podman buildah; do
            printf '#!/bin/sh\necho "%s $*" >> '"$PWD"'/calls\n' $tool > tools/$tool
            cat >> tools/$tool <<'EOF'
case "$1" in
save) for last; do :; done; while [ $# -gt 0 ]; do [ "$1" = -o ] && out=$2; shift; done; tar -C "$HERE/img" -cf "$out" . ;;
push) tar -C "$HERE/img" -cf "${3#oci-archive:}" . ;;
esac
EOF
            chmod +x tools/$tool
        done
        export http_proxy=http://user:secret@p:1 HERE=$PWD
        build() { printf "builders = $1\n" > site.toml; PATH=$PWD/tools:$PATH $R build --quiet -t mine context -- --network=host && cat calls && rm calls; $R run mine -- echo built; }
        build '["podman", "docker"]'; build '["docker"]'
        # A docker without its daemon is passed over.
        sed -i 's/^case/[ "$1" = version ] \&\& exit 1\ncase/' tools/docker; build '["docker", "buildah"]'
        printf 'builders = []\n' > site.toml; $R build -t mine context
    "#;
    let launcher = format!("{} --config ./site.toml", place.launcher);
    let said = place.run_with(script, &[("R", &launcher)]);
    assert_eq!(said.out.matches("\nbuilt\n").count(), 3, "{said:#?}");
    for expected in [
        "podman build -t localhost/chariot-build:",
        "--build-arg http_proxy --network=host context",
        "docker save -o ",
        "buildah bud -t ",
        "buildah push ",
    ] {
        assert!(said.out.contains(expected), "{expected}: {said:#?}");
    }
    assert!(!said.out.contains("secret"), "{said:#?}");
    said.failed(125, "can't build", 1);
}

#[test]
fn a_quiet_build_shows_what_the_builder_said_only_if_that_fails() {
    let place = place!();
    let script = r#"
        mkdir -p tools context store; echo FROM scratch > context/Dockerfile
        cat > tools/buildah <<'EOF'
#!/bin/sh
echo "step $1"; echo "log $1" >&2
case "$1" in
bud) [ ! -e broken ] ;;
# A colon ends the path.
push) file=${3#oci-archive:}; tar -C "$HERE/img" -cf "${file%%:*}" . ;;
esac
EOF
        chmod +x tools/buildah; export HERE=$PWD PATH=$PWD/tools:$PATH
        printf 'builders = ["buildah"]\nstore = "%s"\n' "$PWD/store" > site.toml
        $R build --quiet -t team/app:1 context 2>said; echo $? $(wc -l <said); ls -A store | grep -v ^.chariot-directory
        $R build -t app:1.0 context 2>said; echo $? $(grep -c '^step\|^log' said); ls -A store | grep -v ^.chariot-directory
        for name in team/ Team/App .hidden; do $R build -t $name context 2>said; echo $? $(grep -c 'is not a name' said); done
        touch broken; $R build --quiet -t other context; echo $?; ls -A store | grep -v ^.chariot-directory
    "#;
    let launcher = format!("{} --config ./site.toml", place.launcher);
    let said = place.run_with(script, &[("R", &launcher)]);
    let expected = "0 0\nteam+app:1.sqfs\n0 6\napp:1.0.sqfs\nteam+app:1.sqfs\n125 1\n125 1\n125 1\n\
                    125\napp:1.0.sqfs\nteam+app:1.sqfs";
    assert_eq!(said.ok(), expected, "{said:#?}");
    assert!(said.err.starts_with("step bud\nlog bud\n"), "{said:#?}");
}

#[test]
fn a_full_cache_fails_the_run_and_is_not_filled_to_the_brim() {
    let place = place!();
    let said = place.run(
        "mkdir cache; head -c 3M /dev/urandom > big; tar cf a.tar -C img . -C .. big; \
         unshare -Urm sh -c 'mount -t tmpfs -o size=2m,mode=755 none cache; XDG_CACHE_HOME=$PWD/cache $C run ./a.tar true; echo $?; find cache -name \"*.sqfs\" -o -name \".*.part*\"'",
    );
    assert_eq!(said.ok(), "125", "{said:#?}");
    assert!(
        said.err.contains("No space left on device")
            && said.err.contains("make room there")
            // Nothing is there that it could collect.
            && !said.err.contains("chariot gc"),
        "{said:#?}"
    );
}

#[test]
fn environments_that_other_programs_left_in_images_are_honoured() {
    let place = place!();
    let said = place.run(
        "cp -r img e; echo 'FROM_ENROOT=\"a b\"' > e/etc/environment; $C run ./e sh -c 'echo $FROM_ENROOT'; \
         cp -r img a; mkdir -p a/.singularity.d/env; echo 'export FROM_APPTAINER=\"${FROM_APPTAINER:-\"c\"}\"' > a/.singularity.d/env/10-docker2singularity.sh; \
         $C pack --quiet ./a a.sqfs; $C run ./a.sqfs sh -c 'echo $FROM_APPTAINER'; \
         cp -r img c; mkdir c/ch; echo FROM_CH=d > c/ch/environment; $C pack --quiet ./c c.sqfs; $C run ./c.sqfs sh -c 'echo $FROM_CH'",
    );
    assert_eq!(said.ok(), "a b\nc\nd");
}

#[test]
fn what_buildah_builds_is_run_with_its_entrypoint() {
    let place = place!();
    let script = r#"
        mkdir context && cp /bin/busybox context/ && cat > context/Dockerfile <<'EOF'
FROM scratch
COPY busybox /bin/busybox
COPY busybox /bin/sh
ENV GREETING=built
RUN ["/bin/busybox", "mkdir", "/made"]
ENTRYPOINT ["/bin/busybox", "echo"]
CMD ["from", "buildah"]
EOF
        echo 'builders = ["buildah"]' > site.toml
        # What it leaves lying about is left here, but for two directories of a user who has had none.
        had=$(ls -d /tmp/podman-run-$(id -u) 2>/dev/null)
        trap '[ -n "$had" ] || rm -rf /tmp/podman-run-$(id -u) /tmp/containers-user-$(id -u)' EXIT
        export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot TMPDIR=$PWD XDG_RUNTIME_DIR=$PWD
        mkdir store:1; printf 'store = "%s"\n' "$PWD/store:1" >> site.toml
        $R build -t app:1.0 context >&2 && $R run app:1.0 && ls -A store:1 | grep -v ^.chariot-directory
        $R build --quiet -t team/app:1 context && $R run team/app:1 && ls -A store:1 | grep -v ^.chariot-directory
        cp context/Dockerfile whole; echo 'COPY gone /gone' >> context/Dockerfile
        $R build --quiet -t broken:1 context 2>said; echo $?; grep -q STEP said && echo shown; grep -c 'buildah says why above' said; ls -A store:1 | grep -v ^.chariot-directory
        cp whole context/Dockerfile
        $R build -t hello context >&2 && $R run hello && $R run hello -- sh -c 'echo $GREETING; busybox ls -d /made' && $R inspect hello | grep from"#;
    let launcher = format!("{} --config ./site.toml", place.launcher);
    let said = place.run_with(script, &[("R", &launcher)]);
    let expected = "from buildah\napp:1.0.sqfs\nfrom buildah\napp:1.0.sqfs\nteam+app:1.sqfs\n\
                    125\nshown\n1\napp:1.0.sqfs\nteam+app:1.sqfs\nfrom buildah\nbuilt\n/made\n";
    assert!(said.ok().starts_with(expected), "{said:#?}");
    assert!(said.out.contains("buildah build context"), "{said:#?}");
}
