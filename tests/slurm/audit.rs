//! The line in slurmd's log that says what a step ran in, and those who would have it say something else.

use std::path::Path;

use crate::{Site, site};

/// A field and a line that are not true.
const FORGED: &str = "x\" digest=\"sha256:forged\" mount=\"y\n[2026-01-01T00:00:00.000] chariot: user=0 job=7\u{1b}[2J\u{202e}z";

/// What slurmd of n1 has logged on this job.
fn lines(site: &Site, job: &str) -> Vec<String> {
    let log = std::fs::read_to_string(site.cluster.join("log/slurmd-n1.log")).unwrap();
    assert!(!log.contains('\u{1b}') && !log.contains('\u{202e}'));
    assert!(
        !log.lines()
            .any(|line| line.starts_with("[2026-01-01T00:00:00.000]"))
    );
    let named = [format!(" job={job} "), format!("\"job\":{job},")];
    let is_of_job = |line: &&str| named.iter().any(|named| line.contains(named));
    log.lines().filter(is_of_job).map(str::to_owned).collect()
}

/// Runs a step in an image whose name is forged, and gives its line.
fn forged(site: &Site) -> String {
    std::os::unix::fs::symlink(&site.image, site.here().join(FORGED)).unwrap();
    std::fs::write(site.here().join("forged"), FORGED).unwrap();
    let said = site.run(
        "salloc -n2 -w n1 bash -c 'srun -n2 --ch-image=\"./$(cat forged)\" true && echo $SLURM_JOB_ID'",
    );
    let job = said.ok();
    let mut lines = lines(site, job);
    assert_eq!(lines.len(), 1, "{said:#?} {lines:#?}");
    lines.remove(0)
}

#[test]
fn a_name_of_an_image_forges_no_field_and_no_line_of_the_log() {
    let site = site!();
    let line = forged(&site);
    let outside_quotes: String = line
        .replace("\\\\", "")
        .replace("\\\"", "")
        .split('"')
        .step_by(2)
        .collect();
    assert!(outside_quotes.contains(" digest=- "), "{line}");
    assert!(!outside_quotes.contains("forged"), "{line}");
    assert_eq!(outside_quotes.matches("user=").count(), 1, "{line}");
}

#[test]
#[ignore = "alone: changes the site's file"]
fn the_line_is_an_object_where_the_site_wants_to_count() {
    let site = site!();
    site.with_file("[log]\naudit = \"json\"\n", || {
        let line = forged(&site);
        let (_, object) = line.split_once("chariot: ").unwrap();
        let said: serde_json::Value = serde_json::from_str(object).unwrap();
        let mut names: Vec<_> = said.as_object().unwrap().keys().collect();
        names.sort();
        assert_eq!(
            names,
            [
                "asked", "digest", "image", "job", "mount", "ms", "step", "user"
            ]
        );
        assert!(said["asked"].as_str().unwrap().ends_with(FORGED), "{said}");
        assert!(
            said["digest"].is_null() && said["mount"] == "directory" && said["step"] == 0,
            "{said}"
        );
    });
}

#[test]
fn a_limit_on_the_size_of_files_keeps_no_line_out_of_the_log() {
    let site = site!();
    if !Path::new(&site.image).is_dir() {
        crate::skip!("no image");
    }
    let said = site.run(
        "salloc -n1 -w n1 bash -c 'ulimit -f 0; srun --propagate=FSIZE --ch-image=$I true; echo $? $SLURM_JOB_ID'",
    );
    let (code, job) = said.ok().split_once(' ').unwrap();
    assert_eq!((code, lines(&site, job).len()), ("0", 1), "{said:#?}");
}

#[test]
fn a_message_of_a_step_is_a_line_on_srun_and_in_the_log_whatever_it_names() {
    let site = site!();
    std::fs::write(site.here().join("forged"), FORGED).unwrap();
    let said = site.run("srun -w n1 --ch-image=\"./gone/$(cat forged)\" true");
    assert_eq!(said.code, 125, "{said:#?}");
    assert!(
        !said.err.contains('\u{1b}') && !said.err.contains('\u{202e}'),
        "{said:#?}"
    );
    // Newer releases give messages of a step a time of their own.
    assert!(!said.err.contains("\n[2026-01-01"), "{said:#?}");
    lines(&site, "0");
}
