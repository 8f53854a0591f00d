use std::fs;
use std::sync::atomic::AtomicBool;

use super::pace::Pace;
use super::turn::{newest, watching};
use super::watched::Watched;
use super::*;

fn want(directory: &Path, seconds: u64) -> Want<'_> {
    Want {
        directory,
        name: "x",
        word: "IMAGE",
        patience: Duration::from_secs(seconds),
        crowd: Crowd::ALONE,
    }
}

fn wait(directory: &Path, is_there: bool) -> Result<Turn> {
    take(&want(directory, 2), || is_there, &mut |_| {})
}

#[test]
fn the_first_makes_it_and_the_others_wait_with_a_bound() {
    let place = tempfile::tempdir().unwrap();
    let Ok(Turn::Mine(lease)) = wait(place.path(), false) else {
        panic!()
    };
    let error = wait(place.path(), false).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("timed out after 2 s waiting for "),
        "{error}"
    );
    lease.end();
    assert!(matches!(wait(place.path(), true), Ok(Turn::Made)));
    assert!(matches!(wait(place.path(), false), Ok(Turn::Mine(_))));
}

#[test]
fn what_is_said_of_a_failure_stays_a_sentence_and_a_hint_whatever_they_name() {
    let place = tempfile::tempdir().unwrap();
    let lease = Lease::new(place.path(), "x", 1);
    assert!(lease.create().unwrap());
    lease.fail(&Error::new("can't read a\nrun this").hint("look\nagain"));
    let text = read(&lease.path()).unwrap().unwrap();
    let error = failure(text.strip_prefix(FAILED).unwrap(), "x");
    assert_eq!(error.to_string(), "can't read a\\nrun this");
    assert_eq!(error.advice(), Some("look\\nagain"));
}

#[test]
fn who_waits_hears_why_it_failed_and_who_comes_later_tries_again() {
    let place = tempfile::tempdir().unwrap();
    let Ok(Turn::Mine(lease)) = wait(place.path(), false) else {
        panic!()
    };
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| wait(place.path(), false));
        std::thread::sleep(Duration::from_millis(300));
        lease.fail(&Error::new("no such image").hint("look again"));
        let error = waiting.join().unwrap().unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), error.advice()),
            ("no such image", Some("look again"))
        );
    });
    for number in 2..5 {
        let Ok(Turn::Mine(next)) = wait(place.path(), false) else {
            panic!()
        };
        assert_eq!(next.number, number);
        next.fail(&Error::new("again"));
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }
    let Ok(Turn::Mine(last)) = wait(place.path(), false) else {
        panic!()
    };
    last.end();
    assert_eq!(newest(place.path(), "x").unwrap(), None);
}

fn take_over(directory: &Path) -> Lease {
    take_over_by(directory, false)
}

fn take_over_by(directory: &Path, glances: bool) -> Lease {
    match wait_by(directory, glances, || false) {
        Ok(Turn::Mine(lease)) => lease,
        turn => panic!("{turn:?}"),
    }
}

/// Waits as one of few nodes, or as one of many.
fn wait_by(directory: &Path, glances: bool, is_there: impl Fn() -> bool) -> Result<Turn> {
    watching(
        &want(directory, 9),
        is_there,
        &mut |_| {},
        Pace::of(Crowd::ALONE),
        &mut Watched::new(Duration::from_millis(200), glances),
    )
}

#[test]
fn who_only_glances_takes_over_from_the_silent_and_from_nobody_who_works() {
    let place = tempfile::tempdir().unwrap();
    let silent = take_over(place.path());
    let next = take_over_by(place.path(), true);
    assert!(silent.was_taken_over());
    assert_eq!(next.number, 2);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| take_over_by(place.path(), true));
        for beat in 1..20 {
            next.write(&next.text(beat, &Progress::default())).unwrap();
            std::thread::sleep(Duration::from_millis(50));
            assert!(!waiting.is_finished());
        }
        let start = Instant::now();
        assert_eq!(waiting.join().unwrap().number, 3);
        assert!(start.elapsed() > Duration::from_millis(100));
    });
}

#[test]
fn who_only_glances_sees_that_the_image_is_there_and_hears_why_it_is_not() {
    let place = tempfile::tempdir().unwrap();
    for is_made in [true, false] {
        let lease = take_over(place.path());
        let made = AtomicBool::new(false);
        let is_there = || made.load(Ordering::SeqCst);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| wait_by(place.path(), true, is_there));
            std::thread::sleep(Duration::from_millis(100));
            made.store(is_made, Ordering::SeqCst);
            match is_made {
                true => lease.end(),
                false => lease.fail(&Error::new("no such image")),
            }
            match waiting.join().unwrap() {
                Ok(turn) => assert!(is_made && matches!(turn, Turn::Made)),
                Err(error) => assert_eq!(error.to_string(), "no such image"),
            }
        });
    }
}

