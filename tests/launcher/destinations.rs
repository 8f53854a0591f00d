//! What stands where an image is to be: nothing but an image is ever replaced or removed, however its name is written.

use crate::place;

#[test]
fn a_slash_at_its_end_does_not_make_a_file_of_somebodys_something_to_replace() {
    let place = place!();
    let said = place.run(
        "tar cf a.tar -C img .; echo mine >file; echo mine >target; ln -s target link; ln -s nowhere dangling; mkfifo fifo; \
         for word in file/ file// file/. link/ dangling/ fifo/ new/ new.tar/; do \
             $C pack --quiet ./img $word; echo $?; $C export --quiet ./img ${word%%/*}.tar/ ; echo $?; \
         done | sort | uniq -c; \
         for word in file/ file// file/. fifo/ link/; do $C unpack --quiet ./a.tar $word; echo $?; done | uniq -c; \
         cat file target; readlink link dangling; [ -p fifo ] && echo fifo; ls -A",
    );
    let expected = "     16 125\n      5 125\nmine\nmine\ntarget\nnowhere\nfifo\na.tar\ndangling\nfifo\nfile\nimg\nlink\ntarget";
    assert_eq!(said.ok().trim_start(), expected.trim_start(), "{said:#?}");
    let said = place.run("$C unpack --quiet ./a.tar tree/ && $C unpack --quiet ./a.tar tree// && $C run ./tree echo ran");
    assert_eq!(said.ok(), "ran");
}

#[test]
fn what_is_no_image_stays_in_a_store_whatever_it_is_called() {
    let place = place!();
    let said = place.run(
        "mkdir store; echo thesis >store/notes.txt; echo text >store/x.sqfs; echo \"store = \\\"$PWD/store\\\"\" >site.toml; \
         $C pack --quiet ./img store/real.sqfs; R=\"${C%% *} --config site.toml\"; \
         for name in notes.txt x.sqfs x real; do $R rm $name; echo $?; done; ls store; cat store/*",
    );
    assert_eq!(
        said.ok(),
        "125\n125\n125\n0\nnotes.txt\nx.sqfs\nthesis\ntext"
    );
    assert!(said.err.contains("it is not an image"), "{said:#?}");
}

#[test]
fn an_image_is_removed_by_the_name_by_which_it_is_run_and_a_slip_is_told_what_is_near() {
    let place = place!();
    let said = place.run(
        "mkdir store; echo \"store = \\\"$PWD/store\\\"\" >site.toml; R=\"${C%% *} --config site.toml\"; \
         $C pack --quiet ./img store/team+toy:1.sqfs; cp store/team+toy:1.sqfs store/debian.sqfs; \
         for name in team/toy:2 debain octave ./team/toy:1; do $R rm $name 2>&1 | sed -n 's/^chariot: hint: //p'; done; \
         mkdir team; echo mine >team/toy:1; $R rm team/toy:1 2>/dev/null; echo $?; ls store; rm -r team; \
         $R run team/toy:1 echo ran; \
         for try in $(seq 100); do $R rm team/toy:1 2>said && break; grep -q 'is running in it' said || break; sleep 0.1; done; cat said; ls store",
    );
    let near = |name: &str| format!("did you mean {name}? `chariot images` lists what there is\n");
    let elsewhere =
        "`chariot images` lists them; an image elsewhere is a file or a directory, for rm(1)\n";
    let expected = format!(
        "{}{}{elsewhere}{}125\ndebian.sqfs\nteam+toy:1.sqfs\nran\ndebian.sqfs",
        near("team+toy:1"),
        near("debian"),
        near("team+toy:1")
    );
    assert_eq!(said.ok(), expected, "{said:#?}");
}

