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
         $R run team/toy:1 echo ran && $R rm team/toy:1; echo $?; ls store",
    );
    let near = |name: &str| format!("did you mean {name}? `chariot images` lists what there is\n");
    let elsewhere =
        "`chariot images` lists them; an image elsewhere is a file or a directory, for rm(1)\n";
    let expected = format!(
        "{}{}{elsewhere}{}125\ndebian.sqfs\nteam+toy:1.sqfs\nran\n0\ndebian.sqfs",
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
