//! Kernel mounts, for images that the site trusts and for no others.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::upgrade::{Restore, replace};
use crate::{Site, site, skip, support};

/// A directory in which only root can write, with an image of root's, and a site file that lists it.
struct Trusted {
    place: PathBuf,
    site_file: String,
}

impl Trusted {
    fn new() -> Option<Trusted> {
        support::user()?;
        let packed = support::images()?.join("busybox.sqfs");
        // Root's, with all its parents, and another one for each cluster that runs beside this one.
        let place = tempfile::Builder::new()
            .prefix("chariot-test-mounts.")
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir_in("/var/lib")
            .ok()?;
        let place = place.keep();
        std::fs::create_dir_all(place.join("listed")).ok()?;
        let site_file = format!("kernel_mount = [\"{}/listed\"]\n", place.display());
        let trusted = Trusted { place, site_file };
        std::fs::copy(packed, trusted.image()).ok()?;
        Some(trusted)
    }

    fn image(&self) -> String {
        self.place.join("listed/image.sqfs").display().to_string()
    }

    /// The loop devices of the image.
    fn devices(&self) -> usize {
        let blocks = std::fs::read_dir("/sys/block").unwrap().flatten();
        let files = blocks.filter_map(|block| {
            std::fs::read_to_string(block.path().join("loop/backing_file")).ok()
        });
        files
            .filter(|file| Path::new(file.trim()) == Path::new(&self.image()))
            .count()
    }
}

impl Drop for Trusted {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.place);
        // Where root mounts; the next step would make it again.
        let _ = std::fs::remove_dir("/run/chariot");
    }
}

macro_rules! trusted {
    ($site:expr) => {
        match Trusted::new() {
            _ if $site.is_rootless() => return,
            Some(trusted) => trusted,
            None => skip!("no SquashFS image: tests/run makes one"),
        }
    };
}

