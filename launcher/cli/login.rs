//! `chariot login` and `chariot logout`.

use std::io::{self, IsTerminal, Read};
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};

use super::flag;
use super::tool::Tool;
use crate::oci::Reference;
use crate::print;
use crate::registry::{self, Credentials};
use chariot_core::error::{Error, Explain, Result};

/// The longest password, in bytes: tokens can be long.
const LONGEST: u64 = 64 << 10;

pub(super) fn login_command() -> Command {
    Command::new("login")
        .about("Say to a registry who you are, now and from now on")
        .long_about(
            "Say to a registry who you are, now and from now on.\n\nThe name and the password are tried, and then kept in \
             podman's file, which podman, skopeo and buildah read too: $REGISTRY_AUTH_FILE, or containers/auth.json in \
             $XDG_CONFIG_HOME (~/.config). They are not encrypted there; only you can read the file. A token that your \
             registry gives for reading alone is better than your password.",
        )
        .arg(host())
        .arg(
            Arg::new("username")
                .long("username")
                .short('u')
                .value_name("NAME")
                .help("who you are there; without it you are asked"),
        )
        .arg(flag("password-stdin", "read the password, or a token, from standard input"))
}

pub(super) fn logout_command() -> Command {
    Command::new("logout")
        .about("Take away what `login` has kept")
        .arg(host())
}

fn host() -> Arg {
    Arg::new("host")
        .value_name("HOST")
        .default_value("docker.io")
        .help("the registry, with its port if it has one")
}

/// A name in the registry, of no image: what stands in front of it is all that matters.
fn registry_of(matches: &ArgMatches, what: &str) -> Result<Reference> {
    let typed = matches.get_one::<String>("host").map_or("", String::as_str);
    let host = typed.split_once("://").map_or(typed, |(_, host)| host);
    let host = host.trim_end_matches('/');
    let is_hub = host.ends_with("docker.io");
    let refuse = |reason: String| {
        Error::new(format!("can't {what} {typed}: {reason}"))
            .hint("HOST or HOST:PORT, as in front of the images' names")
    };
    if host.contains('/') {
        return Err(refuse("that is more than a host".into()));
    }
    match Reference::parse(&format!("//{host}/x/y")).map_err(refuse)? {
        // A word alone is a part of a name there; nobody's password goes to a place that they did not name.
        reference if !reference.host.eq_ignore_ascii_case(host) && !is_hub => {
            Err(refuse("that is no host".into()))
        }
        reference => Ok(reference),
    }
}

/// `chariot login HOST`.
pub(super) fn login(matches: &ArgMatches) -> Result<ExitCode> {
    let tool = Tool::read(matches)?;
    let reference = registry_of(matches, "log in to")?;
    let host = &reference.host;
    let is_piped = matches.get_flag("password-stdin");
    let user = match matches.get_one::<String>("username") {
        Some(user) => user.clone(),
        None if is_piped => {
            return Err(Error::new("can't log in: no name was given")
                .hint("--password-stdin leaves no way to ask for it: --username NAME"));
        }
        None => asked_for(&format!("name at {host}: "))?,
    };
    if user.is_empty() || user.contains(':') {
        return Err(
            Error::new(format!("can't log in as \"{user}\": that is no name"))
                .hint("a name has no colon"),
        );
    }
    let password = match is_piped {
        true => piped()?,
        false => rpassword::prompt_password(format!("password or token of {user}: "))
            .explain(|| "can't ask for the password".into())
            .map_err(|error| error.hint("without a terminal: --password-stdin"))?,
    };
    if password.is_empty() {
        return Err(Error::new("can't log in: the password is empty").hint("nothing was kept"));
    }
    let was_asked = registry::log_in(&reference, &tool.config, Credentials::new(&user, &password))?;
    let file = registry::keep(&reference.registry_names(), &user, &password)?;
    let file = file.display();
    print::lines([match was_asked {
        true => format!("logged in to {host} as {user}; kept in {file}"),
        false => {
            format!("{host} does not ask who you are, so that nobody has tried it; kept in {file}")
        }
    }])
}

/// `chariot logout HOST`.
pub(super) fn logout(matches: &ArgMatches) -> Result<ExitCode> {
    let reference = registry_of(matches, "log out of")?;
    let names = reference.registry_names();
    let files = registry::forget(&names)?;
    let host = &reference.host;
    let mut lines: Vec<_> = files
        .iter()
        .map(|file| format!("nothing for {host} is in {} any more", file.display()))
        .collect();
    if let Some(left) = registry::credentials(&names)? {
        let file = left.file();
        let tool = if file.ends_with("config.json") {
            "docker"
        } else {
            "podman"
        };
        let file = file.display();
        lines.push(format!(
            "{file} still has some, or names who has: {tool} logout {host}"
        ));
    } else if lines.is_empty() {
        lines.push(format!("there was nothing for {host}"));
    }
    print::lines(lines)
}

fn asked_for(question: &str) -> Result<String> {
    if !io::stdin().is_terminal() {
        return Err(Error::new("can't ask for your name: there is no terminal")
            .hint("--username NAME --password-stdin"));
    }
    let what = || "can't ask for your name".to_owned();
    print::ask(question).explain(what)?;
    let mut line = String::new();
    io::stdin().read_line(&mut line).explain(what)?;
    Ok(line.trim().to_owned())
}

/// A line's end is not part of it.
fn piped() -> Result<String> {
    let mut text = String::new();
    let mut input = io::stdin().take(LONGEST);
    input
        .read_to_string(&mut text)
        .explain(|| "can't read the password from standard input".into())?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}
