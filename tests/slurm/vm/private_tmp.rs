//! A /tmp that is not the machine's: systemd's for slurmd, and Slurm's for each job. An image shows what a plain step has,
//! and can lie there.

use super::life::node_is_back;
use super::root;
use crate::{site, support, with_text};

const NAME: &str = "/tmp/chariot-whose";

/// What systemd is told of a service beside what its package says, until this is dropped.
struct Told(&'static str);

impl Told {
    fn new(service: &'static str, text: &str) -> Told {
        let directory = format!("/run/systemd/system/{service}.service.d");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(format!("{directory}/test.conf"), text).unwrap();
        let told = Told(service);
        root(&format!(
            "systemctl daemon-reload && systemctl restart {service}"
        ))
        .ok();
        told
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let service = self.0;
        root(&format!(
            "rm -r /run/systemd/system/{service}.service.d; systemctl daemon-reload; systemctl restart {service}"
        ));
    }
}

#[test]
#[ignore = "alone: restarts slurmd"]
fn where_slurmd_has_a_tmp_of_its_own_images_show_that_one_and_lie_in_it() {
    let site = site!();
    {
        // Slurm's configuration, and the user's directory, are below /var/tmp here.
        let place = support::images().unwrap();
        let place = place.parent().unwrap().display();
        let _told = Told::new(
            "slurmd",
            &format!("[Service]\nPrivateTmp=yes\nBindPaths={place}\n"),
        );
        node_is_back(&site);
        for image in ["$I", "$I.sqfs"] {
            let said = site.run(&format!(
                "srun sh -c 'echo host >{NAME}'; srun --ch-image={image} sh -c 'cat {NAME}; echo inside >{NAME}'; \
                 srun sh -c 'cat {NAME}; rm {NAME}'; ls {NAME}"
            ));
            assert_eq!(said.out, "host\ninside\n", "{image}: {said:#?}");
            assert!(said.err.contains("No such file"), "{said:#?}");
        }
        let said = site.run(&format!(
            "srun cp $I.sqfs {NAME}.sqfs; srun --ch-image={NAME}.sqfs cat /etc/motd; srun rm {NAME}.sqfs"
        ));
        assert_eq!(said.ok(), "an image in a file", "{said:#?}");
    }
    node_is_back(&site);
}

#[test]
#[ignore = "alone: restarts slurmd"]
fn where_each_job_has_a_tmp_of_its_own_images_show_that_one_and_lie_in_it() {
    let site = site!();
    let plugin = match crate::releases::release() >= 25_11_00 {
        true => "NamespaceType=namespace/tmpfs",
        false => "JobContainerType=job_container/tmpfs",
    };
    let conf = site.cluster.join("slurm.conf");
    let text = std::fs::read_to_string(&conf).unwrap();
    let started = "systemctl restart slurmctld slurmd";
    with_text(conf, &format!("{text}\n{plugin}\n"), || {
        root(&format!(
            "printf 'AutoBasePath=true\\nBasePath=/var/spool/private-tmp\\n' >/etc/slurm/job_container.conf && {started}"
        ))
        .ok();
        node_is_back(&site);
        site.script(
            "job",
            &format!(
                "#!/bin/sh\ncp $I.sqfs {NAME}.sqfs; echo mine >{NAME}\n\
                 srun --ch-image={NAME}.sqfs sh -c 'cat /etc/motd {NAME}; echo changed >{NAME}'\n\
                 srun --ch-image=$I cat {NAME}\ncat {NAME}\n"
            ),
        );
        let said = site.run(&format!(
            "sbatch -W -o out job >/dev/null; cat out; ls {NAME}"
        ));
        println!("{said:#?}");
        assert_eq!(
            said.out, "an image in a file\nmine\nchanged\nchanged\n",
            "{said:#?}"
        );
        assert!(said.err.contains("No such file"), "{said:#?}");
        let said = site.run("sbatch -W -o out --ch-image=$I.sqfs --wrap 'cat /etc/motd; ls /tmp' >/dev/null; cat out");
        assert_eq!(said.ok(), "an image in a file", "{said:#?}");
    });
    root(&format!("rm /etc/slurm/job_container.conf; {started}")).ok();
    node_is_back(&site);
}
