//! The new root: the image, what makes it writable, and what is mounted in it.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use rustix::fs::{FileType, OFlags};

use super::changes::throwaway;
use super::points::{Points, kind_of};
use super::{kept, layered};
use crate::image::Image;
use crate::mount::{Mount, MountSource};
use crate::plan::host_commands::{PROGRAM, SOCKET};
use crate::plan::{Plan, Root};
use crate::serve::{Server, Service, Watch};
use chariot_core::error::{CallError, Error, Explain, Result};
use chariot_core::sys::mounts::{self, Restrictions};
use chariot_core::sys::{self, Call, message};
use chariot_core::trusted::MOUNT_POINT;

/// Room for passwd and group, in bytes; those of an image can be large.
const TEXTS_SIZE: u64 = 16 << 20;

const READ_ONLY: Restrictions = Restrictions {
    read_only: true,
    no_privilege: false,
    private: false,
};

/// Servers of files that are not mounted yet.
pub(super) struct Servers {
    /// Of the image, if it is a file.
    image: Option<Server>,
    /// Of files that are mounted beside it, in the order of their mounts.
    files: Vec<Server>,
}

/// Starts the servers of an image that is a file, and of files that are mounted in it.
pub(super) fn serve(plan: &Plan) -> Result<Servers> {
    let start = |image: &Image| {
        let Some(squashfs) = image.squashfs() else {
            return Ok(None);
        };
        let service = Service {
            image: Arc::clone(squashfs),
            word: image.word.clone(),
            file: image.path.clone(),
            owner: (plan.identity.user.0, plan.identity.group.0),
        };
        Server::start(service).map(Some)
    };
    let image = match plan.image.is_mounted_by_root() {
        true => None,
        false => start(&plan.image)?,
    };
    let files = plan.files.iter().map(start).filter_map(Result::transpose);
    Ok(Servers {
        image,
        files: files.collect::<Result<_>>()?,
    })
}

/// The root of the container while it is being made.
pub(super) struct NewRoot {
    points: Points,
    /// A file system in memory for the few files that Chariot writes itself.
    texts: OwnedFd,
    /// What is in SquashFS files, in the order of their mounts.
    files: VecDeque<OwnedFd>,
    /// Where calls of the host's commands come in.
    listener: Option<OwnedFd>,
    /// Those who wait to hear of the container.
    watches: Vec<Watch>,
    /// A directory with nothing in it, on no path, if there are servers.
    empty: Option<OwnedFd>,
}

impl NewRoot {
    /// Mounts what will be the root on top of `/`.
    pub(super) fn build(plan: &Plan, servers: Servers) -> Result<NewRoot> {
        let what = || format!("can't mount the image {}", plan.image.word);
        // Before the root: what is mounted over "/" after it would be mounted on the new root.
        let texts = mounts::tmpfs(Some(TEXTS_SIZE), "755").explain(what)?;
        mounts::attach_over_root(&texts).explain(what)?;
        let mut started = Started::default();
        let image = Lower::of(plan, started.mount(servers.image, &texts)?)?;
        let files = servers.files.into_iter();
        let files = files.filter_map(|server| started.mount(Some(server), &texts).transpose());
        let files = files.collect::<Result<_>>()?;
        let tree = match &plan.root {
            Root::ReadOnly | Root::AsItIs => image.mounted().explain(what)?,
            Root::Throwaway(bytes) => throwaway(&image, *bytes, &plan.mounts, texts.as_fd())
                .explain(what)
                .map_err(|error| {
                    error.hint(
                        "can this kernel mount overlayfs in a user namespace? see `chariot check`",
                    )
                })?,
            Root::Kept(directory) => kept::overlay(&image, directory, &plan.mounts, texts.as_fd())?,
        };
        let restrictions = Restrictions {
            read_only: plan.root == Root::ReadOnly,
            no_privilege: true,
            private: false,
        };
        mounts::restrict(&tree, restrictions).explain(what)?;
        mounts::attach_over_root(&tree).explain(what)?;
        let mut points = Points::new(tree, &plan.root).explain(what)?;
        if plan.root == Root::ReadOnly {
            layered::add_points(&mut points, &plan.mounts, texts.as_fd()).explain(what)?;
        }
        Ok(NewRoot {
            points,
            texts,
            files,
            listener: None,
            watches: started.watches,
            empty: started.empty,
        })
    }

