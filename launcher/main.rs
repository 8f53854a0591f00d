//! The launcher: `chariot`.

use std::process::ExitCode;

fn main() -> ExitCode {
    chariot::print::panics();
    // Before a name, a variable or a word of the caller's means anything.
    if let Some(refused) = chariot::cli::refuse_gain() {
        return refused;
    }
    if chariot::host_commands::is_called() {
        return chariot::host_commands::main();
    }
    chariot::host::forget_others();
    match chariot::ch_run::is_called() {
        true => chariot::ch_run::main(),
        false => chariot::cli::main(),
    }
}
