//! The launcher: `chariot`.

use std::process::ExitCode;

fn main() -> ExitCode {
    if chariot::host_commands::is_called() {
        return chariot::host_commands::main();
    }
    chariot::host::forget_others();
    match chariot::ch_run::is_called() {
        true => chariot::ch_run::main(),
        false => chariot::cli::main(),
    }
}
