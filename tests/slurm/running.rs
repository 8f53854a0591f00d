//! `chariot exec --job` and `chariot ps`: from a job's node, from elsewhere, and of nobody else's.

use crate::support::users::User;
use crate::{Site, site, skip, support};

/// For a shell: the launcher as `chariot`; and as one that sees no container here, as on another machine.
const CALLS: &str = "chariot() { \"$C\" \"$@\"; }; far() { unshare -U --map-current-user \"$C\" \"$@\"; }; \
                     there() { until [ -s $1 ]; do sleep 0.1; done; }; ";

/// What a step does that is to be found: it tells its number, and waits.
const WAITS: &str = "sh -c 'echo $$ >pid.$SLURM_PROCID; while [ ! -e go ]; do sleep 0.2; done'";

impl Site {
    fn with_launcher(&self, script: &str) -> support::Said {
        let launcher = std::env::var("CHARIOT").unwrap();
        self.run(&format!("C={launcher}; {CALLS}{script}"))
    }
}

#[test]
fn a_job_is_entered_on_its_node_and_from_elsewhere_and_the_command_is_the_callers() {
    let site = site!();
    site.script(
        "job",
        &format!(
            "#!/bin/sh\nsrun -N2 --ntasks-per-node=1 --ch-image={} {WAITS}\n",
            site.image
        ),
    );
    let said = site.with_launcher(
        "J=$(sbatch --parsable -N2 -o out job); there pid.0; there pid.1; \
         first=$(readlink /proc/$(cat pid.0)/ns/mnt); second=$(readlink /proc/$(cat pid.1)/ns/mnt); \
         n1=$(tr '\\0' '\\n' </proc/$(cat pid.0)/environ | sed -n s/SLURMD_NODENAME=//p); \
         n2=$(tr '\\0' '\\n' </proc/$(cat pid.1)/environ | sed -n s/SLURMD_NODENAME=//p); \
         for call in chariot far; do \
           [ $($call exec --job $J -- readlink /proc/self/ns/mnt) = $first ] && echo one; \
           [ $($call exec --job $J.0 --node $n2 -- readlink /proc/self/ns/mnt) = $second ] && echo two; \
           echo in | $call exec --job $J.0 --set-env A='b c' -- sh -c 'cat; echo $A'; \
           $call exec --job $J -- sh -c 'exit 7'; echo $?; \
           e=cret; CH_SET_ENV=KEY=se$e $call exec --job $J -- sh -c 'echo $KEY; cat /proc/[0-9]*/cmdline 2>/dev/null | grep -c =se[c]ret'; \
           $call exec --job $J -- sh -c \"tr '\\\\0' '\\\\n' </proc/$(cat pid.0)/environ | grep ^SLURM_PROCID=; : </proc/$(cat pid.0)/mem && echo traces\"; \
         done; touch go; until [ -z \"$(squeue -h -j $J)\" ]; do sleep 0.2; done; echo this is $n1, >&2",
    );
    let each = "one\ntwo\nin\nb c\n7\nsecret\n0\nSLURM_PROCID=0\ntraces";
    assert_eq!(said.ok(), format!("{each}\n{each}"), "{said:#?}");
    let notes = said.err.matches(said.err.lines().last().unwrap());
    assert!(notes.count() >= 3, "{said:#?}");
    site.nodes_are_fine();
}

