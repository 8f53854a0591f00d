//! The launcher as one static file, on a machine that has neither glibc nor a user database that musl
//! could ask: a tree such as Alpine's, of busybox and musl.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::skip;
use crate::support::{self, Said};

/// A user whom only `getent` knows, as one of LDAP's.
const UID: u32 = 4321;

fn executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Makes a root file system of busybox and musl.
fn tree(root: &Path) {
    for directory in ["bin", "lib", "etc", "usr/bin", "dev", "proc", "sys", "tmp"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for applet in ["sh", "mount", "umount", "id", "cat", "ls"] {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    fs::copy(
        "/lib/ld-musl-x86_64.so.1",
        root.join("lib/ld-musl-x86_64.so.1"),
    )
    .unwrap();
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    executable(
        &root.join("usr/bin/getent"),
        &format!(
            "#!/bin/sh\ncase $1 in\n\
             passwd) [ $2 = {UID} ] && echo 'ada:x:{UID}:{UID}:Ada:/home/ada:/bin/sh' ;;\n\
             group) [ $2 = {UID} ] && echo 'engines:x:{UID}:' ;;\nesac\n"
        ),
    );
}

/// Runs a script as the user in the tree: the new root of a mount namespace of its own.
fn run_in(root: &Path, script: &str) -> Said {
    executable(&root.join("tmp/script"), &format!("#!/bin/sh\n{script}\n"));
    let enter = format!(
        "set -e; mount --make-rprivate /; mount --bind {0} {0}; cd {0}; \
         mount --rbind /dev dev; mount --rbind /sys sys; mount -t proc proc proc; \
         pivot_root . .; umount -l .; \
         exec /bin/become /tmp/script",
        root.display()
    );
    let output = Command::new("timeout")
        .args([
            "60", "unshare", "--mount", "--pid", "--fork", "sh", "-c", &enter,
        ])
        .env_clear()
        .env("PATH", "/bin:/sbin:/usr/bin:/usr/sbin")
        .output();
    output.unwrap().into()
}

/// Builds a program that takes musl's loader and library to run.
fn build(program: &Path, text: &str) {
    let source = program.with_extension("c");
    fs::write(&source, text).unwrap();
    let built = Command::new("musl-gcc")
        .arg("-o")
        .arg(program)
        .arg(source)
        .output();
    assert!(built.as_ref().unwrap().status.success(), "{built:?}");
}

#[test]
fn the_static_launcher_runs_where_there_is_no_glibc_and_asks_getent_for_names() {
    let Some(launcher) = std::env::var_os("CHARIOT_STATIC").filter(|_| support::user().is_some())
    else {
        skip!("tests/run, as root, builds the static launcher");
    };
    let place = support::scratch();
    let (root, image) = (place.path().join("root"), place.path().join("root/image"));
    tree(&root);
    tree(&image);
    fs::remove_file(image.join("usr/bin/getent")).unwrap();
    build(
        &image.join("bin/hello"),
        "#include <stdio.h>\nint main(void) { return puts(\"hello from musl\") < 0; }\n",
    );
    // busybox changes only to users that the file names.
    build(
        &root.join("bin/become"),
        &format!(
            "#include <unistd.h>\nint main(int count, char **words) {{\n\
             return setgid({UID}) || setuid({UID}) || execv(words[1], words + 1); }}\n"
        ),
    );
    fs::copy(launcher, root.join("bin/chariot")).unwrap();

    let said = run_in(&root, "chariot run /image -- hello");
    assert_eq!(said.ok(), "hello from musl", "{said:#?}");
    let said = run_in(
        &root,
        "chariot run /image -- id; chariot run /image -- cat /etc/passwd",
    );
    assert!(
        said.ok().contains("uid=4321(ada) gid=4321(engines)"),
        "{said:#?}"
    );
    assert!(
        said.out.contains("ada:x:4321:4321:Ada:/home/ada:/bin/sh"),
        "{said:#?}"
    );
    let said = run_in(&root, "chariot check");
    assert!(said.out.contains("ada is uid 4321"), "{said:#?}");
}
