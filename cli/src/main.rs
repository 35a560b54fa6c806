//! The command `forebay`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(forebay_cli::main(std::env::args_os()))
}
