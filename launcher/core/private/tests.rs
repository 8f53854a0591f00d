use crate::sys::rights;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};

use super::*;

/// Two other users.
const EVE: u32 = 4711;
const MALLORY: u32 = 4712;

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn owner(path: &Path, user: u32) {
    lchown(path, Some(user), None).unwrap();
}

/// What is said of the path, by one who reads and by one who would make it; both say the same.
#[track_caller]
fn refused(path: &Path, whose: Whose) -> String {
    let reading = open(path, whose).unwrap_err();
    let writing = make(path, whose, 0o700).unwrap_err();
    assert!(reading.is_foreign() && writing.is_foreign(), "{reading}");
    assert_eq!(reading.to_string(), writing.to_string());
    let place = path.ancestors().find(|place| {
        reading
            .to_string()
            .starts_with(&place.display().to_string())
    });
    reading
        .to_string()
        .replace(&format!("{} ", place.unwrap().display()), "")
}

/// A directory with `a/b` in it; none for who cannot give files to others.
fn place() -> Option<(tempfile::TempDir, PathBuf)> {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("a/b");
    fs::create_dir_all(&path).unwrap();
    rights::is_root().then_some((place, path))
}

#[test]
fn what_is_ones_own_below_what_is_roots_is_used_and_what_is_missing_is_made() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("a/b/c");
    assert!(open(&path, Whose::Own).unwrap_err().is_missing());
    make(&path, Whose::Own, 0o700).unwrap();
    open(&path, Whose::Own).unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
        0o700
    );
    // By names of every form that lead there.
    open(&path.join("../../b/c"), Whose::Own).unwrap();
    symlink("a/b", place.path().join("relative")).unwrap();
    symlink(place.path().join("a"), place.path().join("absolute")).unwrap();
    open(&place.path().join("relative/c"), Whose::Own).unwrap();
    make(&place.path().join("absolute/b/d"), Whose::Own, 0o700).unwrap();
    assert!(place.path().join("a/b/d").is_dir());
    symlink("circle", place.path().join("circle")).unwrap();
    assert!(
        !open(&place.path().join("circle"), Whose::Own)
            .unwrap_err()
            .is_foreign()
    );
    fs::write(place.path().join("file"), "").unwrap();
    assert!(
        !make(&place.path().join("file/x"), Whose::Own, 0o700)
            .unwrap_err()
            .is_foreign()
    );
}

#[test]
fn a_directory_that_others_write_is_refused_wherever_on_the_path_it_is() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("a/b");
    fs::create_dir_all(&path).unwrap();
    for on_the_way in [place.path().join("a"), path.clone()] {
        mode(&on_the_way, 0o777);
        assert_eq!(refused(&path, Whose::Own), "can be written by everybody");
        assert_eq!(refused(&path, Whose::Shared), "can be written by everybody");
        mode(&on_the_way, 0o755);
        open(&path, Whose::Own).unwrap();
    }
    // The sticky bit keeps others from taking it away, as in /tmp, but not from putting something in it.
    mode(&place.path().join("a"), 0o1777);
    open(&path, Whose::Own).unwrap();
    mode(&path, 0o1777);
    assert_eq!(refused(&path, Whose::Own), "can be written by everybody");
}

#[test]
fn a_group_that_others_are_in_may_write_what_is_shared_and_nothing_that_is_ones_own() {
    let Some((place, path)) = place() else { return };
    for on_the_way in [place.path().join("a"), path.clone()] {
        chown(&on_the_way, None, Some(EVE)).unwrap();
        mode(&on_the_way, 0o2775);
        assert_eq!(refused(&path, Whose::Own), "can be written by group 4711");
        open(&path, Whose::Shared).unwrap();
        mode(&on_the_way, 0o755);
    }
    // The group of one's own name has nobody else in it: what an umask of 002 makes is private.
    chown(&path, None, Some(0)).unwrap();
    mode(&path, 0o775);
    open(&path, Whose::Own).unwrap();
    assert_eq!(refused(&path, Whose::Roots), "can be written by group 0");
}

#[test]
fn what_another_user_made_is_refused_whether_a_directory_a_link_or_a_file() {
    let Some((place, path)) = place() else { return };
    let on_the_way = place.path().join("a");
    owner(&on_the_way, EVE);
    for whose in [Whose::Own, Whose::Shared, Whose::Roots] {
        assert_eq!(refused(&path, whose), "belongs to user 4711");
        assert_eq!(
            refused(&on_the_way.join("missing"), whose),
            "belongs to user 4711"
        );
    }
    assert!(!on_the_way.join("missing").exists());
    owner(&on_the_way, 0);
    owner(&path, EVE);
    assert_eq!(refused(&path, Whose::Own), "belongs to user 4711");
    owner(&path, 0);
    // A link to what is one's own, and one to nowhere.
    let link = place.path().join("link");
    for target in [path.as_path(), Path::new("/nonexistent")] {
        symlink(target, &link).unwrap();
        owner(&link, EVE);
        assert_eq!(
            refused(&link, Whose::Own),
            "is a link that user 4711 has laid"
        );
        assert_eq!(
            refused(&link.join("x"), Whose::Own),
            "is a link that user 4711 has laid"
        );
        fs::remove_file(&link).unwrap();
    }
    fs::write(&link, "").unwrap();
    owner(&link, EVE);
    assert_eq!(refused(&link, Whose::Own), "belongs to user 4711");
}

#[test]
fn in_a_sticky_directory_of_another_user_nothing_is_safe() {
    let Some((place, path)) = place() else { return };
    let on_the_way = place.path().join("a");
    mode(&on_the_way, 0o1777);
    owner(&on_the_way, MALLORY);
    assert_eq!(refused(&path, Whose::Own), "belongs to user 4712");
}

#[test]
fn where_a_link_of_roots_leads_is_asked_as_well() {
    let Some((place, path)) = place() else { return };
    let link = place.path().join("link");
    symlink(&path, &link).unwrap();
    open(&link, Whose::Own).unwrap();
    owner(&place.path().join("a"), EVE);
    assert_eq!(
        open(&link, Whose::Own).unwrap_err().to_string(),
        format!("{} belongs to user 4711", place.path().join("a").display())
    );
}

#[test]
fn a_file_is_as_good_as_both_ways_to_it() {
    let Some((place, path)) = place() else { return };
    let (file, link) = (path.join("file"), place.path().join("a/link"));
    fs::write(&file, "").unwrap();
    symlink(&file, &link).unwrap();
    let refused = |path: &Path, whose| {
        let opened = File::open(path).unwrap();
        refuse_file(&opened, path, whose).map_err(|refusal| refusal.to_string())
    };
    for whose in [Whose::Roots, Whose::Trusted] {
        assert_eq!(refused(&link, whose), Ok(()));
        for (on_the_way, what) in [
            (&path, "b belongs to user 4711"),
            (&file, "belongs to user 4711"),
            (&link, "link belongs to user 4711"),
        ] {
            owner(on_the_way, EVE);
            let error = refused(&link, whose).unwrap_err();
            assert!(error.ends_with(what), "{error}");
            owner(on_the_way, 0);
        }
        mode(&file, 0o666);
        let error = refused(&link, whose).unwrap_err();
        assert!(
            error.ends_with("link can be written by everybody"),
            "{error}"
        );
        mode(&file, 0o644);
        // In a directory such as /tmp nobody else can take it away.
        mode(&path, 0o1777);
        assert_eq!(refused(&link, whose), Ok(()));
        mode(&path, 0o777);
        assert!(refused(&link, whose).is_err());
        mode(&path, 0o755);
    }
}
