//! The launcher: `chariot`.

use std::process::ExitCode;

fn main() -> ExitCode {
    chariot::print::panics();
    if chariot::ch_run::is_called() {
        return chariot::ch_run::main();
    }
    match chariot::host_commands::is_called() {
        true => chariot::host_commands::main(),
        false => chariot::cli::main(),
    }
}
