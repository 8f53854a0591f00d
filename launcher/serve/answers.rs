//! The answers to the kernel's requests. Nothing in an image changes, so all of them hold for ever, and the
//! kernel asks each question once.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyXattr, Request, Session, SessionACL,
};

use super::Service;
use super::ahead::{self, Ahead, Work};
use super::watch::Complaints;
use crate::image::squashfs::{Damage, Entry, Inode, Kind, Position, SquashFs, Stretch, Xattr};
use chariot_core::sys::{detached, namespaces, sharing};

/// How long an answer holds: as long as the kernel keeps it.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

/// The number by which FUSE calls the root.
const ROOT: u64 = 1;

/// Positions 1 and 2 of a directory are after "." and after "..".
const DOTS: u64 = 2;

/// Threads that answer, at least and at most; more than processors, since some wait for the disk.
const WORKERS: (usize, usize) = (2, 8);

/// Requests that the kernel may leave unanswered before it lets readers wait.
const MOST_REQUESTS: u16 = 64;

/// How much the kernel asks for beyond what is read, in bytes.
const READ_AHEAD: u32 = 128 << 10;

/// The most that it asks for in one request, in bytes. What it reads ahead around a page fault is often half of one
/// block and half of the next: several workers then uncompress the two, and the page that somebody waits for is
/// there when the first is.
const MOST_IN_ONE: u32 = 32 << 10;

/// The same where the kernel's pages have so many bytes: one at least. Of less than a page the kernel makes none, and
/// reads nothing ahead; processors of the kind aarch64 may have pages of 64 KiB.
pub(super) fn most_in_one(page: u32) -> u32 {
    MOST_IN_ONE.max(page)
}

struct Answers {
    service: Service,
    /// The number by which the image calls the root.
    root: u64,
    ahead: Ahead,
    complaints: Complaints,
    /// Whether something was asked for. Each thread that answers has /dev/fuse open by then, once more for itself, and
    /// the process can do without the host's files.
    begun: Once,
    empty: Mutex<Option<OwnedFd>>,
}

/// In the server's process: waits until the file system is mounted, and answers until it is unmounted.
pub(super) fn serve(
    device: OwnedFd,
    ready: OwnedFd,
    service: Service,
    complaints: Complaints,
) -> u8 {
    if namespaces::no_new_privileges().is_err() {
        return 125;
    }
    ahead::prepare(Arc::clone(&service.image));
    // Whoever wanted to mount it did not come so far.
    let Ok([empty]) = sharing::receive_from(ready.as_fd()) else {
        return 0;
    };
    let image = Arc::clone(&service.image);
    let Ok(root) = image.number_of_root() else {
        return 125;
    };
    let (ahead, work) = Ahead::new();
    let answers = Answers {
        service,
        root,
        ahead,
        complaints,
        begun: Once::new(),
        empty: Mutex::new(Some(empty)),
    };
    u8::from(run(answers, device, work, image).is_err())
}

fn run(answers: Answers, device: OwnedFd, work: Work, image: Arc<SquashFs>) -> std::io::Result<()> {
    let mut config = Config::default();
    config.n_threads = Some((detached::processors() + 1).clamp(WORKERS.0, WORKERS.1));
    config.clone_fd = true;
    let session = Session::from_fd(answers, device, SessionACL::All, config)?;
    work.start(image)?;
    // This thread starts those that answer.
    if let Err(error) = namespaces::clear_capabilities() {
        return Err(std::io::Error::other(error));
    }
    session.run()
}

impl Answers {
    fn image(&self) -> &SquashFs {
        &self.service.image
    }

    /// FUSE's number of a file: the image's own, but the root, which has to be 1, and file 1 have changed
    /// places.
    fn node(&self, number: u64) -> u64 {
        match number {
            number if number == self.root => ROOT,
            ROOT => self.root,
            number => number,
        }
    }

    fn inode(&self, node: INodeNo) -> Result<Inode, Errno> {
        self.begun.call_once(|| {
            let empty = self.empty.lock();
            let empty = empty
                .unwrap_or_else(|poisoned| poisoned.into_inner())
                .take();
            self.ahead.shut_in(empty);
        });
        // The exchange is its own inverse.
        self.image()
            .inode(self.node(node.0))
            .map_err(|damage| self.complain(damage))
    }

