//! Where the tasks of a step on one node meet: a page of memory that they share, and a socket that
//! holds the container's namespaces.
//!
//! Both are made once, before the tasks are forked. The first task to take the lock makes the
//! container; its namespaces are sent into the socket as one message that nobody ever takes out:
//! every task looks at it (`MSG_PEEK`) and gets descriptors of its own. So no process has to stay
//! alive for the container's sake, and no name exists that another user could find. The kernel
//! drops the message, and with it the last hold on the namespaces, when slurmstepd ends.

use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use rustix::net::RecvFlags;

use super::lock::{Held, Lock};
use super::namespaces::Namespaces;
use super::{Call, called, message};
use crate::error::CallError;

/// How far the container of this step and node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Nobody has made it yet.
    Missing,
    /// It can be joined.
    Ready,
    /// It cannot be had, and the user has been told; tasks end with this status.
    Failed(u8),
}

#[repr(C)]
#[derive(Debug)]
struct Page {
    lock: Lock,
    state: AtomicU32,
    /// Counts up as long as whoever makes the container is waiting for its image.
    beats: AtomicU32,
    /// The tasks that have said which GPUs they have, and which these are, a bit for each.
    arrived: AtomicU32,
    gpus: [AtomicU64; 4],
    notes: [Note; NOTES],
}

/// How many notes there are, and the longest, in bytes: PATH_MAX.
const NOTES: usize = 5;
const LONGEST: usize = 4096;

/// Some bytes that a task leaves for slurmstepd.
#[repr(C)]
#[derive(Debug)]
struct Note {
    length: AtomicU32,
    bytes: [AtomicU8; LONGEST],
}

const READY: u32 = 0x100;
const FAILED: u32 = 0x200;

/// A pair of sockets by which descriptors are handed over.
#[derive(Debug)]
pub struct Channel {
    sender: OwnedFd,
    receiver: OwnedFd,
}

impl Channel {
    /// Makes one.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn new() -> Call<Channel> {
        let (sender, receiver) = pair()?;
        Ok(Channel { sender, receiver })
    }

    /// The end that is sent into.
    pub fn sender(&self) -> BorrowedFd<'_> {
        self.sender.as_fd()
    }

    /// Looks at the first message and leaves it there: `recvmsg(socket, MSG_PEEK|MSG_CMSG_CLOEXEC)`, recvmsg(2).
    ///
    /// # Errors
    /// The kernel's answer, EAGAIN if nothing was sent, EPROTO if it is another number of descriptors.
    pub fn look<const N: usize>(&self) -> Call<[OwnedFd; N]> {
        let at_once = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        receive(self.receiver.as_fd(), at_once)
    }
}

/// Two sockets that are connected: `socketpair(AF_UNIX, SOCK_SEQPACKET)`, socketpair(2).
///
/// # Errors
/// The kernel's answer.
pub fn pair() -> Call<(OwnedFd, OwnedFd)> {
    let kind = SockType::SeqPacket;
    called(
        socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC),
        || "socketpair(AF_UNIX, SOCK_SEQPACKET)".into(),
    )
}

/// The meeting place of a step's tasks on this node.
#[derive(Debug)]
pub struct MeetingPlace {
    /// Never unmapped.
    page: &'static Page,
    channel: Channel,
}

