//! The variables of a command outside: its caller's, without what the container made of them, and without those by which
//! the caller, who is inside, would choose the code that runs outside.
//!
//! That keeps the host's programs from loading an image's libraries. It is no fence: whoever can call a command can also
//! submit a job, which runs what they like.

use std::ffi::{OsStr, OsString};

use chariot_core::environment::{Edit, Environment, find, literal};
use chariot_core::options::given::{self, CARRIER, Given, Source};
use chariot_core::options::table;

/// Variables that steer the dynamic linker and the C library: what glibc takes from set-user-ID programs
/// (unsecvars.h), without TMPDIR, which names no code.
const OF_LIBRARIES: [&str; 22] = [
    "LD_*",
    "_RLD*",
    "GLIBC_TUNABLES",
    "GCONV_PATH",
    "GETCONF_DIR",
    "MALLOC_*",
    "LOCPATH",
    "PATH_LOCALE",
    "NLSPATH",
    "NIS_PATH",
    "TZDIR",
    "HOSTALIASES",
    "LOCALDOMAIN",
    "RES_OPTIONS",
    "RESOLV_*",
    "OPENSSL_*",
    "KRB5_CONFIG*",
    "PMIX_MCA_*",
    "PMIX_INSTALL_PREFIX",
    "TERMINFO*",
    "TERMCAP",
    "TERMPATH",
];

/// Variables that steer shells, since a site's command can be a script, and salloc starts a shell: start-up files,
/// functions that take a command's place, and what is run with each prompt.
const OF_SHELLS: [&str; 21] = [
    "BASH_ENV",
    "BASH_FUNC_*",
    "BASH_LOADABLES_PATH",
    "BASHOPTS",
    "SHELLOPTS",
    "ENV",
    "IFS",
    "CDPATH",
    "GLOBIGNORE",
    "PROMPT_COMMAND",
    "PS0",
    "PS1",
    "PS2",
    "PS4",
    "INPUTRC",
    "TEXTDOMAINDIR",
    "FPATH",
    "NULLCMD",
    "READNULLCMD",
    "TMPPREFIX",
    "ZDOTDIR",
];

/// Variables that steer other interpreters, as sudo(8) removes them, and what a script is likely to call. Which editor or
/// pager is started (EDITOR, PAGER) is the user's choice.
const OF_INTERPRETERS: [&str; 27] = [
    "PERL5*",
    "PERLLIB",
    "PERLIO*",
    "PYTHON*",
    "RUBY*",
    "LUA_*",
    "NODE_*",
    "TCL_LIBRARY",
    "TCLLIBPATH",
    "AWKPATH",
    "AWKLIBPATH",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "_JAVA_OPTIONS",
    "CLASSPATH",
    "GIT_EXEC_PATH",
    "GIT_CONFIG*",
    "GIT_TEMPLATE_DIR",
    "GIT_SSH*",
    "GIT_ASKPASS",
    "GIT_PROXY_COMMAND",
    "GIT_EXTERNAL_DIFF",
    "LESSOPEN",
    "LESSCLOSE",
    "LESSKEY*",
    "VIM*",
    "EXINIT",
];

/// Variables that say what Slurm's commands read and load. Steps have no use for another value.
const OF_SLURM: [&str; 6] = [
    "SLURM_CONF*",
    "SLURM_*PLUG*",
    "SLURM_SACK*",
    "SLURM_JWT",
    "SPANK_*",
    "_SLURM_SPANK_*",
];

/// The kernel takes no longer string with a command, in bytes: MAX_ARG_STRLEN, less "=" and the end.
const LONGEST: usize = 128 * 1024 - 2;

