//! Which file a command word means, and whether the kernel could execute it: execvp(3), with sentences.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use nix::errno::Errno;

use super::elf::{self, Program};
use chariot_core::environment::{Environment, find};
use chariot_core::error::{Error, Exit, Result, io_reason};
use chariot_core::open;
use chariot_core::sys;

/// The file that a command word means, as execvp(3) finds it.
///
/// # Errors
/// 127 if there is none, 126 if it cannot be executed.
pub fn find_program(command: &OsStr, environment: &Environment, image: &str) -> Result<PathBuf> {
    let name = command.to_string_lossy();
    let what = format!("can't run {name}");
    if command.as_bytes().contains(&b'/') {
        let path = PathBuf::from(command);
        return check(&path, &what, image).map(|()| path);
    }
    let search = find(environment, "PATH").unwrap_or_default();
    let mut refused = None;
    for directory in std::env::split_paths(search).filter(|_| !name.is_empty()) {
        let path = directory.join(command);
        match check(&path, &what, image) {
            Ok(()) => return Ok(path),
            // As execvp(3): a file that cannot be executed does not end the search.
            Err(error) => match refused {
                None if is_there(&path, &error) => refused = Some(error),
                _ => {}
            },
        }
    }
    Err(refused.unwrap_or_else(|| {
        let told = Error::new(format!("{what}: not found in the image {image}"));
        told.exit(Exit::NotFound).hint(match name.starts_with('-') {
            true => {
                "if it was to be an option: there is none of that name, see `chariot run --help`"
                    .to_owned()
            }
            false => format!("PATH inside is {}", search.to_string_lossy()),
        })
    }))
}

/// Whether there is something that cannot be executed.
fn is_there(path: &Path, error: &Error) -> bool {
    error.exit_code() == Exit::CannotRun.code() || path.is_file()
}

fn check(path: &Path, what: &str, image: &str) -> Result<()> {
    let data = match path.metadata() {
        Ok(data) => data,
        Err(error) if error.raw_os_error() == Some(Errno::EACCES as i32) => {
            return Err(
                Error::new(format!("{what}: {}: Permission denied", path.display()))
                    .exit(Exit::CannotRun),
            );
        }
        Err(_) => {
            return Err(
                Error::new(format!("{what}: not found in the image {image}"))
                    .exit(Exit::NotFound)
                    .hint(format!(
                        "{} has to be in the image or bound into it",
                        path.display()
                    )),
            );
        }
    };
    if data.is_dir() {
        return Err(
            Error::new(format!("{what}: {} is a directory", path.display())).exit(Exit::CannotRun),
        );
    }
    if !data.is_file() {
        // What execve(2) would say, which opens nothing: a FIFO would be waited for.
        let call = format!("execve(\"{}\"): Permission denied", path.display());
        return Err(Error::new(format!("{what}: {call}"))
            .exit(Exit::CannotRun)
            .hint(format!("{} is not a regular file", path.display())));
    }
    if let Err(error) = sys::may_execute(path) {
        return Err(Error::new(format!("{what}: {error}"))
            .exit(Exit::CannotRun)
            .hint(format!("chmod +x {}", path.display())));
    }
    check_interpreter(path, what, image)
}

/// A script whose interpreter is missing fails with the same ENOENT as a missing script, and so does a program whose
/// loader is.
fn check_interpreter(path: &Path, what: &str, image: &str) -> Result<()> {
    // A program that may be executed and not read is none of our business.
    let Some((file, start)) = beginning(path) else {
        return Ok(());
    };
    let Some(line) = start.strip_prefix(b"#!") else {
        return check_program(&file, &start, what, image);
    };
    let line = line
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default()
        .trim_ascii_start();
    let by_kernel = line
        .split(|byte| matches!(byte, b' ' | b'\t'))
        .next()
        .unwrap_or_default();
    if by_kernel.ends_with(b"\r") {
        return Err(Error::new(format!("{what}: its first line ends in a carriage return, which the kernel takes for a part of it"))
            .exit(Exit::CannotRun)
            .hint(format!("the file has the line ends of Windows: sed -i 's/\\r$//' {}", path.display())));
    }
    let interpreter = line
        .split(u8::is_ascii_whitespace)
        .next()
        .unwrap_or_default();
    let interpreter = Path::new(OsStr::from_bytes(interpreter));
    if interpreter.as_os_str().is_empty() {
        return Ok(());
    }
    let what = format!("{what}: its first line asks for {}", interpreter.display());
    if !interpreter.exists() {
        return Err(
            Error::new(format!("{what}, which the image {image} does not have"))
                .exit(Exit::CannotRun)
                .hint("change the first line, or take an image that has the interpreter"),
        );
    }
    match beginning(interpreter) {
        Some((file, start)) => check_program(&file, &start, &what, image),
        None => Ok(()),
    }
}