#[test]
fn parts_of_a_job_are_called_as_squeue_shows_them() {
    let site = site!();
    site.script(
        "task",
        &format!("#!/bin/sh\nsrun --ch-image={} sh -c 'echo x >task.$SLURM_ARRAY_TASK_ID; while [ ! -e go ]; do sleep 0.2; done'\n", site.image),
    );
    let said = site.with_launcher(
        "A=$(sbatch --parsable -o /dev/null --array=1-2 task); there task.1; there task.2; \
         for call in chariot far; do for n in 1 2; do \
           $call exec --job ${A}_$n -- sh -c 'echo in'; $call ps --job ${A}_$n | sed 1d | tr -s ' ' | cut -d' ' -f2; done; \
           $call exec --job $A -- true; echo $?; $call exec --job ${A}_3 -- true; echo $?; done; touch go; until [ -z \"$(squeue -h -j $A)\" ]; do sleep 0.2; done; echo $A >&2",
    );
    let array = said.err.lines().last().unwrap().to_owned();
    let each = format!("in\n{array}_1.0\nin\n{array}_2.0\n125\n125");
    assert_eq!(said.ok(), format!("{each}\n{each}"), "{said:#?}");
    let hint = said.err.matches("hint: say which: ").count();
    assert!(hint >= 2 && said.err.contains("knows no job"), "{said:#?}");
    let said = site.with_launcher(&format!(
        "rm -f go pid.*; salloc -Q -n1 : -n1 bash -c 'srun --het-group=0,1 --ch-image=$I {} & echo $SLURM_JOB_ID >job; wait' & \
         there pid.0; there pid.1; J=$(cat job); for call in chariot far; do \
           for n in 0 1; do $call exec --job $J+$n -- sh -c 'readlink /proc/self/ns/mnt' >ns; \
             [ \"$(cat ns)\" = $(readlink /proc/$(cat pid.$n)/ns/mnt) ] && echo $n; done; \
           $call exec --job $J -- true; echo $?; done; touch go; wait",
        WAITS.replace('\'', "\"").replace("$$", "\\$\\$").replace("$SLURM", "\\$SLURM")
    ));
    assert_eq!(said.ok(), "0\n1\n125\n0\n1\n125", "{said:#?}");
    site.nodes_are_fine();
}

#[test]
fn a_container_of_the_job_is_entered_from_inside_of_another_one_of_it() {
    let site = site!();
    site.script(
        "job",
        &format!(
            "#!/bin/sh\nC=chariot\nsrun -N1 -n1 {WAITS} &\nuntil [ -s pid.0 ]; do sleep 0.1; done\n\
             $C ps --job $SLURM_JOB_ID | sed 1d | tr -s ' ' | cut -d' ' -f2 | sort\n\
             $C exec --job $SLURM_JOB_ID.0 -- sh -c \": </proc/$(cat pid.0)/mem && echo traces\"\n\
             $C exec --job $SLURM_JOB_ID -- true 2>said; echo $?; grep -o 'say which: .*' said\n$C ps; touch go; wait\n"
        ),
    );
    let said = site.with_launcher(
        "ln -s $C chariot; export PATH=$PWD:$PATH; sbatch -W -N1 -o out -e err --ch-image=$I job >number; cat out; cat err >&2; \
         grep -o '[0-9]*' number >&2",
    );
    let job = said.err.lines().last().unwrap().to_owned();
    let list = format!("{job}.0\n{job}.batch\ntraces\n125\nsay which: {job}.0, {job}.batch");
    assert_eq!(said.ok(), list, "{said:#?}");
    assert!(
        said.err.contains("no other container is seen from inside"),
        "{said:#?}"
    );
}

#[test]
fn what_keeps_a_job_from_being_entered_is_said_in_a_sentence_with_a_hint() {
    let site = site!();
    for (submit, asked, sentence, hint) in [
        (
            "true",
            "4000000",
            "Slurm knows no job 4000000",
            "squeue --me",
        ),
        (
            "J=$(sbatch --parsable -o /dev/null --begin=now+1hour --wrap true)",
            "$J",
            "Slurm says: pending",
            "when it starts",
        ),
    ] {
        let said = site.with_launcher(&format!(
            "{submit}; chariot exec --job {asked} -- true; c=$?; chariot ps --job {asked} 2>/dev/null && exit 1; \
             [ -z \"$J\" ] || scancel $J; exit $c"
        ));
        said.failed(125, sentence, 1);
        assert!(said.err.contains(hint), "{said:#?}");
    }
    let said = site.with_launcher(
        "J=$(sbatch --parsable -o /dev/null --wrap 'touch up; while [ ! -e go ]; do sleep 0.2; done'); \
         until [ -e up ]; do sleep 0.1; done; chariot exec --job $J -- true; echo $?; chariot exec --job $J.7 -- true; echo $?; \
         chariot exec --job $J --node n9 -- true; echo $?; chariot ps --job $J; touch go; \
         until [ -z \"$(squeue -h -j $J -t R,CG)\" ]; do sleep 0.2; done; chariot exec --job $J -- true; echo $?",
    );
    assert_eq!(said.ok(), "125\n125\n125\n125", "{said:#?}");
    for sentence in [
        "there is none on n",
        "it has no such step now",
        "it does not run on n9",
        "runs\n",
        "have ended with it",
    ] {
        assert!(said.err.contains(sentence), "{sentence}: {said:#?}");
    }
}

