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
        names: &["LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "GCONV_PATH"],
        rule: Rule::Outside,
        why: "the host's libraries stay outside",
    },
    Row {
        names: &[
            "BASH_FUNC_module%%",
            "BASH_FUNC_ml%%",
            "BASH_FUNC__module_raw%%",
            "BASH_FUNC_which%%",
            "BASH_FUNC_switchml%%",
            "BASH_FUNC_scl%%",
            "BASH_FUNC_clearLmod%%",
            "BASH_FUNC_clearMT%%",
            "BASH_FUNC_spack%%",
            "BASH_FUNC__spack_shell_wrapper%%",
            "BASH_FUNC_conda%%",
            "BASH_FUNC_mamba%%",
            "BASH_FUNC_micromamba%%",
        ],
        rule: Rule::Outside,
        why: "functions of the host's profiles call the host's programs",
    },
    Row {
        names: &["LESSOPEN", "LESSCLOSE", "PROMPT_COMMAND"],
        rule: Rule::Outside,
        why: "it runs the host's programs",
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
            "SSH_ASKPASS",
            "GIT_ASKPASS",
            "GNUPGHOME",
            "BASH_ENV",
            "ENV",
            "ZDOTDIR",
            "INPUTRC",
            "PYTHONHOME",
            "PYTHONUSERBASE",
            "PYTHONSTARTUP",
            "PYTHONPYCACHEPREFIX",
            "VIRTUAL_ENV",
            "CONDA_PREFIX",
            "MAMBA_ROOT_PREFIX",
            "CONDA_EXE",
            "CONDA_PYTHON_EXE",
            "MAMBA_EXE",
            "SPACK_ROOT",
            "SPACK_PYTHON",
            "MODULESHOME",
            "MODULES_CMD",
            "LMOD_CMD",
            "LMOD_DIR",
            "LMOD_PKG",
            "LMOD_ROOT",
            "PYENV_ROOT",
            "NVM_DIR",
            "R_HOME",
            "R_ENVIRON_USER",
            "R_PROFILE_USER",
            "PERL_MB_OPT",
            "PERL_MM_OPT",
            "GEM_HOME",
            "GOROOT",
            "GOPATH",
            "CARGO_HOME",
            "RUSTUP_HOME",
            "JAVA_HOME",
            "MPLCONFIGDIR",
            "OPAL_PREFIX",
            "I_MPI_ROOT",
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
            "CURL_CA_BUNDLE",
            "REQUESTS_CA_BUNDLE",
            "AWS_CA_BUNDLE",
            "PIP_CERT",
            "PIP_CONFIG_FILE",
            "GIT_SSL_CAINFO",
            "GIT_SSL_CAPATH",
            "NODE_EXTRA_CA_CERTS",
            "CARGO_HTTP_CAINFO",
            "NIX_SSL_CERT_FILE",
            "HTTPLIB2_CA_CERTS",
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
            "OPENSSL_CONF",
            "FONTCONFIG_FILE",
            "FONTCONFIG_PATH",
            "TERMINFO",
            "LOCPATH",
            "TZDIR",
            "GIT_EXEC_PATH",
            "GIT_TEMPLATE_DIR",
            "GSETTINGS_SCHEMA_DIR",
            "GDAL_DATA",
        ],
        rule: Rule::Shown,
        why: "what it names on the host is not visible inside",
    },
    Row {
        names: &[
            "PYTHONPATH",
            "PERL5LIB",
            "PERLLIB",
            "PERL_LOCAL_LIB_ROOT",
            "R_LIBS",
            "R_LIBS_USER",
            "R_LIBS_SITE",
            "RUBYLIB",
            "GEM_PATH",
            "NODE_PATH",
            "CLASSPATH",
            "JULIA_DEPOT_PATH",
            "MODULEPATH",
            "MANPATH",
            "INFOPATH",
            "PKG_CONFIG_PATH",
            "PROJ_LIB",
            "PROJ_DATA",
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

/// The place that a value names, if it is one: some say before it what kind of place it is, or what to do with it.
pub(super) fn place(value: &str) -> Option<&Path> {
    let kinds = [
        "unix:path=",
        "FILE:",
        "DIR:",
        "INSTALL_BASE=",
        "--install_base ",
    ];
    let bare = kinds.iter().find_map(|kind| value.strip_prefix(kind));
    let bare = bare.unwrap_or(value).split(',').next().unwrap_or_default();
    Some(Path::new(bare.trim_matches('"'))).filter(|path| path.is_absolute())
}
