//! What another user has prepared: directories that Chariot would use, made before their user comes. Two ordinary users,
//! who need no entry in a user database; takes root, to be either.

use std::fs;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::Said;
use crate::{Place, place, skip};

/// The attacker, and who is attacked.
const EVE: u32 = 4711;
const ADA: u32 = 4712;

/// A directory of root's with all that a test has: the launcher, an image, a home for each user, and one in which all may
/// write.
struct Shared {
    place: Place,
}

impl Shared {
    fn new(place: Place) -> Option<Shared> {
        if !nix_is_root() {
            return None;
        }
        let shared = Shared { place };
        lchown(shared.here(), Some(0), None).unwrap();
        mode(shared.here(), 0o755);
        // Not by this process: another test's child would have it open for writing for a moment, when it is to be executed.
        shared.prepare(&format!(
            "cp {} chariot; chmod 755 chariot",
            shared.place.launcher
        ));
        for (user, name) in [(EVE, "eve"), (ADA, "ada")] {
            fs::create_dir(shared.here().join(name)).unwrap();
            lchown(shared.here().join(name), Some(user), Some(user)).unwrap();
        }
        fs::create_dir(shared.scratch()).unwrap();
        mode(&shared.scratch(), 0o1777);
        shared.prepare("chmod -R go+rX img");
        Some(shared)
    }

    fn here(&self) -> &Path {
        self.place.here()
    }

    fn scratch(&self) -> PathBuf {
        self.here().join("scratch")
    }

    /// Runs a script as root, here.
    #[track_caller]
    fn prepare(&self, script: &str) {
        let mut shell = Command::new("sh");
        let launcher = self.here().join("chariot");
        shell
            .args(["-ec", script])
            .env("C", launcher)
            .env("HOME", "/nonexistent");
        assert!(
            shell.current_dir(self.here()).status().unwrap().success(),
            "{script}"
        );
    }

    /// A site's file.
    fn site(&self, text: &str) {
        fs::write(self.here().join("site.toml"), text).unwrap();
    }

    /// Runs a script as a user; `$R` is the launcher with the site's file, `$S` where all may write.
    fn run(&self, user: u32, script: &str) -> Said {
        let home = self.here().join(if user == EVE { "eve" } else { "ada" });
        let here = self.here().display();
        let output = Command::new("timeout")
            .args(["60", "setpriv", "--clear-groups"])
            .args([format!("--reuid={user}"), format!("--regid={user}")])
            .args(["bash", "-c", script])
            .env_clear()
            .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
            .env("HOME", &home)
            .env("SLURM_JOB_ID", "7")
            .env("R", format!("{here}/chariot --config {here}/site.toml"))
            .env("S", self.scratch())
            .current_dir(self.here())
            .stdin(Stdio::null())
            .output();
        output.unwrap().into()
    }
}

fn nix_is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|data| std::os::unix::fs::MetadataExt::uid(&data) == 0)
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// What root runs, with somebody's HOME.
fn as_root(shared: &Shared, home: &str, script: &str) -> Said {
    let here = shared.here().display();
    let output = Command::new("timeout")
        .args(["60", "bash", "-c", script])
        .env_clear()
        .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
        .env("HOME", shared.here().join(home))
        .env("R", format!("{here}/chariot --config {here}/site.toml"))
        .current_dir(shared.here())
        .stdin(Stdio::null())
        .output();
    output.unwrap().into()
}

/// The place of a test, or a skip.
macro_rules! shared {
    () => {
        match Shared::new(place!()) {
            Some(shared) => shared,
            None => skip!("takes root, to be two users"),
        }
    };
}

/// The digest under which a cache keeps what an archive is converted to, and the image that eve would rather have run.
const PREPARE: &str = "set -e; umask 000; mkdir -p $S/ada/.chariot/images; cp -r img evil; \
     printf '#!/bin/sh\\necho evil\\n' > evil/bin/hello; chmod 755 evil/bin/hello; \
     hex=$(sha256sum own.tar | cut -c1-64); $R pack --quiet evil $S/ada/.chariot/images/$hex.sqfs; chmod 666 $S/ada/.chariot/images/*";

