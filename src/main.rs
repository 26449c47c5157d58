//! The command line's entry: parses the call, runs the command, turns errors into a message and a status.
//! What commands do is in `cli/`.

mod cli;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let call = match cli::args::Cli::try_parse() {
        Ok(call) => call,
        Err(e) => {
            // clap prints help and version as errors of status 0.
            let status = if e.use_stderr() { 2 } else { 0 };
            let _ = e.print();
            return ExitCode::from(status);
        }
    };
    match cli::dispatch(call) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("frit: error: {e}");
            ExitCode::from(e.exit_status())
        }
    }
}