#[test]
fn what_a_process_claims_leads_nobody_into_a_container_that_is_not_the_jobs() {
    let site = site!();
    let Some((name, other)) = support::user().zip(User::new()) else {
        skip!("only root can make users");
    };
    if site.is_rootless() {
        return;
    }
    let launcher = std::env::var("CHARIOT").unwrap();
    let conf = site.cluster.join("slurm.conf");
    let variables = [
        ("SLURM_CONF", conf.to_str().unwrap()),
        ("C", launcher.as_str()),
        ("I", site.image.as_str()),
    ];
    let forged = "srun --ch-image=$I sh -c 'echo $SLURM_JOB_ID >job; export SLURM_JOB_ID=7 SLURM_STEP_ID=3; touch up; \
                  while [ ! -e go ]; do sleep 0.2; done'";
    let said = site.run_while(forged, || {
        let job = std::fs::read_to_string(site.here().join("job")).unwrap();
        let job = job.trim();
        // The forger's own job is what Slurm says, whatever its processes say.
        let own = site.with_launcher(&format!(
            "chariot ps --json | grep -o '\"job\": \"{job}.*'; chariot ps --json | grep -c '\"7.3\"'; chariot exec --job 7.3 -- true; echo $?; chariot exec --job {job} -- echo in"
        ));
        assert_eq!(own.ok(), format!("\"job\": \"{job}.0\",\n0\n125\nin"), "{own:#?}");
        // Another user claims the job, with an image that writes lines of its own.
        let claims = format!(
            "export SLURM_JOB_ID={job} SLURM_STEP_ID=0; f=$(mktemp); T='slurmstepd: [{job}.0]' bash -c \
             'exec -a \"$T\" bash -c \"\\\"\\$@\\\" & echo \\$! >\\$0; wait\" \"$0\" \"$@\"' $f \
             $C --config /dev/null run $I -- sh -c \
             'export CH_RUNNING=\"$(printf \"x\\n4242 {job}.0\\033[2J\")\"; exec sleep 60' & \
             until [ -s $f ]; do sleep 0.1; done; p=$(cat $f); rm $f; \
             until $C ps 2>/dev/null | grep -q \"^$p \"; do sleep 0.1; done; sleep 0.5; \
             [ $($C exec --job {job} -- readlink /proc/self/ns/mnt) = $(readlink /proc/$p/ns/mnt) ] && echo own; sleep 1; \
             kill $p; wait; $C exec --job {job} -- true; echo $?"
        );
        let root = "id=$(id -u $U); $C exec --job $J -- sh -c 'grep ^Uid: /proc/self/status' | grep -c \"\t$id\t\"; \
                    $C ps >list; grep -c . list; tr -d '\\n' <list | od -c | grep -c '033'; $C ps --json | grep -c '\"pid\"'; \
                    $C ps --json | grep -c \"\\\"job\\\": \\\"$J.0\\\"\"";
        let mut as_root = variables.to_vec();
        as_root.extend([("U", name.as_str()), ("J", job)]);
        std::thread::scope(|scope| {
            let claims = scope.spawn(|| other.run(&claims, "/".as_ref(), &variables));
            support::until("the other container is there", || {
                let said = support::shell_as(None, "$C ps", site.here(), &as_root);
                said.out.contains(&other.name)
            });
            let said = support::shell_as(None, root, site.here(), &as_root);
            let lines: Vec<&str> = said.out.lines().collect();
            assert_eq!(lines[0], "1", "{said:#?}");
            // A line for each container and one more; nothing acts on a terminal.
            let listed: usize = lines[1].parse().unwrap();
            let counted: usize = lines[3].parse().unwrap();
            assert!(listed == counted + 1 && lines[2] == "0", "{said:#?}");
            // Nor does the title of a process of theirs, or a variable, make it the job's.
            assert_eq!(lines[4], "1", "{said:#?}");
            let claims = claims.join().unwrap();
            // Who claims a job finds that container of their own, and none of the job's.
            assert_eq!(claims.ok(), "own\n125", "{claims:#?}");
            assert!(
                claims.err.contains("it belongs to user"),
                "{claims:#?}"
            );
        });
    });
    said.ok();
    site.nodes_are_fine();
}
