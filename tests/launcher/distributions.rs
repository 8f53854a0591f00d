//! One build for every distribution: the launcher, the plugin and the names of hosts and users, in root file systems with
//! another C library than the build's. `tests/tools/make-other-roots` makes them.

mod names;

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::registry::lying::Lying;
use crate::support::registry::plain;
use crate::support::{self, Said};

/// Skips without another distribution's root file system.
#[macro_export]
macro_rules! root {
    ($release:expr) => {
        match $crate::distributions::Root::unpack($release) {
            Some(root) => root,
            None => {
                $crate::skip!("no root file systems of other distributions: tests/run makes them")
            }
        }
    };
}

/// The root file system of a release of Debian.
struct Root {
    place: TempDir,
}

/// A user that only [`names`]' module for names knows.
const USER: &str = "4711:4712";

impl Root {
    /// One with the launcher, the plugin and a small image. None if `tests/run` has made none, or for who is not root.
    fn unpack(release: &str) -> Option<Root> {
        let roots = std::env::var_os("CHARIOT_TEST_ROOTS").map(PathBuf::from)?;
        support::user()?;
        let place = support::scratch();
        let status = Command::new("tar")
            .arg("-C")
            .arg(place.path())
            .arg("-xf")
            .arg(roots.join(format!("{release}.tar")))
            .status();
        assert!(status.unwrap().success());
        let root = Root { place };
        // Whoever runs the tests has its directory for itself.
        root.host("chown 0:0 . && chmod 755 . && mkdir -p dev images proc sys tmp work && chown 4711:4712 work");
        root.host("cp /bin/busybox busybox && cp -a $CHARIOT_TEST_IMAGES/busybox* images/ && chmod 755 images/busybox");
        root.host(
            "install -m 755 $CHARIOT_STATIC chariot && install -m 644 $CHARIOT_SO chariot.so",
        );
        root.write("etc/hosts", "127.0.0.1 localhost registry.files.test\n");
        root.write(
            "etc/nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files dns\n",
        );
        root.write("etc/passwd", "root:x:0:0:root:/root:/bin/bash\n");
        root.write("etc/group", "root:x:0:\n");
        Some(root)
    }

    fn here(&self) -> &Path {
        self.place.path()
    }

    fn write(&self, path: &str, text: &str) {
        std::fs::write(self.here().join(path), text).unwrap();
    }

    /// Runs a script of this machine's in the directory, as root.
    #[track_caller]
    fn host(&self, script: &str) {
        let mut shell = Command::new("bash");
        let status = shell
            .args(["-euc", script])
            .current_dir(self.here())
            .status();
        assert!(status.unwrap().success(), "{script}");
    }

    /// Runs a script there, in a mount namespace in which this is the root, as `user`, a pair of numbers. A plain chroot(2) would not
    /// do: the kernel makes no user namespace in one.
    fn run(&self, user: &str, script: &str) -> Said {
        let enter = "mount --bind . . && cd \"$PWD\" && for d in dev sys; do mount --rbind /$d $d; done && \
            mount -t proc proc proc && mount -t tmpfs -o mode=1777 tmpfs tmp && pivot_root . . && \
            cd / && ./busybox umount -l / && cd /work && \
            exec env -i PATH=/usr/bin:/bin:/usr/sbin:/sbin HOME=/work chroot --userspec=\"$1\" / bash -c \"cd /work; $2\"";
        let output = Command::new("timeout")
            .args(["-k", "5", "120"])
            .args([
                "unshare",
                "--mount",
                "--propagation",
                "private",
                "bash",
                "-euc",
                enter,
                "enter",
            ])
            .args([user, script])
            .current_dir(self.here())
            .stdin(std::process::Stdio::null())
            .output();
        output.unwrap().into()
    }
}

#[test]
fn the_launcher_runs_and_pulls_in_every_distribution() {
    let registry = Lying::start(|_, _, answer| answer);
    let port = registry.port();
    for release in ["bullseye", "bookworm", "trixie", "forky"] {
        let root = root!(release);
        let host = format!("registry.files.test:{port}");
        root.write("site.toml", &plain(&host));
        let said = root.run(
            USER,
            &format!(
                "C='/chariot --config /site.toml'; $C --version && \
                 $C run /images/busybox -- cat /etc/motd && $C run /images/busybox.sqfs -- cat /etc/motd && \
                 $C pull --quiet {host}/team/app:1 ./app && ls app/bin"
            ),
        );
        let motd = "an image in a file";
        let version = concat!("chariot ", env!("CARGO_PKG_VERSION"));
        assert!(said.ok().starts_with(version), "{release}: {said:#?}");
        assert!(
            said.ok().ends_with(&format!("\n{motd}\n{motd}\nfile")),
            "{release}: {said:#?}"
        );
    }
}

/// A program for these distributions, made of C here.
fn compiled(root: &Root, source: &str, output: &str, more: &[&str]) {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let library = Command::new(repository.join("etc/older-glibc"))
        .args(["2.28", "cc"])
        .arg(root.here().join("glibc"))
        .output()
        .unwrap();
    assert!(library.status.success(), "{library:?}");
    let options = String::from_utf8(library.stdout).unwrap();
    let status = Command::new("cc")
        .args(["-O", "-o"])
        .arg(root.here().join(output))
        .arg(repository.join(source))
        .args(more)
        .args(options.lines())
        .status();
    assert!(status.unwrap().success());
}

/// Slurm's part is played by a small program, so that nothing but the plugin and the C library is tried.
#[test]
fn the_plugin_loads_and_its_callbacks_run_with_an_older_and_a_newer_c_library() {
    for release in ["bullseye", "forky"] {
        let root = root!(release);
        compiled(&root, "tests/plugin/loader.c", "loader", &["-rdynamic"]);
        for (context, callbacks) in [("1", 2), ("3", 2), ("2", 5)] {
            let said = root.run("0:0", &format!("/loader /chariot.so {context}"));
            let lines: Vec<_> = said.ok().lines().collect();
            assert_eq!(lines[0], "spank chariot 0x160500", "{release}: {said:#?}");
            let fine = lines.iter().filter(|line| line.ends_with(": 0")).count();
            assert_eq!(fine, callbacks, "{release}: {said:#?}");
            assert!(!said.out.contains("error"), "{release}: {said:#?}");
        }
        // It does see that something is missing.
        root.host("sed 's/slurm_spank_log/slurm_spank_lag/g' chariot.so >other.so");
        let said = root.run("0:0", "/loader /other.so 1");
        assert!(
            said.err.contains("undefined symbol: slurm_spank_lag"),
            "{release}: {said:#?}"
        );
    }
}
