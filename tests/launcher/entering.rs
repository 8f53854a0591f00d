//! Nobody enters what is not theirs: other users, and root itself.

use std::io::Read;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;

use crate::support::users::User;
use crate::support::{Said, shell_as, until};
use crate::{Place, place, skip};

/// A user with a container that runs, beside root, who runs the tests.
struct Scene {
    place: Place,
    owner: User,
}

impl Scene {
    /// Everybody may look into the directory; `own` in it is the owner's.
    fn new(place: Place) -> Option<Scene> {
        let owner = User::new()?;
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(place.here(), open).unwrap();
        let own = place.here().join("own");
        std::fs::create_dir(&own).unwrap();
        std::os::unix::fs::chown(&own, Some(owner.uid), Some(owner.gid)).unwrap();
        Some(Scene { place, owner })
    }

    fn here(&self) -> &Path {
        self.place.here()
    }

    fn as_owner(&self, script: &str) -> Said {
        self.owner
            .run(script, &self.here().join("own"), &self.variables())
    }

    fn as_root(&self, script: &str) -> Said {
        shell_as(None, script, self.here(), &self.variables())
    }

    fn variables(&self) -> [(&str, &str); 1] {
        [("C", &self.place.launcher)]
    }

    /// The number of a process in a container of the owner's, started with these words.
    fn container(&self, words: &str) -> String {
        let said = self.as_owner(&format!(
            "{words} sh -c 'touch up; exec sleep 60' >/dev/null 2>log & \
             for i in $(seq 300); do [ ! -e up ] || break; sleep 0.05; done; cat log >&2; echo $!"
        ));
        assert!(self.here().join("own/up").exists(), "{said:#?}");
        said.ok().to_owned()
    }
}

/// The scene, or a skip.
macro_rules! scene {
    () => {
        match Scene::new(place!()) {
            Some(scene) => scene,
            None => skip!("only root can make users"),
        }
    };
}

#[test]
fn root_enters_a_users_container_as_that_user_entirely_and_brings_nothing_of_its_own() {
    let scene = scene!();
    let User {
        uid, gid, second, ..
    } = scene.owner;
    let pid = scene.container("ulimit -n 321; MARK=theirs $C run ../img --");
    let said = scene.as_root(&format!(
        "exec 9</etc/shadow; SECRET=mine $C exec {pid} -- sh -c 'echo text >made; touch in; exec sleep 60' & \
         for i in $(seq 300); do [ ! -e own/in ] || break; sleep 0.05; done; p=$!; \
         grep -E '^(Uid|Gid|Groups|CapPrm|NoNewPrivs|Seccomp):' /proc/$p/status; ls /proc/$p/fd; \
         tr '\\0' '\\n' </proc/$p/environ | grep -E '^(SECRET|MARK)='; grep 'open files' /proc/$p/limits; kill $p"
    ));
    let lines: Vec<String> = said
        .out
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let expected = [
        format!("Uid: {uid} {uid} {uid} {uid}"),
        format!("Gid: {gid} {gid} {gid} {gid}"),
        format!("Groups: {} {}", gid.min(second), gid.max(second)),
        "CapPrm: 0000000000000000".into(),
        "NoNewPrivs: 1".into(),
        "Seccomp: 2".into(),
        "0".into(),
        "1".into(),
        "2".into(),
        "MARK=theirs".into(),
        "Max open files 321 321 files".into(),
    ];
    assert_eq!(lines, expected, "{said:#?}");
    let made = scene.here().join("own/made").metadata().unwrap();
    assert_eq!((made.uid(), made.gid()), (uid, gid));
}

#[test]
fn an_image_that_waits_for_root_gets_nothing_of_roots() {
    let scene = scene!();
    let pid = scene.container("cp -a ../img . && rm -f img/bin/id && printf '#!/bin/sh\\n(: >>/proc/sys/kernel/hostname); echo $? >trap\\n' >img/bin/id && chmod +x img/bin/id; $C run ./img --");
    scene.as_root(&format!("$C exec {pid} -- /bin/id")).ok();
    let trap = scene.here().join("own/trap");
    assert_eq!(std::fs::read_to_string(&trap).unwrap(), "1\n");
    assert_eq!(trap.metadata().unwrap().uid(), scene.owner.uid);
}

