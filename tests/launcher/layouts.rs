//! Layouts and archives in which something is amiss: what lies there is opened without waiting, held against its
//! digest, and named if it is wrong.

use std::path::Path;

use crate::{Place, place};

/// A layout in `layout`, unpacked from the corpus.
const UNPACK: &str = "rm -rf layout; mkdir layout; tar -C layout -xf $A/oci-archive.tar-of-a-layout.tar; cd layout/blobs/sha256; \
     blob() { for b in *; do grep -q \"$1\" $b && echo $b && return; done; }; ";

fn run(place: &Place, script: &str) -> crate::support::Said {
    let archives = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/archives");
    place.run(&format!("A={}; {script}", archives.display()))
}

#[test]
fn a_fifo_in_the_place_of_a_file_is_refused_and_not_waited_for() {
    let place = place!();
    for blob in ["blob '#!/bin/sh'", "blob Entrypoint", "blob schemaVersion"] {
        let fifo = format!("{UNPACK}b=$({blob}); rm $b; mkfifo $b; cd $OLDPWD; ");
        for command in [
            "run oci:layout -- echo ran",
            "pack --quiet ./layout i.sqfs",
            "inspect ./layout",
        ] {
            let said = run(&place, &format!("{fifo} timeout 20 $C {command}"));
            assert_eq!(said.code, 125, "{blob} {command}: {said:#?}");
            assert!(said.err.contains("it is a FIFO"), "{said:#?}");
        }
    }
    let said = run(
        &place,
        &format!(
            "{UNPACK}cd ../..; rm index.json; mkfifo index.json; cd ..; timeout 20 $C run oci:layout -- echo ran"
        ),
    );
    assert_eq!(said.code, 125, "{said:#?}");
    let said = run(
        &place,
        "mkdir d; tar -C d -xf $A/dir.skopeo.tar.gz; rm d/version; mkfifo d/version; timeout 20 $C run dir:d -- /bin/tool; \
         rm d/manifest.json; mkfifo d/manifest.json; timeout 20 $C run dir:d -- /bin/tool",
    );
    assert_eq!(said.code, 125, "{said:#?}");
    assert!(
        said.err.contains("can't read manifest.json: it is a FIFO"),
        "{said:#?}"
    );
}

#[test]
fn what_was_changed_in_a_layout_is_found_when_it_is_used() {
    let place = place!();
    for (blob, sentence) in [
        ("blob '#!/bin/sh'", "is damaged: its digest is"),
        ("blob Entrypoint", "is damaged: its digest is another"),
        ("blob 'config.v1'", "is damaged: its digest is another"),
    ] {
        let script = format!(
            "{UNPACK}b=$({blob}); sed -i 's/tool/loot/; s/config.v1/config.v9/' $b; cd $OLDPWD; $C pack --quiet oci:layout i.sqfs"
        );
        let said = run(&place, &script);
        assert_eq!(said.code, 125, "{blob}: {said:#?}");
        assert_eq!(said.err.matches(sentence).count(), 1, "{blob}: {said:#?}");
    }
}

#[test]
fn a_list_that_may_not_be_read_is_the_one_that_is_named() {
    let place = place!();
    // Root may read everything.
    if crate::support::user().is_none() {
        crate::skip!("only an ordinary user may not read a file");
    }
    let said = run(
        &place,
        &format!("{UNPACK}cd ../..; chmod 0 index.json; cd ..; $C pack --quiet ./layout i.sqfs"),
    );
    assert_eq!(said.code, 125, "{said:#?}");
    assert!(
        said.err
            .contains("can't read index.json: Permission denied"),
        "{said:#?}"
    );
}

#[test]
fn an_archive_of_layers_without_its_list_is_no_file_system() {
    let place = place!();
    let script = "python3 - $A/docker-archive.crane.tar <<'EOF'\nimport sys, tarfile\n\
         out = tarfile.open('cut.tar', 'w')\nfor one in tarfile.open(sys.argv[1]):\n    \
         if one.name != 'manifest.json': out.addfile(one, tarfile.open(sys.argv[1]).extractfile(one.name))\nout.close()\nEOF\n\
         $C pack --quiet ./cut.tar i.sqfs; echo $?; head -c 5000 $A/docker-archive.docker-old.tar >short.tar; $C pack --quiet ./short.tar i.sqfs; echo $?; ls";
    let said = run(&place, script);
    assert!(
        said.out.starts_with("125\n125\n") && !said.out.contains("i.sqfs"),
        "{said:#?}"
    );
    assert!(
        said.err.contains("it has layers, and no manifest.json"),
        "{said:#?}"
    );
}

#[test]
fn an_image_for_another_machine_is_packed_with_a_word_of_it() {
    let place = place!();
    let script = "python3 - <<'EOF'\nimport io, json, tarfile\n\
         out = tarfile.open('other.tar', 'w')\n\
         def add(name, data):\n    info = tarfile.TarInfo(name)\n    info.size = len(data)\n    out.addfile(info, io.BytesIO(data))\n\
         layer = io.BytesIO()\ninner = tarfile.open(fileobj=layer, mode='w')\ninner.addfile(tarfile.TarInfo('file'))\ninner.close()\n\
         add('l/layer.tar', layer.getvalue())\nadd('c.json', b'{\"architecture\": \"mips64\", \"config\": {}}')\n\
         add('manifest.json', json.dumps([{'Config': 'c.json', 'Layers': ['l/layer.tar']}]).encode())\nout.close()\nEOF\n\
         $C pack --quiet ./other.tar i.sqfs && ls i.sqfs";
    let said = run(&place, script);
    assert_eq!(said.ok(), "i.sqfs", "{said:#?}");
    assert!(
        said.err.contains("it is for mips64, and this machine is"),
        "{said:#?}"
    );
}

#[test]
fn a_path_behind_a_scheme_is_where_it_was_typed() {
    let place = place!();
    let said = run(
        &place,
        "mkdir sub; cp $A/docker-archive.crane.tar sub/a.tar; cd sub; \
         $C explain docker-archive:a.tar:example.org/team/app:1 -- /bin/tool 2>&1 | grep -c \"docker-archive:$PWD/a.tar:example.org/team/app:1 \"; \
         $C explain oci:../../layout/./x -- /bin/tool 2>&1 | grep -c \"oci:$PWD/../../layout/x:\"; \
         $C inspect docker-archive:./a.tar | grep -c GREETING",
    );
    assert_eq!(said.ok(), "1\n1\n1", "{said:#?}");
}

#[test]
fn a_digest_that_an_image_says_of_itself_is_not_called_its_digest() {
    let place = place!();
    let script = "mkdir -p img2/.chariot; cp -r img/. img2; echo '{\"source\":\"x\",\"time\":1,\"digest\":\"sha256:forged\"}' >img2/.chariot/image.json; \
         $C pack --quiet ./img2 i.sqfs; for i in ./img2 ./i.sqfs; do $C inspect $i | grep -c '^digest'; $C inspect $i | grep -c '^says digest  *sha256:forged'; \
         $C inspect --json $i | grep -c '\"claimed_digest\": \"sha256:forged\"'; done";
    let said = run(&place, script);
    assert_eq!(said.out, "0\n1\n1\n0\n1\n1\n", "{said:#?}");
}
