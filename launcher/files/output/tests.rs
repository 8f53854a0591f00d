//! What has a name is complete, and what had it before is whole until then.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use std::io::Write;
use std::time::SystemTime;

use super::*;
use crate::files::MARK;

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// A name as a process of this machine that has ended would have left.
fn left(name: &str, role: Role) -> PathBuf {
    let ended = std::process::Command::new("/bin/true").spawn().unwrap();
    let this = Maker::this().name(name.as_ref(), role);
    let this = this.to_str().unwrap().to_owned();
    let own = format!(".{}.", std::process::id());
    let dead = this.replace(&own, &format!(".{}.", ended.id()));
    ended.wait_with_output().unwrap();
    assert_ne!(this, dead);
    PathBuf::from(dead)
}

/// An image's directory, with something in it.
fn image(path: &Path, contents: &str) {
    fs::create_dir_all(path.join(".chariot")).unwrap();
    fs::write(path.join(MARK), "{}").unwrap();
    fs::write(path.join("file"), contents).unwrap();
}

fn contents(path: &Path) -> String {
    fs::read_to_string(path.join("file")).unwrap()
}

#[test]
fn nothing_has_the_name_before_it_is_complete_and_what_somebody_left_goes_away() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("image");
    fs::write(&path, "old").unwrap();
    let output = Output::file(&path).unwrap();
    output.made().write_all(b"new").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    output.finish().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    // Left by a process that is gone; one of another machine may live, and a name like ours may be anybody's.
    fs::write(place.path().join(left("image", Role::Part)), "").unwrap();
    let elsewhere = ".image.part.elsewhere.0badcafe-1.1.1-0";
    fs::write(place.path().join(elsewhere), "").unwrap();
    fs::write(place.path().join(".image.part.mine"), "").unwrap();
    Output::file(&path).unwrap().abandon();
    assert_eq!(
        names(place.path()),
        [elsewhere, ".image.part.mine", "image"]
    );
}

#[test]
fn two_that_make_the_same_at_once_do_not_disturb_each_other() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("image");
    let first = Output::file(&path).unwrap();
    // Another process of this machine, which is there.
    let other = Command::sleeping();
    let name = Maker::this().name("image".as_ref(), Role::Part);
    let name = name.to_str().unwrap().to_owned();
    let (head, _) = name
        .rsplit_once(&format!(".{}.", std::process::id()))
        .unwrap();
    let theirs = place
        .path()
        .join(format!("{head}.{}.{}-0", other.pid(), other.start()));
    fs::write(&theirs, "theirs").unwrap();
    first.abandon();
    let second = Output::file(&path).unwrap();
    assert_eq!(fs::read_to_string(&theirs).unwrap(), "theirs");
    second.finish().unwrap();
    assert!(path.exists());
}

/// A process that sleeps until this is dropped.
struct Command(std::process::Child);

impl Command {
    fn sleeping() -> Command {
        Command(
            std::process::Command::new("/bin/sleep")
                .arg("60")
                .spawn()
                .unwrap(),
        )
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn start(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let (_, rest) = text.rsplit_once(')').unwrap();
        rest.split_whitespace().nth(19).unwrap().parse().unwrap()
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_directory_takes_the_place_of_another_and_a_reader_finds_one_or_the_other() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("tree");
    image(&path, "old");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                assert!(path.exists());
            }
        });
        for _ in 0..50 {
            let output = Output::directory(&path).unwrap();
            image(&output.temporary(), "new");
            output.finish().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
    assert_eq!(names(place.path()), ["tree"]);
    assert_eq!(names(&path), [".chariot", "file"]);
    assert_eq!(contents(&path), "new");
}

#[test]
fn a_directory_that_is_no_image_of_chariot_keeps_its_name_and_all_that_is_in_it() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("mine");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("file"), "mine").unwrap();
    let output = Output::directory(&path).unwrap();
    image(&output.temporary(), "new");
    assert!(output.finish().is_err());
    output.abandon();
    assert_eq!(contents(&path), "mine");
    assert_eq!(names(place.path()), ["mine"]);
}

#[test]
fn what_was_moved_aside_by_somebody_who_was_killed_comes_back() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("tree");
    image(&place.path().join(left("tree", Role::Old)), "old");
    Output::directory(&path).unwrap().abandon();
    assert_eq!(contents(&path), "old");
    // One that was being removed is not what was there, and goes.
    let doomed = place.path().join(left("tree", Role::Old));
    fs::create_dir_all(doomed.join("usr")).unwrap();
    fs::write(doomed.join(UNFINISHED), "").unwrap();
    Output::directory(&path).unwrap().abandon();
    assert_eq!(
        (names(place.path()), contents(&path)),
        (vec!["tree".into()], "old".into())
    );
    // If the new one has the name, the old one goes.
    image(&place.path().join(left("tree", Role::Old)), "older");
    Output::directory(&path).unwrap().abandon();
    assert_eq!(contents(&path), "old");
    assert_eq!(names(place.path()), ["tree"]);
}

#[test]
fn an_unfinished_directory_goes_away_later_and_one_that_people_made_stays() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("tree");
    let (unfinished, empty) = (
        place.path().join(left("tree", Role::Part)),
        place.path().join(left("tree", Role::Part)),
    );
    fs::create_dir_all(unfinished.join("deep/er")).unwrap();
    fs::write(unfinished.join(UNFINISHED), "").unwrap();
    fs::create_dir(&empty).unwrap();
    let mine = place.path().join(left("tree", Role::Part));
    fs::create_dir(&mine).unwrap();
    fs::write(mine.join("file"), "mine").unwrap();
    Output::directory(&path).unwrap().abandon();
    assert!(!unfinished.exists() && !empty.exists());
    assert_eq!(contents(&mine), "mine");
}

