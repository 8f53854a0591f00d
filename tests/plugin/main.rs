//! The plugin as a file: what it shows to Slurm, and what it asks of it.

#![allow(clippy::disallowed_methods, reason = "tests make what they need")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on fails"
)]

#[path = "../support/mod.rs"]
mod support;

#[test]
fn the_plugin_exports_what_slurm_looks_for_and_asks_for_what_22_05_has() {
    let Some(plugin) = std::env::var_os("CHARIOT_SO") else {
        skip!("CHARIOT_SO names no plugin")
    };
    let symbols = |flag: &str| {
        let output = std::process::Command::new("nm")
            .args(["-D", flag])
            .arg(&plugin)
            .output();
        let output = String::from_utf8(output.unwrap().stdout).unwrap();
        let mut names: Vec<String> = output
            .lines()
            .filter_map(|line| line.split_whitespace().last())
            .map(str::to_owned)
            .collect();
        names.sort();
        names
    };
    // spank_option_callback is slurm-spank's own and unused; every other hook would make slurmd start
    // a process for each job, or run code where none is needed.
    assert_eq!(
        symbols("--defined-only"),
        [
            "plugin_name",
            "plugin_type",
            "plugin_version",
            "slurm_spank_init",
            "slurm_spank_init_post_opt",
            "slurm_spank_task_exit",
            "slurm_spank_task_init",
            "slurm_spank_task_init_privileged",
            "spank_option_callback",
        ]
    );
    let of_slurm: Vec<String> = symbols("--undefined-only")
        .into_iter()
        .filter(|name| name.contains("slurm") || name.contains("spank"))
        .collect();
    let since_22_05 = [
        "slurm_debug",
        "slurm_debug2",
        "slurm_debug3",
        "slurm_error",
        "slurm_info",
        "slurm_spank_log",
        "slurm_verbose",
        "spank_context",
        "spank_get_item",
        "spank_getenv",
        "spank_option_register",
        "spank_setenv",
        "spank_unsetenv",
    ];
    assert_eq!(of_slurm, since_22_05);
    // Waiting by the time of day ends at once, or never, when somebody sets that.
    let of_all = symbols("--undefined-only");
    assert!(!of_all.iter().any(|name| name.contains("timedlock")));
}
