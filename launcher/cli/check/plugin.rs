//! The plugin in Slurm: whether Slurm loads it, with arguments by which it works, and whether its launcher is there.

use std::path::{Path, PathBuf};

use super::finding::{Finding, LAUNCHER, PLUGIN};
use super::plugstack::{Line, Stack};
use super::slurm::{Slurm, Srun};
use super::{Role, library};
use chariot_core::arguments::Arguments;
use chariot_core::open;
use chariot_core::private::{self, Whose};
use chariot_core::sys;

/// What to do about a file that others can change.
const ROOTS: &str = "chown root it, and chmod go-w it, with all directories above it";

/// Where packages put the line.
const PACKAGES: &str = "/etc/slurm/plugstack.conf.d";

/// What is said of the plugin, and of its launcher where there is a line that names it.
pub(super) fn findings(slurm: Option<&Slurm>, role: Role) -> Vec<Finding> {
    let Some(slurm) = slurm else {
        let finding = match role {
            Role::Any => Finding::good(PLUGIN, "this machine has no Slurm"),
            _ => Finding::bad(
                PLUGIN,
                "this machine has no Slurm: no srun and no scontrol on PATH, and no /etc/slurm",
                "install Slurm, or name its commands by PATH",
            ),
        };
        return vec![finding];
    };
    let Some(line) = &slurm.stack.line else {
        return vec![absent(slurm).needed_if(role != Role::Any)];
    };
    let plugin = match &slurm.srun {
        Srun::Broken(said) => Finding::bad(
            PLUGIN,
            with_source(slurm, format!("Slurm itself does not start here: {said}")),
            "set Slurm up first: has this machine its slurm.conf?",
        )
        .needed_if(role != Role::Any),
        _ => present(slurm, line),
    };
    // Which launcher is meant by words that are not understood, nobody knows.
    let is_understood = Arguments::default().read(&line.words).is_ok();
    let launcher = is_understood.then(|| launcher(line));
    [plugin].into_iter().chain(launcher).collect()
}

/// What the plugin is given, as far as that is understood.
pub(super) fn arguments(line: &Line) -> Arguments {
    let mut arguments = Arguments::default();
    // What is wrong with a word is told where the plugin is.
    let _ = arguments.read(&line.words);
    arguments
}

/// Slurm reads no line with the plugin.
fn absent(slurm: &Slurm) -> Finding {
    let plugstack = slurm.plugstack.display();
    let found = |text: String| with_source(slurm, text);
    let below = slurm.plugstack.with_file_name("plugstack.conf.d");
    if let Some((place, text)) = slurm.stack.ignored.first() {
        return Finding::bad(
            PLUGIN,
            found(format!("Slurm ignores the line {place}: {text}")),
            "a line is `required`, the plugin and its arguments: required chariot.so",
        );
    }
    // Where packages put their line, by which nobody has been led.
    let places = [below, PathBuf::from(PACKAGES)];
    let unread = places.iter().find_map(|place| {
        let line = Stack::read(&place.join("chariot.conf")).line?;
        Some((place, line))
    });
    if let Some((below, line)) = unread {
        let found = found(format!(
            "Slurm does not read {}: {}",
            line.shown(),
            match slurm.plugstack.exists() {
                true => format!("{plugstack} does not include it"),
                false => format!("there is no {plugstack}"),
            }
        ));
        let remedy = format!("write into {plugstack}: include {}/*.conf", below.display());
        return Finding::bad(PLUGIN, found, remedy);
    }
    let found = found(match slurm.plugstack.exists() {
        true => {
            format!("Slurm loads none: no line of {plugstack}, or of what it includes, names it")
        }
        false => format!("Slurm loads none: there is no {plugstack}"),
    });
    let remedy =
        format!("write into {plugstack}, once chariot.so is in place: required chariot.so");
    Finding::bad(PLUGIN, found, remedy)
}

/// There is a line: is what it names there, and does Slurm take it?
fn present(slurm: &Slurm, line: &Line) -> Finding {
    let shown = line.shown();
    let told = |found: &str| with_source(slurm, format!("{shown}: {found}"));
    let place = place(slurm, line);
    if let Some((found, remedy)) = refusal(slurm, line, &place) {
        return Finding::bad(PLUGIN, told(&found), remedy);
    }
    if let Place::At(path) = &place
        && let Some(refusal) = foreign(path)
    {
        return Finding::bad(PLUGIN, told(&refusal), ROOTS).optional();
    }
    if !line.is_required {
        let found = told("where it cannot be loaded, tasks run on the host");
        return Finding::bad(
            PLUGIN,
            found,
            format!("write `required` in {}", line.place()),
        )
        .optional();
    }
    let found = match (&place, &slurm.srun) {
        (_, Srun::Loads) => with_source(slurm, shown),
        (Place::At(path), _) => told(&format!("{} can be loaded", path.display())),
        _ => told("whether it is there is not known: only Slurm says where its plugins are"),
    };
    Finding::good(PLUGIN, found)
}

