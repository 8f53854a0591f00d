//! Messages between processes of one machine: bytes and descriptors over a UNIX socket that keeps messages apart.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, getsockopt,
    sendmsg, socket, sockopt,
};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};

use super::{Call, called, quoted};
use crate::error::CallError;

/// The most descriptors that one message carries: `SCM_MAX_FD` of Linux, unix(7).
pub const MOST_FILES: usize = 253;

/// A longer message than this is none of ours, in bytes.
const LONGEST: usize = 4096;

/// How many may wait to be accepted.
const WAITING: i32 = 128;

/// How long somebody waits who would have too many descriptors under way, and how often they try again.
const TURN: Duration = Duration::from_millis(20);
const TURNS: u32 = 100;

/// Sends one message, and waits a while where that would be more descriptors under way than the user may have: all of a
/// user's together are no more than one process may have open, unix(7).
///
/// # Errors
/// As [`send_now`].
pub fn send(socket: BorrowedFd<'_>, data: &[u8], files: &[BorrowedFd<'_>]) -> Call<()> {
    for _ in 0..TURNS {
        match send_now(socket, data, files) {
            Err(error) if error.errno() == Errno::ETOOMANYREFS => std::thread::sleep(TURN),
            sent => return sent,
        }
    }
    send_now(socket, data, files)
}

/// Sends one message: `sendmsg(socket, SCM_RIGHTS)`, sendmsg(2), unix(7).
///
/// # Errors
/// The kernel's answer; EPIPE if nobody is there any more.
pub fn send_now(socket: BorrowedFd<'_>, data: &[u8], files: &[BorrowedFd<'_>]) -> Call<()> {
    let numbers: Vec<RawFd> = files.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let rights: &[ControlMessage<'_>] = if files.is_empty() { &[] } else { &rights };
    let data = [IoSlice::new(data)];
    let flags = MsgFlags::MSG_NOSIGNAL;
    let sent = sendmsg::<()>(socket.as_raw_fd(), &data, rights, flags, None);
    called(sent.map(drop), || "sendmsg(SCM_RIGHTS)".into())
}

/// The user of the process at the other end of a socket, when it was connected: `getsockopt(SO_PEERCRED)`, unix(7).
///
/// # Errors
/// The kernel's answer.
pub fn user_of_peer(socket: &impl AsFd) -> Call<u32> {
    let peer = called(getsockopt(socket, sockopt::PeerCredentials), || {
        "getsockopt(SO_PEERCRED)".into()
    })?;
    Ok(peer.uid())
}

/// Waits for one message: `recvmsg(socket, MSG_CMSG_CLOEXEC)`, recvmsg(2). No bytes means that the other end is closed.
///
/// # Errors
/// The kernel's answer; EMFILE if it is not had whole for want of descriptors.
pub fn receive(socket: BorrowedFd<'_>) -> Call<(Vec<u8>, Vec<OwnedFd>)> {
    receive_with(socket, RecvFlags::empty())
}

/// Takes one message if there is one: the same with MSG_DONTWAIT.
///
/// # Errors
/// As [`receive`], or EAGAIN if there is none.
pub fn receive_now(socket: BorrowedFd<'_>) -> Call<(Vec<u8>, Vec<OwnedFd>)> {
    receive_with(socket, RecvFlags::DONTWAIT)
}

pub(super) fn receive_with(
    socket: BorrowedFd<'_>,
    extra: RecvFlags,
) -> Call<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; LONGEST];
    let mut data = [IoSliceMut::new(&mut bytes)];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | extra;
    let call = || "recvmsg(SCM_RIGHTS)".to_owned();
    let message = called(recvmsg(socket, &mut data, &mut control, flags), call)?;
    let (length, is_whole) = (message.bytes, !message.flags.contains(ReturnFlags::CTRUNC));
    // What is not taken here is closed.
    let files = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => files.collect(),
        _ => Vec::new(),
    });
    let files = files.collect();
    if !is_whole {
        return Err(CallError::new(call(), Errno::EMFILE));
    }
    bytes.truncate(length);
    Ok((bytes, files))
}

/// A socket in an open directory, by which others can reach this process: socket(2), bind(2), listen(2).
///
/// # Errors
/// The kernel's answer.
pub fn listen_in(directory: impl AsFd, name: &str) -> Call<OwnedFd> {
    let path = format!("{}/{name}", super::descriptors::path_of(directory));
    let (made, address) = address(Path::new(&path), SockFlag::SOCK_NONBLOCK)?;
    called(nix::sys::socket::bind(made.as_raw_fd(), &address), || {
        format!("bind(\"{name}\")")
    })?;
    let waiting = called(Backlog::new(WAITING), || "listen()".into())?;
    called(nix::sys::socket::listen(&made, waiting), || {
        "listen()".into()
    })?;
    Ok(made)
}

/// `connect(path)`, connect(2).
///
/// # Errors
/// The kernel's answer, ECONNREFUSED if whoever made the socket is gone.
pub fn connect(path: &Path) -> Call<OwnedFd> {
    let (made, address) = address(path, SockFlag::empty())?;
    called(
        nix::sys::socket::connect(made.as_raw_fd(), &address),
        || format!("connect({})", quoted(path)),
    )?;
    Ok(made)
}

fn address(path: &Path, extra: SockFlag) -> Call<(OwnedFd, UnixAddr)> {
    let address = called(UnixAddr::new(path), || quoted(path).to_string())?;
    let flags = SockFlag::SOCK_CLOEXEC | extra;
    let made = called(
        socket(AddressFamily::Unix, SockType::SeqPacket, flags, None),
        || "socket(AF_UNIX, SOCK_SEQPACKET)".into(),
    )?;
    Ok((made, address))
}

/// The next one who connected, and the user who that is outside; none if nobody waits: accept4(2), `SO_PEERCRED`.
///
/// # Errors
/// The kernel's answer.
pub fn accept(listener: BorrowedFd<'_>) -> Call<Option<(OwnedFd, u32)>> {
    match nix::sys::socket::accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
        Ok(number) => {
            // SAFETY: the kernel has just made this descriptor for this process.
            let connection = unsafe { OwnedFd::from_raw_fd(number) };
            let user = user_of_peer(&connection)?;
            Ok(Some((connection, user)))
        }
        Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNABORTED) => Ok(None),
        Err(errno) => Err(CallError::new("accept4()", errno)),
    }
}
