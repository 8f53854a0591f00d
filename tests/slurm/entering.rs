//! Nobody enters a step's container that is not theirs, and root's own step does not steer the kernel.

use crate::support::users::User;
use crate::{Site, site, skip, support};

/// What runs while a step of the user does, with the number of a process in its container.
fn beside_a_step(site: &Site, work: impl FnOnce(&str)) {
    let script =
        "srun --ch-image=$I sh -c 'echo $$ >pid; touch up; while [ ! -e go ]; do sleep 0.2; done'";
    let said = site.run_while(script, || {
        let number = std::fs::read_to_string(site.here().join("pid")).unwrap();
        work(number.trim());
    });
    said.ok();
}

#[test]
fn root_enters_a_step_as_its_user_and_another_user_does_not_enter_it() {
    let site = site!();
    let Some((name, other)) = support::user().zip(User::new()) else {
        skip!("only root can make users");
    };
    let launcher = std::env::var("CHARIOT").unwrap();
    let variables = [("C", launcher.as_str()), ("SECRET", "mine")];
    let user = support::shell_as(None, &format!("id -u {name}"), "/".as_ref(), &[]);
    beside_a_step(&site, |number| {
        let inside = "grep ^Uid: /proc/self/status; echo $SECRET $SLURM_STEP_ID; (: >>/proc/sys/kernel/hostname) || echo no";
        let script = format!("$C exec {number} -- sh -c '{inside}' 2>&1");
        let said = support::shell_as(None, &script, "/".as_ref(), &variables);
        let lines: Vec<_> = said.ok().lines().collect();
        let user = user.ok();
        assert_eq!(
            lines[0],
            format!("Uid:\t{user}\t{user}\t{user}\t{user}"),
            "{said:#?}"
        );
        assert_eq!((lines[1], lines.last()), ("0", Some(&"no")), "{said:#?}");
        let said = other.run(
            &format!("$C exec {number} -- true"),
            "/".as_ref(),
            &variables,
        );
        said.failed(125, "can't enter the container of process", 1);
    });
    site.nodes_are_fine();
}

#[test]
fn a_step_of_root_says_so_once_on_a_node_and_does_not_steer_the_kernel() {
    let site = site!();
    if site.is_rootless() {
        return;
    }
    let conf = site.cluster.join("slurm.conf");
    let variables = [("SLURM_CONF", conf.to_str().unwrap()), ("I", &site.image)];
    let inside = "for p in /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/kernel/mm/ksm/run; do (: >>$p) 2>/dev/null && echo wrote $p; done; echo ran";
    let script = format!("srun -N1 -n3 --ch-image=$I sh -c '{inside}'");
    let said = support::shell_as(None, &script, "/".as_ref(), &variables);
    assert_eq!(said.ok(), "ran\nran\nran", "{said:#?}");
    assert_eq!(
        said.err.matches("runs as root on this machine").count(),
        1,
        "{said:#?}"
    );
    site.nodes_are_fine();
}