/// Why no container can be had by this line, and what to do: what Slurm or the plugin would say.
fn refusal(slurm: &Slurm, line: &Line, place: &Place) -> Option<(String, String)> {
    if let Some(told) = &slurm.stack.unreadable {
        let found = format!("Slurm starts nothing: it cannot read {told}");
        return Some((found, "make it a file that all can read".into()));
    }
    match place {
        Place::Missing(found, remedy) => {
            return Some((format!("Slurm starts nothing: {found}"), remedy.clone()));
        }
        Place::At(path) => {
            if let Err((found, remedy)) = library::check(path) {
                let found = format!("Slurm starts nothing: {} {found}", path.display());
                return Some((found, remedy));
            }
        }
        Place::Unknown => {}
    }
    if let Err(error) = Arguments::default().read(&line.words) {
        let remedy = error.advice().unwrap_or_default().to_owned();
        return Some((format!("the plugin refuses it: {error}"), remedy));
    }
    match &slurm.srun {
        Srun::Refuses(said) => {
            let found = format!("Slurm starts nothing: {said}");
            Some((
                found,
                "srun --help says this, and will say more with -v".into(),
            ))
        }
        Srun::DoesWithout => Some((
            "srun --help has no --ch-image".into(),
            "does srun read another configuration? compare slurm.conf and SLURM_CONF".into(),
        )),
        Srun::Loads | Srun::Broken(_) | Srun::Unknown => None,
    }
}

/// Where the plugin's file is.
enum Place {
    At(PathBuf),
    /// Where it is not, and what to do about it.
    Missing(String, String),
    /// A name without a path, and nobody says in which directory.
    Unknown,
}

fn place(slurm: &Slurm, line: &Line) -> Place {
    let plugin = &line.plugin;
    let shown = plugin.display();
    if plugin.is_absolute() {
        return match plugin.exists() {
            true => Place::At(plugin.clone()),
            false => Place::Missing(
                format!("there is no {shown}"),
                format!(
                    "put chariot.so there, or take out the line {}",
                    line.place()
                ),
            ),
        };
    }
    let Some(first) = slurm.plugin_dirs.first() else {
        return Place::Unknown;
    };
    let mut paths = slurm.plugin_dirs.iter().map(|dir| dir.join(plugin));
    paths.find(|path| path.exists()).map_or_else(
        || {
            let all: Vec<_> = slurm
                .plugin_dirs
                .iter()
                .map(|dir| dir.to_string_lossy())
                .collect();
            Place::Missing(
                format!("it is not in PluginDir, {}", all.join(":")),
                format!(
                    "copy {shown} to {}, or write its whole path in {}",
                    first.display(),
                    line.place()
                ),
            )
        },
        Place::At,
    )
}

/// Adds what was looked at, where Slurm itself did not say.
fn with_source(slurm: &Slurm, found: String) -> String {
    match &slurm.guessed {
        None => found,
        Some(why) => format!("{found} ({why}: looked at {})", slurm.plugstack.display()),
    }
}

/// Whether others than root could change a file, as a sentence.
fn foreign(path: &Path) -> Option<String> {
    let file = open::regular(path).ok()?;
    let refusal = private::refuse_file(&file, path, Whose::Roots).err()?;
    refusal.is_foreign().then(|| refusal.to_string())
}

/// The program that the plugin executes.
fn launcher(line: &Line) -> Finding {
    let path = arguments(line).launcher;
    let shown = path.display();
    let place = line.place();
    match sys::may_execute(&path) {
        Ok(()) if path.is_file() => match foreign(&path) {
            None => Finding::good(LAUNCHER, shown.to_string()),
            Some(refusal) => {
                Finding::bad(LAUNCHER, format!("{shown}: {refusal}"), ROOTS).optional()
            }
        },
        Ok(()) => Finding::bad(
            LAUNCHER,
            format!("{shown} is no file"),
            format!("name the program `chariot` by launcher= in {place}"),
        ),
        Err(error) => Finding::bad(
            LAUNCHER,
            format!("no container can be made: {error}"),
            format!("install `chariot` there, mode 755, or name it by launcher= in {place}"),
        ),
    }
}

#[cfg(test)]
#[path = "plugin/tests.rs"]
mod tests;
