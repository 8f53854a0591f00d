//! Loop devices: a file as a block device, loop(4). For root alone.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use rustix::fs::OFlags;

use super::{Call, called};
use crate::error::CallError;

const LOOP_CONFIGURE: libc::Ioctl = 0x4c0a;
const LOOP_GET_STATUS64: libc::Ioctl = 0x4c05;
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4c82;

const READ_ONLY: u32 = 1;
/// The device goes away with its last user.
const AUTOCLEAR: u32 = 4;
/// The file's pages are cached once, as the device's.
const DIRECT_IO: u32 = 16;

/// More devices than this are not looked through.
const MOST: u32 = 1024;

/// `struct loop_info64` of linux/loop.h.
#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` of linux/loop.h.
#[repr(C)]
struct Configuration {
    file: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

const NO_INFO: Info = Info {
    device: 0,
    inode: 0,
    rdevice: 0,
    offset: 0,
    size_limit: 0,
    number: 0,
    encrypt_type: 0,
    encrypt_key_size: 0,
    flags: 0,
    file_name: [0; 64],
    crypt_name: [0; 64],
    encrypt_key: [0; 32],
    init: [0; 2],
};

/// A loop device, which lives as long as somebody has it open or mounted.
#[derive(Debug)]
pub struct LoopDevice {
    /// Its path.
    pub path: PathBuf,
    open_device: OwnedFd,
}

/// A read-only device for `length` bytes of a file from `offset` on: one that is there already, as from another
/// step on this node, or a new one.
///
/// # Errors
/// The kernel's answer.
pub fn attach(file: &File, offset: u64, length: u64) -> Call<LoopDevice> {
    let data = called(file.metadata(), || "fstat()".into())?;
    let wanted = Info {
        device: data.dev(),
        inode: data.ino(),
        offset,
        size_limit: length,
        flags: READ_ONLY | AUTOCLEAR,
        ..NO_INFO
    };
    match find(&wanted) {
        Some(device) => Ok(device),
        None => make(file, &wanted),
    }
}

fn find(wanted: &Info) -> Option<LoopDevice> {
    let mut there = (0..MOST).map_while(|number| open(number).ok());
    there.find(|device| {
        let mut info = NO_INFO;
        // SAFETY: LOOP_GET_STATUS64 writes one `loop_info64`, and the device is open.
        let result = unsafe {
            libc::ioctl(
                device.open_device.as_raw_fd(),
                LOOP_GET_STATUS64,
                &raw mut info,
            )
        };
        let place = |info: &Info| (info.device, info.inode, info.offset, info.size_limit);
        result == 0 && place(&info) == place(wanted) && info.flags & wanted.flags == wanted.flags
    })
}

fn open(number: u32) -> Call<LoopDevice> {
    let path = PathBuf::from(format!("/dev/loop{number}"));
    let open_device = super::open(&path, OFlags::RDONLY)?;
    Ok(LoopDevice { path, open_device })
}

fn make(file: &File, wanted: &Info) -> Call<LoopDevice> {
    let control = super::open(Path::new("/dev/loop-control"), OFlags::RDWR)?;
    // Between asking and taking somebody else may take it: EBUSY.
    for _ in 0..16 {
        // SAFETY: LOOP_CTL_GET_FREE takes no argument.
        let result = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
        let number = called(Errno::result(result), || "ioctl(LOOP_CTL_GET_FREE)".into())?;
        let device = open(number.unsigned_abs())?;
        let configuration = Configuration {
            file: file.as_raw_fd().unsigned_abs(),
            block_size: 0,
            info: Info {
                flags: wanted.flags | DIRECT_IO,
                ..*wanted
            },
            reserved: [0; 8],
        };
        // SAFETY: LOOP_CONFIGURE reads one `loop_config`; both descriptors are open.
        let result = unsafe {
            libc::ioctl(
                device.open_device.as_raw_fd(),
                LOOP_CONFIGURE,
                &raw const configuration,
            )
        };
        match Errno::result(result) {
            Ok(_) => return Ok(device),
            Err(Errno::EBUSY) => {}
            Err(errno) => return Err(CallError::new("ioctl(LOOP_CONFIGURE)", errno)),
        }
    }
    Err(CallError::new("ioctl(LOOP_CONFIGURE)", Errno::EBUSY))
}
