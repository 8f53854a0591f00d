//! Environment definition files, as a person uses them without Slurm.

use crate::place;

#[test]
fn an_environment_file_says_what_to_run_in_and_how() {
    let place = place!();
    std::fs::write(
        place.here().join("job.toml"),
        "image = './img'\nwritable = false\nworkdir = '/data'\nmounts = ['./${SUB:-data}:/data:ro']\n\
         [env]\nGREETING = 'hello ${WHO}'\nGONE = ''\n[annotations.com.hooks]\ncxi.enabled = 'true'\n",
    )
    .unwrap();
    let said = place.run(
        "mkdir data; export WHO=you GONE=here; \
         $C run --edf=./job.toml -- sh -c 'pwd; echo $GREETING ${GONE-gone}; touch /data/x' ; \
         mkdir .edf; cp job.toml .edf; $C run --edf job --set-env GREETING=typed sh -c 'echo $GREETING'; \
         EDF_PATH=/nowhere $C explain --edf job true | grep -A1 ^annotations",
    );
    let lines: Vec<_> = said.out.lines().collect();
    let (shown, annotation) = (&lines[..4], lines[4]);
    assert_eq!(
        shown,
        [
            "/data",
            "hello you gone",
            "typed",
            "annotations  of no effect here"
        ],
        "{said:#?}"
    );
    assert!(
        annotation.contains("com.hooks.cxi.enabled = true ("),
        "{said:#?}"
    );
    assert!(said.err.contains("Read-only file system"), "{said:#?}");
}

#[test]
fn what_is_wrong_in_an_environment_file_is_told_by_line_and_what_it_comes_to_by_origin() {
    let place = place!();
    let write = |name: &str, text: &str| std::fs::write(place.here().join(name), text).unwrap();
    write("base.toml", "image = './img'\nmounts = ['/usr:/usr']\n");
    write(
        "good.toml",
        "base_environment = './base.toml'\nwritable = false\n",
    );
    write(
        "bad.toml",
        "image = './img'\nmounts = ['/usr:/usr',\n  'usr']\n",
    );
    let said = place.run("$C edf render good.toml; $C edf check ./good.toml");
    for expected in [
        "image = \"./img\"  # ",
        "base.toml:1\n",
        "good.toml:2\n",
        "good.toml: nothing is wrong",
    ] {
        assert!(
            said.ok().contains(expected) || said.out.contains(expected),
            "{expected}: {said:#?}"
        );
    }
    for command in [
        "edf check bad.toml",
        "run --edf=bad.toml true",
        "explain --edf bad.toml true",
    ] {
        let said = place.run(&format!("$C {command}"));
        assert_eq!(said.code, 125, "{said:#?}");
        assert!(
            said.err.contains("bad.toml:3:3: a mount is SRC:DST"),
            "{said:#?}"
        );
    }
    write("none.toml", "workdir = '/'\n");
    let said = place.run("$C run --edf=./none.toml true");
    assert!(said.err.contains("none.toml names no image"), "{said:#?}");
    let said = place.run("$C run --edf=nothing true");
    said.failed(125, "can't find an environment named nothing", 1);
}
