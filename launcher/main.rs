//! The launcher: `chariot`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before a name, a variable or a word of the caller's means anything.
    if let Some(refused) = chariot::cli::refuse_gain() {
        return refused;
    }
    if chariot::ch_run::is_called() {
        return chariot::ch_run::main();
    }
    match chariot::host_commands::is_called() {
        true => chariot::host_commands::main(),
        false => chariot::cli::main(),
    }
}
