//! Where a limit of the user's is reached: that is told in a sentence, and nothing half-made stays.

use crate::support::users::User;
use crate::{place, skip};

#[test]
fn where_there_can_be_no_more_threads_that_is_told_and_nothing_half_made_stays() {
    let place = place!();
    // To whose processes nobody else adds; root's are not counted.
    let Some(user) = User::new() else {
        skip!("only root makes users");
    };
    std::os::unix::fs::chown(place.here(), Some(user.uid), Some(user.gid)).unwrap();
    let launcher = format!("{} --config /dev/null", place.launcher);
    // Bash itself would try again and again where it cannot fork.
    let tried = |command: &str| {
        let script = format!(
            "tar cf a.tar img; for n in {{2..40}}; do (ulimit -u $n; exec $C {command}); code=$?; \
             [ $code != 0 ] || break; [ $code = 125 ] || echo ended with $code; \
             rm -rf .cache; ls -A | grep -vxe a.tar -e img; done; ls -A | grep -c ^out; rm -rf out*"
        );
        user.run(&script, place.here(), &[("C", &launcher)])
    };
    for (command, left) in [
        ("pack --quiet ./img out", "1\n"),
        ("pack --quiet ./a.tar out", "1\n"),
        ("unpack --quiet ./a.tar out", "1\n"),
        ("run ./a.tar true", "0\n"),
    ] {
        let said = tried(command);
        assert_eq!(said.out, left, "{command}: {said:#?}");
        assert!(!said.err.contains("bug in Chariot"), "{command}: {said:#?}");
        for line in said.err.lines().filter(|line| line.contains("clone(")) {
            assert!(line.contains("clone(CLONE_THREAD): "), "{command}: {line}");
        }
        assert!(
            said.err.contains("clone(CLONE_THREAD): "),
            "{command}: {said:#?}"
        );
        assert!(
            said.err.contains("`ulimit -u` is a limit"),
            "{command}: {said:#?}"
        );
    }
    // With one thread, where there can be no more.
    let said = tried("export --quiet ./img out.tar.zst");
    assert_eq!(said.out, "1\n", "{said:#?}");
    assert!(!said.err.contains("memory"), "{said:#?}");
}

#[test]
fn an_image_that_cannot_be_served_within_a_limit_says_which_it_may_be() {
    let place = place!();
    let Some(user) = User::new() else {
        skip!("only root makes users");
    };
    std::os::unix::fs::chown(place.here(), Some(user.uid), Some(user.gid)).unwrap();
    let launcher = format!("{} --config /dev/null", place.launcher);
    // What one has left behind counts until it has ended.
    let script = "$C pack --quiet ./img i.sqfs; for n in {1..40}; do (ulimit -u $n; exec $C run ./i.sqfs true); code=$?; \
                  [ $code != 0 ] || break; echo $code; while pgrep -u $(id -u) chariot >pids; do sleep 0.05; done; done; echo ended";
    let said = user.run(script, place.here(), &[("C", &launcher)]);
    let codes: Vec<_> = said.out.lines().collect();
    let (last, refused) = codes.split_last().unwrap();
    assert_eq!(*last, "ended", "{said:#?}");
    assert!(refused.len() > 2 && refused.len() < 40, "{said:#?}");
    assert!(refused.iter().all(|code| *code == "125"), "{said:#?}");
    let hints = said.err.matches("`ulimit -u`").count();
    assert_eq!(hints, refused.len(), "{said:#?}");
}