/// A file and its first bytes, if it may be read.
fn beginning(path: &Path) -> Option<(File, Vec<u8>)> {
    let mut file = open::regular(path).ok()?;
    let mut start = vec![0; elf::START];
    let length = file.read(&mut start).ok()?;
    start.truncate(length);
    Some((file, start))
}

fn check_program(file: &File, start: &[u8], what: &str, image: &str) -> Result<()> {
    let Some(program) = Program::read(file, start) else {
        return Ok(());
    };
    if let Some(machine) = program.foreign_machine(start) {
        let own = std::env::consts::ARCH;
        return Err(Error::new(format!(
            "{what}: it is a program for {machine}, and this machine is {own}"
        ))
        .exit(Exit::CannotRun)
        .hint("take an image that was made for this machine, or one for several"));
    }
    match program.loader.filter(|loader| !loader.exists()) {
        None => Ok(()),
        Some(loader) => Err(Error::new(format!(
            "{what}: it is loaded by {}, which the image {image} does not have",
            loader.display()
        ))
        .exit(Exit::NotFound)
        .hint(
            "was it made on another distribution? take a static one, or one made for the C library of the image",
        )),
    }
}

/// Executes `program` in place of this process, with the name that the user typed for it.
pub(crate) fn become_command(
    program: &Path,
    words: &[OsString],
    environment: Environment,
) -> Result<ExitCode> {
    let Some((name, arguments)) = words.split_first() else {
        return Err(Error::new("there is no command to run"));
    };
    let mut command = Command::new(program);
    let error = command
        .arg0(name)
        .args(arguments)
        .env_clear()
        .envs(environment)
        .exec();
    Err(Error::new(format!(
        "can't run {}: execve(\"{}\"): {}",
        name.to_string_lossy(),
        program.display(),
        io_reason(&error)
    ))
    .exit(Exit::CannotRun)
    .hint("is it a program for this machine, and is its loader (ld.so) in the image?"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn file(directory: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn found(directory: &Path, command: &str) -> Result<PathBuf> {
        let environment = vec![("PATH".into(), directory.into())];
        find_program(OsStr::new(command), &environment, "img")
    }

    #[test]
    fn what_is_missing_ends_in_127_and_what_cannot_be_run_in_126() {
        let place = tempfile::tempdir().unwrap();
        let here = place.path();
        file(here, "good", "\x7fELF", 0o755);
        file(here, "plain", "", 0o644);
        let script = file(here, "script", "#! /nonexistent/python -u\n", 0o755);
        file(here, "windows", "#!/bin/sh\r\nexit\r\n", 0o755);
        let error = found(here, "windows").unwrap_err();
        assert_eq!(error.exit_code(), 126);
        assert!(
            error.to_string().contains("ends in a carriage return"),
            "{error}"
        );
        assert!(error.advice().unwrap().contains("line ends of Windows"));
        assert_eq!(found(here, "good").unwrap(), here.join("good"));
        assert_eq!(found(here, "nothing").unwrap_err().exit_code(), 127);
        assert_eq!(found(here, "/nothing").unwrap_err().exit_code(), 127);
        assert_eq!(found(here, "").unwrap_err().exit_code(), 127);
        assert_eq!(
            found(here, here.to_str().unwrap()).unwrap_err().exit_code(),
            126
        );
        assert_eq!(found(here, "plain").unwrap_err().exit_code(), 126);
        let error = found(here, script.to_str().unwrap()).unwrap_err();
        assert_eq!(error.exit_code(), 126);
        assert!(
            error
                .to_string()
                .contains("/nonexistent/python, which the image img"),
            "{error}"
        );
    }

    #[test]
    fn a_program_without_its_loader_or_for_another_machine_is_told_so_as_a_script_is() {
        let place = tempfile::tempdir().unwrap();
        let here = place.path();
        // Of this very program, which the C library's loader loads.
        let own = std::fs::read("/proc/self/exe").unwrap();
        let put = |name: &str, bytes: &[u8]| {
            file(here, name, "", 0o755);
            std::fs::write(here.join(name), bytes).unwrap();
        };
        put("own", &own);
        assert_eq!(found(here, "own").unwrap(), here.join("own"));
        let mut foreign = own.clone();
        foreign[18] = if cfg!(target_arch = "aarch64") {
            62
        } else {
            183
        };
        put("foreign", &foreign);
        let mut lost = own;
        let loader = lost.windows(4).position(|bytes| bytes == b"/lib").unwrap();
        lost[loader..loader + 4].copy_from_slice(b"/bil");
        put("lost", &lost);
        let script = format!("#!{}\n", here.join("foreign").display());
        file(here, "script", &script, 0o755);
        for (name, code, sentence) in [
            ("foreign", 126, "it is a program for"),
            ("lost", 127, "it is loaded by /bil"),
            ("script", 126, "it is a program for"),
        ] {
            let path = here.join(name);
            for command in [name, path.to_str().unwrap()] {
                let error = found(here, command).unwrap_err();
                assert_eq!(error.exit_code(), code, "{error}");
                assert!(error.to_string().contains(sentence), "{error}");
            }
        }
    }
}
