//! What depends on the release of Slurm that is running: the version that the plugin takes on, and functions that
//! not every release has, which are looked up, because a plugin that merely refers to them could not be loaded
//! by the others.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicU32, Ordering};

use slurm_spank::spank_sys as sys;

/// Slurm reads it after the constructor below has run. Zero is refused by every Slurm.
#[unsafe(no_mangle)]
static plugin_version: AtomicU32 = AtomicU32::new(0);

/// The releases for which the plugin interface was read or run: libslurm's API version, and the
/// number that a plugin of that release carries.
const RELEASES: [(u32, u32); 8] = [
    (38, 0x16_05_00),
    (39, 0x17_02_00),
    (40, 0x17_0b_00),
    (41, 0x18_05_00),
    (42, 0x18_0b_00),
    (43, 0x19_05_00),
    (44, 0x19_0b_00),
    (45, 0x1a_05_00),
];

/// The dynamic loader runs it before dlopen(3) returns, and so before Slurm compares versions.
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = adopt_version;

/// Where the Slurm that has loaded us has something of this name, if it has: dlsym(3).
fn symbol(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: dlsym(3) takes a NUL-terminated name, and may be called from a constructor.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!address.is_null()).then_some(address)
}

/// Takes on the version of the Slurm that is loading us, if it is one that we know. The interface has
/// been the same since 22.05; a release that is not in the table may have changed it, and refuses us.
extern "C" fn adopt_version() {
    let Some(address) = symbol(c"slurm_api_version") else {
        return;
    };
    // SAFETY: slurm.h declares `extern long slurm_api_version(void)`, the same in all releases.
    let api_version = unsafe {
        std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> libc::c_long>(address)
    };
    // SAFETY: the function has no conditions.
    let number = unsafe { api_version() };
    let major = u32::try_from((number >> 16) & 0xff).unwrap_or(0);
    if let Some((_, version)) = RELEASES.iter().find(|(known, _)| *known == major) {
        plugin_version.store(*version, Ordering::Relaxed);
    }
}

/// TmpFS of slurm.conf, with `%n` and `%h` in it. To be called in slurmstepd itself: it takes a lock
/// that a thread may hold while a task is forked.
pub(crate) fn scratch() -> Option<String> {
    let address = symbol(c"slurm_get_tmp_fs")?;
    // SAFETY: Slurm declares `char *slurm_get_tmp_fs(char *node_name)` in all releases of the table.
    let get = unsafe {
        std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut c_char) -> *mut c_char>(
            address,
        )
    };
    // SAFETY: without a node's name it copies the text as it stands.
    let text = unsafe { get(std::ptr::null_mut()) };
    if text.is_null() {
        return None;
    }
    // SAFETY: it gives a NUL-terminated string that is ours. Its few bytes are not given back: Slurm's
    // way to do that is a macro, and this is called once in a process.
    let text = unsafe { CStr::from_ptr(text) };
    Some(text.to_string_lossy().into_owned())
}

pub(super) type PrependTaskArgv =
    unsafe extern "C" fn(sys::spank_t, c_int, *mut *const c_char) -> sys::spank_err_t;

/// `spank_prepend_task_argv`, which Slurm has since 23.11.
pub(super) fn prepend_task_argv() -> Option<PrependTaskArgv> {
    let address = symbol(c"spank_prepend_task_argv")?;
    // SAFETY: spank.h declares it with this type in every release that has it.
    Some(unsafe { std::mem::transmute::<*mut c_void, PrependTaskArgv>(address) })
}

/// Whether this Slurm can put words in front of a task's command.
pub(crate) fn can_prepend() -> bool {
    prepend_task_argv().is_some()
}
