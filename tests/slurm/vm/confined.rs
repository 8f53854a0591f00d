//! AppArmor keeps user namespaces from whoever has no profile that allows them: the package's is one.

use super::life::Setting;
use super::root;
use crate::site;

const SETTING: &str = "kernel.apparmor_restrict_unprivileged_userns";

#[test]
#[ignore = "alone: sets what the kernel allows"]
fn where_apparmor_keeps_user_namespaces_from_users_the_packages_profile_lets_chariot_make_them() {
    let site = site!();
    let Some(_setting) = Setting::set(SETTING, "1") else {
        println!("this kernel has no {SETTING}");
        return;
    };
    println!("{}", root("cat /sys/kernel/security/apparmor/profiles").out);
    let plain =
        site.run("unshare --user --map-root-user --mount mount -t tmpfs none /mnt && echo mounted");
    println!("{plain:#?}");
    for image in ["$I", "$I.sqfs"] {
        let said = site.run(&format!(
            "srun --ch-image={image} cat /etc/motd; chariot run {image} -- cat /etc/motd"
        ));
        assert_eq!(
            said.ok(),
            "an image in a file\nan image in a file",
            "{image}: {said:#?}"
        );
    }
    // Without it they are as forbidden as to others, and it is said what forbids them.
    if plain.code == 0 {
        println!("this kernel allows them all the same");
        return;
    }
    root("apparmor_parser --remove /etc/apparmor.d/chariot").ok();
    let said = site.run("chariot run $I -- cat /etc/motd");
    let check = site.run("chariot check");
    root("apparmor_parser --replace /etc/apparmor.d/chariot").ok();
    said.failed(125, "chariot: can't", 1);
    println!("{said:#?} {check:#?}");
    assert!(format!("{check:?}").contains(SETTING), "{check:#?}");
    site.nodes_are_fine();
}
