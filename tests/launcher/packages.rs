//! Installing software in an image: pretended owners, kept changes, and a new image of both.

use std::path::PathBuf;

use crate::support::registry;
use crate::{place, skip};

#[test]
fn owners_and_devices_are_pretended_only_when_asked_for() {
    let place = place!();
    let script = "busybox touch /x && busybox chown 5:6 /x && busybox mknod /null c 1 3 && \
                  busybox mkfifo /pipe && busybox test -p /pipe && busybox test ! -e /null && echo pretended";
    let run = |options: &str| {
        place.run(&format!(
            "mkdir -p own; [ -e own/img ] || cp -a img own; $C run --root --writable {options} own/img sh -c '{script}'"
        ))
    };
    assert_eq!(run("--fakeroot").ok(), "pretended");
    for options in ["", "--fakeroot=no"] {
        let said = run(options);
        assert_ne!(said.code, 0, "{said:#?}");
        assert!(said.err.contains("Invalid argument"), "{said:#?}");
    }
}

#[test]
fn kept_changes_and_their_image_become_a_new_image() {
    let place = place!();
    let said = place.run(
        "mkdir own own/kept; cp -a img own; mkdir own/img/full own/img/gone; touch own/img/full/old own/img/.wh.name; \
         $C run --overlay own/kept own/img sh -c \
         'busybox rm -r /gone /full; mkdir /full; touch /full/new; echo text >/bin/added; busybox ln -s added /bin/link' && \
         $C pack --quiet --overlay own/kept own/img new.sqfs && \
         $C pack --quiet --overlay own/kept own/img new.tar && $C unpack --quiet new.tar tree && \
         for image in ./new.sqfs ./tree; do \
             $C run $image sh -c 'ls -d /gone 2>/dev/null; ls /full; cat /bin/link; ls -d /.wh.name'; done",
    );
    let one = "new\ntext\n/.wh.name";
    assert_eq!(said.ok(), format!("{one}\n{one}"), "{said:#?}");
    let said = place.run("$C pack --overlay own/img own/img other.sqfs");
    said.failed(125, "is not a directory in which --overlay kept changes", 1);
    assert!(!place.here().join("other.sqfs").exists());
}

/// A package whose scripts do what those of real ones do.
const SCRIPT: &str = "#!/bin/sh\nset -e\naddgroup --system chariots >/dev/null\n\
    useradd --system --gid chariots driver\nchown driver:chariots /opt/wheel\nmknod /opt/device c 1 3\n";

#[test]
fn apt_installs_a_package_and_a_new_image_has_it() {
    let place = place!();
    let archive = |oci: PathBuf| Some(oci.join("layers/debian.tar.gz"));
    let Some(debian) = registry::oci()
        .and_then(archive)
        .filter(|path| path.exists())
    else {
        skip!("no Debian image: tests/run makes one");
    };
    let control = "Package: wheel\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: a wheel\n";
    let write = |name: &str, text: &str| std::fs::write(place.here().join(name), text).unwrap();
    write("control", control);
    write("postinst", SCRIPT);
    let said = place.run(&format!(
        "mkdir -p deb/DEBIAN deb/opt kept && cp control postinst deb/DEBIAN && chmod 755 deb/DEBIAN/postinst && \
         echo round >deb/opt/wheel && dpkg-deb --root-owner-group --build deb wheel.deb >/dev/null && \
         $C pack --quiet --compression lz4 {} base.sqfs && \
         $C run --root --fakeroot --overlay kept ./base.sqfs -- apt-get install -y ./wheel.deb >log 2>&1 || cat log; \
         $C pack --quiet --compression lz4 --overlay kept ./base.sqfs new.sqfs && \
         $C run ./new.sqfs sh -c 'dpkg -s wheel | grep ^Status; cat /opt/wheel; getent passwd driver | cut -d: -f1; ls /.chariot'",
        debian.display()
    ));
    assert_eq!(
        said.ok(),
        "Status: install ok installed\nround\ndriver\nimage.json",
        "{said:#?}"
    );
}

