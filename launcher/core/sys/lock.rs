//! A lock that processes share, which one that dies gives up, and for which others wait by the clock that nobody sets.
//!
//! It is a robust mutex, pthread_mutexattr_setrobust(3), that is only ever tried. pthread_mutex_timedlock(3) goes by
//! the time of day, and would end at once, or never, when somebody sets that; pthread_mutex_clocklock(3) came with
//! glibc 2.30, and Slurm's processes may have an older one. So those who wait do it at a number beside the mutex, futex(2).

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use rustix::thread::futex;

use super::Call;
use super::clock::Clock;
use crate::error::CallError;

/// How long a waiting process sleeps if nobody wakes it, since who dies with the lock wakes nobody.
const NAP: Duration = Duration::from_millis(50);

/// The lock, in memory that processes share. All zeroes is none yet.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Lock {
    /// Other processes change it whenever they like: nothing here refers to it but by a pointer.
    mutex: UnsafeCell<libc::pthread_mutex_t>,
    /// Counts up each time that the lock is given back.
    turns: AtomicU32,
}

// SAFETY: the mutex is for use from several processes, and so threads, and is reached by pthread_mutex_trylock(3) and
// its like alone; the number is atomic.
unsafe impl Sync for Lock {}

/// The lock, held until dropped.
#[derive(Debug)]
pub struct Held<'a>(&'a Lock, Thread);

/// A mutex is given back by the thread that took it: what has this goes to no other.
type Thread = std::marker::PhantomData<*const ()>;

impl Lock {
    /// Makes it one that nobody holds.
    ///
    /// # Errors
    /// The C library's answer.
    ///
    /// # Safety
    /// Nobody else knows the memory yet, and it stays mapped until nobody uses the lock any more.
    pub(super) unsafe fn initialise(&self) -> Call<()> {
        let mut attributes = MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
        let attributes = attributes.as_mut_ptr();
        let (shared, robust) = (libc::PTHREAD_PROCESS_SHARED, libc::PTHREAD_MUTEX_ROBUST);
        let mut failed = 0;
        // SAFETY: the pointer is to memory for one attribute object.
        failed |= unsafe { libc::pthread_mutexattr_init(attributes) };
        // SAFETY: the attributes were initialised above.
        failed |= unsafe { libc::pthread_mutexattr_setpshared(attributes, shared) };
        // SAFETY: the attributes were initialised above.
        failed |= unsafe { libc::pthread_mutexattr_setrobust(attributes, robust) };
        // SAFETY: nobody uses the mutex yet, the caller's promise; the attributes are initialised.
        failed |= unsafe { libc::pthread_mutex_init(self.mutex.get(), attributes) };
        match failed {
            0 => Ok(()),
            number => {
                let errno = Errno::from_raw(number);
                Err(CallError::new("pthread_mutex_init()", errno))
            }
        }
    }

    /// Takes it; it must have been initialised.
    ///
    /// # Errors
    /// ETIMEDOUT after `patience`.
    pub(super) fn take(&self, patience: Duration) -> Call<Held<'_>> {
        let failed = |errno| Err(CallError::new("pthread_mutex_trylock()", errno));
        let mut clock = Clock::default();
        let begin = clock.now();
        loop {
            // Read before trying: whoever gives the lock back after that has changed it, and futex(2) returns at once.
            let seen = self.turns.load(Ordering::Acquire);
            match self.attempt() {
                0 => return Ok(Held(self, std::marker::PhantomData)),
                libc::EBUSY => {}
                number => return failed(Errno::from_raw(number)),
            }
            let left = patience.saturating_sub(clock.now().saturating_duration_since(begin));
            if left.is_zero() {
                return failed(Errno::ETIMEDOUT);
            }
            let planned = left.min(NAP);
            let nap = futex::Timespec {
                tv_sec: 0,
                tv_nsec: planned.subsec_nanos().into(),
            };
            let slept = Instant::now();
            // Woken, not at all asleep, at the end of the nap or interrupted: it is tried again.
            let _ = futex::wait(&self.turns, futex::Flags::empty(), seen, Some(&nap));
            clock.slept(slept, planned);
        }
    }

    /// pthread_mutex_trylock(3); the lock of a process that died with it is free.
    fn attempt(&self) -> libc::c_int {
        let mutex = self.mutex.get();
        // SAFETY: the mutex was initialised, and stays mapped while there is a reference to the lock.
        match unsafe { libc::pthread_mutex_trylock(mutex) } {
            // SAFETY: this thread holds the mutex, in the state that this call is made for. What the mutex
            // guards is one atomic, which is consistent at any moment.
            libc::EOWNERDEAD => unsafe { libc::pthread_mutex_consistent(mutex) },
            result => result,
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // SAFETY: a `Held` exists only while this thread holds the mutex.
        unsafe { libc::pthread_mutex_unlock(self.0.mutex.get()) };
        self.0.turns.fetch_add(1, Ordering::Release);
        // Nobody may be waiting, and who is not woken wakes up by itself.
        let _ = futex::wake(&self.0.turns, futex::Flags::empty(), 1);
    }
}
