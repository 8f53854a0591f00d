//! Slurm's commands, called in containers of steps.

use crate::{site, skip, support};

#[test]
fn a_script_in_an_image_starts_steps_in_that_image_and_on_the_host() {
    let site = site!();
    site.script(
        "job",
        "#!/bin/sh\necho script in ${CH_RUNNING-host}\nsrun -n1 -N1 sh -c 'echo step in ${CH_RUNNING-host}'\n\
         srun -n1 -N1 --ch-image=none sh -c 'echo none in ${CH_RUNNING-host}; ls /usr/sbin/slurmd'\n\
         srun -N2 -n2 sh -c 'exit $SLURM_PROCID'; echo $?\n\
         cd /bin; srun -n1 -N1 pwd; echo in | srun -n1 -N1 cat\n\
         env 'BASH_FUNC_f%%=() { echo f\n}' srun -n1 -N1 env | grep -A1 ^BASH_FUNC\n",
    );
    let said = site.run("sbatch -W -N2 -o out -e err --ch-image=$I job >&2; cat out");
    let image = &site.image;
    assert_eq!(
        said.ok(),
        format!(
            "script in {image}\nstep in {image}\nnone in host\n/usr/sbin/slurmd\n1\n/bin\nin\n\
             BASH_FUNC_f%%=() {{ echo f\n}}"
        ),
        "{:?}",
        std::fs::read_to_string(site.here().join("err"))
    );
    site.nodes_are_fine();
}

#[test]
fn each_command_of_slurm_works_inside() {
    let site = site!();
    site.script(
        "job",
        "#!/bin/sh\nid=$SLURM_JOB_ID\n\
         squeue -h -j $id -o %i\nsinfo -h -o %R\nscontrol show job $id | grep -c UserId=\n\
         sbcast -f job $PWD/copy && cmp job copy; echo cast $?\n\
         sacct -j $id 2>&1 | head -n 1\nsstat -j $id.batch 2>&1 | head -n 1\n\
         sbatch -W -o other --wrap 'echo other job in ${CH_RUNNING-host}' >/dev/null && cat other\n\
         srun sh -c 'touch up; exec sleep 60' & srun=$!\n\
         until [ -e up ]; do sleep 0.1; done; scancel $id.0; wait $srun; echo $?\n",
    );
    let said = site.run("sbatch -W -o out -e err --ch-image=$I job; cat out; cat err >&2");
    let mut lines = said.ok().lines();
    let job = lines.next().unwrap().rsplit(' ').next().unwrap();
    let lines: Vec<_> = lines.collect();
    // A slurmd that is not root cannot become the user who owns the copy.
    let cast = if site.is_rootless() {
        "cast 1"
    } else {
        "cast 0"
    };
    assert_eq!(lines[..4], [job, "main", "1", cast], "{said:#?}");
    // Accounting is off in these clusters, which the commands themselves say.
    assert!(
        lines[4].contains("accounting storage is disabled"),
        "{said:#?}"
    );
    assert!(!lines[5].contains("not found"), "{said:#?}");
    assert_eq!(lines[6], "other job in host", "{said:#?}");
    assert_ne!(lines[7], "0", "{said:#?}");
}

#[test]
fn login_shells_and_programs_without_variables_find_the_commands() {
    let site = site!();
    site.script(
        "job",
        "#!/bin/sh -l\nsqueue -h -j $SLURM_JOB_ID -o login\n\
         srun -n1 -N1 --export=NONE /bin/sh -c 'squeue -h -j $SLURM_JOB_ID -o none'\n\
         srun -n1 -N1 /bin/sh -l -c 'squeue -h -j $SLURM_JOB_ID -o shell'\n\
         srun -n1 -N1 env -i ID=$SLURM_JOB_ID /bin/sh -c 'squeue -h -j $ID -o empty'\n",
    );
    let said = site.run("sbatch -W -o out -e err --ch-image=$I job >&2; cat out; cat err >&2");
    assert_eq!(said.ok(), "login\nnone\nshell\nempty", "{said:#?}");
}