impl MeetingPlace {
    /// Makes one: mmap(2) of a shared page, and socketpair(2). To be called before the tasks are
    /// forked. The page lives as long as the process.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn new() -> Call<MeetingPlace> {
        Ok(MeetingPlace {
            page: map_page()?,
            channel: Channel::new()?,
        })
    }

    /// How far the container is.
    pub fn state(&self) -> Readiness {
        match self.page.state.load(Ordering::Acquire) {
            0 => Readiness::Missing,
            READY => Readiness::Ready,
            failed => Readiness::Failed((failed & 0xff).try_into().unwrap_or(125)),
        }
    }

    /// Tells the other tasks.
    pub fn publish(&self, state: Readiness) {
        let value = match state {
            Readiness::Missing => 0,
            Readiness::Ready => READY,
            Readiness::Failed(code) => FAILED | u32::from(code),
        };
        self.page.state.store(value, Ordering::Release);
    }

    /// Shows those who wait that it goes on.
    pub fn beat(&self) {
        self.page.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// Another number each time that it has gone on.
    pub fn beats(&self) -> u32 {
        self.page.beats.load(Ordering::Relaxed)
    }

    /// Adds this task's GPUs, by their numbers on the node, to those of the others.
    pub fn arrive(&self, gpus: &[usize]) {
        for number in gpus {
            if let Some(word) = self.page.gpus.get(number / 64) {
                word.fetch_or(1 << (number % 64), Ordering::AcqRel);
            }
        }
        self.page.arrived.fetch_add(1, Ordering::AcqRel);
    }

    /// How many tasks have added theirs, and which GPUs these are together.
    pub fn gpus(&self) -> (u32, Vec<usize>) {
        let arrived = self.page.arrived.load(Ordering::Acquire);
        let has = |number: &usize| {
            let word = self.page.gpus.get(number / 64);
            word.is_some_and(|word| word.load(Ordering::Acquire) >> (number % 64) & 1 == 1)
        };
        (
            arrived,
            (0..self.page.gpus.len() * 64).filter(has).collect(),
        )
    }

    /// Leaves a note, of which there is a place for some; of a longer one the rest is cut off. To be called by who holds
    /// the lock.
    pub fn leave_note(&self, number: usize, text: &[u8]) {
        let Some(note) = self.page.notes.get(number) else {
            return;
        };
        let mut length = 0;
        for (place, byte) in note.bytes.iter().zip(text) {
            place.store(*byte, Ordering::Relaxed);
            length += 1;
        }
        note.length.store(length, Ordering::Release);
    }

    /// A note that was left, or nothing. It is as long as a note can be, whatever the page says.
    pub fn note(&self, number: usize) -> Vec<u8> {
        let Some(note) = self.page.notes.get(number) else {
            return Vec::new();
        };
        let length = note.length.load(Ordering::Acquire);
        let length = usize::try_from(length).unwrap_or(0);
        let bytes = note.bytes.iter().take(length);
        bytes.map(|byte| byte.load(Ordering::Relaxed)).collect()
    }

    /// Takes the lock. A task that dies holding it gives it up.
    ///
    /// # Errors
    /// ETIMEDOUT after `patience`.
    pub fn lock(&self, patience: Duration) -> Call<Held<'_>> {
        self.page.lock.take(patience)
    }

    /// The end that the container's maker sends into.
    pub fn sender(&self) -> BorrowedFd<'_> {
        self.channel.sender()
    }

    /// Looks at the maker's message and leaves it there. Gives the namespaces, and the record of what joining
    /// tasks have to do. The fourth descriptor is there to be held: it ends with the step.
    ///
    /// # Errors
    /// As [`Channel::look`].
    pub fn look(&self) -> Call<(Namespaces, OwnedFd)> {
        let [user, mount, record, life] = self.channel.look()?;
        // Closed when the task executes its command, without a call for it.
        std::mem::forget(life);
        Ok((Namespaces { user, mount }, record))
    }

    /// The end that can be read as soon as the maker has sent its message.
    pub fn receiver(&self) -> BorrowedFd<'_> {
        self.channel.receiver.as_fd()
    }

    /// Looks at another kind of message.
    ///
    /// # Errors
    /// As [`Channel::look`].
    pub fn look_at<const N: usize>(&self) -> Call<[OwnedFd; N]> {
        self.channel.look()
    }
}

fn map_page() -> Call<&'static Page> {
    let length = NonZeroUsize::new(size_of::<Page>()).unwrap_or(NonZeroUsize::MIN);
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches no memory in use.
    let mapping = unsafe { mmap_anonymous(None, length, access, MapFlags::MAP_SHARED) };
    let page = called(mapping, || "mmap(MAP_SHARED|MAP_ANONYMOUS)".into())?.cast::<Page>();
    // SAFETY: it is mapped for the life of the process, aligned as every mapping, and large enough; the kernel has filled it
    // with zeros, which all its fields may be.
    let page: &'static Page = unsafe { page.as_ref() };
    // SAFETY: nobody else knows the page just mapped, and it is never unmapped.
    unsafe { page.lock.initialise() }?;
    Ok(page)
}