#[test]
fn what_another_has_removed_is_said_and_nothing_else_is_given_the_name() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("image");
    let output = Output::file(&path).unwrap();
    fs::remove_file(output.temporary()).unwrap();
    fs::write(output.temporary(), "forged").unwrap();
    let error = output.finish().unwrap_err();
    assert!(
        error.to_string().contains("was removed meanwhile"),
        "{error}"
    );
    output.abandon();
    assert!(!path.exists());
    assert_eq!(fs::read_to_string(output.temporary()).unwrap(), "forged");
}

#[test]
fn nobody_else_can_look_into_a_directory_that_is_not_complete() {
    let place = tempfile::tempdir().unwrap();
    let output = Output::directory(&place.path().join("tree")).unwrap();
    let mode = output.temporary().metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    output.abandon();
    assert!(names(place.path()).is_empty());
}

#[test]
fn a_directory_with_a_fifo_or_with_many_files_is_not_opened_file_by_file() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("image");
    let mode = nix::sys::stat::Mode::S_IRWXU;
    nix::unistd::mkfifo(&place.path().join("fifo"), mode).unwrap();
    nix::unistd::mkfifo(&place.path().join(left("image", Role::Part)), mode).unwrap();
    symlink("nowhere", place.path().join(".image.part.x")).unwrap();
    write(&path, b"new").unwrap();
    // Nothing that is no file was ever made under such a name.
    assert_eq!(names(place.path()).len(), 4);
    assert_eq!(fs::read_to_string(&path).unwrap(), "new");
}

#[test]
fn the_first_of_many_decides_what_a_small_file_says() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("pin");
    let first: usize = std::thread::scope(|scope| {
        let one = |number: u8| {
            let path = &path;
            scope.spawn(move || usize::from(write_first(path, &[number]).unwrap()))
        };
        let threads: Vec<_> = (0..8).map(one).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert_eq!(first, 1);
    let said = fs::read(&path).unwrap();
    assert!(!write_first(&path, b"later").unwrap());
    assert_eq!(fs::read(&path).unwrap(), said);
    assert_eq!(names(place.path()), ["pin"]);
}

#[test]
fn a_name_as_long_as_names_can_be_can_be_made() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("n".repeat(255));
    write(&path, b"new").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "new");
}

#[test]
fn what_has_the_name_by_now_and_was_never_looked_at_is_put_to_the_question() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("image");
    let refuse = || Err(Error::new("it is no image"));
    let finish = |output: &Output| {
        let result = output.finish_if(refuse);
        output.abandon();
        result.is_ok()
    };
    let output = Output::file(&path).unwrap();
    fs::write(&path, "mine").unwrap();
    assert!(!finish(&output));
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    // A file that was removed gives its number to the next one; this one is held.
    let output = Output::file(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "mine again").unwrap();
    assert!(!finish(&output));
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine again");
    assert!(finish(&Output::file(&path).unwrap()));
    let new = Output::file(&place.path().join("new")).unwrap();
    new.finish_if(refuse).unwrap();
    drop(new);
    assert_eq!(names(place.path()), ["image", "new"]);
    // Two that make the same at once: the last one to come has the name.
    let (one, two) = (Output::file(&path).unwrap(), Output::file(&path).unwrap());
    for (output, text) in [(&one, "one"), (&two, "two")] {
        output.made().write_all(text.as_bytes()).unwrap();
        output.finish_if(|| Ok(())).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    // What was moved aside by somebody who was killed is what was there.
    let tree = place.path().join("tree");
    image(&place.path().join(left("tree", Role::Old)), "old");
    let output = Output::directory(&tree).unwrap();
    image(&output.temporary(), "new");
    assert!(finish(&output));
    assert_eq!(contents(&tree), "new");
}

#[test]
fn a_directory_that_somebody_has_begun_to_remove_gets_no_name() {
    let place = tempfile::tempdir().unwrap();
    let tree = place.path().join("tree");
    image(&tree, "old");
    let output = Output::directory(&tree).unwrap();
    image(&output.temporary(), "new");
    fs::remove_file(output.temporary().join(UNFINISHED)).unwrap();
    assert!(output.finish().is_err());
    assert_eq!(contents(&tree), "old");
}

#[test]
fn an_old_time_of_its_own_does_not_make_a_directory_look_left_over() {
    let place = tempfile::tempdir().unwrap();
    let elsewhere = place.path().join(".tree.part.elsewhere.0badcafe-1.1.1-0");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join(UNFINISHED), "").unwrap();
    let old = SystemTime::now() - std::time::Duration::from_secs(10_000_000);
    fs::File::open(&elsewhere)
        .unwrap()
        .set_modified(old)
        .unwrap();
    Output::directory(&place.path().join("tree"))
        .unwrap()
        .abandon();
    assert!(elsewhere.exists());
}

#[test]
fn what_another_machine_has_lost_the_right_to_make_goes_and_what_others_there_make_stays() {
    let place = tempfile::tempdir().unwrap();
    let part = |pid: i32, count: i32| format!(".image.part.elsewhere.0badcafe-1.{pid}.5-{count}");
    for name in [part(7, 0), part(7, 3), part(8, 0)] {
        fs::write(place.path().join(name), "").unwrap();
    }
    let output = Output::file(&place.path().join("image")).unwrap();
    let (_, loser) = crate::files::maker::read(part(7, 1).as_ref(), None).unwrap();
    output.take_from(&[loser]);
    output.abandon();
    assert_eq!(names(place.path()), [part(8, 0)]);
}