    /// Tells the user, and whoever reads gets an I/O error.
    fn complain(&self, damage: Damage) -> Errno {
        let errno = damage.errno.map(|errno| format!(": {}", errno.desc()));
        self.complaints.tell([
            &format!(
                "chariot: can't read a file of the image {}: {damage}{}",
                self.service.word,
                errno.unwrap_or_default()
            ),
            &format!("chariot: hint: {}", damage.advice),
        ]);
        Errno::EIO
    }

    fn attributes(&self, node: u64, inode: &Inode) -> FileAttr {
        let time = UNIX_EPOCH + Duration::from_secs(inode.modified.into());
        let (uid, gid) = self.service.owner;
        FileAttr {
            ino: INodeNo(node),
            size: inode.size,
            // Programs that copy look for holes where this is less than the size.
            blocks: inode.size.saturating_sub(inode.holes).div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind: file_type(inode.kind),
            perm: inode.permissions,
            nlink: inode.links,
            uid,
            gid,
            rdev: inode.device,
            blksize: self.image().block_size(),
            flags: 0,
        }
    }

    fn entry(&self, entry: &Entry) -> Result<FileAttr, Damage> {
        let inode = self.image().inode_of(entry)?;
        Ok(self.attributes(self.node(self.image().number_of(entry)), &inode))
    }

    /// Gives `add` the entries of a directory from `offset` on, until it has enough.
    fn list(
        &self,
        node: INodeNo,
        offset: u64,
        mut add: impl FnMut(u64, &[u8], FileAttr) -> bool,
    ) -> Result<(), Errno> {
        let directory = self.inode(node)?;
        let own = self.attributes(node.0, &directory);
        for (at, name) in [(1, &b"."[..]), (2, b"..")] {
            if offset < at && add(at, name, own) {
                return Ok(());
            }
        }
        let from = Position(offset.saturating_sub(DOTS));
        let entries = self
            .image()
            .entries(&directory, from)
            .map_err(|damage| self.complain(damage))?;
        for entry in entries {
            let listed = entry.and_then(|entry| Ok((self.entry(&entry)?, entry)));
            let (attributes, entry) = listed.map_err(|damage| self.complain(damage))?;
            if add(entry.after.0 + DOTS, &entry.name, attributes) {
                break;
            }
        }
        Ok(())
    }

    fn xattrs(&self, node: INodeNo) -> Result<Vec<Xattr>, Errno> {
        let inode = self.inode(node)?;
        self.image()
            .xattrs(&inode)
            .map_err(|damage| self.complain(damage))
    }
}

fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Directory => FileType::Directory,
        Kind::File => FileType::RegularFile,
        Kind::Symlink => FileType::Symlink,
        Kind::BlockDevice => FileType::BlockDevice,
        Kind::CharacterDevice => FileType::CharDevice,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
    }
}

/// Answers a request for an attribute or a list of them, as xattr(7) wants it.
fn reply_sized(reply: ReplyXattr, size: u32, data: &[u8]) {
    match (size, u32::try_from(data.len())) {
        (0, Ok(length)) => reply.size(length),
        (size, Ok(length)) if length <= size => reply.data(data),
        _ => reply.error(Errno::ERANGE),
    }
}