/// A hundred packages, each of which writes and renames in /etc when it comes and when it goes.
const HUNDRED: &str = r#"
mkdir debs; for i in $(seq 100); do
    d=deb$i; mkdir -p $d/DEBIAN $d/etc/wheels $d/opt/wheels; echo $i >$d/etc/wheels/$i.conf; echo $i >$d/opt/wheels/$i
    printf 'Package: wheel%s\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: a wheel\n' $i >$d/DEBIAN/control
    echo /etc/wheels/$i.conf >$d/DEBIAN/conffiles; echo 'activate-noawait ldconfig' >$d/DEBIAN/triggers
    printf '#!/bin/sh\nset -e\nsed "/wheel%s /d" /etc/wheels.list >/etc/wheels.list~ 2>/dev/null || :\n' $i >$d/DEBIAN/postrm
    cp $d/DEBIAN/postrm $d/DEBIAN/postinst
    echo "echo 'wheel$i here' >>/etc/wheels.list~; mv /etc/wheels.list~ /etc/wheels.list" >>$d/DEBIAN/postinst
    echo 'mv /etc/wheels.list~ /etc/wheels.list' >>$d/DEBIAN/postrm
    chmod 755 $d/DEBIAN/post*; dpkg-deb --root-owner-group -Znone --build $d debs >/dev/null
done"#;

/// What of the packages is there, and what the image's links say.
const STATE: &str = r#"cd /; dpkg -l "wheel*" | grep -c ^ii; ls /etc/wheels /opt/wheels | grep -c "^[0-9]"; grep -c . /etc/wheels.list; \
    cat /etc/timezone; dpkg --audit; ldconfig -p | grep -c libc.so"#;

#[test]
fn a_hundred_packages_come_and_go_where_time_zone_and_resolver_are_links() {
    let place = place!();
    let Some(debian) = registry::oci()
        .map(|oci| oci.join("layers/debian.tar.gz"))
        .filter(|path| path.exists())
    else {
        skip!("no Debian image: tests/run makes one");
    };
    let said = place.run(&format!(
        "$C unpack --quiet {} tree && chmod -R u+w tree/etc && ln -sf /usr/share/zoneinfo/Europe/Berlin tree/etc/localtime && \
         ln -sf ../run/systemd/resolve/stub-resolv.conf tree/etc/resolv.conf && mkdir kept && \
         $C pack --quiet --compression lz4 ./tree berlin.sqfs && {HUNDRED}",
        debian.display()
    ));
    said.ok();
    let run = |image: &str, script: &str| {
        place.run(&format!(
            "$C run --root --fakeroot --overlay kept {image} -- sh -c '{script}' >log 2>&1 || {{ code=$?; cat log; exit $code; }}; \
             ! grep -i 'resource busy' log"
        ))
    };
    let state = |options: &str, image: &str| {
        place.run(&format!("$C run {options} {image} -- sh -c '{STATE}'"))
    };
    run(
        "./berlin.sqfs",
        "apt-get -o Dpkg::Options::=--force-unsafe-io install -y ./debs/*.deb",
    )
    .ok();
    let said = state("--root --overlay kept", "./berlin.sqfs");
    assert_eq!(said.ok(), "100\n200\n100\nEtc/UTC\n1", "{said:#?}");
    // Every package but those with a 9, and the time zone by its own package.
    let script = "apt-get -o Dpkg::Options::=--force-unsafe-io purge -y $(cd /opt/wheels; ls | grep -v 9 | sed s/^/wheel/) && \
        echo tzdata tzdata/Areas select Europe | debconf-set-selections && \
        echo tzdata tzdata/Zones/Europe select Paris | debconf-set-selections && \
        rm /etc/localtime && ln -s /usr/share/zoneinfo/Europe/Paris /etc/localtime && dpkg-reconfigure -f noninteractive tzdata";
    run("./berlin.sqfs", script).ok();
    let one = "19\n38\n19\nEurope/Paris\n1";
    for options in ["--root --overlay kept", "--overlay kept"] {
        assert_eq!(state(options, "./berlin.sqfs").ok(), one);
    }
    let said = place.run(
        "$C pack --quiet --compression lz4 --overlay kept ./berlin.sqfs new.sqfs && $C unpack --quiet new.sqfs new && \
         readlink new/etc/localtime new/etc/resolv.conf; find kept/upper -name '*resolv*' -o -name machine-id -o -path '*/upper/[dpst]*' -prune | grep -v /usr/",
    );
    assert_eq!(
        said.out, "/usr/share/zoneinfo/Europe/Paris\n../run/systemd/resolve/stub-resolv.conf\n",
        "{said:#?}"
    );
    assert_eq!(state("", "./new.sqfs").ok(), one);
}