#[test]
fn a_holder_that_wakes_up_late_knows_its_loss_and_touches_nobody_elses_lease() {
    let place = tempfile::tempdir().unwrap();
    let suspended = take_over(place.path());
    assert!(!suspended.was_taken_over());
    let next = take_over(place.path());
    assert_eq!(next.number, 2);
    assert!(suspended.was_taken_over());
    next.end();
    assert!(suspended.was_taken_over());
    // Somebody begins anew under the number that the first one had.
    let other = take_over(place.path());
    assert_eq!(other.number, suspended.number);
    assert!(suspended.was_taken_over());
    suspended.write("overwritten").unwrap_err();
    suspended.fail(&Error::new("woken"));
    suspended.end();
    assert!(!other.was_taken_over());
}

#[test]
fn who_died_on_this_machine_is_not_waited_for() {
    let place = tempfile::tempdir().unwrap();
    let lease = take_over(place.path());
    let ended = std::process::Command::new("/bin/true").spawn().unwrap();
    let (own, dead) = (std::process::id(), ended.id());
    ended.wait_with_output().unwrap();
    let text = fs::read_to_string(lease.path()).unwrap();
    let text = text.replace(&format!(".{own}."), &format!(".{dead}."));
    fs::write(lease.path(), text).unwrap();
    let start = Instant::now();
    assert!(matches!(wait(place.path(), false), Ok(Turn::Mine(_))));
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[test]
fn leases_that_nobody_holds_are_swept_and_a_users_files_are_not() {
    use crate::files::own::{Own, Purpose};
    let place = tempfile::tempdir().unwrap();
    let own = Own::prepare(&place.path().join("c"), Purpose::Cache, 0o700).unwrap();
    let leases = own.root().make("leases").unwrap();
    let (one, two) = ("1".repeat(64), "2".repeat(64));
    let held = Lease::new(leases.path(), &one, 1);
    let failed = Lease::new(leases.path(), &two, 1);
    assert!(held.create().unwrap() && failed.create().unwrap());
    failed.fail(&Error::new("no"));
    fs::write(leases.path().join("notes.1"), FAILED).unwrap();
    nix::unistd::mkfifo(
        &leases.path().join(format!("{one}.9")),
        nix::sys::stat::Mode::S_IRWXU,
    )
    .unwrap();
    let names = || {
        let names = fs::read_dir(leases.path()).unwrap().flatten();
        let mut names: Vec<_> = names.map(|entry| entry.file_name()).collect();
        names.sort();
        names
    };
    sweep(&leases, false);
    let (held, fifo, failed) = (format!("{one}.1"), format!("{one}.9"), format!("{two}.1"));
    assert_eq!(names(), [&held, &fifo, &failed, "notes.1"]);
    sweep(&leases, true);
    assert_eq!(names(), [&held, &fifo, "notes.1"]);
    assert!(is_busy(&leases));
    removal::file(&leases.path().join(&held)).unwrap();
    assert!(!is_busy(&leases));
}

#[test]
fn who_waits_is_told_what_is_known_and_no_more() {
    let mut watched = Watched::new(SILENCE, false);
    for (text, what, done) in [
        ("", "another process is working", 0),
        ("n1 token 0 0 0 \n", "n1 is working", 0),
        (
            "n1 token 3 5 9 layer abc\nrest",
            "n1 is working: layer abc",
            5,
        ),
    ] {
        watched.text = text.into();
        let progress = watched.progress();
        assert_eq!((progress.what.as_str(), progress.done), (what, done));
    }
}

#[test]
fn of_many_at_once_one_makes_it() {
    let place = tempfile::tempdir().unwrap();
    let made = AtomicBool::new(false);
    let turns: Vec<Turn> = std::thread::scope(|scope| {
        let one = || {
            let is_there = || made.load(Ordering::SeqCst);
            let turn = take(&want(place.path(), 9), is_there, &mut |_| {}).unwrap();
            if let Turn::Mine(lease) = &turn {
                std::thread::sleep(Duration::from_millis(100));
                assert!(!made.swap(true, Ordering::SeqCst), "twice");
                lease.end();
            }
            turn
        };
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(one)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(
        turns
            .iter()
            .filter(|turn| matches!(turn, Turn::Mine(_)))
            .count(),
        1
    );
}

#[test]
fn who_takes_over_knows_from_whom() {
    let place = tempfile::tempdir().unwrap();
    let token = |pid: i32| format!(".lease.part.elsewhere.0badcafe-1.{pid}.5-0");
    for pid in [1, 2] {
        let text = format!("elsewhere {} 0 0 0 \n", token(pid));
        fs::write(path(place.path(), "x", u64::try_from(pid).unwrap()), text).unwrap();
    }
    let lease = Lease::new(place.path(), "x", 3);
    let known = [1, 2].map(|pid| maker::read(OsStr::new(&token(pid)), None).unwrap().1);
    assert_eq!(lease.losers(), known);
}
