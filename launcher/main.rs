//! The launcher: `chariot`.

use std::process::ExitCode;

fn main() -> ExitCode {
    chariot::cli::main()
}