impl Filesystem for Answers {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // What a kernel does not have, it does without.
        for capability in [
            InitFlags::FUSE_ASYNC_READ,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_NO_OPEN_SUPPORT,
            InitFlags::FUSE_NO_OPENDIR_SUPPORT,
        ] {
            let _ = config.add_capabilities(capability);
        }
        let _ = config.set_max_background(MOST_REQUESTS);
        let _ = config.set_max_readahead(READ_AHEAD);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.inode(parent).and_then(|directory| {
            let entry = self.image().lookup(&directory, name.as_bytes());
            let attributes =
                entry.and_then(|entry| entry.map(|entry| self.entry(&entry)).transpose());
            attributes.map_err(|damage| self.complain(damage))
        });
        match found {
            Ok(Some(attributes)) => reply.entry(&FOR_EVER, &attributes, Generation(0)),
            // Number 0 says that there is none, and that this holds too.
            Ok(None) => match self.inode(INodeNo(ROOT)) {
                Ok(root) => reply.entry(&FOR_EVER, &self.attributes(0, &root), Generation(0)),
                Err(error) => reply.error(error),
            },
            Err(error) => reply.error(error),
        }
    }

    fn getattr(&self, _: &Request, node: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.inode(node) {
            Ok(inode) => reply.attr(&FOR_EVER, &self.attributes(node.0, &inode)),
            Err(error) => reply.error(error),
        }
    }

    fn readlink(&self, _: &Request, node: INodeNo, reply: ReplyData) {
        let target = self.inode(node).and_then(|inode| {
            self.image()
                .target(&inode)
                .map_err(|damage| self.complain(damage))
        });
        match target {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(error),
        }
    }

    /// Once: the kernel does not ask again, and keeps what it has read of a file when that is closed.
    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    /// Likewise.
    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let image = self.image();
        let read = self.inode(node).and_then(|inode| {
            let piece = image
                .piece(&inode, offset)
                .map_err(|damage| self.complain(damage))?;
            Ok((inode, piece))
        });
        let (inode, piece) = match read {
            Ok(read) => read,
            Err(error) => return reply.error(error),
        };
        let left = usize::try_from(inode.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = left.min(size as usize);
        match piece.bytes() {
            Some(bytes) if bytes.len() >= wanted => reply.data(&bytes[..wanted]),
            _ => match image.read(&inode, offset, wanted) {
                Ok(bytes) => reply.data(&bytes),
                Err(damage) => reply.error(self.complain(damage)),
            },
        }
        self.ahead.after_read(image, node.0, &inode, offset, wanted);
    }

    fn lseek(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let wanted = match whence {
            libc::SEEK_DATA => Stretch::Data,
            libc::SEEK_HOLE => Stretch::Hole,
            _ => return reply.error(Errno::EINVAL),
        };
        let Ok(from) = u64::try_from(offset) else {
            return reply.error(Errno::ENXIO);
        };
        let found = self.inode(node).and_then(|inode| {
            let found = self.image().next(&inode, from, wanted);
            found.map_err(|damage| self.complain(damage))
        });
        match found.map(|found| found.map(i64::try_from)) {
            Ok(Some(Ok(at))) => reply.offset(at),
            Ok(_) => reply.error(Errno::ENXIO),
            Err(error) => reply.error(error),
        }
    }

    fn readdir(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let listed = self.list(node, offset, |at, name, attributes| {
            reply.add(attributes.ino, at, attributes.kind, OsStr::from_bytes(name))
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn readdirplus(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let listed = self.list(node, offset, |at, name, attributes| {
            let name = OsStr::from_bytes(name);
            reply.add(
                attributes.ino,
                at,
                name,
                &FOR_EVER,
                &attributes,
                Generation(0),
            )
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let size = self.image().block_size();
        let blocks = self.image().bytes_used().div_ceil(size.into());
        reply.statfs(
            blocks,
            0,
            0,
            self.image().inode_count().into(),
            0,
            size,
            255,
            size,
        );
    }

    fn getxattr(&self, _: &Request, node: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        if !self.image().has_xattrs() {
            return reply.error(Errno::ENOSYS);
        }
        match self.xattrs(node) {
            Ok(all) => match all.iter().find(|(known, _)| known == name.as_bytes()) {
                Some((_, value)) => reply_sized(reply, size, value),
                None => reply.error(Errno::NO_XATTR),
            },
            Err(error) => reply.error(error),
        }
    }

    /// Where no file has any, the list is empty, as on a disk. ENOSYS would be told to programs as "not supported";
    /// for values it may be, since the kernel asks for some of them at each exec.
    fn listxattr(&self, _: &Request, node: INodeNo, size: u32, reply: ReplyXattr) {
        if !self.image().has_xattrs() {
            return reply_sized(reply, size, &[]);
        }
        match self.xattrs(node) {
            Ok(all) => {
                let names: Vec<u8> = all
                    .into_iter()
                    .flat_map(|(name, _)| [name, vec![0]].concat())
                    .collect();
                reply_sized(reply, size, &names);
            }
            Err(error) => reply.error(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_room_for_a_page_of_any_size() {
        for (page, most) in [(4, 32), (16, 32), (64, 64)] {
            assert_eq!(most_in_one(page << 10), most << 10);
        }
        let page = chariot_core::sys::page_size();
        assert!(page.is_power_of_two() && page >= 4096, "{page}");
    }
}