/// A link of an image that is written to stays a link; what it names can be in a directory that others write.
#[test]
fn whoever_has_made_what_an_images_proc_leads_to_is_not_asked_who_root_is() {
    let scene = scene!();
    scene
        .as_owner("mkdir -p x/self && for n in setgroups uid_map gid_map; do echo before >x/self/$n; done; chmod -R a+rwX x")
        .ok();
    scene
        .as_root("mkdir -p img/shared/x && ln -s shared/x img/proc && mkdir kept")
        .ok();
    for options in ["--writable", "--overlay kept"] {
        let script = format!("$C run {options} --bind ./own:/shared ./img id");
        let said = scene.as_root(&script);
        said.failed(125, "its /proc would not be the kernel's", 1);
        let said = scene.as_owner("cat x/self/*");
        assert_eq!(said.ok(), "before\nbefore\nbefore", "{options}");
    }
    let said = scene
        .place
        .run("$C run --writable --bind ./own:/shared ./img id");
    said.failed(125, "its /proc would not be the kernel's", 1);
    // A root that nobody writes to has no such link.
    let said = scene.as_root("$C run --bind ./own:/shared ./img sh -c 'cat /proc/self/comm'");
    assert_eq!(said.ok(), "cat");
}

#[test]
fn another_user_enters_no_container_and_ch_run_takes_root_into_none() {
    let scene = scene!();
    let pid = scene.container("$C run ../img --");
    let Some(eve) = User::new() else { return };
    let launcher = &scene.place.launcher;
    let said = eve.run(
        &format!("$C exec {pid} -- true"),
        scene.here(),
        &[("C", launcher)],
    );
    said.failed(
        125,
        &format!("can't enter the container of process {pid}"),
        1,
    );
    std::os::unix::fs::symlink(launcher, scene.here().join("ch-run")).unwrap();
    let said = scene.as_root(&format!(
        "USER=root ./ch-run --join-pid={pid} ./img -- true"
    ));
    said.failed(31, &format!("it belongs to user {}", scene.owner.uid), 1);
}

#[test]
fn root_enters_no_namespace_of_roots_own_in_which_a_user_has_the_rights() {
    let scene = scene!();
    // As tools do that make containers for others: root is the owner, and the user is root inside.
    let said = scene.as_root(&format!(
        "unshare -U -m sleep 60 & p=$!; until [ $(readlink /proc/$p/ns/user) != $(readlink /proc/self/ns/user) ]; do sleep 0.05; done; \
         echo '0 {} 1' >/proc/$p/uid_map; echo '0 {} 1' >/proc/$p/gid_map; $C exec $p -- true; code=$?; kill $p; exit $code",
        scene.owner.uid, scene.owner.gid
    ));
    said.failed(125, "it is not in a container", 1);
}

#[test]
fn root_does_not_become_a_user_whom_the_database_does_not_know() {
    let scene = scene!();
    let said = scene.as_root(
        "mkdir any; chmod 777 any; cd any; setpriv --reuid=54321 --regid=54321 --clear-groups $C run ../img -- sh -c 'touch up; exec sleep 60' & \
         until [ -e up ]; do sleep 0.05; done; $C exec $! -- true; code=$?; kill $!; exit $code",
    );
    said.failed(125, "the user database has no such user", 1);
}

#[test]
fn a_process_on_the_host_and_the_server_of_an_image_are_in_no_container() {
    let scene = scene!();
    let said = scene.as_owner("sleep 60 & $C exec $! -- true; code=$?; kill $!; exit $code");
    said.failed(125, "it is not in a container", 1);
    let said = scene.as_owner(
        "$C pack --quiet ../img img.sqfs; $C run ./img.sqfs -- sh -c 'touch up; exec sleep 60' & \
         until [ -e up ]; do sleep 0.05; done; \
         $C exec $(pgrep -u $(id -u) -x chariot-serve) -- true; code=$?; kill $!; exit $code",
    );
    assert_eq!(said.code, 125, "{said:#?}");
    assert!(
        said.err.contains("can't enter the container of process"),
        "{said:#?}"
    );
}

