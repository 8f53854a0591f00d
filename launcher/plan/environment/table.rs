//! What becomes of the caller's variables that name places of the host: one table, which the documentation shows.
//!
//! A variable whose place the container does not show would lead a program astray, or keep it from starting: Python
//! without its library, a file that is not there. What an image sets, and what was asked for, is nobody's business here.

use std::path::Path;

/// What becomes of a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// It stays outside.
    Outside,
    /// It stays outside unless the container shows the same place as the host.
    Shown,
    /// The same for each entry of a list with colons.
    Entries,
    /// `/tmp` takes the place of a directory that is not shown.
    Temporary,
    /// The home directory: the user's own if it is shown, the image's own, or `/`.
    Home,
}

impl Rule {
    /// It in words.
    pub fn told(self) -> &'static str {
        match self {
            Rule::Outside => "stays outside",
            Rule::Shown => "comes in if the container shows what it names",
            Rule::Entries => "comes in with the entries that the container shows",
            Rule::Temporary => "is `/tmp` if the container does not show what it names",
            Rule::Home => "is the home directory if the container shows that, and else `/`",
        }
    }
}

/// Variables with one rule.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Their names.
    pub names: &'static [&'static str],
    /// The rule.
    pub rule: Rule,
    /// Why they do not come in as they are, as `chariot explain` shows it.
    pub why: &'static str,
}

/// All of them. What is not here comes in as it is.
pub const TABLE: &[Row] = &[
    Row {
        names: &["LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT"],
        rule: Rule::Outside,
        why: "the host's libraries stay outside",
    },
    Row {
        names: &[
            "BASH_FUNC_module%%",
            "BASH_FUNC_ml%%",
            "BASH_FUNC__module_raw%%",
            "BASH_FUNC_which%%",
        ],
        rule: Rule::Outside,
        why: "functions of the host's profiles call the host's programs",
    },
    Row {
        names: &["HOME"],
        rule: Rule::Home,
        why: "the home directory is not visible inside",
    },
    Row {
        names: &["TMPDIR", "TMP", "TEMP"],
        rule: Rule::Temporary,
        why: "the host's directory for temporary files is not visible inside",
    },
    Row {
        names: &[
            "XDG_CACHE_HOME",
            "XDG_CONFIG_HOME",
            "XDG_DATA_HOME",
            "XDG_STATE_HOME",
            "XDG_RUNTIME_DIR",
            "SSH_AUTH_SOCK",
            "GPG_AGENT_INFO",
            "DBUS_SESSION_BUS_ADDRESS",
            "KRB5CCNAME",
            "BASH_ENV",
            "ENV",
            "INPUTRC",
            "PYTHONHOME",
            "PYTHONUSERBASE",
            "PYTHONSTARTUP",
            "PYTHONPYCACHEPREFIX",
            "VIRTUAL_ENV",
            "CONDA_PREFIX",
            "MAMBA_ROOT_PREFIX",
            "R_HOME",
            "R_ENVIRON_USER",
            "R_PROFILE_USER",
            "GEM_HOME",
            "GOROOT",
            "GOPATH",
            "JAVA_HOME",
            "MPLCONFIGDIR",
            "OPAL_PREFIX",
            "I_MPI_ROOT",
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
            "CURL_CA_BUNDLE",
            "REQUESTS_CA_BUNDLE",
            "OPENSSL_CONF",
            "FONTCONFIG_FILE",
            "FONTCONFIG_PATH",
            "TERMINFO",
            "LOCPATH",
            "GIT_EXEC_PATH",
        ],
        rule: Rule::Shown,
        why: "what it names on the host is not visible inside",
    },
    Row {
        names: &[
            "PYTHONPATH",
            "PERL5LIB",
            "PERLLIB",
            "R_LIBS",
            "R_LIBS_USER",
            "R_LIBS_SITE",
            "RUBYLIB",
            "GEM_PATH",
            "NODE_PATH",
            "CLASSPATH",
            "JULIA_DEPOT_PATH",
            "XDG_DATA_DIRS",
            "XDG_CONFIG_DIRS",
            "TERMINFO_DIRS",
        ],
        rule: Rule::Entries,
        why: "what it names on the host is not visible inside",
    },
];

/// The row of a variable.
pub(crate) fn find(name: &str) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.names.contains(&name))
}

/// The place that a value names, if it is one: some say before it what kind of place it is.
pub(super) fn place(value: &str) -> Option<&Path> {
    let kinds = ["unix:path=", "FILE:", "DIR:"];
    let bare = kinds.iter().find_map(|kind| value.strip_prefix(kind));
    let bare = bare.unwrap_or(value).split(',').next().unwrap_or_default();
    Some(Path::new(bare)).filter(|path| path.is_absolute())
}
