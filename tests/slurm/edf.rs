//! Environment definition files in jobs: read where the command is typed, and nowhere else.

use crate::site;

#[test]
fn a_job_takes_its_environment_file_along_and_no_node_reads_it() {
    let site = site!();
    let image = site.image.clone();
    let text = format!(
        "image = '{image}'\nwritable = false\nworkdir = '/tmp'\n[env]\nGREETING = 'hello ${{WHO}}'\n"
    );
    std::fs::write(site.here().join("job.toml"), text).unwrap();
    let show = "sh -c 'cat /etc/motd >/dev/null && busybox pwd && echo $GREETING'";
    let said = site.run(&format!("WHO=you srun -N2 --ch-edf=./job.toml {show}"));
    let mut lines: Vec<_> = said.ok().lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["/tmp", "/tmp", "hello you", "hello you"]);
    // The job's steps have it from the job, when the file is gone; what is typed for a step is stronger.
    site.script(
        "job",
        &format!(
            "#!/bin/sh\n#SBATCH --ch-edf=./job.toml --ch-batch=host\nrm job.toml\nsrun {show}\n\
             srun --ch-set-env=GREETING=typed {show}\nsrun --ch-edf=none test -e /etc/passwd && echo on the host\n"
        ),
    );
    let said = site.run("mkdir .edf; WHO=me sbatch -W -o out -e err job; cat out; cat err >&2");
    assert!(
        said.out
            .contains("/tmp\nhello me\n/tmp\ntyped\non the host"),
        "{said:#?}"
    );
}

#[test]
fn a_bad_environment_file_is_refused_before_anything_is_queued() {
    let site = site!();
    std::fs::write(
        site.here().join("bad.toml"),
        "image = '/i'\nmounts = ['/usr']\n",
    )
    .unwrap();
    let said = site.run(
        "srun --ch-edf=./bad.toml echo RAN; sbatch --ch-edf=./bad.toml --wrap true; srun --ch-edf=nowhere echo RAN",
    );
    assert_eq!(said.out, "", "{said:#?}");
    assert_eq!(
        said.err
            .matches("bad.toml:2:11: a mount is SRC:DST")
            .count(),
        2,
        "{said:#?}"
    );
    assert!(
        said.err.contains("can't find an environment named nowhere"),
        "{said:#?}"
    );
}
