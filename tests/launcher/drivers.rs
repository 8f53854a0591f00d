//! A driver's libraries in images of several kinds, by a specification as NVIDIA's toolkit writes it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::devices::{run_image, specify};
use crate::support;
use crate::{Place, place, skip};

/// Builds a driver's library and a program that needs it, with `compiler`; false where there is no such.
fn build(place: &Place, compiler: &[&str]) -> bool {
    let here = place.here();
    let write = |name: &str, text: &str| std::fs::write(here.join(name), text).unwrap();
    write(
        "library.c",
        "int cuDriverGetVersion(void) { return 12040; }\n",
    );
    write(
        "program.c",
        "#include <stdio.h>\nint cuDriverGetVersion(void);\nint main(void) { printf(\"%d\\n\", cuDriverGetVersion()); }\n",
    );
    std::fs::create_dir_all(here.join("driver")).unwrap();
    let library = "driver/libcuda.so.550.54.15";
    let compile = |words: &[&str]| {
        let mut command = Command::new(compiler[0]);
        command.args(&compiler[1..]).args(words).current_dir(here);
        command.status().is_ok_and(|status| status.success())
    };
    compile(&[
        "-shared",
        "-fPIC",
        "-Wl,-soname,libcuda.so.1",
        "-o",
        library,
        "library.c",
    ]) && compile(&["-o", "program", "program.c", library])
}

/// A place with the library and the program.
macro_rules! built_by {
    ($compiler:expr) => {{
        let place = place!();
        if !build(&place, &[$compiler]) {
            skip!(concat!("no ", $compiler, " (packages gcc and musl-tools)"));
        }
        place
    }};
}

/// Debian's image.
macro_rules! debian {
    () => {{
        let Some(debian) = support::images()
            .map(|images| images.join("debian"))
            .filter(|path| path.exists())
        else {
            skip!("no Debian image: tests/run makes one");
        };
        debian
    }};
}

/// What `nvidia-ctk cdi generate` writes, but for what no machine without the driver has.
fn toolkit(place: &Place, directory: &str) {
    let spec = r#"---
cdiVersion: 0.5.0
kind: nvidia.com/gpu
containerEdits:
  env:
  - NVIDIA_VISIBLE_DEVICES=void
  deviceNodes:
  - path: /dev/null
  hooks:
  - args:
    - nvidia-cdi-hook
    - create-symlinks
    - --link
    - libcuda.so.1::LIB/libcuda.so
    env:
    - NVIDIA_CTK_DEBUG=false
    hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
  - args:
    - nvidia-cdi-hook
    - enable-cuda-compat
    - --host-driver-version=550.54.15
    env:
    - NVIDIA_CTK_DEBUG=false
    hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
  - args:
    - nvidia-cdi-hook
    - update-ldcache
    - --folder
    - LIB
    env:
    - NVIDIA_CTK_DEBUG=false
    hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
  - args:
    - nvidia-cdi-hook
    - disable-device-node-modification
    hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
  - args:
    - nvidia-cdi-hook
    - update-application-profile
    hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
  mounts:
  - containerPath: LIB/libcuda.so.550.54.15
    hostPath: HERE/driver/libcuda.so.550.54.15
    options:
    - ro
    - nosuid
    - nodev
    - rbind
    - rprivate
  - containerPath: /usr/bin/nvidia-smi
    hostPath: HERE/program
    options: [ro, nosuid, nodev, rbind, rprivate]
devices:
- name: "0"
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
      hostPath: /dev/zero
- name: all
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
      hostPath: /dev/zero
"#;
    specify(
        place,
        &[("weak/nvidia.yaml", &spec.replace("LIB", directory))],
        "",
    );
}

const CHECK: &str =
    "sh -c './program; nvidia-smi; ls -l DIR/libcuda.so* | cut -d/ -f2- ; cat /etc/nvidia/*/*'";

#[test]
fn a_debian_image_finds_the_drivers_library_by_its_cache() {
    let debian = debian!();
    let place = built_by!("gcc");
    let directory = "/usr/lib/x86_64-linux-gnu";
    toolkit(&place, directory);
    let image = debian.display().to_string();
    let check = CHECK.replace("DIR", directory);
    let said = run_image(&place, "--device nvidia.com/gpu=0", &image, &check);
    assert_eq!(said.out.matches("12040").count(), 2, "{said:#?}");
    for expected in [
        "libcuda.so -> libcuda.so.1",
        "libcuda.so.1 -> libcuda.so.550.54.15",
        "EGLVisibleDGPUDevices\",0x1]",
    ] {
        assert!(said.out.contains(expected), "{expected}: {said:#?}");
    }
    // The image's own tool reads the cache, and finds the image's own libraries in it too.
    let said = run_image(
        &place,
        "--device nvidia.com/gpu=all",
        &image,
        "/sbin/ldconfig -p",
    );
    assert!(
        said.ok().contains(&format!("=> {directory}/libcuda.so.1")),
        "{said:#?}"
    );
    assert!(said.out.contains("libc.so.6 "), "{said:#?}");
    assert_eq!(
        run_image(&place, "", &image, "ls -d /usr/bin/nvidia-smi").code,
        2
    );
}