/// Sends descriptors as one message, see [`message::send`].
///
/// # Errors
/// The kernel's answer.
pub fn send(socket: BorrowedFd<'_>, files: &[BorrowedFd<'_>]) -> Call<()> {
    message::send(socket, b"c", files)
}

/// Waits for descriptors that [`send`] sends.
///
/// # Errors
/// The kernel's answer, EPROTO if it is another number of descriptors.
pub fn receive_from<const N: usize>(socket: BorrowedFd<'_>) -> Call<[OwnedFd; N]> {
    receive(socket, RecvFlags::empty())
}

fn receive<const N: usize>(socket: BorrowedFd<'_>, extra: RecvFlags) -> Call<[OwnedFd; N]> {
    let (_, files) = message::receive_with(socket, extra)?;
    files
        .try_into()
        .map_err(|_| CallError::new("recvmsg(SCM_RIGHTS)", Errno::EPROTO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_can_look_at_the_namespaces_and_none_takes_them_away() {
        let place = MeetingPlace::new().unwrap();
        assert_eq!(place.look().unwrap_err().errno(), Errno::EAGAIN);
        let own = Namespaces::own().unwrap();
        let record = crate::sys::memory_file(c"record").unwrap();
        send(
            place.sender(),
            &[
                own.user.as_fd(),
                own.mount.as_fd(),
                record.as_fd(),
                record.as_fd(),
            ],
        )
        .unwrap();
        drop((own, record));
        for _ in 0..3 {
            place.look().unwrap();
        }
    }

    #[test]
    fn the_lock_is_given_up_by_a_task_that_dies_and_waits_no_longer_than_asked() {
        let place = MeetingPlace::new().unwrap();
        // SAFETY: the child calls only clock_gettime, pthread_mutex_trylock and _exit.
        match unsafe { nix::unistd::fork() }.unwrap() {
            nix::unistd::ForkResult::Child => {
                std::mem::forget(place.lock(Duration::from_secs(5)));
                // SAFETY: _exit(2) has no conditions.
                unsafe { libc::_exit(0) };
            }
            nix::unistd::ForkResult::Parent { child } => {
                nix::sys::wait::waitpid(child, None).unwrap();
            }
        }
        let held = place.lock(Duration::from_secs(5)).unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| {
                let place = &place;
                place.lock(Duration::from_millis(20)).map(drop)
            });
            assert_eq!(
                second.join().unwrap().unwrap_err().errno(),
                Errno::ETIMEDOUT
            );
        });
        drop(held);
        place.lock(Duration::from_millis(20)).unwrap();
    }

    #[test]
    fn gpus_of_all_tasks_add_up() {
        let place = MeetingPlace::new().unwrap();
        place.arrive(&[1, 65]);
        place.arrive(&[]);
        place.arrive(&[0, 1, 255, 256]);
        assert_eq!(place.gpus(), (3, vec![0, 1, 65, 255]));
    }

    #[test]
    fn notes_are_read_as_they_were_left_and_no_longer_than_their_place() {
        let place = MeetingPlace::new().unwrap();
        assert_eq!(place.note(0), b"");
        place.leave_note(0, b"/a\n\xff");
        place.leave_note(1, &[7; 2 * LONGEST]);
        place.leave_note(NOTES, b"nowhere");
        assert_eq!(place.note(0), b"/a\n\xff");
        assert_eq!(place.note(1), [7; LONGEST]);
        assert_eq!(place.note(NOTES), b"");
    }

    #[test]
    fn what_one_task_publishes_the_others_see() {
        let place = MeetingPlace::new().unwrap();
        for state in [
            Readiness::Missing,
            Readiness::Ready,
            Readiness::Failed(127),
            Readiness::Failed(0),
        ] {
            place.publish(state);
            assert_eq!(place.state(), state);
        }
    }
}
