//! Images on a file server that a node copies to its own disk.

use super::nfs::{MOUNTS, Server, run_in};
use crate::site;

#[test]
#[ignore = "alone: starts a file server"]
fn an_image_on_a_file_server_is_copied_to_the_node_once_and_read_there() {
    let site = site!();
    let _server = Server::start(&MOUNTS);
    let copies = "stage = \"node\"\nstage_dir = \"/var/tmp/chariot-$USER\"\n";
    for (options, at) in MOUNTS {
        site.with_file(copies, || {
            let said = run_in(
                &site,
                at,
                "cp $I.sqfs own.sqfs; for i in 1 2; do srun --ch-image=./own.sqfs cat /etc/motd || exit; done; \
                 cmp own.sqfs /var/tmp/chariot-$(id -un)/images/*.sqfs && ls /var/tmp/chariot-$(id -un)/images | wc -l",
            );
            assert_eq!(said.ok(), "an image in a file\nan image in a file\n1", "{options}: {said:#?}");
        });
        // Where the place for copies is on the server too, nothing is better for it, and nothing worse.
        site.with_file(&format!("stage = \"node\"\nstage_dir = \"{at}/copies\"\n"), || {
            let said = run_in(
                &site,
                at,
                "for i in 1 2; do srun --ch-image=./own.sqfs cat /etc/motd || exit; done; rm -rf /var/tmp/chariot-$(id -un)",
            );
            println!("{options}: {said:#?}");
            assert_eq!(said.ok(), "an image in a file\nan image in a file", "{options}: {said:#?}");
        });
    }
    site.nodes_are_fine();
}
