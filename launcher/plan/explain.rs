//! The plan in words: `chariot explain`.

use std::fmt::{self, Display, Formatter};

use super::environment::Edit;
use super::mounts::{Mount, MountSource};
use super::{Plan, Root};

impl Display for Plan {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let identity = &self.identity;
        writeln!(
            out,
            "image        {} ({}, {})",
            self.image.path.display(),
            self.image.kind(),
            self.root
        )?;
        writeln!(out, "namespaces   user, mount")?;
        writeln!(
            out,
            "uid          {} inside is {} outside",
            identity.user.0, identity.user.1
        )?;
        writeln!(
            out,
            "gid          {} inside is {} outside",
            identity.group.0, identity.group.1
        )?;
        writeln!(
            out,
            "privileges   no new ones; {}",
            capabilities(identity.user.0)
        )?;
        if self.is_of_root {
            writeln!(
                out,
                "machine      the image runs as its root, and does not steer its kernel"
            )?;
        }
        writeln!(out, "mounts")?;
        for mount in &self.mounts {
            writeln!(out, "  {mount}")?;
        }
        self.explain_devices(out)?;
        writeln!(out, "environment  the caller's, and")?;
        for edit in &self.environment {
            writeln!(out, "  {edit}")?;
        }
        writeln!(
            out,
            "  HOME and TMPDIR move to / and /tmp if their directories are not visible"
        )?;
        self.explain_workdir(out)?;
        if self.fakeroot {
            writeln!(out, "fakeroot     changes of owners are pretended")?;
        }
        if !self.annotations.is_empty() {
            writeln!(out, "annotations  of no effect here")?;
        }
        for annotation in &self.annotations {
            writeln!(out, "  {annotation}")?;
        }
        write!(out, "command     ")?;
        for word in &self.task.command {
            write!(out, " {}", word.to_string_lossy())?;
        }
        writeln!(out)
    }
}

fn capabilities(uid: u32) -> &'static str {
    match uid {
        0 => "capabilities over the container's own user namespace only",
        _ => "no capabilities",
    }
}

impl Plan {
    fn explain_devices(&self, out: &mut Formatter<'_>) -> fmt::Result {
        if !self.devices.is_empty() {
            writeln!(out, "devices")?;
        }
        for device in &self.devices {
            writeln!(out, "  {device}")?;
        }
        for hook in &self.hooks {
            writeln!(out, "  which has {} run before", hook.words.join(" "))?;
        }
        Ok(())
    }

    fn explain_workdir(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "workdir      ")?;
        if let Some(asked) = &self.workdir.asked {
            return writeln!(out, "{} ({})", asked.value.display(), asked.origin);
        }
        if let Some(caller) = &self.workdir.caller {
            write!(
                out,
                "{} if it is visible inside, else ",
                caller.path.display()
            )?;
        }
        if let Some(image) = &self.workdir.image {
            write!(out, "{} (the image's), else ", image.display())?;
        }
        writeln!(out, "/")
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
            MountSource::Link(target) => {
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

impl Display for Edit {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let name = self.name.to_string_lossy();
        match &self.value {
            Some(value) => write!(out, "{name}={}", value.to_string_lossy())?,
            None => write!(out, "without {name}")?,
        }
        write!(out, " ({})", self.origin)
    }
}
