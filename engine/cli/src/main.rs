//! The command `ssd-engine`: see `ssd-engine --help` and docs/guide/ssd-engine.md.

use std::io::{self, Write};
use std::process::ExitCode;

use ssd_engine::env::default_env;

fn main() -> ExitCode {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let code = ssd_engine_cli::run(std::env::args_os(), &default_env(), &mut out, &mut io::stderr());
    // Whoever reads our output may have seen enough (`| head`): that is no failure.
    drop(out.flush());
    ExitCode::from(code)
}
