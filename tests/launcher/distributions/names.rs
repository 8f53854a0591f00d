//! Names of hosts, users and groups are those that the machine's modules give, whatever C library these are made for.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use super::{Root, USER, compiled};
use crate::registry::lying::Lying;
use crate::root;
use crate::support::registry::plain;

/// systemd-resolved, as its module asks it: it knows one host, and says of all others that there are none.
fn resolved(root: &Root) {
    let directory = root.here().join("run/systemd/resolve");
    std::fs::create_dir_all(&directory).unwrap();
    let socket = directory.join("io.systemd.Resolve");
    let listener = UnixListener::bind(&socket).unwrap();
    root.host("chmod 755 run run/systemd run/systemd/resolve && chmod 666 run/systemd/resolve/io.systemd.Resolve");
    // It ends with the test program.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
}

/// Requests and answers are JSON, each with a NUL at its end.
fn answer(mut stream: UnixStream) {
    let mut request = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).is_ok_and(|count| count == 1) {
        if byte != [0] {
            request.extend(byte);
            continue;
        }
        let request_text = String::from_utf8_lossy(&std::mem::take(&mut request)).into_owned();
        let said = match request_text.contains("\"registry.resolve.test\"") {
            true => {
                "{\"parameters\":{\"addresses\":[{\"family\":2,\"address\":[127,0,0,1]}],\
                 \"name\":\"registry.resolve.test\",\"flags\":1}}\0"
            }
            false => "{\"error\":\"io.systemd.Resolve.NoNameServers\",\"parameters\":{}}\0",
        };
        let _ = stream.write_all(said.as_bytes());
    }
}

#[test]
fn names_are_looked_up_as_the_machine_does_it() {
    let registry = Lying::start(|_, _, answer| answer);
    let port = registry.port();
    for release in ["bullseye", "forky"] {
        let root = root!(release);
        resolved(&root);
        let module = "lib/x86_64-linux-gnu/libnss_site.so.2";
        compiled(
            &root,
            "tests/launcher/distributions/nss_site.c",
            module,
            &["-shared", "-fPIC"],
        );
        for (way, host) in [
            ("files resolve [!UNAVAIL=return] dns", "registry.files.test"),
            (
                "files resolve [!UNAVAIL=return] dns",
                "registry.resolve.test",
            ),
            ("mymachines myhostname dns", "registry.localhost"),
            ("mymachines files ldap site dns", "registry.site.test"),
        ] {
            root.write(
                "etc/nsswitch.conf",
                &format!("passwd: files sss site\ngroup: files sss ldap site\nhosts: {way}\n"),
            );
            root.write("site.toml", &plain(&format!("{host}:{port}")));
            let said = root.run(
                USER,
                &format!("/chariot --config /site.toml pull --quiet {host}:{port}/team/app:1 ./{host} && ls {host}/bin"),
            );
            assert_eq!(said.ok(), "file", "{release}, {way}: {said:#?}");
        }
        // Who is nowhere is told so, and not that the registry is down.
        let said = root.run(
            USER,
            "/chariot pull --quiet nowhere.test/team/app:1 ./nowhere",
        );
        said.failed(125, "can't reach nowhere.test: unknown host", 1);
        let said = root.run(
            USER,
            "/chariot run /images/busybox -- sh -c 'id -un; id -gn; echo ~'",
        );
        assert_eq!(
            said.ok(),
            "ada-of-the-site\ngroup-of-the-site\n/work",
            "{release}: {said:#?}"
        );
    }
}
