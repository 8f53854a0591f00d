//! How far long work is: bars on a terminal, a line now and then in a log, nothing if nobody wants to know.

#![allow(
    clippy::disallowed_methods,
    reason = "beside launcher/print this draws on standard error, and escapes"
)]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};

use crate::print;
use crate::registry::LAYER;
use crate::work::Progress;
use chariot_core::escape;

/// How often a log gets a line.
const LOG_EVERY: Duration = Duration::from_secs(10);

const TEMPLATE: &str = "{msg:20} {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta:>4}";
const TEMPLATE_WITHOUT_END: &str = "{msg:20} {bytes} {binary_bytes_per_sec}";

/// What a person, or a log, sees of it.
#[derive(Debug)]
pub(super) enum Display {
    Nothing,
    Log {
        last: Instant,
        sum: Sum,
    },
    Terminal {
        all: MultiProgress,
        bars: HashMap<String, ProgressBar>,
    },
}

impl Display {
    pub(super) fn new(quiet: bool) -> Display {
        if quiet {
            Display::Nothing
        } else if print::is_seen() {
            Display::Terminal {
                all: MultiProgress::new(),
                bars: HashMap::new(),
            }
        } else {
            Display::Log {
                last: Instant::now(),
                sum: Sum::default(),
            }
        }
    }

    pub(super) fn see(&mut self, progress: &Progress) {
        match self {
            Display::Nothing => {}
            Display::Log { last, sum } => {
                let progress = sum.add(progress);
                if last.elapsed() >= LOG_EVERY && !progress.what.is_empty() {
                    *last = Instant::now();
                    tracing::info!("{}", line(&progress));
                }
            }
            // Nothing is known yet.
            Display::Terminal { .. } if progress.what.is_empty() => {}
            Display::Terminal { all, bars } => {
                let bar = bars
                    .entry(progress.what.clone())
                    .or_insert_with(|| all.add(bar(progress)));
                bar.set_position(progress.done);
                if progress.total > 0 && progress.done >= progress.total {
                    bar.finish();
                }
            }
        }
    }

    /// Takes the bars away.
    pub(super) fn end(&mut self) {
        if let Display::Terminal { all, .. } = self {
            // A terminal that is gone shows nothing anyway.
            let _ = all.clear();
        }
    }
}

fn bar(progress: &Progress) -> ProgressBar {
    let (bar, template) = match progress.total {
        0 => (ProgressBar::no_length(), TEMPLATE_WITHOUT_END),
        total => (ProgressBar::new(total), TEMPLATE),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.with_message(escape::line(&progress.what).into_owned())
}

/// Layers that are fetched at once, added up.
#[derive(Debug, Default)]
pub(super) struct Sum(HashMap<String, (u64, u64)>);

impl Sum {
    /// How far all of it is, with this newest part.
    pub(super) fn add(&mut self, progress: &Progress) -> Progress {
        if !progress.what.starts_with(LAYER) {
            return progress.clone();
        }
        self.0
            .insert(progress.what.clone(), (progress.done, progress.total));
        Progress {
            what: "fetching".into(),
            done: self.0.values().map(|(done, _)| done).sum(),
            total: self.0.values().map(|(_, total)| total).sum(),
            elsewhere: false,
        }
    }
}

/// One line on how far it is.
pub(super) fn line(progress: &Progress) -> String {
    let done = HumanBytes(progress.done);
    if progress.done == 0 {
        // How much there is to come is not known yet, or says nothing.
        return progress.what.clone();
    }
    match progress.total {
        0 => format!("{}: {done}", progress.what),
        total => format!("{}: {done} of {}", progress.what, HumanBytes(total)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_no_number_that_nobody_knows() {
        let line = |what: &str, done, total| {
            let what = what.to_owned();
            super::line(&Progress {
                what,
                done,
                total,
                elsewhere: false,
            })
        };
        assert_eq!(line("n1 is working", 0, 0), "n1 is working");
        assert_eq!(line("fetching", 0, 518), "fetching");
        assert_eq!(line("fetching", 518, 518), "fetching: 518 B of 518 B");
        assert_eq!(line("unpacking", 518, 0), "unpacking: 518 B");
    }
}