#[test]
fn a_cache_that_somebody_else_has_made_is_not_read_and_ones_own_is_used_and_that_is_said_once() {
    let shared = shared!();
    shared.site("cache = \"$SCRATCH/$USER/.chariot\"\n");
    let scratch = shared.scratch();
    shared.prepare("printf '#!/bin/sh\\necho good\\n' > img/bin/hello; chmod 755 img/bin/hello; tar -C img -cf own.tar .");
    mode(shared.here(), 0o1777);
    // An archive is kept under its digest, and a name that the user database does not have is the number.
    let prepare = PREPARE.replace("/ada/", &format!("/user{ADA}/"));
    shared
        .run(EVE, &format!("export SCRATCH=$S; {prepare}"))
        .ok();
    mode(shared.here(), 0o755);
    let said = shared.run(ADA, "export SCRATCH=$S; $R run ./own.tar -- hello");
    assert_eq!(said.ok(), "good", "{said:#?}");
    let told = format!("{}/user{ADA} belongs to user {EVE}", scratch.display());
    assert_eq!(said.err.matches(&told).count(), 1, "{said:#?}");
    assert!(shared.here().join("ada/.cache/chariot/images").is_dir());
    // Nothing there is touched.
    let made = fs::read_dir(scratch.join(format!("user{ADA}/.chariot"))).unwrap();
    assert_eq!(made.count(), 1);
}

#[test]
fn who_has_no_home_to_write_either_has_a_cache_on_the_node_and_converts_once() {
    let shared = shared!();
    shared.site("cache = \"$SCRATCH/$USER/.chariot\"\n");
    shared.prepare("mkdir tmp; chmod 1777 tmp; tar -C img -cf own.tar .; chmod 644 own.tar");
    let squat = format!("mkdir -p -m 777 $S/user{ADA}; mkdir $PWD/tmp/chariot-cache-{ADA}.0");
    shared.run(EVE, &squat).ok();
    for home in [
        "/nonexistent/home XDG_CACHE_HOME=$S/user4712",
        "$PWD/eve",
        "/proc",
    ] {
        let script = format!(
            "export SCRATCH=$S HOME={home} TMPDIR=$PWD/tmp; for i in 1 2; do $R run ./own.tar -- echo ran; done; \
             ls -d tmp/*/images/* | wc -l; $R images --json | grep -c digest; rm -rf tmp/chariot-cache-{ADA}.[1-9]*"
        );
        let said = shared.run(ADA, &script);
        assert!(said.out.starts_with("ran\nran\n1\n"), "{home}: {said:#?}");
        // Said when something is written, which it is once.
        let told = format!("/tmp/chariot-cache-{ADA}.");
        assert_eq!(said.err.matches(&told).count(), 1, "{home}: {said:#?}");
    }
}

#[test]
fn a_store_that_somebody_else_has_made_names_no_image() {
    let shared = shared!();
    shared.site("store = \"$SCRATCH/store-$USER\"\n");
    let store = shared.scratch().join(format!("store-user{ADA}"));
    shared
        .run(
            EVE,
            &format!("mkdir -m 777 {0}; cp -r img {0}/debian", store.display()),
        )
        .ok();
    let said = shared.run(ADA, "export SCRATCH=$S; $R run debian -- true");
    said.failed(125, "can't find an image named debian", 1);
    assert_eq!(
        said.err.matches("belongs to user 4711").count(),
        1,
        "{said:#?}"
    );
    // One that root or the user has opened to a project's group is used.
    lchown(&store, Some(0), Some(EVE)).unwrap();
    mode(&store, 0o2775);
    shared
        .run(ADA, "export SCRATCH=$S; $R run debian -- true")
        .ok();
    mode(&store, 0o2777);
    let said = shared.run(ADA, "export SCRATCH=$S; $R run debian -- true");
    said.failed(125, "can't find an image named debian", 1);
}

