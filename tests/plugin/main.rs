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
        "spank_job_control_unsetenv",
        "spank_option_register",
        "spank_setenv",
        "spank_unsetenv",
    ];
    assert_eq!(of_slurm, since_22_05);
    // Waiting by the time of day ends at once, or never, when somebody sets that.
    let of_all = symbols("--undefined-only");
    assert!(!of_all.iter().any(|name| name.contains("timedlock")));
}

/// What panics, and is in the plugin's code all the same.
const HARMLESS: [(&str, &str); 8] = [
    ("panic_in_cleanup", "only while a panic unwinds already"),
    (
        "panic_cannot_unwind",
        "what stands behind each extern function, after what catches panics",
    ),
    ("catch_unwind", "what catches them"),
    (
        "panic_count",
        "a lock asks whether it is given up by a panic",
    ),
    ("set_hook", "by which a panic would be told through Slurm"),
    (
        "core::option::unwrap_failed in chariot_spank::submit::options_complete",
        "the standard library's own loop that drops a map",
    ),
    (
        "panic_const_add_overflow in chariot_core::handover::said::_::<impl serde_core::de::Deserialize for",
        "serde_json counts bytes of a slice, which are in memory, and depths that it has counted down before",
    ),
    (
        "panic_const_sub_overflow in chariot_core::handover::said::_::<impl serde_core::de::Deserialize for",
        "serde_json counts depths down from 128, and ends with an error at none",
    ),
];

/// Whether a name is that of a function that ends in a panic.
fn panics(name: &str) -> bool {
    [
        "panic",
        "unwrap_failed",
        "expect_failed",
        "slice_index",
        "slice_error",
        "capacity_overflow",
    ]
    .iter()
    .any(|part| name.contains(part))
}

/// A panic would be caught, and the task ended; but Slurm's processes are no place to find out. The library's functions
/// are made for every caller and may have such a path; those that are made for the plugin, as generic ones, may not.
#[test]
fn no_function_of_the_plugins_own_can_panic() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or("target".into());
    let library = root.join(target).join("release/libchariot_spank.rlib");
    if std::env::var_os("CHARIOT_SO").is_none() || !library.exists() {
        skip!("CHARIOT_SO names no plugin, or etc/build has not made it here");
    }
    let output = std::process::Command::new("objdump")
        .args([
            "--disassemble",
            "--reloc",
            "--demangle",
            "--no-show-raw-insn",
        ])
        .arg(library)
        .output();
    let output = String::from_utf8(output.unwrap().stdout).unwrap();
    let (mut function, mut seen, mut seen_of_core, mut found) = ("", 0, 0, Vec::new());
    for line in output.lines() {
        if let Some(name) = line
            .strip_suffix(">:")
            .and_then(|line| line.split_once(" <"))
        {
            function = name.1;
            seen += usize::from(function.starts_with("chariot_spank::"));
            seen_of_core += usize::from(function.contains("chariot_core::"));
            continue;
        }
        let is_own = [
            "chariot_spank::",
            "<chariot_spank::",
            "chariot_core::",
            "<chariot_core::",
            "slurm_spank_",
        ]
        .iter()
        .any(|start| function.starts_with(start));
        let Some((_, target)) = line.split_once("R_").filter(|_| is_own) else {
            continue;
        };
        let call = format!("{target} in {function}");
        let call = call.replace("-0x4 ", " ");
        if panics(target) && !HARMLESS.iter().any(|(known, _)| call.contains(known)) {
            found.push(call);
        }
    }
    assert!(seen > 20, "{seen} functions: is this the plugin?");
    assert!(
        seen_of_core > 5,
        "{seen_of_core} functions: is that the name of the library?"
    );
    assert!(found.is_empty(), "{found:#?}");
}