    /// Tells those who watch the servers that this process is in the container, for good.
    pub(super) fn begin_watches(&mut self) {
        let Some(empty) = &self.empty else { return };
        for watch in self.watches.drain(..) {
            // Without being watched a server serves on.
            let _ = watch.begin(empty.as_fd());
        }
    }

    /// Mounts one thing.
    pub(super) fn mount(&mut self, mount: &Mount) -> Result<()> {
        let destination = &mount.destination;
        let source = match &mount.source {
            MountSource::Host(source) | MountSource::SquashFs(source) => {
                source.display().to_string()
            }
            MountSource::Tmpfs(_) => "a tmpfs".to_owned(),
            MountSource::Written(bytes) if self.points.write(destination, bytes)? => return Ok(()),
            MountSource::Text(_) | MountSource::Data(_) | MountSource::Written(_) => {
                "a file".to_owned()
            }
            MountSource::Commands(_) => "commands of the host".to_owned(),
            // A layer has it, or the image something of that name, or nothing could have it.
            MountSource::Name(_) => return Ok(()),
            MountSource::Link(target) => {
                let what = || format!("can't make {} a link", destination.display());
                return self.points.link(destination, target, &what);
            }
        };
        let what = || format!("can't bind {source} to {}", destination.display());
        if mount.can_be_missed() && self.points.is_directory(destination) {
            let place = destination.display();
            tracing::warn!(
                "warning: {what}: {place} is a directory in the image",
                what = what()
            );
            return Ok(());
        }
        let (tree, is_directory) = self.source(mount).explain(what)?;
        mounts::restrict(&tree, mount.restrictions).explain(what)?;
        let point = self
            .points
            .prepare(destination, is_directory, mount.follow, &what)?;
        match mounts::attach(&tree, &point, destination) {
            Err(error) if error.errno() == Errno::EINVAL && is_link(&point) => {
                let point = self.points.behind_link(destination, &what)?;
                mounts::attach(&tree, &point, destination).explain(what)?;
            }
            result => result.explain(what)?,
        }
        if matches!(mount.source, MountSource::Tmpfs(_)) {
            self.points.own(&tree).explain(what)?;
        }
        Ok(())
    }

    /// The tree to mount, and whether it is a directory.
    fn source(&mut self, mount: &Mount) -> Call<(OwnedFd, bool)> {
        match &mount.source {
            MountSource::Host(path) => {
                let tree = mounts::clone_tree(path)?;
                let is_directory = is_directory(&tree);
                Ok((tree, is_directory))
            }
            MountSource::Tmpfs(size) => {
                let is_tmp = mount.destination == Path::new("/tmp");
                Ok((
                    mounts::tmpfs(*size, if is_tmp { "1777" } else { "755" })?,
                    true,
                ))
            }
            MountSource::SquashFs(_) => {
                let missing = || CallError::new("fsmount(\"fuse\")", Errno::ENOENT);
                Ok((self.files.pop_front().ok_or_else(missing)?, true))
            }
            MountSource::Text(text) => Ok((self.file(&mount.destination, text.as_bytes())?, false)),
            MountSource::Data(bytes) | MountSource::Written(bytes) => {
                Ok((self.file(&mount.destination, bytes)?, false))
            }
            MountSource::Link(_) | MountSource::Name(_) => {
                Err(CallError::new("open_tree()", Errno::EINVAL))
            }
            MountSource::Commands(names) => Ok((self.commands(names)?, true)),
        }
    }

    /// A read-only file with these bytes, in a file system that nobody else sees.
    fn file(&self, destination: &Path, bytes: &[u8]) -> Call<OwnedFd> {
        let name = PathBuf::from(destination.to_string_lossy().replace('/', "_"));
        let file = mounts::make_file(&self.texts, &name)?;
        drop(mounts::fill(file, bytes)?);
        let tree = mounts::clone_entry(&self.texts, &name)?;
        mounts::restrict(&tree, READ_ONLY)?;
        Ok(tree)
    }