#[test]
fn where_somebody_else_has_taken_the_place_for_copies_an_image_runs_from_where_it_lies() {
    let shared = shared!();
    shared.site("stage = \"node\"\nstage_dir = \"$SCRATCH/chariot-$USER\"\n");
    let squat = shared.scratch().join(format!("chariot-user{ADA}"));
    shared.prepare("$C pack --quiet ./img own.sqfs; chmod 644 own.sqfs");
    // What is removed through a link is the user's own, and would be removed as the user.
    let project = shared.here().join("ada/project");
    shared.run(ADA, "mkdir -p ada/project/images; touch -d '1 year ago' ada/project/images/$(printf %064d 1).sqfs").ok();
    for squatted in [
        format!("mkdir {}", squat.display()),
        format!("mkdir -m 0 {}", squat.display()),
        format!("ln -s {} {}", project.display(), squat.display()),
        format!("ln -s /nonexistent {}", squat.display()),
        format!("mkfifo {}", squat.display()),
        format!("touch {}", squat.display()),
    ] {
        shared.run(EVE, &squatted).ok();
        let said = shared.run(ADA, "export SCRATCH=$S; $R run ./own.sqfs -- echo ran");
        assert_eq!(said.ok(), "ran", "{squatted}: {said:#?}");
        assert_eq!(said.err.lines().count(), 1, "{squatted}: {said:#?}");
        assert!(
            said.err.contains("not from a copy on the node"),
            "{squatted}: {said:#?}"
        );
        shared.run(EVE, &format!("rm -rf {}", squat.display())).ok();
    }
    assert_eq!(fs::read_dir(project.join("images")).unwrap().count(), 1);
    // And where nobody has, there is a copy, and not a word.
    let said = shared.run(
        ADA,
        "export SCRATCH=$S; $R run ./own.sqfs -- echo ran; ls $S/chariot-*/images | wc -l",
    );
    assert_eq!((said.ok(), said.err.as_str()), ("ran\n1", ""));
}

#[test]
fn an_image_by_name_of_a_storage_that_somebody_else_has_made_is_not_run() {
    let shared = shared!();
    shared.site("");
    symlink("chariot", shared.here().join("ch-run")).unwrap();
    shared
        .run(
            EVE,
            "mkdir -p $S/ada.ch/img; cp -r img $S/ada.ch/img/debian; chmod -R 755 $S/ada.ch",
        )
        .ok();
    let run = "export USER=ada; ./ch-run -s $S/ada.ch debian -- true";
    let said = shared.run(ADA, run);
    assert_ne!(said.code, 0, "{said:#?}");
    assert!(said.err.contains("belongs to user 4711"), "{said:#?}");
    // Nor does hers stand in the way of an image by path, whatever she calls it there.
    shared.run(EVE, "mkdir $S/ada.ch/img/.%img").ok();
    shared
        .run(ADA, "export USER=ada; ./ch-run -s $S/ada.ch ./img -- true")
        .ok();
    shared.run(EVE, "mv $S/ada.ch $S/eve.ch").ok();
    shared
        .run(
            ADA,
            "mkdir -p $S/ada.ch/img; cp -r img $S/ada.ch/img/debian",
        )
        .ok();
    shared.run(ADA, run).ok();
}