/// What the caller has, but for variables that are still as the container set them: those are as they were before, and so
/// are those that choose code. Of these a step that is started outside and runs in a container again gets the caller's.
pub(super) fn outside(inside: Environment, before: &Environment, edits: &[Edit]) -> Environment {
    // A value that each task expands was expanded by what the task had then, which is what it had before.
    let was = |name: &str| find(before, name).map(OsStr::to_owned);
    let now = |name: &str| find(&inside, name).map(OsStr::to_owned);
    let is_untouched = |edit: &&Edit| {
        let is = find(&inside, &edit.name.to_string_lossy());
        is == edit.value_for(was).as_deref() || is == edit.value_for(now).as_deref()
    };
    let untouched: Vec<&OsString> = edits
        .iter()
        .filter(is_untouched)
        .map(|edit| &edit.name)
        .collect();
    let is_as_before = |name: &OsString| untouched.contains(&name) || chooses_code(name);
    let (taken, mut result): (Environment, Environment) = inside
        .iter()
        .cloned()
        .partition(|(name, _)| is_as_before(name));
    let was = before.iter().filter(|(name, _)| is_as_before(name));
    result.extend(was.cloned());
    let for_steps = taken.into_iter().filter(|variable| {
        !untouched.contains(&&variable.0)
            && !is_one_of(&OF_SLURM, &variable.0)
            && !before.contains(variable)
    });
    let for_steps = for_steps.collect();
    hand_on(for_steps, &mut result);
    result
}

/// Has them set in the containers of steps: by `CH_SET_ENV`, one assignment a line. Values of several lines, such as a
/// shell's functions have, go where srun itself looks for what its job was given; no job of sbatch's has those.
fn hand_on(variables: Environment, environment: &mut Environment) {
    let Some(row) = table::find("set-env") else {
        return;
    };
    let assignments = variables
        .into_iter()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .map(|(name, value)| format!("{name}={}", literal(&value)));
    let (long, short): (Vec<String>, Vec<String>) =
        assignments.partition(|assignment| assignment.contains('\n'));
    let of_job = |value| Given {
        row,
        value,
        source: Source::Inherited,
    };
    let long: Vec<Given> = long.into_iter().map(of_job).collect();
    // What the caller has asked for by it themselves comes later, and so has the last word.
    put_before(&row.variable(), short.join("\n"), "\n", environment);
    put_before(CARRIER, given::encode(&long), "", environment);
}

/// Puts a text before what a variable says, unless there is none, or nobody could be started with the whole.
fn put_before(name: &str, mut text: String, between: &str, environment: &mut Environment) {
    if text.is_empty() {
        return;
    }
    if let Some(own) = find(environment, name) {
        text.push_str(between);
        text.push_str(&own.to_string_lossy());
    }
    if name.len() + text.len() < LONGEST {
        environment.retain(|(known, _)| known != name);
        environment.push((name.into(), text.into()));
    }
}

/// Whether a variable says which code, or which answers of the network, a program of the host goes by.
fn chooses_code(name: &OsStr) -> bool {
    is_one_of(&OF_LIBRARIES, name)
        || is_one_of(&OF_SHELLS, name)
        || is_one_of(&OF_INTERPRETERS, name)
        || is_one_of(&OF_SLURM, name)
}

fn is_one_of(patterns: &[&str], name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    patterns.iter().any(|pattern| matches(pattern, &name))
}

