//! Who the user is inside: one uid, one gid, and names for them.

use std::path::Path;

use crate::host::Host;
use crate::image::Image;
use chariot_core::error::Result;

/// The user inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The uid inside and outside.
    pub user: (u32, u32),
    /// The gid inside and outside.
    pub group: (u32, u32),
    /// The contents of /etc/passwd.
    pub passwd: String,
    /// The contents of /etc/group.
    pub group_file: String,
    /// Whether the image's own files would do: the user is root, and both name root.
    pub is_in_image: bool,
    /// The user's shell inside; an absolute path that the image has, if it has any shell.
    pub shell: String,
}

impl Identity {
    /// The caller inside `image`, as uid 0 if `root`.
    ///
    /// # Errors
    /// The image's own files cannot be read.
    pub fn of(host: &Host, image: &Image, root: bool) -> Result<Identity> {
        let (uid, gid) = if root { (0, 0) } else { (host.uid, host.gid) };
        let shell = shell(&host.user.shell, image);
        let read = |path: &str| -> Result<String> {
            let contents = image.read(Path::new(path))?.unwrap_or_default();
            Ok(String::from_utf8_lossy(&contents).into_owned())
        };
        let (name, home) = match root {
            true => ("root", Path::new("/root")),
            false => (host.user.name.as_str(), host.user.home.as_path()),
        };
        let gecos = &host.user.gecos;
        let passwd_line = format!("{name}:x:{uid}:{gid}:{gecos}:{}:{shell}", home.display());
        let group_name = if root { "root" } else { &host.group };
        let group_line = format!("{group_name}:x:{gid}:");
        let (users, groups) = (read("/etc/passwd")?, read("/etc/group")?);
        let names_root = |file: &str| file.lines().any(|line| line.starts_with("root:"));
        Ok(Identity {
            user: (uid, host.uid),
            group: (gid, host.gid),
            passwd: merge(&users, name, uid, &passwd_line),
            group_file: merge(&groups, group_name, gid, &group_line),
            is_in_image: root && names_root(&users) && names_root(&groups),
            shell,
        })
    }
}

/// The user's own shell where the image has it, else one that it has.
fn shell(wanted: &str, image: &Image) -> String {
    let choices = [wanted, "/bin/bash", "/bin/sh"];
    let found = choices
        .iter()
        .find(|path| path.starts_with('/') && image.has(Path::new(path)));
    found.unwrap_or(&"/bin/sh").to_string()
}

/// The image's entries without those of the same name or number, after the user's own: programs
/// take the first that matches. Root and nobody are added where the image names neither.
fn merge(image: &str, name: &str, id: u32, own: &str) -> String {
    let mut lines = vec![own.to_owned()];
    let mut seen = vec![id];
    for line in image.lines() {
        let mut fields = line.split(':');
        let (line_name, line_id) = (fields.next(), fields.nth(1));
        let Some(line_id) = line_id.and_then(|id| id.parse().ok()) else {
            continue;
        };
        if line_name != Some(name) && line_id != id {
            lines.push(line.to_owned());
            seen.push(line_id);
        }
    }
    let is_passwd = own.split(':').count() > 4;
    let fallbacks = match is_passwd {
        true => [
            (0, "root:x:0:0:root:/root:/bin/sh"),
            (65534, "nobody:x:65534:65534:nobody:/:/bin/false"),
        ],
        false => [(0, "root:x:0:"), (65534, "nogroup:x:65534:")],
    };
    let missing = fallbacks.iter().filter(|(id, _)| !seen.contains(id));
    lines.extend(missing.map(|(_, line)| (*line).to_owned()));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_comes_first_and_no_entry_of_the_image_shadows_it() {
        let image = "root:x:0:0:root:/root:/bin/bash\nada:x:7:7::/:/bin/sh\nx:x:1000:1::/:/bin/sh\n\
                     daemon:x:1:1::/:/bin/sh\nbroken\n";
        let own = "ada:x:1000:1000:Ada:/home/ada:/bin/bash";
        assert_eq!(
            merge(image, "ada", 1000, own),
            "ada:x:1000:1000:Ada:/home/ada:/bin/bash\nroot:x:0:0:root:/root:/bin/bash\n\
             daemon:x:1:1::/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
        );
    }

    #[test]
    fn an_image_without_databases_gets_root_and_nobody() {
        assert_eq!(
            merge("", "g", 5, "g:x:5:"),
            "g:x:5:\nroot:x:0:\nnogroup:x:65534:\n"
        );
        assert_eq!(
            merge("", "root", 0, "root:x:0:"),
            "root:x:0:\nnogroup:x:65534:\n"
        );
    }
}
