//! Trees into files and back: what is kept, what is left out and said, and that the same gives the same.

use crate::place;

#[test]
fn what_an_overlay_removed_is_not_in_what_is_packed_of_it() {
    let place = place!();
    let said = place.run(
        "cp -r img own && mkdir chg own/d && echo 1 | tee own/a own/b own/c own/d/old >own/stays && \
         $C run --overlay chg ./own -- sh -c 'busybox rm /a /b /c && busybox rm -r /d && mkdir /d && echo new >/d/new' && \
         $C pack --overlay chg ./own out.sqfs && unsquashfs -l -d '' out.sqfs | grep -e ^/a -e ^/b$ -e ^/c -e ^/d/ -e ^/st; \
         $C pack --quiet --overlay chg ./own out.tar && tar tf out.tar | grep -e ^a -e ^b$ -e ^c -e ^d/.",
    );
    assert_eq!(said.ok(), "/d/new\n/stays\nd/new", "{said:#?}");
}

#[test]
fn what_is_left_out_is_said_by_kind_and_count() {
    let place = place!();
    let said = place.run(
        "cp -r img t; mkfifo t/a; ln t/a t/b; mkfifo t/c; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"t/s\")'; \
         cp t/bin/busybox t/su; chmod 4755 t/su; $C pack ./t t.sqfs; unsquashfs -l t.sqfs | grep -c -e /a$ -e /b$ -e /s$; $C pack ./t.sqfs t.tar",
    );
    assert!(
        said.err
            .contains("; skipped: 2 FIFOs, 1 socket, set-user-ID of 1 file\n"),
        "{said:#?}"
    );
    assert_eq!(said.err.matches("skipped").count(), 1, "{said:#?}");
    assert_eq!(said.out, "0\n", "{said:#?}");
}

#[test]
fn a_tree_has_the_permissions_that_umask_leaves() {
    let place = place!();
    let said = place.run(
        "mkdir src; cd src; mkdir d o; touch f x; chmod 777 d x; chmod 666 f; chmod 755 o; tar cf ../a.tar d f x o; cd ..; \
         for mask in 022 077 027; do mkdir tar; (umask $mask; tar --no-same-permissions -C tar -xf a.tar; $C unpack --quiet a.tar tree); \
         (cd tar; stat -c '%n %a' d f o x) >one; (cd tree; stat -c '%n %a' d f o x) >two; cmp one two && cat two; rm -rf tar tree; done",
    );
    assert!(
        said.ok().contains("d 700\nf 600\no 700\nx 700"),
        "{said:#?}"
    );
    assert_eq!(said.ok().lines().count(), 12, "{said:#?}");
}

#[test]
fn the_same_tree_is_packed_into_the_same_bytes() {
    let place = place!();
    let said = place.run(
        "mkdir -p one two/t; cp -a img one/t; for name in $(ls -r img/bin); do mkdir -p two/t/bin; cp -a img/bin/$name two/t/bin/; done; cp -a img/etc two/t/; \
         touch -r img one/t two/t; touch -r img/bin one/t/bin two/t/bin; \
         for end in sqfs tar tar.gz tar.zst; do (cd one; $C pack --quiet ./t ../one.$end); sleep 1.1; (cd two; $C pack --quiet ./t ../two.$end); cmp one.$end two.$end && echo same; done; \
         cp -a one/t other; for end in sqfs tar; do $C pack --quiet ./other other.$end; cmp one.$end other.$end && echo same; done; \
         touch two/t/etc/new; export SOURCE_DATE_EPOCH=1000000000; $C pack --quiet ./two/t d.sqfs; unsquashfs -UTC -stat d.sqfs | grep -i time; \
         unsquashfs -UTC -lln d.sqfs | grep / | grep -c -v -e 2001-09-09 -e 1970-01-01; SOURCE_DATE_EPOCH=soon $C pack ./two/t e.sqfs; echo $?",
    );
    assert!(said.out.starts_with(&"same\n".repeat(6)), "{said:#?}");
    assert!(said.out.contains("Sep  9 01:46:40 2001"), "{said:#?}");
    assert!(said.err.contains("SOURCE_DATE_EPOCH=soon"), "{said:#?}");
    assert!(said.out.ends_with("\n0\n125\n"), "{said:#?}");
}

#[test]
fn trees_deeper_than_a_path_can_be_go_there_and_back() {
    let place = place!();
    let said = place.run(
        r#"python3 - <<'EOF'
import os
os.mkdir("deep")
here = os.open("deep", os.O_RDONLY)
for name in ["bin", "etc"]: os.mkdir(name, dir_fd=here)
for level in range(4000):
    os.mkdir("dir", dir_fd=here)
    below = os.open("dir", os.O_RDONLY, dir_fd=here)
    os.close(here)
    here = below
with os.fdopen(os.open("end", os.O_WRONLY | os.O_CREAT, dir_fd=here), "w") as file: file.write("reached")
EOF
ulimit -n 256; trap 'rm -rf deep tree' EXIT
$C pack --quiet ./deep a.tar && $C pack --quiet ./a.tar a.sqfs && $C unpack --quiet ./a.sqfs tree && $C pack --quiet ./tree b.tar && \
python3 -c '
import tarfile
for name in ["a.tar", "b.tar"]:
    archive = tarfile.open(name)
    print([archive.extractfile(m).read() for m in archive if m.isfile() and m.name.count("/") == 4000])'"#,
    );
    assert_eq!(said.ok(), "[b'reached']\n[b'reached']", "{said:#?}");
}

#[test]
fn holes_and_lists_of_attributes_are_as_on_a_disk() {
    let place = place!();
    let said = place.run(
        r#"cp -r img t; ln -s usr/lib t/lib; ln -s usr/lib64 t/lib64; mkdir t/usr
python3 - <<'EOF'
with open("t/sparse", "wb") as file:
    file.seek(1 << 20); file.write(b"x" * 131072); file.seek(6 << 20); file.write(b"end"); file.truncate(8 << 20)
open("t/full", "wb").write(b"y" * 300000)
EOF
cat >look.py <<'EOF'
import os
print(os.listxattr("/full"))
def stretches(path):
    file, at, found = os.open(path, os.O_RDONLY), 0, []
    while True:
        try: start = os.lseek(file, at, os.SEEK_DATA)
        except OSError as error:
            found.append(error.errno); return found
        at = os.lseek(file, start, os.SEEK_HOLE)
        found.append((start, at))
print(stretches("/sparse"), stretches("/full"), os.stat("/sparse").st_blocks < 4096)
EOF
$C pack --quiet ./t t.sqfs && $C run --bind /usr --bind $PWD/look.py:/look.py ./t.sqfs -- /usr/bin/python3 /look.py"#,
    );
    assert_eq!(
        said.ok(),
        "[]\n[(1048576, 1179648), (6291456, 6422528), 6] [(0, 300000), 6] True",
        "{said:#?}"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let place = place!();
    let said = place.run("cp -r img t; echo x >t/secret; chmod 0 t/secret; $C pack ./t t.sqfs");
    if said.code != 0 {
        said.failed(125, "./t/secret", 1);
    }
}
