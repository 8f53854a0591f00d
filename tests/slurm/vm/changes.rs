//! What can be changed in an image is changed as on any disk, whatever the kernel's file systems can do by themselves.

use crate::site;

/// What package managers do: files and directories go and come back, and have other names.
const WORK: &str = "set -e; mkdir -p /opt/tree/deep; echo 1 >/opt/tree/deep/file; mv /opt/tree /opt/moved; cat /opt/moved/deep/file; \
                    rm -r /srv/old; mkdir /srv/old; echo 2 >/srv/old/new; ls /srv/old; \
                    mv /srv/old /srv/renamed; ls /srv/renamed; echo 3 >/srv/file; cat /srv/file; rm /srv/file; mkdir /srv/file; ls /srv";
const SAID: &str = "1\nnew\nnew\n3\nfile\nrenamed";

#[test]
fn directories_of_an_image_go_and_come_back_where_it_can_be_changed() {
    let site = site!();
    let said = site.run(
        "cp -r $I tree && mkdir -p tree/srv/old tree/opt && echo old >tree/srv/old/file && echo 0 >tree/srv/file && \
         chariot pack --quiet tree tree.sqfs",
    );
    said.ok();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = kernel
        .split('.')
        .map(|number| number.parse::<u32>().unwrap_or(0));
    let is_before_6_6 = (numbers.next(), numbers.next()) < (Some(6), Some(6));
    for image in ["./tree", "./tree.sqfs"] {
        for (name, words) in [
            ("--writable", "--writable --root"),
            ("--overlay", "--overlay ./kept --root"),
        ] {
            let said = site.run(&format!(
                "rm -rf kept; mkdir kept; chariot run {words} {image} -- sh -c '{WORK}'"
            ));
            let is_told = said.err.contains("but not be removed");
            // In memory, where the kernel's cannot note what is gone.
            assert_eq!(is_told, name == "--writable" && is_before_6_6, "{said:#?}");
            match is_told {
                false => assert_eq!(said.ok(), SAID, "{image} {name}: {said:#?}"),
                true => assert!(said.err.contains("Input/output error"), "{said:#?}"),
            }
        }
    }
}
