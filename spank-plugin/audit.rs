//! The line in slurmd's log by which an administrator sees what a step ran in.
//!
//! slurmstepd writes it, as root, when the first task has ended: nothing of the user's can keep it from being written,
//! cut it with a limit, or write it in its place. What it is to say is known to a task that is the user by then, and
//! left in the tasks' meeting place, as bytes of bounded length that root only quotes.

use std::time::Duration;

use chariot_core::config::Audit;
use chariot_core::escape;
use chariot_core::handover::Record;
use chariot_core::sys::sharing::{MeetingPlace, Readiness};

use crate::spank::{self, NAME, Slurm};
use crate::state;

/// The places of the notes.
const ASKED: usize = 0;
const IMAGE: usize = 1;
const DIGEST: usize = 2;
const MOUNT: usize = 3;
const TIME: usize = 4;

/// As the user, in the task that has had the container made: leaves what the line is to say.
pub(crate) fn note(meeting: &MeetingPlace, asked: &str, time: Duration) {
    meeting.leave_note(ASKED, asked.as_bytes());
    meeting.leave_note(TIME, &time.as_micros().to_le_bytes());
    let files = meeting.look().ok();
    let Some(record) = files.and_then(|(_, record)| Record::read(&record.into()).ok()) else {
        return;
    };
    meeting.leave_note(IMAGE, record.image.as_os_str().as_encoded_bytes());
    meeting.leave_note(DIGEST, record.digest.unwrap_or_default().as_bytes());
    meeting.leave_note(MOUNT, record.kind.as_bytes());
}

/// As root, in slurmstepd: writes the line, once, if there was a container.
pub(crate) fn write(slurm: &Slurm<'_>) {
    state::with(|state| {
        let made = state.meeting.as_ref();
        let made = made.filter(|meeting| meeting.state() == Readiness::Ready);
        if let Some(meeting) = made.filter(|_| !state.is_audited) {
            spank::log(&format!(
                "{NAME}: {}",
                line(slurm, meeting, state.config.audit)
            ));
            state.is_audited = true;
        }
    });
}

fn line(slurm: &Slurm<'_>, meeting: &MeetingPlace, audit: Audit) -> String {
    let user = slurm.user().map(|ids| ids.user);
    let numbers = [("user", user), ("job", slurm.job()), ("step", slurm.step())];
    let texts = [
        ("asked", ASKED),
        ("image", IMAGE),
        ("digest", DIGEST),
        ("mount", MOUNT),
    ];
    let number = |(name, number): (&'static str, Option<u32>)| {
        (name, number.map(|number| number.to_string()))
    };
    let text = |(name, place)| {
        let bytes = meeting.note(place);
        let quoted = match audit {
            Audit::Fields => escape::quoted(&bytes),
            Audit::Json => escape::json(&bytes),
        };
        (name, Some(quoted).filter(|_| !bytes.is_empty()))
    };
    let time = <[u8; 16]>::try_from(meeting.note(TIME)).map(u128::from_le_bytes);
    let time = time.unwrap_or_default();
    let time = format!("{}.{}", time / 1000, time / 100 % 10);
    let values = numbers.map(number).into_iter().chain(texts.map(text));
    let values = values.chain([("ms", Some(time))]);
    let parts: Vec<String> = values
        .map(|(name, value)| match audit {
            Audit::Fields => format!("{name}={}", value.as_deref().unwrap_or("-")),
            Audit::Json => format!("\"{name}\":{}", value.as_deref().unwrap_or("null")),
        })
        .collect();
    match audit {
        Audit::Fields => parts.join(" "),
        Audit::Json => format!("{{{}}}", parts.join(",")),
    }
}