#[test]
fn what_was_put_there_while_an_image_was_made_stays() {
    let place = place!();
    let said = place.run(
        "tar cf a.tar -C img .; $C pack --quiet ./img old.sqfs; cp old.sqfs same.sqfs; mkfifo pipe; \
         for name in new.sqfs old.sqfs same.sqfs; do \
             $C pack --quiet ./pipe $name & exec 9>pipe; sleep 0.5; [ $name = same.sqfs ] || rm -f $name; echo mine >$name; cat a.tar >&9; exec 9>&-; \
             wait $!; echo $?; head -c 4 $name; echo; \
         done; ls -A",
    );
    assert_eq!(
        said.ok(),
        "125\nmine\n125\nmine\n125\nmine\na.tar\nimg\nnew.sqfs\nold.sqfs\npipe\nsame.sqfs",
        "{said:#?}"
    );
    let other = said.err.matches("it already exists, and is not an image");
    assert_eq!(other.count(), 3, "{said:#?}");
}

#[test]
fn an_archive_or_an_image_of_somebodys_own_is_not_replaced_and_what_is_read_is_never_written() {
    let place = place!();
    let said = place.run(
        "tar cf thesis.tar img; tar cf root.tar -C img .; tar czf root.tar.gz -C img .; $C unpack --quiet ./root.tar tree; \
         tar cf unpacked.tar -C tree .; mksquashfs img own.sqfs -quiet -no-progress >/dev/null; \
         $C pack --quiet ./img image.sqfs; head -c 4096 image.sqfs >cut.sqfs; sha256sum *.tar *.gz *.sqfs >before; \
         for name in thesis.tar root.tar root.tar.gz unpacked.tar; do \
             $C export ./image.sqfs $name; echo $?; $C pack ./image.sqfs $name; echo $?; \
         done | sort | uniq -c; \
         for name in own.sqfs cut.sqfs; do $C pack ./img $name; echo $?; done | uniq -c; \
         ln image.sqfs hard.sqfs; ln -s image.sqfs link.sqfs; $C export --quiet ./img a.tar; sha256sum a.tar >>before; \
         for words in 'image.sqfs image.sqfs' 'image.sqfs hard.sqfs' 'link.sqfs image.sqfs' 'a.tar a.tar'; do \
             $C pack ./$words 2>&1 | sed -n 's/.*: //p'; \
         done; sha256sum --quiet -c before && echo same",
    );
    let expected = "      8 125\n      2 125\nthat is the same file\nchoose another name\n";
    assert!(
        said.ok().trim_start().starts_with(expected.trim_start()),
        "{said:#?}"
    );
    let same = said
        .out
        .matches("that is the same file\nchoose another name\n");
    assert_eq!(
        (same.count(), said.out.ends_with("\nsame\n")),
        (4, true),
        "{said:#?}"
    );
    let other = said
        .err
        .matches("it already exists, and is not an image that Chariot made");
    assert_eq!(other.count(), 10, "{said:#?}");
}

#[test]
fn an_archive_and_an_image_that_chariot_made_are_replaced() {
    let place = place!();
    let said = place.run(
        "tar cf a.tar -C img .; mkdir 'img/!first'; cp -r img other; echo other >other/other; \
         for source in ./img ./a.tar ./i.sqfs; do for name in i.sqfs i.sif o.tar o.tar.gz o.tgz o.tar.zst; do \
             [ $source = ./$name ] || $C pack --quiet $source $name || echo $source $name; \
             [ $source = ./$name ] || $C pack --quiet ./other $name || echo again $source $name; \
             [ -n \"$($C run ./$name cat /other)\" ] || echo not $source $name; \
         done; done; ls",
    );
    assert_eq!(
        said.ok(),
        "a.tar\ni.sif\ni.sqfs\nimg\no.tar\no.tar.gz\no.tar.zst\no.tgz\nother",
        "{said:#?}"
    );
}

#[test]
fn a_name_that_says_what_it_is_is_given_to_nothing_else() {
    let place = place!();
    let said = place.run(
        "for name in y.tar.xz y.tar.bz2 y.txz y.zip y.gz; do $C pack ./img $name; echo $?; done | uniq -c; \
         for name in y.tar y.tar.gz y.tar.xz; do $C pull localhost:1/team/toy:1 $name; echo $?; done | uniq -c; ls",
    );
    assert_eq!(
        said.ok().trim_start(),
        "5 125\n      3 125\nimg",
        "{said:#?}"
    );
    let hint = "hint: `chariot export` writes archives, .tar, .tar.gz, .tgz and .tar.zst";
    assert_eq!(said.err.matches(hint).count(), 8, "{said:#?}");
}