#[test]
fn a_sites_file_that_others_could_have_written_or_put_there_is_nobodys_law() {
    let shared = shared!();
    shared.site("");
    let refused = |path: &str, reason: &str| {
        for said in [
            shared.run(ADA, &format!("${{R% *}} {path} run ./img true")),
            as_root(&shared, "root", &format!("${{R% *}} {path} images")),
        ] {
            assert_eq!(said.code, 125, "{path}: {said:#?}");
            assert!(said.err.contains(reason), "{path}: {said:#?}");
        }
    };
    shared.prepare("echo > scratch/hers.toml; chmod 666 scratch/hers.toml; mkdir open roots; echo > open/site.toml; chmod 777 open");
    refused("scratch/hers.toml", "can be written by everybody");
    refused("open/site.toml", "open can be written by everybody");
    shared.run(EVE, "mkdir -p $S/d; echo 'enabled = true' > $S/d/site.toml; ln -s /dev/null $S/link.toml; ln -s $PWD/site.toml $S/other.toml").ok();
    refused("scratch/d/site.toml", "belongs to user 4711");
    refused("scratch/other.toml", "belongs to user 4711");
    shared.prepare("ln -s ../scratch/other.toml roots/by-hers.toml");
    refused("roots/by-hers.toml", "other.toml belongs to user 4711");
    let said = as_root(&shared, "root", "${R% *} scratch/link.toml images");
    assert!(
        said.err.contains("link.toml belongs to user 4711"),
        "{said:#?}"
    );
    // Root's own, through a link of root's and where all may write but not take away.
    shared.prepare("ln -s ../site.toml roots/link.toml; echo > scratch/roots.toml");
    for path in ["roots/link.toml", "scratch/roots.toml", "site.toml"] {
        shared
            .run(ADA, &format!("${{R% *}} {path} run ./img true"))
            .ok();
        as_root(&shared, "root", &format!("${{R% *}} {path} images")).ok();
    }
    // Who runs the launcher by hand can have a file of one's own; for root that is somebody else's.
    shared
        .run(
            ADA,
            "echo > ada/site.toml; ${R% *} ada/site.toml run ./img true",
        )
        .ok();
    let said = as_root(&shared, "root", "${R% *} ada/site.toml images");
    assert!(said.err.contains("belongs to user 4712"), "{said:#?}");
}

#[test]
fn environments_and_devices_of_a_directory_that_somebody_else_made_are_not_looked_for() {
    let shared = shared!();
    let place = shared.scratch().join("hers");
    let hers = place.display();
    shared.site(&format!(
        "edf_dirs = [\"{hers}\"]\ncdi_dirs = [\"{hers}\"]\n"
    ));
    let cdi = r#"{"cdiVersion":"0.6.0","kind":"x.org/gpu","devices":[{"name":"0","containerEdits":{"env":["HERS=1"]}}]}"#;
    let image = shared.here().join("img");
    let prepare = format!(
        "mkdir {hers}; echo 'image = \"{}\"' > {hers}/e.toml; echo '{cdi}' > {hers}/x.json",
        image.display()
    );
    let asked = "$R run --edf e -- echo ran; $R run --device x.org/gpu=0 ./img -- echo ran";
    shared.run(EVE, &prepare).ok();
    let said = shared.run(ADA, asked);
    assert_eq!(said.out, "", "{said:#?}");
    let reason = format!("{hers} belongs to user 4711");
    assert_eq!(said.err.matches(&reason).count(), 2, "{said:#?}");
    fs::remove_dir_all(&place).unwrap();
    shared.run(ADA, &prepare).ok();
    assert_eq!(shared.run(ADA, asked).ok(), "ran\nran");
}

#[test]
fn root_uses_nothing_of_a_users_home_because_a_variable_says_so() {
    let shared = shared!();
    shared.site("");
    shared.run(ADA, "mkdir -p ada/.local/share/chariot ada/.edf ada/.docker; cp -r img ada/.local/share/chariot/debian; \
                     echo 'image = \"/x\"' > ada/.edf/hers.toml").ok();
    let said = as_root(&shared, "ada", "$R images; $R edf check hers");
    assert!(!said.out.contains("debian"), "{said:#?}");
    assert!(
        said.err.contains("can't find an environment named hers"),
        "{said:#?}"
    );
    let said = as_root(
        &shared,
        "ada",
        "XDG_DATA_HOME=$HOME/.local/share $R images; HOME=/nonexistent XDG_CACHE_HOME=$HOME/.cache $R gc",
    );
    assert!(!said.out.contains("debian"), "{said:#?}");
    assert!(!shared.here().join("ada/.cache").exists());
    // A home of root's own is used, wherever it is.
    shared.prepare("mkdir -p root/.edf; cp ada/.edf/hers.toml root/.edf/");
    as_root(&shared, "root", "$R edf check hers").ok();
}

