//! A clock for whoever waits: it stands still while its process is stopped, as those of a suspended job are.

use std::time::{Duration, Instant};

/// No scheduler keeps a process waiting for so long beyond the time that it asked for.
const JUMP: Duration = Duration::from_secs(1);

/// The longest that is slept at once, so that being stopped is noticed.
pub(super) const SLICE: Duration = Duration::from_secs(1);

/// The clock, from when it was made.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// How long it stood still.
    stood: Duration,
}

impl Clock {
    /// A moment that can be compared with others of this clock.
    pub(super) fn now(&self) -> Instant {
        let now = Instant::now();
        now.checked_sub(self.stood).unwrap_or(now)
    }

    /// To be told of each sleep: when it began, and how long it was to be.
    pub(super) fn slept(&mut self, began: Instant, planned: Duration) {
        let over = began.elapsed().saturating_sub(planned);
        if over > JUMP {
            self.stood = self.stood.saturating_add(over);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_stands_still_while_its_process_is_stopped() {
        let mut clock = Clock::default();
        let minute = Duration::from_secs(60);
        let Some(began) = Instant::now().checked_sub(minute) else {
            // The machine was started less than a minute ago.
            return;
        };
        clock.slept(began, SLICE);
        let behind = Instant::now() - clock.now();
        assert!(
            behind >= minute - SLICE && behind < minute + SLICE,
            "{behind:?}"
        );
        clock.slept(Instant::now(), SLICE);
        assert!(Instant::now() - clock.now() < minute + SLICE);
    }
}