#[test]
fn ldconfig_of_an_image_that_can_be_changed_works_beside_a_driver_and_so_does_the_driver_later() {
    let debian = debian!();
    let place = built_by!("gcc");
    // No directory where a loader looks by itself.
    toolkit(&place, "/opt/driver");
    let library = "lib/x86_64-linux-gnu";
    let libc = debian.join(library).join("libc.so.6");
    let image = image_of(
        &place,
        "own",
        &[
            (Path::new("/bin/busybox"), "bin/sh"),
            (&debian.join("sbin/ldconfig"), "sbin/ldconfig"),
            (&libc, &format!("{library}/libc.so.6")),
            (
                &debian.join("lib64/ld-linux-x86-64.so.2"),
                "lib64/ld-linux-x86-64.so.2",
            ),
        ],
    );
    std::fs::create_dir_all(image.join("etc")).unwrap();
    std::fs::write(image.join("etc/ld.so.conf"), format!("/{library}\n/new\n")).unwrap();
    // The user's, who may change it.
    place
        .run("cp -r own mine && /sbin/ldconfig -r mine && mkdir kept")
        .ok();
    let image = place.here().join("mine").display().to_string();
    let cuda = "=> /opt/driver/libcuda.so.1";
    let device = "--root --device nvidia.com/gpu=all";
    for changeable in ["--writable", "--overlay kept", "--overlay kept"] {
        let options = format!("{device} {changeable}");
        let show = "sh -c 'ldconfig -p && ldconfig && ldconfig -p >/dev/null && echo again'";
        let said = run_image(&place, &options, &image, show);
        // ldconfig knows no such directory, and writes what it knows; the next container has the driver again.
        assert!(said.ok().contains(cuda), "{changeable}: {said:#?}");
        assert!(said.out.contains("libc.so.6 "), "{said:#?}");
        assert!(said.ok().ends_with("again"), "{said:#?}");
    }
    // What programs have added to the cache stays in it.
    let add = format!("sh -c 'mkdir /new && cp /{library}/libc.so.6 /new && ldconfig'");
    run_image(&place, "--root --overlay kept", &image, &add).ok();
    let said = run_image(
        &place,
        &format!("{device} --overlay kept"),
        &image,
        "ldconfig -p",
    );
    assert!(
        said.ok().contains("=> /new/libc.so.6") && said.out.contains(cuda),
        "{said:#?}"
    );
}

/// An image with nothing but a program.
fn image_of(place: &Place, name: &str, files: &[(&Path, &str)]) -> PathBuf {
    let image = place.here().join(name);
    for (from, to) in files {
        let path = image.join(to);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::copy(from, path).unwrap();
    }
    image
}

#[test]
fn an_image_of_musl_finds_it_by_its_list_of_directories() {
    let place = built_by!("musl-gcc");
    let directory = "/usr/lib/nvidia";
    toolkit(&place, directory);
    let loader = Path::new("/usr/lib/x86_64-linux-musl/libc.so");
    let image = image_of(&place, "musl", &[(loader, "lib/ld-musl-x86_64.so.1")]);
    let image = image.display().to_string();
    let said = run_image(&place, "--device nvidia.com/gpu=0", &image, "./program");
    assert_eq!(said.ok(), "12040");
    assert_eq!(
        run_image(
            &place,
            "--device nvidia.com/gpu=0",
            &image,
            "/usr/bin/nvidia-smi"
        )
        .ok(),
        "12040"
    );
}

#[test]
fn an_image_with_nothing_but_a_static_program_takes_a_device_too() {
    let place = built_by!("gcc");
    let text = "#include <stdio.h>\nint main(void) { puts(fopen(\"/usr/lib/libcuda.so\", \"r\") ? \"there\" : \"gone\"); }\n";
    std::fs::write(place.here().join("static.c"), text).unwrap();
    let mut compile = Command::new("gcc");
    compile
        .args(["-static", "-o", "static", "static.c"])
        .current_dir(place.here());
    assert!(compile.status().unwrap().success());
    toolkit(&place, "/usr/lib");
    let program = place.here().join("static");
    let image = image_of(&place, "lone", &[(&program, "program")])
        .display()
        .to_string();
    let said = run_image(&place, "--device nvidia.com/gpu=0", &image, "/program");
    assert_eq!(said.ok(), "there");
    assert_eq!(run_image(&place, "", &image, "/program").ok(), "gone");
}

#[test]
fn an_images_newer_cuda_comes_before_the_hosts_driver() {
    let place = built_by!("gcc");
    toolkit(&place, "/usr/lib");
    let library = place.here().join("driver/libcuda.so.550.54.15");
    let names = |version: &str| {
        let place = &place;
        let image = image_of(
            place,
            &format!("cuda{version}"),
            &[
                (Path::new("/bin/busybox"), "bin/cat"),
                (&library, "lib64/ld-linux-x86-64.so.2"),
                (
                    &library,
                    &format!("usr/local/cuda/compat/libcuda.so.{version}"),
                ),
                (&library, "usr/local/cuda/compat/libcuda.so.1"),
            ],
        );
        let cat = format!(
            "${{C% --config*}} --config $PWD/site.toml run --device nvidia.com/gpu=0 {} cat /etc/ld.so.cache >cache && \
             /sbin/ldconfig -p -C cache | grep -o '/.*libcuda.*'",
            image.display()
        );
        place.run(&cat).ok().to_owned()
    };
    assert_eq!(
        names("560.28.03"),
        "/usr/local/cuda/compat/libcuda.so.1\n/usr/lib/libcuda.so.1"
    );
    assert_eq!(names("535.104.05"), "/usr/lib/libcuda.so.1");
}