/// A package of the other family, with owners, a set-user-ID bit, a capability and a script.
const WHEEL: &str = "Name: wheel\nVersion: 1\nRelease: 1\nSummary: a wheel\nLicense: none\nAutoReqProv: no\nProvides: /bin/sh\n\
    %description\na wheel\n%install\nmkdir -p %{buildroot}/opt/wheel\necho turn >%{buildroot}/opt/wheel/turn\n\
    echo su >%{buildroot}/opt/wheel/su\n%files\n%attr(0640,daemon,daemon) /opt/wheel/turn\n%attr(4755,root,root) /opt/wheel/su\n\
    %post\nchown games:games /opt/wheel/turn && mknod /opt/wheel/null c 1 3\n";

#[test]
fn dnf_installs_a_package_and_does_not_without_pretending() {
    let place = place!();
    let images = crate::support::images().map(|images| images.join("dnf.sqfs"));
    let Some(image) = images.filter(|image| image.exists()) else {
        skip!("no image with dnf: tests/run makes one");
    };
    let write = |name: &str, text: &str| std::fs::write(place.here().join(name), text).unwrap();
    write("wheel.spec", WHEEL);
    write(
        "own.repo",
        "[own]\nname=own\nbaseurl=file:///repo\ngpgcheck=0\n",
    );
    place.run("mkdir changes").ok();
    let run = |options: &str, script: &str| {
        place.run(&format!(
            "$C run --root {options} --overlay changes {} -- sh -c '{script}'",
            image.display()
        ))
    };
    let build = "rpmbuild -bb --quiet --define \"_topdir /build\" --define \"__os_install_post %{nil}\" wheel.spec && \
                 mkdir -p /repo /etc/yum.repos.d && cp /build/RPMS/*/*.rpm /repo && createrepo_c -q /repo && \
                 cp own.repo /etc/yum.repos.d/";
    run("--fakeroot", build).ok();
    let install = "dnf -y -q --releasever=1 install wheel && cat /opt/wheel/turn && rpm -q wheel";
    assert_ne!(run("", install).code, 0);
    let said = run("--fakeroot", install);
    assert!(said.ok().ends_with("turn\nwheel-1-1.x86_64"), "{said:#?}");
}

/// Installs Chariot's own package by rpm, takes away what it put there as an administrator does, and removes it. RPM is the
/// package, and `see` says what is there. A package over itself is what an upgrade is to its scripts.
const LIFE: &str = r#"
see() { echo "$1: $(cat /etc/slurm/plugstack.conf.d/chariot.conf 2>&1 | grep -e ^required -e ^off -e such)"; }
up() { rpm -U --force --nodeps RPM >/dev/null 2>&1 || echo failed; }
erase() { rpm -e --nodeps chariot >/dev/null 2>&1 || echo failed; }
rm -rf /etc/slurm
up; see installed
up; see upgraded
echo off >/etc/slurm/plugstack.conf.d/chariot.conf; up; see "turned off"
rm /etc/slurm/plugstack.conf.d/chariot.conf; up; see "taken out"
erase; find /etc /usr /var/lib -iname "*chariot*"; ls -d /etc/slurm
up; see "installed again"
echo off >/etc/slurm/plugstack.conf.d/chariot.conf; erase; ls -A /etc/slurm/plugstack.conf.d
"#;

#[test]
fn the_rpm_brings_back_nothing_that_was_taken_out_and_leaves_nothing() {
    let place = place!();
    let images = crate::support::images().map(|images| images.join("dnf.sqfs"));
    let (Some(image), Ok(package)) = (
        images.filter(|image| image.exists()),
        std::env::var("CHARIOT_TEST_RPM"),
    ) else {
        skip!("no image with rpm, or no package: tests/run makes both");
    };
    let here = place.here().display().to_string();
    std::fs::copy(package, place.here().join("own.rpm")).unwrap();
    let life = LIFE.replace("RPM", &format!("{here}/own.rpm"));
    std::fs::write(place.here().join("life"), life).unwrap();
    let said = place.run(&format!(
        "mkdir changes; $C run --root --fakeroot --overlay changes {} -- bash ./life 2>&1",
        image.display()
    ));
    let line = "required /usr/lib64/slurm/chariot.so";
    assert_eq!(
        said.ok(),
        format!(
            "installed: {line}\nupgraded: {line}\nturned off: off\n\
             taken out: cat: /etc/slurm/plugstack.conf.d/chariot.conf: No such file or directory\n\
             ls: cannot access '/etc/slurm': No such file or directory\n\
             installed again: {line}\nchariot.conf.rpmsave"
        )
    );
}
