//! What people type who know another tool, tests/corpus/habits.txt: it works, or one sentence says how it is done here.

use crate::place;

const HABITS: &str = include_str!("../corpus/habits.txt");

/// A line of the table.
struct Habit {
    words: &'static str,
    expected: &'static str,
}

fn habits() -> Vec<Habit> {
    let lines = HABITS
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (_, rest) = line.split_once('|').unwrap();
            let (words, expected) = rest.rsplit_once("=> ").unwrap();
            Habit {
                words: words.trim(),
                expected: expected.trim(),
            }
        })
        .collect()
}

#[test]
fn habits_of_other_tools_work_or_are_told_their_way() {
    let place = place!();
    place
        .run(
            "mkdir data images .store sandbox; echo data >data/x
             printf '# one\\n\\nA=from a file\\n' >variables; echo \"image = './tree'\" >e.toml
             mv img tree; cp -a tree/. sandbox/; mkdir sandbox/.singularity.d
             printf '#!/bin/sh\\necho script $#\\n' >sandbox/.singularity.d/runscript
             chmod +x sandbox/.singularity.d/runscript
             $C pack ./tree small.sqfs; cp small.sqfs images/; $C export ./tree small.tar
             cp small.sqfs .store/team+small:1.sqfs; cp small.sqfs .store/debian.sqfs",
        )
        .ok();
    let here = place.here().display().to_string();
    let site = format!("store = \"{here}/.store\"\ncache = \"{here}/.cache\"\n");
    std::fs::write(place.here().join("site.toml"), site).unwrap();
    let program = format!("{} --config {here}/site.toml", place.launcher);
    let variables = [("R", program.as_str()), ("HOME", here.as_str())];
    let habits = habits();
    assert!(habits.len() >= 150);
    let mut wrong = Vec::new();
    for habit in habits {
        let script = format!("c() {{ $R \"$@\"; }}; {}", habit.words);
        let said = place.run_with(&script, &variables);
        let is_right = match habit.expected.split_once(' ') {
            Some(("=", text)) => said.code == 0 && said.out.trim_end().ends_with(text),
            Some(("!", text)) => said.code != 0 && said.err.contains(text),
            _ => said.code == 0,
        };
        if !is_right {
            wrong.push(format!("{} => {}\n{said:#?}", habit.words, habit.expected));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
