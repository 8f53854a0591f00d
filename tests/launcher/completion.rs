//! Completion in bash, as its readline asks for it.

use crate::place;

/// What a tabulator after a line offers, as bash would put it in the place of the last part of the last word.
fn offered(place: &crate::Place, line: &str) -> String {
    let script = r#"
        mkdir -p bin edf .local/share/chariot && ln -sf "$PROGRAM" bin/chariot && PATH=$PWD/bin:$PATH
        touch edf/torch.toml .local/share/chariot/{team+small:1,debian}.sqfs data.sqfs
        source <(chariot completions bash)
        COMP_LINE=$LINE COMP_POINT=${#LINE}
        compopt() { :; }
        _chariot && echo "${COMPREPLY[*]}""#;
    let here = place.here().display().to_string();
    let edf = place.here().join("edf").display().to_string();
    let variables = [
        ("PROGRAM", place.launcher.as_str()),
        ("LINE", line),
        ("HOME", &here),
        ("EDF_PATH", &edf),
    ];
    let script = format!("bash -c '{}'", script.replace('\'', "'\\''"));
    let said = place.run_with(&script, &variables);
    said.ok().replace('\n', " ")
}

#[test]
fn bash_completes_images_options_values_and_subjects() {
    let place = place!();
    for (line, expected) in [
        ("chariot insp", "inspect"),
        ("chariot run de", "debian"),
        ("chariot run team+small:", "1"),
        ("chariot run da", "data.sqfs"),
        ("chariot run ./da", "./data.sqfs"),
        ("chariot inspect team", "team+small:1"),
        ("chariot rm deb", "debian"),
        ("chariot run --ove", "--overlay"),
        ("chariot run --home=n", "no"),
        ("chariot run --pull mi", "missing"),
        ("chariot run --edf to", "torch"),
        ("chariot help pack", "packages pack"),
        ("chariot completions ba", "bash"),
        // Neither what is hidden, nor what only other tools have.
        ("chariot ope", ""),
        ("chariot run --det", ""),
    ] {
        assert_eq!(offered(&place, line), expected, "{line}");
    }
    let all = offered(&place, "chariot ");
    let hidden = ["task", "step", "open", "resolve", "complete"];
    assert!(
        all.contains("run") && !all.split(' ').any(|word| hidden.contains(&word)),
        "{all}"
    );
}