    /// A read-only directory in which each name leads to the launcher, with a place for that, and the socket by which
    /// it calls. Only the user can look into it.
    fn commands(&mut self, names: &[String]) -> Call<OwnedFd> {
        let name = Path::new("commands");
        mounts::make_directory(&self.texts, name)?;
        let directory = sys::open_in_root(&self.texts, name, OFlags::PATH | OFlags::DIRECTORY)?;
        for name in names {
            mounts::make_link(&directory, Path::new(name), Path::new(PROGRAM))?;
        }
        drop(mounts::make_file(&directory, Path::new(PROGRAM))?);
        self.listener = Some(message::listen_in(&directory, SOCKET)?);
        mounts::change_mode(self.texts.as_fd(), name, 0o700)?;
        let tree = mounts::clone_entry(&self.texts, name)?;
        mounts::restrict(&tree, READ_ONLY)?;
        Ok(tree)
    }

    /// Where calls of the host's commands come in.
    pub(super) fn listener(&mut self) -> Option<OwnedFd> {
        self.listener.take()
    }

    /// Makes what was mounted to hold mount points as read-only as the image is.
    pub(super) fn seal(&self) -> Call<()> {
        self.points.seal()
    }

    /// Looks that /proc will be the kernel's. In a root that is written to, links of the image stay, and what one of them
    /// names can be somebody else's by now: whoever has made that would say who this process is.
    pub(super) fn refuse_other_proc(&self) -> Result<()> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let place = sys::open_in_root(self.tree(), Path::new("/proc"), flags);
        let is_kernels = place.is_ok_and(|place| mounts::is_proc(&place));
        match is_kernels {
            true => Ok(()),
            false => Err(Error::new("its /proc would not be the kernel's")
                .hint("is /proc a link in the image, or is something bound over it?")),
        }
    }

    /// The root directory.
    pub(super) fn tree(&self) -> BorrowedFd<'_> {
        self.points.root()
    }
}

/// What comes of servers whose files are mounted.
#[derive(Default)]
struct Started {
    watches: Vec<Watch>,
    empty: Option<OwnedFd>,
}

impl Started {
    /// Mounts what a server has. Its root is made for the first of them.
    fn mount(&mut self, server: Option<Server>, texts: &OwnedFd) -> Result<Option<OwnedFd>> {
        let Some(server) = server else {
            return Ok(None);
        };
        let empty = match self.empty.take() {
            Some(empty) => empty,
            None => nowhere(texts).explain(|| "can't make an empty root".into())?,
        };
        let (tree, watch) = server.mount(empty.as_fd())?;
        self.watches.push(watch);
        self.empty = Some(empty);
        Ok(Some(tree))
    }
}

/// A directory with nothing in it, in no place, and read-only.
fn nowhere(texts: &OwnedFd) -> Call<OwnedFd> {
    let name = Path::new("nowhere");
    mounts::make_directory(texts, name)?;
    let tree = mounts::clone_entry(texts, name)?;
    mounts::restrict(&tree, READ_ONLY)?;
    Ok(tree)
}

/// The image's own files.
pub(super) enum Lower<'a> {
    /// A directory of the host.
    Directory(&'a Path),
    /// A file system of its own, in no place yet.
    Served(OwnedFd),
}

impl Lower<'_> {
    fn of(plan: &Plan, served: Option<OwnedFd>) -> Result<Lower<'_>> {
        let what = || format!("can't mount the image {}", plan.image.word);
        Ok(match served {
            Some(tree) => Lower::Served(tree),
            None if plan.image.is_mounted_by_root() => {
                Lower::Served(mounts::clone_tree(Path::new(MOUNT_POINT)).explain(what)?)
            }
            None => Lower::Directory(&plan.image.path),
        })
    }

    /// A mount of them, to be the root.
    fn mounted(self) -> Call<OwnedFd> {
        match self {
            Lower::Directory(path) => mounts::clone_tree(path),
            Lower::Served(tree) => Ok(tree),
        }
    }

    /// A directory that can be a layer of an overlay: one that is mounted in this namespace.
    pub(super) fn layer(&self) -> Call<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match self {
            Lower::Directory(path) => sys::open(path, flags),
            Lower::Served(tree) => {
                mounts::attach_over_root(tree)?;
                sys::open_in_root(tree, Path::new("/"), flags)
            }
        }
    }
}

fn is_directory(file: &OwnedFd) -> bool {
    kind_of(file).is_ok_and(FileType::is_dir)
}

fn is_link(file: &OwnedFd) -> bool {
    kind_of(file).is_ok_and(FileType::is_symlink)
}
