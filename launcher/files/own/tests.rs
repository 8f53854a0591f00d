use chariot_core::sys::rights;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use super::*;

#[test]
fn a_directory_that_somebody_else_filled_is_never_taken_for_ones_own() {
    let place = tempfile::tempdir().unwrap();
    let theirs = place.path().join("theirs");
    fs::create_dir_all(theirs.join("images")).unwrap();
    for _ in 0..2 {
        let error = Own::prepare(&theirs, Purpose::Cache, 0o700).unwrap_err();
        assert!(
            error.to_string().ends_with("Chariot did not make it"),
            "{error}"
        );
        assert!(Own::open(&theirs, Purpose::Cache).is_err());
        assert_eq!(fs::read_dir(&theirs).unwrap().count(), 1);
    }
}

#[test]
fn a_store_that_people_filled_is_used_and_left_unmarked_and_a_new_one_is_marked() {
    let place = tempfile::tempdir().unwrap();
    let (theirs, new) = (place.path().join("theirs"), place.path().join("new"));
    fs::create_dir(&theirs).unwrap();
    fs::write(theirs.join("debian.sqfs"), "").unwrap();
    let prepare = |path: &Path| Own::prepare_or_leave(path, Purpose::Store, 0o700);
    assert!(prepare(&theirs).unwrap().is_none());
    assert_eq!(fs::read_dir(&theirs).unwrap().count(), 1);
    assert!(prepare(&new).unwrap().is_some());
    assert_eq!(fs::metadata(&new).unwrap().mode() & 0o777, 0o700);
    fs::write(new.join("debian.sqfs"), "").unwrap();
    assert!(prepare(&new).unwrap().is_some());
    let cache = place.path().join("cache");
    Own::prepare(&cache, Purpose::Cache, 0o700).unwrap();
    assert!(prepare(&cache).is_err());
}

#[test]
fn a_cache_of_a_version_without_marks_is_refused_with_what_to_do() {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir_all(place.path().join("blobs/sha256")).unwrap();
    let error = Own::prepare(place.path(), Purpose::Cache, 0o700).unwrap_err();
    assert!(error.advice().unwrap().contains("Chariot 0.1"));
    fs::write(place.path().join("thesis"), "").unwrap();
    let error = Own::prepare(place.path(), Purpose::Cache, 0o700).unwrap_err();
    assert!(!error.advice().unwrap().contains("remove"));
}

#[test]
fn a_link_of_somebody_else_on_the_way_is_refused() {
    if !rights::is_root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let (link, project) = (place.path().join("link"), place.path().join("project"));
    fs::create_dir(&project).unwrap();
    symlink(&project, &link).unwrap();
    Own::prepare(&link.join("own"), Purpose::Stage, 0o700).unwrap();
    std::os::unix::fs::lchown(&link, Some(4711), None).unwrap();
    for path in [link.clone(), link.join("deeper")] {
        let error = Own::prepare(&path, Purpose::Stage, 0o700).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("is a link that user 4711 has laid"),
            "{error}"
        );
        assert!(!project.join("deeper").exists());
    }
}

#[test]
fn what_chariot_made_is_known_again_and_what_it_is_for() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("a/b");
    assert!(Own::open(&path, Purpose::Cache).unwrap().is_none());
    let own = Own::prepare(&path, Purpose::Cache, 0o700).unwrap();
    own.root().make("images").unwrap();
    Own::prepare(&path, Purpose::Cache, 0o700).unwrap();
    assert!(Own::open(&path, Purpose::Cache).unwrap().is_some());
    assert!(Own::prepare(&path, Purpose::Store, 0o700).is_err());
    fs::write(path.join(OWN_MARK), "chariot cache 99\n").unwrap();
    assert!(Own::open(&path, Purpose::Cache).is_err());
    fs::remove_file(path.join(OWN_MARK)).unwrap();
    symlink("/etc/passwd", path.join(OWN_MARK)).unwrap();
    assert!(Own::prepare(&path, Purpose::Cache, 0o700).is_err());
}

#[test]
fn of_many_that_begin_at_once_all_find_the_mark() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("cache");
    std::thread::scope(|scope| {
        for number in 0..8 {
            let path = &path;
            scope.spawn(move || {
                let own = Own::prepare(path, Purpose::Cache, 0o700).unwrap();
                own.root().make(&format!("d{number}")).unwrap();
            });
        }
    });
    assert!(Own::open(&path, Purpose::Cache).unwrap().is_some());
    // The mark, and the directories: nobody left a part of it.
    assert_eq!(fs::read_dir(&path).unwrap().count(), 9);
}

#[test]
fn what_lies_where_a_directory_is_expected_is_not_followed() {
    let place = tempfile::tempdir().unwrap();
    let (path, elsewhere) = (place.path().join("cache"), place.path().join("elsewhere"));
    fs::create_dir(&elsewhere).unwrap();
    let own = Own::prepare(&path, Purpose::Cache, 0o700).unwrap();
    symlink(&elsewhere, path.join("images")).unwrap();
    assert!(own.root().make("images").is_err());
}