/// How the last step with this image was mounted on node n1, by the audit line.
fn mounted(site: &Site, image: &str) -> String {
    let log = std::fs::read_to_string(site.cluster.join("log/slurmd-n1.log")).unwrap();
    let named = format!(" image=\"{image}\" ");
    let line = log.lines().rfind(|line| line.contains(&named)).unwrap();
    line.split("mount=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .to_owned()
}

fn shell(script: &str) {
    assert!(
        Command::new("sh")
            .args(["-c", script])
            .status()
            .unwrap()
            .success(),
        "{script}"
    );
}

#[test]
#[ignore = "alone: changes the site's file"]
fn a_trusted_image_is_mounted_by_the_kernel_once_and_its_flags_are_locked() {
    let site = site!();
    let trusted = trusted!(site);
    let image = trusted.image();
    site.with_file(&trusted.site_file, || {
        let script = format!(
            "srun -N4 --ntasks-per-node=4 --ch-image={image} sh -c \
             'touch up-$SLURM_PROCID; [ $(ls up-* | wc -l) = 16 ] && touch up; while [ ! -e go ]; do sleep 0.1; done; \
              grep -c \" /bin /bin ro,nosuid,nodev.* squashfs \" /proc/self/mountinfo; cat /etc/motd; ls /.. | grep -c proc' | sort | uniq -c"
        );
        let said = site.run_while(&script, || {
            assert_eq!(support::servers(&image), [0; 0], "a server runs beside the kernel");
            assert_eq!(trusted.devices(), 1, "the steps on a node share one loop device");
        });
        let lines: Vec<&str> = said.ok().lines().map(str::trim).collect();
        assert_eq!(lines, ["32 1", "16 an image in a file"], "{said:#?}");
        assert_eq!(mounted(&site, &image), "kernel");
        let said = site.run(&format!(
            "srun --ch-image={image} --ch-root sh -c 'busybox mount -o remount,rw,suid,dev / || echo refused; touch /x'"
        ));
        assert!(said.out.starts_with("refused"), "{said:#?}");
        assert!(said.err.contains("Read-only file system"), "{said:#?}");
        // What is changed needs files that are the user's.
        let said = site.run(&format!("srun -w n1 --ch-image={image} --ch-writable sh -c 'echo x >>/etc/motd'"));
        assert_eq!(said.ok(), "");
        assert_eq!(mounted(&site, &image), "squashfs");
        let said = site.run(&format!("srun -w n1 --ch-image={image} nothere"));
        assert_eq!(said.code, 127, "{said:#?}");
    });
    support::until("no loop device is left", || trusted.devices() == 0);
    site.nodes_are_fine();
}

#[test]
#[ignore = "alone: changes the site's file"]
fn what_others_than_root_could_change_is_served_and_not_mounted() {
    let site = site!();
    let trusted = trusted!(site);
    let (listed, user) = (trusted.place.join("listed"), support::user().unwrap());
    let listed = listed.display();
    let serves = |image: &str| {
        let said = site.run(&format!("srun -w n1 --ch-image={image} cat /etc/motd"));
        assert_eq!(said.ok(), "an image in a file", "{image}");
        assert_eq!(mounted(&site, image), "squashfs", "{image}");
    };
    site.with_file(&trusted.site_file, || {
        let image = trusted.image();
        // The user's own file, by a path of their own and by a link in the listed directory.
        let own = site.here().join("own.sqfs").display().to_string();
        std::fs::copy(&image, &own).unwrap();
        shell(&format!(
            "chown {user}: {own}; ln -s {own} {listed}/link.sqfs"
        ));
        serves(&own);
        serves(&format!("{listed}/link.sqfs"));
        // Somebody's file in a directory of root's; a file that a group may write; a directory that all may.
        shell(&format!(
            "cp {image} {listed}/theirs.sqfs; chown {user} {listed}/theirs.sqfs"
        ));
        serves(&format!("{listed}/theirs.sqfs"));
        shell(&format!(
            "cp {image} {listed}/group.sqfs; chmod 664 {listed}/group.sqfs"
        ));
        serves(&format!("{listed}/group.sqfs"));
        shell(&format!(
            "mkdir -m 1777 {listed}/open; cp {image} {listed}/open/"
        ));
        serves(&format!("{listed}/open/image.sqfs"));
        // One that is being written.
        let writer = std::fs::OpenOptions::new()
            .append(true)
            .open(&image)
            .unwrap();
        serves(&image);
        drop(writer);
        assert_eq!(trusted.devices(), 0);
    });
    site.nodes_are_fine();
}

/// What a user's process can be made to say in place of the launcher that looks the image up: a script, in its place.
fn with_helper(site: &Site, helper: &str, work: impl FnOnce()) {
    let launcher = PathBuf::from(std::env::var_os("CHARIOT").unwrap());
    let original = std::fs::read(&launcher).unwrap();
    site.script("helper", helper);
    site.script("launcher", "");
    let real = site.here().join("launcher");
    std::fs::write(&real, &original).unwrap();
    let _restore = Restore(launcher.clone(), original);
    let script = format!(
        "#!/bin/sh\n[ \"$1\" != open ] || exec {} \"$@\"\nexec {} \"$@\"\n",
        site.here().join("helper").display(),
        real.display()
    );
    replace(&launcher, script.as_bytes());
    work();
}

/// Sends the image's file with a place in it, if there is a socket to send into, and says its path.
const FORGED: &str = r#"#!/usr/bin/python3
import array, os, socket, sys
image, place = "IMAGE", b"PLACE\n"
if "--socket" in sys.argv:
    there = socket.socket(fileno=int(sys.argv[sys.argv.index("--socket") + 1]))
    file, said = os.open(image, os.O_RDONLY), os.memfd_create("place")
    os.write(said, place)
    files = array.array("i", [file, said])
    there.sendmsg([b"c"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
print('{"image":"' + image + '"}')
"#;

#[test]
#[ignore = "alone: replaces the launcher"]
fn which_bytes_of_a_trusted_file_the_kernel_sees_is_not_for_the_user_to_say() {
    let site = site!();
    let trusted = trusted!(site);
    if !std::path::Path::new("/usr/bin/python3").exists() {
        // What lies is written in it; one release of this machine's has it.
        return;
    }
    let image = trusted.image();
    // Another image behind the one that the file is.
    let start = std::fs::metadata(&image)
        .unwrap()
        .len()
        .next_multiple_of(4096);
    let place = trusted.place.display();
    shell(&format!(
        "mkdir -p {place}/other/etc; cp -r $CHARIOT_TEST_IMAGES/busybox/bin {place}/other/; echo forged > {place}/other/etc/motd; \
         $CHARIOT pack --quiet {place}/other {place}/other.sqfs; truncate -s {start} {image}; cat {place}/other.sqfs >> {image}"
    ));
    let length = std::fs::metadata(&image).unwrap().len() - start;
    let forged = FORGED.replace("IMAGE", &image);
    let forged = forged.replace("PLACE", &format!("{start} {length}"));
    let serves = |helper: &str, how: &str| {
        with_helper(&site, helper, || {
            let said = site.run(&format!("srun -w n1 --ch-image={image} cat /etc/motd"));
            assert_eq!(said.ok(), "an image in a file", "{helper}");
            assert_eq!(mounted(&site, &image), how, "{helper}");
        });
    };
    site.with_file(&trusted.site_file, || {
        serves(&forged, "kernel");
        // What is no path, leads elsewhere, or never ends.
        let own = site.here().join("own.sqfs").display().to_string();
        std::fs::copy(&image, &own).unwrap();
        for said in [
            own.clone(),
            format!("{place}/listed/../other.sqfs"),
            format!("{place}/listed"),
            "/dev/zero".into(),
            "x".repeat(10_000),
        ] {
            serves(
                &format!("#!/bin/sh\necho '{{\"image\":\"{said}\"}}'\n"),
                "squashfs",
            );
        }
        serves("#!/bin/sh\nexec yes '{\"image\":\"/\"}'\n", "squashfs");
    });
    support::until("no loop device is left", || trusted.devices() == 0);
    site.nodes_are_fine();
}

#[test]
#[ignore = "alone: changes the site's file"]
fn a_trusted_image_is_mounted_for_who_may_read_it_by_all_groups_of_the_job() {
    let site = site!();
    let trusted = trusted!(site);
    let image = trusted.image();
    let groups = site.run("id -G");
    let Some(group) = groups.ok().split(' ').nth(1) else {
        skip!("tests/run makes a user with two groups");
    };
    let run = || site.run(&format!("srun -w n1 --ch-image={image} cat /etc/motd"));
    site.with_file(&trusted.site_file, || {
        shell(&format!("chown root:{group} {image}; chmod 640 {image}"));
        assert_eq!(run().ok(), "an image in a file");
        assert_eq!(mounted(&site, &image), "kernel");
        support::until("no loop device is left", || trusted.devices() == 0);
        // Everybody but that group.
        shell(&format!("chmod 604 {image}"));
        let said = run();
        assert_eq!(said.code, 125, "{said:#?}");
        assert!(said.err.contains("Permission denied"), "{said:#?}");
        assert_eq!(trusted.devices(), 0);
    });
    site.nodes_are_fine();
}