#[test]
fn the_sites_cache_is_filled_and_read_only_where_root_alone_can_have_made_it() {
    let shared = shared!();
    let scratch = shared.scratch().display().to_string();
    shared.prepare("mkdir elsewhere");
    let hex = "1".repeat(64);
    for (squatted, reason) in [
        (
            "ln -s $PWD/elsewhere $S/site",
            "is a link that user 4711 has laid",
        ),
        ("mkdir -p $S/site/cache/images", "belongs to user 4711"),
    ] {
        shared.run(EVE, squatted).ok();
        shared.site(&format!("site_cache = \"{scratch}/site/cache\"\n"));
        let said = as_root(
            &shared,
            "root",
            &format!("$R pull --site docker://127.0.0.1:1/x@sha256:{hex}"),
        );
        said.failed(125, reason, 1);
        // What she puts there is nobody's image.
        shared.run(EVE, &format!("mkdir -p $S/site/cache/images && $R pack --quiet img $S/site/cache/images/{hex}.sqfs; true")).ok();
        let said = shared.run(
            ADA,
            &format!("$R run --pull never docker://127.0.0.1:1/x@sha256:{hex} -- echo hers"),
        );
        assert_eq!((said.out.as_str(), said.code), ("", 125), "{said:#?}");
        shared.run(EVE, "rm -r $S/site").ok();
    }
    assert_eq!(
        fs::read_dir(shared.here().join("elsewhere"))
            .unwrap()
            .count(),
        0
    );
}

/// Mounts a file system of eve's, of whose process nothing is left or which never answers, and runs a command in the mount
/// namespace in which it is.
const SERVED: &str = r#"
import ctypes, os, subprocess, sys, time
place, more, command = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
device = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={device},rootmode=40000,user_id=4711,group_id=4711{more}"
if libc.mount(b"eve", place.encode(), b"fuse", 0, options.encode()) != 0:
    sys.exit(os.strerror(ctypes.get_errno()))
if not more:
    os.close(device)
done = subprocess.run(["timeout", "30", "setpriv", "--clear-groups", "--reuid=4712", "--regid=4712", "bash", "-c", command])
if more:
    os.close(device)
libc.umount2(place.encode(), 2)
sys.exit(done.returncode)
"#;

#[test]
fn a_file_system_that_somebody_else_serves_is_not_waited_for() {
    let shared = shared!();
    let scratch = shared.scratch().display().to_string();
    shared.site(&format!("stage = \"node\"\nstage_dir = \"{scratch}/copies\"\ncache = \"{scratch}/cache\"\nstore = \"{scratch}/store\"\n"));
    shared.prepare("$C pack --quiet ./img own.sqfs; chmod 644 own.sqfs; tar -C img -cf own.tar .");
    fs::write(shared.here().join("served.py"), SERVED).unwrap();
    for (squatted, command, more) in [
        ("copies", "$R run ./own.sqfs -- echo ran", ""),
        ("copies", "$R run ./own.sqfs -- echo ran", ",allow_other"),
        (
            "cache",
            "SLURM_JOB_ID= $R run ./own.tar -- echo ran",
            ",allow_other",
        ),
        (
            "store",
            "SLURM_JOB_ID= $R run ./img -- echo ran; $R run debian -- true; echo $?",
            ",allow_other",
        ),
    ] {
        shared.run(EVE, &format!("mkdir {scratch}/{squatted}")).ok();
        let here = shared.here().display();
        let command = command.replace("$R", &format!("{here}/chariot --config {here}/site.toml"));
        let output = Command::new("unshare")
            .args(["--mount", "/usr/bin/python3", "served.py"])
            .args([&format!("{scratch}/{squatted}"), more, &command])
            .env_clear()
            .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
            .env("HOME", shared.here().join("ada"))
            .env("SLURM_JOB_ID", "7")
            .current_dir(shared.here())
            .stdin(Stdio::null())
            .output();
        let said: Said = output.unwrap().into();
        assert!(said.out.starts_with("ran\n"), "{squatted}{more}: {said:#?}");
        assert!(squatted != "store" || said.out == "ran\n125\n", "{said:#?}");
        let told = format!("{scratch}/{squatted} is a file system that somebody serves");
        assert_eq!(
            said.err.matches(&told).count(),
            1,
            "{squatted}{more}: {said:#?}"
        );
        fs::remove_dir(shared.scratch().join(squatted)).unwrap();
    }
}
