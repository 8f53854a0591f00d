//! Where a job was asked for, where its script works, and where its steps do: what one of them sees, all see.

use crate::site;

/// A directory of the user's with links, as homes and scratch directories of sites have them.
const MADE: &str = "mkdir -p real/study/run_01 real/study/run_02; ln -s real q; cd q/study; \
                    echo '#!/bin/sh' >app; echo 'echo app in $(pwd)' >>app; chmod +x app; echo input >input.txt; \
                    ln -s ../run_02 run_01/other; echo two >run_02/two; ln -s $PWD/input.txt run_01/absolute; \
                    export W=$PWD R=$(pwd -P)";

#[test]
fn a_step_sees_what_the_script_sees_that_starts_it() {
    let site = site!();
    for batch in ["container", "host"] {
        let said = site.run(&format!(
            "{MADE}\n\
             cat >job <<'END'\n#!/bin/sh\n\
             cd run_01; srun ../app; srun cat ../input.txt; srun cat other/two absolute\n\
             cd /tmp; srun -n1 sh -c 'cp /etc/motd $SLURM_SUBMIT_DIR/out1; cp /etc/motd $R/out2; cp /etc/motd $W/out3'\n\
             cd $W; srun --chdir=run_02 sh -c 'cat ../input.txt two; pwd'\n\
             END\n\
             sbatch -W -o out -e err --ch-image=$I --ch-batch={batch} job >&2; cat out; cat err >&2; ls | grep out"
        ));
        let here = site.here().canonicalize().unwrap();
        let here = here.display();
        let said_out = said.ok().to_owned();
        assert!(
            said_out.starts_with(&format!("app in {here}/")),
            "{batch}: {said:#?}"
        );
        assert!(
            said_out.ends_with("run_02\nout\nout1\nout2\nout3"),
            "{batch}: {said:#?}"
        );
        assert!(
            said_out.contains("\ninput\ntwo\ninput\ninput\ntwo\n"),
            "{batch}: {said:#?}"
        );
        site.run("rm -rf real q").ok();
    }
}

#[test]
fn a_directory_works_by_every_name_that_its_user_can_have_seen() {
    let site = site!();
    let names = "for at in $W $R $SLURM_SUBMIT_DIR $PWD $(pwd -P) $(realpath input.txt) $W/run_01/absolute; do \
                ls -d $at >/dev/null || echo no $at; done";
    let look = format!("{names}; cd $SLURM_SUBMIT_DIR && cat input.txt");
    let said = site.run(&format!(
        "{MADE}\n\
         echo '#!/bin/sh' >job; echo '{look}' >>job\n\
         sbatch -W -o out -e err --ch-image=$I job >&2; cat out err\n\
         srun --ch-image=$I sh -c '{look}'\n\
         SHELL=/bin/sh salloc --ch-image=$I srun sh -c '{look}' 2>/dev/null\n\
         cd /; srun --chdir=$W --ch-image=$I sh -c '{names}'"
    ));
    let lines: Vec<_> = said.ok().lines().filter(|line| *line != "input").collect();
    assert!(lines.is_empty(), "{said:#?}");
}

#[test]
fn a_script_that_works_elsewhere_has_its_steps_see_both_places() {
    let site = site!();
    let said = site.run(
        "mkdir -p from work/sub; echo from >from/file; echo work >work/file; W=$PWD\n\
         printf '#!/bin/sh\\ncat file $SLURM_SUBMIT_DIR/../from/file\\ncd sub\\nsrun cat ../file '$W'/from/file\\n' >from/job\n\
         cd from; sbatch -W --chdir=../work -o out -e err --ch-image=$I job >&2; cat ../work/out; cat ../work/err >&2",
    );
    assert_eq!(said.ok(), "work\nfrom\nwork\nfrom", "{said:#?}");
}

#[test]
fn a_directory_that_was_asked_for_is_where_a_step_starts_if_the_image_has_one_of_its_name() {
    let site = site!();
    let said = site.run("srun --chdir=/etc --ch-image=$I sh -c 'pwd; cat motd'");
    assert_eq!(said.ok(), "/etc\nan image in a file", "{said:#?}");
    let said = site.run("srun --chdir=/boot --ch-image=$I sh -c pwd");
    assert!(
        said.out.trim() != "/" || said.err.contains("/boot (--chdir) is not visible"),
        "{said:#?}"
    );
}

#[test]
fn what_was_asked_for_below_a_directory_is_there_though_the_directory_would_be_shown() {
    let site = site!();
    let said = site.run(
        "mkdir -p sub; cd sub; salloc --ch-image=$I sh -c 'cd /; srun --ch-bind=/usr:'$PWD'/new ls -d '$PWD'/new' 2>err || cat err >&2",
    );
    assert!(said.ok().ends_with("/sub/new"), "{said:#?}");
}

#[test]
fn home_is_the_home_directory_or_says_that_there_is_none() {
    let site = site!();
    let echo = "--ch-image=$I /bin/sh -c 'echo $HOME'";
    let said = site.run(&format!(
        "mkdir -p ~/work.$$; cd ~/work.$$; getent passwd $(id -un) | cut -d: -f6\n\
         srun --ch-home {echo}; srun --export=NONE --ch-home {echo}; srun --export=A=1 --ch-home {echo}\n\
         env -u HOME srun --ch-home {echo}; CH_SET_ENV=HOME=/etc srun --ch-home {echo}\n\
         srun {echo}; srun --export=NONE {echo}\n\
         PYTHONHOME=/usr XDG_RUNTIME_DIR=$HOME srun --ch-image=$I /bin/sh -c 'echo ${{PYTHONHOME-none}} ${{XDG_RUNTIME_DIR-none}}'\n\
         cd; rmdir ~/work.$$"
    ));
    let lines: Vec<_> = said.ok().lines().collect();
    let home = lines[0];
    assert_eq!(
        lines,
        [home, home, home, home, home, "/etc", "/", "/", "none none"],
        "{said:#?}"
    );
}
