use super::*;

/// A plugin that can be loaded, if this program's own tests were built with it.
fn plugin() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let mut places = own
        .ancestors()
        .skip(1)
        .map(|place| place.join("libchariot_spank.so"));
    places.find(|path| path.exists())
}

/// A site: its plugstack.conf, with `HERE` for its directory, which is PluginDir too.
struct Site {
    place: tempfile::TempDir,
    slurm: Slurm,
}

impl Site {
    fn new(text: &str) -> Site {
        let place = tempfile::tempdir().unwrap();
        let plugstack = place.path().join("plugstack.conf");
        let text = text.replace("HERE", &place.path().to_string_lossy());
        std::fs::write(&plugstack, text).unwrap();
        let slurm = Slurm {
            stack: Stack::read(&plugstack),
            plugstack,
            plugin_dirs: vec![place.path().to_owned()],
            ..Slurm::default()
        };
        Site { place, slurm }
    }

    fn with_plugin(text: &str) -> Option<Site> {
        let site = Site::new(text);
        std::fs::copy(plugin()?, site.place.path().join("chariot.so")).unwrap();
        Some(site)
    }

    fn finding(&self) -> Finding {
        findings(Some(&self.slurm), Role::Any).remove(0)
    }
}

#[track_caller]
fn told(finding: &Finding, found: &str, advice: &str) {
    assert!(!finding.ok && finding.found.contains(found), "{finding:?}");
    let given = finding.advice.as_deref().unwrap_or_default();
    assert!(given.contains(advice), "{finding:?}");
}

#[test]
fn no_line_is_a_failure_where_slurm_has_to_have_one_alone() {
    for text in ["", "include HERE/nothing/*.conf\n", "required other.so\n"] {
        let site = Site::new(text);
        for (role, is_fatal) in [(Role::Any, false), (Role::Node, true), (Role::Login, true)] {
            let findings = findings(Some(&site.slurm), role);
            assert_eq!(findings.len(), 1);
            told(&findings[0], "Slurm loads none", "required chariot.so");
            assert_eq!(findings[0].is_fatal(), is_fatal);
        }
    }
    let finding = |role| findings(None, role).remove(0);
    assert!(
        finding(Role::Any).ok && finding(Role::Node).is_fatal() && finding(Role::Login).is_fatal()
    );
}

#[test]
fn a_line_that_slurm_does_not_read_is_told_with_the_include_that_is_missing() {
    let site = Site::new("# nothing\n");
    let below = site.place.path().join("plugstack.conf.d");
    std::fs::create_dir(&below).unwrap();
    std::fs::write(below.join("chariot.conf"), "required chariot.so\n").unwrap();
    let include = format!("include {}/*.conf", below.display());
    told(&site.finding(), "does not include it", &include);
    std::fs::remove_file(&site.slurm.plugstack).unwrap();
    told(&site.finding(), "there is no ", &include);
}

#[test]
fn a_misspelt_line_is_told() {
    told(
        &Site::new("requird chariot.so\n").finding(),
        "Slurm ignores the line",
        "`required`",
    );
}

#[test]
fn a_plugin_that_is_not_there_or_is_none_keeps_slurm_from_starting_anything() {
    told(
        &Site::new("required chariot.so\n").finding(),
        "it is not in PluginDir",
        "copy chariot.so to ",
    );
    told(
        &Site::new("required /nosuch/chariot.so\n").finding(),
        "there is no /nosuch/chariot.so",
        "put chariot.so there",
    );
    let site = Site::new("required chariot.so\n");
    std::fs::write(site.place.path().join("chariot.so"), "text").unwrap();
    told(
        &site.finding(),
        "is no shared library for this machine",
        "etc/build",
    );
    assert!(site.finding().is_fatal());
}

#[test]
fn arguments_are_what_the_plugin_itself_takes() {
    let Some(site) = Site::with_plugin("required chariot.so lancher=/x strict\n") else {
        return;
    };
    told(
        &site.finding(),
        "the argument \"lancher=/x\"",
        "launcher=PATH",
    );
    assert_eq!(findings(Some(&site.slurm), Role::Any).len(), 1);
    let site = Site::with_plugin("required HERE/chariot.so config=/c launcher=/nosuch\n").unwrap();
    assert!(!site.finding().is_fatal(), "{:?}", site.finding());
    let launcher = findings(Some(&site.slurm), Role::Any).remove(1);
    told(&launcher, "/nosuch", "mode 755");
    assert!(launcher.is_fatal());
    let line = site.slurm.stack.line.as_ref().unwrap();
    assert_eq!(arguments(line).config, Path::new("/c"));
}

#[test]
fn what_srun_says_is_believed() {
    let Some(mut site) = Site::with_plugin("required chariot.so\n") else {
        return;
    };
    site.slurm.srun = Srun::Refuses("Incompatible plugin version".into());
    told(
        &site.finding(),
        "Incompatible plugin version",
        "srun --help",
    );
    site.slurm.srun = Srun::DoesWithout;
    told(&site.finding(), "no --ch-image", "SLURM_CONF");
    site.slurm.srun = Srun::Broken("Could not establish a configuration source".into());
    told(
        &site.finding(),
        "Slurm itself does not start here",
        "slurm.conf",
    );
    assert!(!site.finding().is_fatal() && findings(Some(&site.slurm), Role::Node)[0].is_fatal());
    site.slurm.srun = Srun::Loads;
    assert!(!site.finding().is_fatal());
}

#[test]
fn an_optional_plugin_and_one_that_others_can_change_are_told_and_no_failure() {
    let Some(site) = Site::with_plugin("optional chariot.so\n") else {
        return;
    };
    let finding = site.finding();
    assert!(!finding.ok && !finding.is_fatal(), "{finding:?}");
    use std::os::unix::fs::PermissionsExt;
    let path = site.place.path().join("chariot.so");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let finding = site.finding();
    told(&finding, "can be written by everybody", "chmod go-w");
    assert!(!finding.is_fatal());
}

#[test]
fn where_slurm_does_not_answer_what_was_looked_at_is_told() {
    let mut site = Site::new("");
    site.slurm.guessed = Some("there is no scontrol here".into());
    told(
        &site.finding(),
        "(there is no scontrol here: looked at ",
        "required",
    );
    let mut site = Site::new("required chariot.so\n");
    site.slurm.plugin_dirs.clear();
    let finding = site.finding();
    assert!(
        finding.ok && finding.found.contains("is not known"),
        "{finding:?}"
    );
}
