//! A file server of the machine's own, which root cannot write to (root_squash): homes, images, caches and directories on
//! NFS 3, with locks and without, and 4.2.

use super::root;
use crate::{Site, site, support};

/// Where the server keeps what it serves.
pub(super) const KEPT: &str = "/srv/nfs";

/// How it is mounted, and where.
pub(super) const MOUNTS: [(&str, &str); 3] = [
    ("vers=4.2", "/nfs/4"),
    ("vers=3", "/nfs/3"),
    ("vers=3,nolock", "/nfs/3-nolock"),
];

/// The server, and a private directory of the user's on each of its mounts; gone at the end of the test.
pub(super) struct Server;

impl Server {
    pub(super) fn start(mounts: &[(&str, &str)]) -> Server {
        root(&format!("mkdir -p {KEPT}; systemctl start nfs-server && exportfs -o rw,root_squash,insecure,no_subtree_check,fsid=77 localhost:{KEPT}"))
            .ok();
        let server = Server;
        for (options, at) in mounts {
            let name = at.trim_start_matches("/nfs/");
            root(&format!(
                "mkdir -p {at} {KEPT}/{name} && chown chariot-test: {KEPT}/{name} && chmod 700 {KEPT}/{name} && \
                 mount -t nfs -o {options} localhost:{KEPT}/{name} {at}"
            ))
            .ok();
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for (_, at) in MOUNTS {
            root(&format!("umount -f -l {at}"));
        }
        root(&format!(
            "exportfs -ua; systemctl stop nfs-server; rm -rf {KEPT}"
        ));
    }
}

/// Runs a script in the user's directory there, which is their home.
pub(super) fn run_in(site: &Site, at: &str, script: &str) -> crate::support::Said {
    site.run(&format!(
        "cd {at} || exit; export HOME=$PWD; {}",
        script.replace("$I", &site.image)
    ))
}

#[test]
#[ignore = "alone: starts a file server"]
fn all_that_a_user_has_can_lie_on_a_file_server_that_does_not_trust_root() {
    let site = site!();
    let _server = Server::start(&MOUNTS);
    for (options, at) in MOUNTS {
        let said = run_in(
            &site,
            at,
            "cp -r $I tree && cp $I.sqfs image.sqfs && tar -C tree -cf image.tar . && \
             for image in tree image.sqfs image.tar; do srun --ch-image=./$image sh -c 'pwd; cat /etc/motd' || exit; done; \
             ls .cache/chariot/images | wc -l",
        );
        let one = format!("{at}\nan image in a file\n").repeat(3);
        assert_eq!(said.ok(), format!("{one}1"), "{options}: {said:#?}");
        let said = run_in(
            &site,
            at,
            "chariot unpack --quiet image.sqfs out && chariot pack --quiet out out.sqfs && \
             chariot run ./out.sqfs -- cat /etc/motd && \
             chariot run --writable ./tree -- sh -c 'echo changed >/etc/motd; cat /etc/motd' && \
             cat tree/etc/motd",
        );
        assert_eq!(
            said.ok(),
            "an image in a file\nchanged\nan image in a file",
            "{options}: {said:#?}"
        );
        let said = run_in(
            &site,
            at,
            "mkdir changes && chariot run --overlay ./changes ./tree -- true",
        );
        said.failed(
            125,
            &format!("can't keep changes in {at}/changes: fsconfig"),
            1,
        );
        assert!(
            said.err
                .contains("is on NFS, and overlayfs needs a local file system"),
            "{said:#?}"
        );
    }
    site.nodes_are_fine();
}

/// An image with a file that nothing has read ahead of time, of which the kernel keeps nothing.
const LARGE: &str = "cp -r $I tree && head -c 3000000 /dev/urandom >tree/large && chariot pack --quiet tree large.sqfs";
const STEP: &str = "srun --ch-image=./large.sqfs sh -c \
                    'touch up; while [ ! -e go ]; do sleep 0.2; done; md5sum </large'";

/// What such a step says while root does something to its server, after which the step goes on to read.
fn step_while(site: &Site, at: &str, script: &str) -> crate::support::Said {
    let up = std::path::PathBuf::from(at.replace("/nfs", KEPT)).join("up");
    std::thread::scope(|scope| {
        let step = scope.spawn(|| run_in(site, at, STEP));
        support::until("the step starts", || up.exists());
        root(script).ok();
        step.join().unwrap()
    })
}

#[test]
#[ignore = "alone: stops a file server"]
fn a_step_outlives_a_file_server_that_goes_away_for_half_a_minute() {
    let site = site!();
    let _server = Server::start(&MOUNTS[..1]);
    let (_, at) = MOUNTS[0];
    run_in(&site, at, LARGE).ok();
    let kept = at.replace("/nfs", KEPT);
    let said = step_while(
        &site,
        at,
        &format!(
            "echo 3 >/proc/sys/vm/drop_caches; systemctl stop nfs-server; touch {kept}/go; sleep 30; \
             systemctl start nfs-server; exportfs -o rw,root_squash,insecure,no_subtree_check,fsid=77 localhost:{KEPT}"
        ),
    );
    let sum = root(&format!("md5sum <{kept}/tree/large"));
    assert_eq!(said.ok(), sum.ok(), "{said:#?}");
    site.nodes_are_fine();
}

#[test]
#[ignore = "alone: starts a file server"]
fn who_replaced_an_image_on_its_file_server_is_told_of() {
    let site = site!();
    let _server = Server::start(&MOUNTS[1..2]);
    // The server of NFS 4 keeps what is open.
    let (_, at) = MOUNTS[1];
    run_in(&site, at, LARGE).ok();
    let kept = at.replace("/nfs", KEPT);
    let said = step_while(
        &site,
        at,
        &format!(
            "cd {kept} && cp -p large.sqfs new && rm large.sqfs && mv new large.sqfs && \
             for i in 1 2 3; do echo 3 >/proc/sys/vm/drop_caches; touch go; sleep 1; done"
        ),
    );
    assert_ne!(said.code, 0, "{said:#?}");
    assert!(
        said.err
            .contains("can't read a file of the image ./large.sqfs")
            || said.err.contains("large.sqfs: the file cannot be read"),
        "{said:#?}"
    );
    assert!(
        said.err
            .contains("hint: somebody has replaced or removed it"),
        "{said:#?}"
    );
    site.nodes_are_fine();
}