#[test]
fn peers_of_ch_run_hand_their_namespaces_to_nobody_else() {
    let scene = scene!();
    std::os::unix::fs::symlink(&scene.place.launcher, scene.here().join("ch-run")).unwrap();
    let name = format!("chariot-ch-run/{}//tag", scene.owner.uid);
    let address = SocketAddr::from_abstract_name(name).unwrap();
    std::thread::scope(|scope| {
        // Inside, they have a number that users of the host who have none there have too.
        let peers = scope.spawn(|| {
            scene.as_owner(
                "export USER=x; peer='echo x >>came; until [ -e go ]; do sleep 0.05; done; readlink /proc/self/ns/mnt'; \
                 : >came; ch=\"../ch-run -b $PWD -c $PWD -u 65534 --join --join-ct=2 --join-tag=tag ../img --\"; \
                 $ch sh -c \"$peer\" & until [ -s came ]; do sleep 0.05; done; touch first; \
                 until [ -e second ]; do sleep 0.05; done; $ch sh -c \"$peer\" & wait",
            )
        });
        let own = scene.here().join("own");
        until("the first is there", || own.join("first").exists());
        let mut stranger = UnixStream::connect_addr(&address).unwrap();
        let mut byte = [0];
        assert!(
            !matches!(stranger.read(&mut byte), Ok(1..)),
            "a stranger was let in"
        );
        std::fs::write(own.join("second"), "").unwrap();
        until("the second is there", || {
            std::fs::read_to_string(own.join("came")).unwrap() == "x\nx\n"
        });
        std::fs::write(own.join("go"), "").unwrap();
        let said = peers.join().unwrap();
        let lines: Vec<_> = said.ok().lines().collect();
        assert!(lines.len() == 2 && lines[0] == lines[1], "{said:#?}");
    });
}

#[test]
fn a_launcher_that_was_given_rights_refuses_in_a_sentence_under_each_of_its_names() {
    let scene = scene!();
    let said = scene.as_root("mkdir given; cp \"$C\" given/chariot; for n in ch-run srun; do ln -s chariot given/$n; done");
    said.ok();
    for (given, reason) in [
        ("chmod 4755 given/chariot", "it is set-user-ID"),
        (
            "chmod 755 given/chariot; chgrp 1 given/chariot; chmod 2755 given/chariot",
            "it is set-group-ID",
        ),
        (
            "chmod 755 given/chariot; setcap cap_chown=p given/chariot",
            "its file has capabilities",
        ),
        (
            "setcap cap_sys_admin,cap_net_raw=ep given/chariot",
            "its file has capabilities",
        ),
    ] {
        scene.as_root(given).ok();
        for words in [
            "chariot run ../img -- true",
            "chariot --version",
            "chariot exec 1 -- true",
            "ch-run --version",
            "srun true",
        ] {
            let said = scene.as_owner(&format!("../given/{words}"));
            said.failed(125, reason, 1);
            assert_eq!(said.err.lines().count(), 2, "{said:#?}");
        }
    }
    scene.as_root("setcap -r given/chariot").ok();
    scene.as_owner("../given/chariot run ../img -- true").ok();
    // What a session has for all its programs is no gain.
    let session = "setpriv --reuid=$U --regid=$U --clear-groups --inh-caps=+net_bind_service --ambient-caps=+net_bind_service";
    let said = scene.as_root(&format!(
        "U={}; {session} given/chariot run ./img -- true",
        scene.owner.uid
    ));
    said.ok();
}