/// `*` stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|name| {
            rest.is_empty()
                || (0..=name.len())
                    .any(|from| name.get(from..).is_some_and(|name| matches(rest, name)))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        let owned = |(name, value): &(&str, &str)| ((*name).into(), (*value).into());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn what_the_image_put_there_goes_and_what_the_user_put_there_stays() {
        let before = environment(&[("PATH", "/usr/bin"), ("LANG", "C"), ("GONE", "1")]);
        let edits = [
            Edit::set("PATH", "/image/bin", ""),
            Edit::set("LANG", "de", ""),
            Edit::set("IMAGE", "1", ""),
            Edit::unset("GONE", ""),
        ];
        let inside = [
            ("PATH", "/mine:/image/bin"),
            ("LANG", "de"),
            ("IMAGE", "1"),
            ("MINE", "1"),
        ];
        let mut seen = outside(environment(&inside), &before, &edits);
        seen.sort();
        assert_eq!(
            seen,
            environment(&[
                ("GONE", "1"),
                ("LANG", "C"),
                ("MINE", "1"),
                ("PATH", "/mine:/image/bin"),
            ])
        );
    }

    #[test]
    fn a_variable_that_somebody_inside_took_away_stays_away() {
        let before = environment(&[("LANG", "C"), ("DEBUG", "1")]);
        let edits = [Edit::set("LANG", "de", "")];
        assert!(outside(Environment::new(), &before, &edits).is_empty());
    }

    #[test]
    fn libraries_of_the_container_are_not_loaded_into_commands_of_the_host() {
        let before = environment(&[("LD_PRELOAD", "/host.so")]);
        let edits = [
            Edit::unset("LD_PRELOAD", ""),
            Edit::set("LD_LIBRARY_PATH", "/image/lib", ""),
        ];
        let inside = environment(&[
            ("LD_PRELOAD", "/mine.so"),
            ("LD_LIBRARY_PATH", "/image/lib"),
        ]);
        assert_eq!(
            outside(inside, &before, &edits),
            environment(&[
                ("LD_PRELOAD", "/host.so"),
                ("CH_SET_ENV", "LD_PRELOAD=/mine.so")
            ])
        );
    }

    #[test]
    fn what_chooses_the_code_that_runs_outside_is_what_it_was_outside() {
        for name in [
            "LD_PRELOAD",
            "LD_AUDIT",
            "LD_LIBRARY_PATH",
            "GLIBC_TUNABLES",
            "GCONV_PATH",
            "GETCONF_DIR",
            "MALLOC_CHECK_",
            "LOCPATH",
            "NLSPATH",
            "HOSTALIASES",
            "LOCALDOMAIN",
            "RES_OPTIONS",
            "RESOLV_HOST_CONF",
            "TZDIR",
            "BASH_ENV",
            "BASH_FUNC_cd%%",
            "BASH_LOADABLES_PATH",
            "SHELLOPTS",
            "PROMPT_COMMAND",
            "ENV",
            "PS4",
            "INPUTRC",
            "PERL5OPT",
            "PYTHONPATH",
            "GIT_CONFIG_COUNT",
            "GIT_EXEC_PATH",
            "LESSOPEN",
            "VIMINIT",
            "LUA_PATH",
            "SLURM_CONF",
            "SLURM_CONF_SERVER",
            "SLURM_PLUGIN_DIR",
            "SLURM_MPI_PLUGIN_DIR",
            "SPANK_X",
            "_SLURM_SPANK_OPTION_x_y",
        ] {
            let inside = environment(&[(name, "inside"), ("A", "1")]);
            let find = |environment: &Environment| {
                find(environment, name).map(|value| value.to_string_lossy().into_owned())
            };
            assert_eq!(
                find(&outside(inside.clone(), &Environment::new(), &[])),
                None,
                "{name}"
            );
            let before = environment(&[(name, "outside")]);
            let seen = outside(inside, &before, &[]);
            assert_eq!(find(&seen).as_deref(), Some("outside"), "{name}");
            // Nor is it lost for a caller that has none of it.
            let seen = outside(environment(&[("A", "1")]), &before, &[]);
            assert_eq!(find(&seen).as_deref(), Some("outside"), "{name}");
        }
        for name in [
            "SLURM_JOB_ID",
            "SLURM_NTASKS",
            "TMPDIR",
            "PSM2_DEVICES",
            "EDITOR",
            "PAGER",
            "GIT_AUTHOR_NAME",
            "LESS",
            "ENVIRONMENT",
            "PMIX_RANK",
            "TZ",
            "LANG",
        ] {
            assert!(!chooses_code(name.as_ref()), "{name}");
        }
    }

    #[test]
    fn steps_have_in_their_container_what_their_caller_has_in_its_own() {
        let inside = environment(&[
            ("MALLOC_ARENA_MAX", "1"),
            ("LD_PRELOAD", "/tool.so"),
            ("BASH_FUNC_f%%", "() { echo a\\n\n}"),
            ("SLURM_CONF", "/mine.conf"),
            ("CH_SET_ENV", "LD_PRELOAD=/other.so"),
        ]);
        assert_eq!(
            outside(inside, &Environment::new(), &[]),
            environment(&[
                (
                    "CH_SET_ENV",
                    "MALLOC_ARENA_MAX=1\nLD_PRELOAD=/tool.so\nLD_PRELOAD=/other.so"
                ),
                (
                    "SLURM_CHARIOT_OPTIONS",
                    "iset-env=BASH_FUNC_f%%=() { echo a\\\\n\\n}\n"
                )
            ])
        );
    }

    #[test]
    fn what_nobody_could_be_started_with_is_not_handed_on() {
        let many = "x".repeat(100_000);
        let inside = environment(&[("LD_PRELOAD", &many), ("CH_SET_ENV", &format!("A={many}"))]);
        let seen = outside(inside, &Environment::new(), &[]);
        assert_eq!(seen, environment(&[("CH_SET_ENV", &format!("A={many}"))]));
    }
}
