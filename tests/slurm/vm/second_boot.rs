//! A node that is started anew while jobs run in images and make one: nothing of them is in the way of the next ones, and
//! the package serves those as before. Once the machine is shut down, and once it stops at once, as without power.

use std::path::{Path, PathBuf};

use super::life::node_is_back;
use super::root;
use crate::{Site, site, support};

const NAME: &str =
    "vm::second_boot::what_runs_when_a_node_goes_down_is_in_nothings_way_when_it_is_up";

/// How the machine goes down, one time after the other.
const HOW: [&str; 2] = ["systemctl reboot", "echo b >/proc/sysrq-trigger"];

/// Root has the kernel mount images that lie in one directory, and the node gets copies of the others.
const TRUSTED: &str = "/srv/trusted/image.sqfs";
const MOUNTED: &str = "kernel_mount = [\"/srv/trusted\"]\n";
const COPIED: &str = "stage = \"node\"\nstage_dir = \"/var/tmp/chariot-$USER\"\n";

/// A directory on the disk that stays; which time it is is the number of lines of its file `boots`.
fn place() -> PathBuf {
    let images = support::images().unwrap();
    images.parent().unwrap().join("scratch/left")
}

/// The user's script in that directory, which is their home.
fn run(site: &Site, script: &str) -> support::Said {
    site.run(&format!(
        "cd {} || exit; export HOME=$PWD; {script}",
        place().display()
    ))
}

/// What images are made of, and who makes them.
const UNFINISHED: &str =
    "find .cache /var/tmp/chariot-$(id -un) -name '.*.part.*' -o -path '*/leases/*'";

/// Has jobs run in each kind of image, and another make its image, when the machine goes down.
fn go_down(site: &Site, how: &str) {
    let large = "head -c 150000000 /dev/urandom >tree/large && tar -C tree -cf large.tar . && rm tree/large";
    run(site, &format!("rm -rf .cache /var/tmp/chariot-$(id -un) served mounted made; mkdir served mounted made; {large}")).ok();
    let here = place();
    let here = here.display();
    for (name, file, image) in [
        ("served", COPIED, format!("{here}/own.sqfs")),
        ("mounted", MOUNTED, TRUSTED.to_owned()),
        ("made", COPIED, format!("{here}/large.tar")),
    ] {
        site.with_file(file, || {
            let job = format!("sbatch --no-requeue -D {here}/{name} -o out --ch-image={image} --wrap 'touch up; sleep 3600'");
            run(site, &job).ok();
            support::until(&format!("the job runs: {name}"), || match name {
                "made" => !run(site, UNFINISHED).out.is_empty(),
                name => place().join(name).join("up").exists(),
            });
        });
    }
    // Where tests/tools/in-machine looks for it.
    let note = support::images().unwrap().with_file_name("goes-on");
    std::fs::write(note, format!("{NAME}\n{how}\n")).unwrap();
    root(&format!("echo '{how}' >>{here}/boots; sync")).ok();
}

/// What is to be so when the machine is up again.
fn go_on(site: &Site) {
    let left = format!("squeue; sinfo -R; {UNFINISHED}; tail */out");
    eprintln!("{:#?}", run(site, &left));
    // Slurm would find out by itself, some minutes later.
    root("scancel --user chariot-test").ok();
    let is_over = || site.run("squeue -h").out.is_empty();
    support::until("Slurm has no job", is_over);
    node_is_back(site);
    for (file, images) in [
        (COPIED, "./own.sqfs ./large.tar ./tree"),
        (MOUNTED, TRUSTED),
    ] {
        site.with_file(file, || {
            for image in images.split(' ') {
                let said = run(site, &format!("srun --ch-image={image} cat /etc/motd"));
                assert_eq!(said.ok(), "an image in a file", "{image}: {said:#?}");
                // The image of the archive is made anew, which is told while it is done.
                let is_progress =
                    |line: &str| line.contains("MiB of ") || line.ends_with(": reading");
                let complaints = said.complaints();
                let complaint = complaints.lines().find(|line| !is_progress(line));
                assert_eq!(complaint, None, "{image}: {said:#?}");
            }
        });
    }
    let said = run(site, "chariot run ./own.sqfs -- cat /etc/motd");
    assert_eq!(said.ok(), "an image in a file", "{said:#?}");
    // The node has a copy of the file, and one of the image that was made of the archive.
    let kept = "ls .cache/chariot/images | wc -l; ls /var/tmp/chariot-$(id -un)/images | wc -l";
    let said = run(site, &format!("{UNFINISHED}; {kept}"));
    assert_eq!(said.ok(), "1\n2", "{said:#?}");
    let profile = Path::new("/etc/apparmor.d/chariot");
    let loaded = root("cat /sys/kernel/security/apparmor/profiles").out;
    assert_eq!(loaded.contains("chariot"), profile.exists(), "{loaded}");
    site.nodes_are_fine();
}

#[test]
#[ignore = "alone: the machine is started anew"]
fn what_runs_when_a_node_goes_down_is_in_nothings_way_when_it_is_up() {
    let site = site!();
    let boots = std::fs::read_to_string(place().join("boots")).unwrap_or_default();
    let boots = boots.lines().count();
    if boots == 0 {
        let (here, image) = (place(), &site.image);
        root(&format!(
            "install -d -o chariot-test {} && install -d /srv/trusted && cp {image}.sqfs {TRUSTED}",
            here.display()
        ))
        .ok();
        run(&site, "cp -r $I tree && cp $I.sqfs own.sqfs").ok();
    } else {
        go_on(&site);
    }
    match HOW.get(boots) {
        Some(how) => go_down(&site, how),
        None => {
            root(&format!("rm -rf {} /srv/trusted", place().display())).ok();
        }
    }
}
