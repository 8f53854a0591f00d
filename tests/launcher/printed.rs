//! What is printed shows what images, archives, registries and users have put into names and texts, and does nothing.

use crate::place;
use crate::support::Said;
use crate::support::registry::{Answer, Server, plain};

/// A title for the terminal, a colour by one character, a line of its own, and text that is read from the right.
const EVIL: &str = "a\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}\r\nchariot: forged\tz";

/// For scripts: `$EVIL`.
fn run(place: &crate::Place, script: &str) -> Said {
    place.run_with(script, &[("EVIL", EVIL)])
}

/// Nothing that was said does anything to a terminal, and no line is somebody else's. It is said, though.
#[track_caller]
fn says_and_does_nothing(said: &Said) {
    let all = format!("{}{}", said.out, said.err);
    let acts = |character: char| {
        character != '\n' && (character.is_control() || "\u{202e}\u{2066}".contains(character))
    };
    assert!(!all.chars().any(acts), "{said:#?}");
    assert!(!all.contains("\nchariot: forged"), "{said:#?}");
    assert!(all.contains("owned"), "{said:#?}");
}

#[test]
fn what_an_image_says_of_itself_does_nothing_to_the_terminal_that_it_is_shown_on() {
    let place = place!();
    let mark = place.here().join("img/.chariot");
    std::fs::create_dir(&mark).unwrap();
    // In JSON as in Rust, but for a character with a number.
    let evil = r"a\u001b]0;owned\u0007\u009b31m\u202e\r\nchariot: forged\tz";
    let text = format!(
        r#"{{"source": "{evil}", "time": 1, "working_directory": "/{evil}", "architecture": "{evil}", "digest": "{evil}",
            "environment": {{"X{evil}": "{evil}"}}, "entrypoint": ["{evil}"], "command": ["{evil}"],
            "labels": {{"{evil}": "{evil}"}}, "layers": [{{"digest": "{evil}", "size": 1}}]}}"#
    );
    std::fs::write(mark.join("image.json"), text).unwrap();
    for command in [
        "inspect ./img",
        "explain ./img",
        "inspect --json ./img",
        "run ./img",
    ] {
        says_and_does_nothing(&run(&place, &format!("$C {command}")));
    }
    let said = run(
        &place,
        "mkdir -p .local/share/chariot && mv img \".local/share/chariot/$EVIL\"; $C images; \
         $C images --json; $C run \"$EVIL\" -- true",
    );
    says_and_does_nothing(&said);
}

#[test]
fn what_is_typed_is_shown_and_not_obeyed() {
    let place = place!();
    for command in [
        "run \"./$EVIL\" true",
        "run \"$EVIL\" true",
        "run ./img \"$EVIL\"",
        "run --bind \"/$EVIL:/x\" ./img true",
        "run --set-env \"$EVIL\" ./img true",
        "run \"--$EVIL\" ./img true",
        "\"$EVIL\"",
        "gc --size \"$EVIL\"",
        "edf check \"./$EVIL\"",
        "explain --bind \"/:/$EVIL\" ./img \"$EVIL\"",
        "help \"$EVIL\"",
        "rm \"$EVIL\"",
        "run docker://\"$EVIL\" true",
    ] {
        says_and_does_nothing(&run(&place, &format!("$C {command}")));
    }
    let said = run(
        &place,
        "ln -s $(set -- $C; echo $1) ch-run; ./ch-run \"./$EVIL\" -- true; ./ch-run \"--$EVIL\"",
    );
    says_and_does_nothing(&said);
    let said = run(
        &place,
        "printf 'image = \"./img\"\\n[env]\\nX = \"a\\\\u001b]0;owned\\\\u0007\\\\u009b\\\\u202e\"\\n' >\"$EVIL.toml\"; \
         $C edf render \"./$EVIL.toml\" >again.toml && cat again.toml; $C run --edf ./again.toml sh -c 'echo $X' | od -c | head -3 >&2",
    );
    says_and_does_nothing(&said);
    assert!(said.err.contains("033"), "{said:#?}");
}

#[test]
fn what_an_archive_calls_its_members_is_shown_and_not_obeyed() {
    let place = place!();
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Link);
    header.set_size(0);
    tar.append_link(&mut header, EVIL, format!("gone{EVIL}"))
        .unwrap();
    std::fs::write(place.here().join("a.tar"), tar.into_inner().unwrap()).unwrap();
    let said = run(&place, "$C unpack ./a.tar ./tree; $C pack ./a.tar ./a.sqfs");
    says_and_does_nothing(&said);
}

#[test]
fn what_a_registry_says_is_shown_and_not_obeyed() {
    let place = place!();
    let evil = r"a\u001b]0;owned\u0007\u009b31m\u202e\r\nchariot: forged\tz";
    let digest = format!("sha256:{}", "7".repeat(64));
    let index = format!(
        r#"{{"schemaVersion": 2, "manifests": [{{"digest": "{digest}", "size": 7, "platform":
            {{"architecture": "{evil}", "os": "{evil}", "variant": "{evil}"}}}}]}}"#
    );
    let server = Server::start(move |_| Answer::ok(index.clone()));
    let site = place.here().join("site.toml");
    std::fs::write(&site, plain(&server.host)).unwrap();
    let said = run(
        &place,
        &format!(
            "R=\"{} --config {}\"; H={}; $R pull $H/team/app:1 ./x.sqfs; $R resolve docker://$H/team/app:1",
            place.launcher,
            site.display(),
            server.host
        ),
    );
    says_and_does_nothing(&said);
}

#[test]
fn a_name_that_is_no_text_takes_no_list_away() {
    let place = place!();
    let said = run(
        &place,
        "mkdir -p .local/share/chariot; cp -r img .local/share/chariot/$'odd\\xff'; $C images --json && $C images",
    );
    assert!(said.ok().contains("odd"), "{said:#?}");
}

/// While an upgrade goes on, slurmstepd can have the plugin of before.
#[test]
fn a_plugin_of_an_older_form_reads_the_refusal_in_its_own_words() {
    let place = place!();
    let said = place.run(
        "printf 'vchariot-handover 3 0.1.0\\0x\\0' | \
         sh -c '$C step --socket 5 --parent $$ 5</dev/null; echo $?'",
    );
    let lines: Vec<_> = said.ok().lines().collect();
    assert_eq!(lines.len(), 4, "{said:#?}");
    assert!(
        lines[0].starts_with("Ecan't read the request of the task: Chariot "),
        "{said:#?}"
    );
    assert!(lines[0].ends_with("what Chariot 0.1.0 wrote"), "{said:#?}");
    assert!(lines[1].starts_with("Hchariot and chariot.so"), "{said:#?}");
    assert_eq!(lines[2..], ["X125", "125"], "{said:#?}");
}