#[test]
fn roots_own_container_says_so_once_and_does_not_steer_the_kernel_whatever_it_unmounts() {
    let scene = scene!();
    let writes = "for p in /proc/sys/kernel/hostname /proc/sysrq-trigger /proc/irq/default_smp_affinity /sys/kernel/mm/ksm/run \
                    /sys/kernel/uevent_helper /sys/fs/cgroup/cgroup.procs; do [ ! -e $p ] || (: >>$p) 2>/dev/null && [ -e $p ] && echo wrote $p; done; \
                  head -q -c 1 /proc/kcore /proc/keys 2>/dev/null; ls /sys/firmware";
    let undo = "mount -o remount,rw /proc/sys; umount /proc/sys; umount /proc/sysrq-trigger; umount -l /sys; mount -o remount,rw /sys; \
                umount /proc/kcore; mkdir -p /tmp/$$/p; mount --bind /proc /tmp/$$/p; ls /tmp/$$/p; umount /sys/firmware; \
                unshare -p -f sh -c \"mount -t proc p /tmp/$$/p; (: >>/tmp/$$/p/sys/kernel/hostname) && echo fresh proc\"; \
                unshare -n sh -c \"mount -t sysfs s /tmp/$$/p; (: >>/tmp/$$/p/kernel/mm/ksm/run) && echo fresh sysfs\"; rmdir /tmp/$$/p /tmp/$$";
    std::fs::write(scene.here().join("writes"), writes).unwrap();
    std::fs::write(scene.here().join("undo"), undo).unwrap();
    for options in ["", "--root", "--writable"] {
        let said = scene.as_root(&format!(
            "for a in mount umount unshare rmdir; do ln -sf busybox img/bin/$a; done; \
             $C run --private-tmp {options} ./img -- sh -c '. ./writes; . ./undo 2>/dev/null; . ./writes; echo end'"
        ));
        assert_eq!(said.ok(), "end", "{options}: {said:#?}");
        assert_eq!(
            said.err.matches("runs as root on this machine").count(),
            1,
            "{said:#?}"
        );
    }
    let said = scene.as_root("$C explain ./img -- true");
    for line in [
        "/proc/sys, read-only (",
        "/sys, read-only (",
        "runs as root, and cannot",
    ] {
        assert!(said.ok().contains(line), "{line}: {said:#?}");
    }
    let said = scene.as_owner("$C explain ../img -- true; $C run ../img -- true");
    assert!(
        !said.ok().contains("/proc/sys") && said.err.is_empty(),
        "{said:#?}"
    );
    // Who is called root in a namespace is not root of the machine.
    let said = scene.as_owner("unshare -r $C explain ../img -- true");
    assert!(!said.ok().contains("/proc/sys"), "{said:#?}");
}

#[test]
fn the_processes_beside_a_container_have_no_rights_and_no_files_and_let_nobody_look() {
    let scene = scene!();
    scene
        .as_owner("$C pack --quiet ../img img.sqfs; touch here")
        .ok();
    // What a program of the image sees that is root in the user namespace.
    let look = "for p in /proc/[0-9]*; do read n <$p/comm || continue; \
                case $n in chariot-serve|chariot-watch) echo $n; \
                ls $p/root/ $p/root/.. $p/fd/ $p/cwd/ $p/ns/ $p/map_files; cat $p/root/../etc/passwd $p/mem $p/environ;; esac; done";
    std::fs::write(scene.here().join("own/look"), look).unwrap();
    for options in ["", "--root"] {
        scene
            .as_owner(&format!(
                "rm -f up go; $C run {options} ./img.sqfs -- sh -c '. ./look 2>/dev/null; touch up; until [ -e go ]; do sleep 0.05; done' >seen 2>log & \
                 until [ -e up ]; do sleep 0.05; done; ps -o args= -u $(id -u) >names"
            ))
            .ok();
        let read =
            |name: &str| std::fs::read_to_string(scene.here().join("own").join(name)).unwrap();
        let seen = read("seen");
        let is_name = |line: &str| {
            // ls(1) names a directory before it finds that it may not look into it.
            let is_heading = line.is_empty() || line.starts_with("/proc/") && line.ends_with(':');
            is_heading || matches!(line, "chariot-serve" | "chariot-watch")
        };
        assert!(
            seen.lines().count() >= 2 && seen.lines().all(is_name),
            "{options}: {seen}"
        );
        let image = scene.here().join("own/img.sqfs").display().to_string();
        for name in ["chariot-watch", "chariot-serve"] {
            assert!(
                read("names").contains(&format!("{name} {image}")),
                "{}",
                read("names")
            );
        }
        // What root sees that they have, as soon as they have come so far. To reach the standard error of a program that
        // has capabilities takes one.
        let kept = if options.is_empty() { 0 } else { 1 << 19 };
        let expected = [0, kept].map(|kept: u32| {
            format!("CapEff:\t{kept:016x}\nCapPrm:\t{kept:016x}\nNoNewPrivs:\t1\n\n.\n..\n")
        });
        let uid = scene.owner.uid;
        until("they have no rights and no files", || {
            let said = scene.as_root(&format!(
                "for n in serve watch; do p=$(pgrep -u {uid} -x chariot-$n); grep -hE '^(CapPrm|CapEff|NoNewPrivs):' /proc/$p/task/*/status | sort -u; \
                 ls -a /proc/$p/root/ /proc/$p/root/.. | sort -u | grep -v :; done"
            ));
            said.ok() == expected.concat().trim_end()
        });
        scene.as_root(&format!(
            "touch own/go; while pgrep -u {uid} chariot- >/dev/null; do sleep 0.05; done"
        ));
    }
}
