//! The plan in words: `chariot explain`.

use std::fmt::{self, Display, Formatter};

use super::host_commands::HostCommands;
use super::{Plan, Root};
use crate::mount::{Mount, MountSource};

impl Plan {
    /// What it will do, line by line.
    pub fn explained(&self) -> Vec<String> {
        let ((user, host_user), (group, host_group)) = (self.identity.user, self.identity.group);
        let (image, kind) = (self.image.path.display(), self.image.kind());
        let mut lines = vec![
            format!("image        {image} ({kind}, {})", self.root),
            "namespaces   user, mount".to_owned(),
            format!("uid          {user} inside is {host_user} outside"),
            format!("gid          {group} inside is {host_group} outside"),
            format!("privileges   no_new_privs is set; {}", capabilities(user)),
        ];
        if self.is_of_root {
            lines.push(
                "machine      the image runs as root, and cannot change kernel settings".to_owned(),
            );
        }
        lines.push("mounts".to_owned());
        let indented = |shown: &dyn Display| format!("  {shown}");
        let is_told = |mount: &&Mount| !matches!(mount.source, MountSource::Name(_));
        lines.extend(
            self.mounts
                .iter()
                .filter(is_told)
                .map(|mount| indented(mount)),
        );
        let commands = self.host_commands.iter();
        lines.extend(
            commands
                .flat_map(HostCommands::explained)
                .map(|names| indented(&names)),
        );
        if !self.devices.is_empty() {
            lines.push("devices".to_owned());
        }
        lines.extend(self.devices.iter().map(|device| indented(device)));
        let hooks = self.hooks.iter().map(|hook| hook.words.join(" "));
        lines.extend(hooks.map(|words| format!("  which has {words} run before")));
        lines.push("environment  the caller's, and".to_owned());
        lines.extend(self.environment.iter().map(|edit| indented(edit)));
        lines.push(
            "  what names a place that is not visible inside stays outside (chariot help env)"
                .to_owned(),
        );
        lines.push(format!("workdir      {}", self.explained_workdir()));
        if self.fakeroot {
            lines.push("fakeroot     changes of file owners are faked".to_owned());
        }
        if !self.annotations.is_empty() {
            lines.push("annotations  of no effect here".to_owned());
        }
        lines.extend(self.annotations.iter().map(|known| indented(known)));
        let words = self.task.command.iter().map(|word| word.to_string_lossy());
        let command: String = words.map(|word| format!(" {word}")).collect();
        lines.push(format!("command     {command}"));
        lines
    }

    fn explained_workdir(&self) -> String {
        if let Some(asked) = &self.workdir.asked {
            return format!("{} ({})", asked.value.display(), asked.origin);
        }
        let mut text = String::new();
        if let Some(caller) = &self.workdir.caller {
            let path = caller.path.display();
            text += &format!("{path} if it is visible inside, else ");
        }
        if let Some(image) = &self.workdir.image {
            text += &format!("{} (the image's), else ", image.display());
        }
        text + "/"
    }
}

fn capabilities(uid: u32) -> &'static str {
    match uid {
        0 => "capabilities over the container's own user namespace only",
        _ => "no capabilities",
    }
}

impl Display for Root {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Root::ReadOnly => write!(out, "read-only"),
            Root::AsItIs => write!(out, "writable itself"),
            Root::Throwaway(bytes) => write!(out, "writable, {bytes} bytes, thrown away"),
            Root::Kept(directory) => write!(out, "writable, kept in {}", directory.display()),
        }
    }
}

impl Display for Mount {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let destination = self.destination.display();
        match &self.source {
            MountSource::Host(source) if *source == self.destination => {
                write!(out, "{destination}")?;
            }
            MountSource::Host(source) => write!(out, "{destination} from {}", source.display())?,
            MountSource::Tmpfs(None) => write!(out, "{destination} from an empty tmpfs")?,
            MountSource::Tmpfs(Some(bytes)) => {
                write!(out, "{destination} from an empty tmpfs of {bytes} bytes")?;
            }
            MountSource::SquashFs(path) => {
                write!(out, "{destination} from what is in {}", path.display())?;
            }
            MountSource::Data(bytes) => {
                write!(out, "{destination} from {} bytes of Chariot's", bytes.len())?;
            }
            MountSource::Written(bytes) => {
                write!(
                    out,
                    "{destination} written, {} bytes of Chariot's",
                    bytes.len()
                )?;
            }
            MountSource::Link(target) | MountSource::Name(target) => {
                write!(out, "{destination} as a link to {}", target.display())?
            }
            MountSource::Commands(names) => {
                write!(out, "{destination} with {} of the host", names.join(", "))?;
            }
            MountSource::Text(text) => {
                write!(out, "{destination} with {} lines", text.lines().count())?;
            }
        }
        if self.restrictions.read_only {
            write!(out, ", read-only")?;
        }
        if self.restrictions.private {
            write!(out, ", private")?;
        }
        write!(out, " ({})", self.origin)
    }
}