#[test]
fn an_interactive_step_can_be_started_from_inside() {
    let site = site!();
    site.script("inner", "#!/bin/sh\ntouch up\nexec sh\n");
    let wait = |file: &str| format!("until [ -e {file} ]; do sleep 0.1; done; sleep 0.5");
    let said = site.run(&format!(
        "({}; echo 'stty size; echo ${{CH_RUNNING-host}}; tty; touch asleep; sleep 60'; {}; printf '\\003'; sleep 1; \
          echo 'echo $?; exit 4'; sleep 2) | \
         script -qec \"stty rows 33 cols 99; \
                      srun --pty --ch-image=$I srun --overlap --pty --ch-image=none ./inner\" /dev/null",
        wait("up"),
        wait("asleep"),
    ));
    assert_eq!(said.code, 4, "{said:#?}");
    for expected in ["33 99", "host\r", "/dev/pts/", "130\r"] {
        assert!(said.out.contains(expected), "{expected}: {said:#?}");
    }
}

#[test]
#[ignore = "alone: counts the agents of this machine"]
fn one_agent_on_each_node_serves_all_tasks_and_ends_with_the_step() {
    let site = site!();
    let agents = || {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        processes
            .filter(|process| {
                let read = |file| std::fs::read_to_string(process.path().join(file));
                read("comm").is_ok_and(|name| name == "chariot-agent\n")
                    && read("status").is_ok_and(|status| !status.contains("State:\tZ"))
            })
            .count()
    };
    let wait_for = |count| {
        support::until(&format!("{count} agents"), || agents() == count);
    };
    wait_for(0);
    let script = "srun -N4 --ntasks-per-node=16 --ch-image=$I sh -c \
                  '[ $SLURM_PROCID = 0 ] && touch up; while [ ! -e go ]; do sleep 0.2; done'";
    site.run_while(script, || wait_for(4)).ok();
    wait_for(0);
}

#[test]
#[ignore = "alone: changes the site's file"]
fn where_the_site_forbids_it_the_script_is_told_what_to_do() {
    let site = site!();
    site.script("job", "#!/bin/sh\nsrun hostname\n");
    site.with_file("host_commands = []\n", || {
        let said = site.run("sbatch -W -o out --ch-image=$I job >&2; code=$?; cat out; exit $code");
        assert_eq!(said.code, 127, "{said:#?}");
        let hint = "--ch-batch=host leaves the script on the host";
        assert!(said.out.contains(hint), "{said:#?}");
    });
}

#[test]
#[ignore = "alone: on a busy machine Open MPI crashes in its set-up, container or not"]
fn mpirun_inside_starts_its_daemons_on_four_nodes() {
    let site = site!();
    let Some(images) = support::images().filter(|images| images.join("debian/bin").exists()) else {
        skip!("no Debian image: tests/run makes one");
    };
    site.script(
        "job",
        "#!/bin/sh\n\
         # Four nodes on one machine, which may have no network but loopback.\n\
         export OMPI_MCA_if_base_retain_loopback=1 OMPI_MCA_oob_tcp_if_include=lo\n\
         mpirun --mca plm_rsh_agent false -np 8 --map-by node \
         sh -c 'echo rank $OMPI_COMM_WORLD_RANK $SLURMD_NODENAME $(cat /etc/debian_version) ${CH_RUNNING-host}'\n",
    );
    let image = images.join("debian").display().to_string();
    let said = site.run(&format!(
        "sbatch -W -N4 --ntasks-per-node=2 -o out -e err --ch-image={image} job >&2; cat out; cat err >&2"
    ));
    let mut lines: Vec<_> = said.ok().lines().collect();
    lines.sort_unstable();
    assert_eq!(lines.len(), 8, "{said:#?}");
    let nodes: std::collections::BTreeSet<_> = lines
        .iter()
        .filter_map(|line| line.split(' ').nth(2))
        .collect();
    assert_eq!(nodes.len(), 4, "{said:#?}");
    assert!(lines.iter().all(|line| line.ends_with(&image)), "{said:#?}");
}
