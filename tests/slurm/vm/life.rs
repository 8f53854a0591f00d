//! What happens to a step from outside: it is suspended, its slurmd is killed or restarted, the kernel or systemd says no.

use std::path::Path;

use super::root;
use crate::{Site, site, support};

/// A step from a file, which says at its end what it still reads there.
const LONG: &str = "srun -J long --ch-image=$I.sqfs sh -c \
                    'touch up; while [ ! -e go ]; do sleep 0.2; done; cat /etc/motd; cat /proc/self/comm'";
const AT_ITS_END: &str = "an image in a file\ncat";

/// Puts a setting of the kernel's back at the end of a test.
pub(super) struct Setting(&'static str, String);

impl Setting {
    /// None where this kernel does not have it.
    pub(super) fn set(name: &'static str, value: &str) -> Option<Setting> {
        let file = Path::new("/proc/sys").join(name.replace('.', "/"));
        let before = std::fs::read_to_string(&file).ok()?;
        std::fs::write(file, value).unwrap();
        Some(Setting(name, before))
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        let file = Path::new("/proc/sys").join(self.0.replace('.', "/"));
        let _ = std::fs::write(file, self.1.trim());
    }
}

#[test]
#[ignore = "alone: restarts slurmd"]
fn a_step_outlives_its_slurmd_however_that_ends() {
    let site = site!();
    let said = site.run_while(LONG, || {
        let before = root("pgrep -x chariot-serve");
        for how in ["kill -s KILL slurmd", "restart slurmd", "stop slurmd"] {
            root(&format!("systemctl {how}; systemctl start slurmd")).ok();
        }
        assert_eq!(root("pgrep -x chariot-serve").ok(), before.ok());
    });
    assert_eq!(said.ok(), AT_ITS_END, "{said:#?}");
    node_is_back(&site);
}

#[track_caller]
pub(super) fn node_is_back(site: &Site) {
    support::until("the node is idle", || {
        site.run("sinfo -h -o %T").out.trim() == "idle"
    });
    site.nodes_are_fine();
}

#[test]
#[ignore = "alone: suspends jobs"]
fn a_suspended_step_stands_still_with_its_server_and_goes_on() {
    let site = site!();
    let said = site.run_while(LONG, || {
        let job = site.run("squeue -h -n long -o %A");
        root(&format!("scontrol suspend {}", job.ok())).ok();
        std::thread::sleep(std::time::Duration::from_secs(16));
        root(&format!("scontrol resume {}", job.ok())).ok();
    });
    assert_eq!(said.ok(), AT_ITS_END, "{said:#?}");
    node_is_back(&site);
}

#[test]
#[ignore = "alone: sets what the kernel allows"]
fn where_the_kernel_allows_no_user_namespaces_it_is_said_which_setting_that_is() {
    let site = site!();
    for (name, value) in [
        ("user.max_user_namespaces", "0"),
        ("kernel.unprivileged_userns_clone", "0"),
    ] {
        let Some(_setting) = Setting::set(name, value) else {
            continue;
        };
        let said = site.run("srun --ch-image=$I echo RAN");
        said.failed(125, "can't create a container", 1);
        assert!(
            said.err.contains(name) || said.err.contains("`chariot check` says which"),
            "{name}: {said:#?}"
        );
        assert!(!said.out.contains("RAN"), "{said:#?}");
        let said = site.run("chariot check");
        assert!(format!("{said:?}").contains(name), "{name}: {said:#?}");
    }
    site.nodes_are_fine();
}

#[test]
#[ignore = "alone: sets what the kernel allows"]
fn containers_do_not_need_what_careful_sites_take_from_users() {
    let site = site!();
    let _yama = Setting::set("kernel.yama.ptrace_scope", "2");
    let _log = Setting::set("kernel.dmesg_restrict", "1");
    root("mount -o remount,hidepid=invisible /proc").ok();
    let said = site.run("srun -n2 --ch-image=$I.sqfs sh -c 'cat /etc/motd'");
    let killed = site.run(
        "srun --ch-image=$I.sqfs sh -c 'touch up; sleep 2; cat /etc/motd' & \
         until [ -e up ]; do sleep 0.1; done; wait",
    );
    root("mount -o remount,hidepid=off /proc").ok();
    assert_eq!(
        said.ok(),
        "an image in a file\nan image in a file",
        "{said:#?}"
    );
    assert_eq!(killed.ok(), "an image in a file", "{killed:#?}");
}

#[test]
fn devices_that_a_job_may_not_open_are_closed_inside_and_fuse_is_no_such_device() {
    let site = site!();
    let look = "sh -c 'cat /etc/motd; dd if=/dev/tty60 count=0 2>&1 && echo opened'";
    let said = site.run(&format!("srun --ch-image=$I.sqfs {look}"));
    assert!(said.out.starts_with("an image in a file"), "{said:#?}");
    assert!(!said.out.contains("opened"), "{said:#?}");
    assert!(said.out.contains("Operation not permitted"), "{said:#?}");
    let said = site.run(&format!("srun --gres=gpu:4 --ch-image=$I.sqfs {look}"));
    assert!(said.out.trim_end().ends_with("opened"), "{said:#?}");
}

#[test]
#[ignore = "alone: reconfigures slurmd"]
fn nodes_without_a_configuration_file_have_it_from_the_controller() {
    let site = site!();
    let conf = site.cluster.join("slurm.conf");
    let text = std::fs::read_to_string(&conf).unwrap();
    let port = text
        .lines()
        .find_map(|line| line.strip_prefix("SlurmctldPort="))
        .unwrap();
    let mut said = None;
    crate::with_text(
        conf.clone(),
        &format!(
            "{}\nSlurmctldParameters=enable_configless\n",
            text.replace("PlugStackConfig=", "#PlugStackConfig=")
        ),
        || {
            root(&format!(
                "systemctl restart slurmctld; until scontrol ping | grep -q UP; do sleep 0.5; done; \
                 mkdir -p /run/systemd/system/slurmd.service.d; printf \
                 '[Unit]\\nConditionPathExists=\\n[Service]\\nEnvironment=SLURMD_OPTIONS=\"--conf-server localhost:{port}\"\\n' \
                 >/run/systemd/system/slurmd.service.d/configless.conf; \
                 rm /etc/slurm/slurm.conf; systemctl daemon-reload; systemctl restart slurmd"
            ))
            .ok();
            support::until("slurmd has it", || {
                Path::new("/run/slurm/conf/slurm.conf").exists()
            });
            said = Some(site.run(
                "export SLURM_CONF=/run/slurm/conf/slurm.conf; srun --ch-image=$I.sqfs cat /etc/motd",
            ));
            root(&format!(
                "rm -r /run/systemd/system/slurmd.service.d; ln -s {} /etc/slurm/; systemctl daemon-reload",
                conf.display()
            ));
        },
    );
    root("systemctl restart slurmctld slurmd").ok();
    node_is_back(&site);
    assert_eq!(said.unwrap().ok(), "an image in a file");
}
