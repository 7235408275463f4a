//! `cargo xtask bench`: builds the benchmarks with the peers they need and runs them.

use clap::{Args, Subcommand};

use crate::failure::{Failure, Result};
use crate::run;
use crate::workspace::{BENCH_CRATE, Workspace};

/// Options of the verb.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    subject: Subject,
}

/// What is measured.
#[derive(Subcommand)]
enum Subject {
    /// The engine beside RocksDB and fjall. Building RocksDB takes about twenty minutes on two cores, once.
    Engine {
        /// The stores to build and to compare with: `rocksdb`, `fjall`.
        #[arg(long, default_value = "rocksdb,fjall", value_name = "NAMES")]
        peers: String,
        #[command(flatten)]
        options: Options,
    },
    /// Transactions of the engine beside those of RocksDB and fjall.
    Txn {
        /// The stores to build and to compare with: `rocksdb`, `fjall`.
        #[arg(long, default_value = "rocksdb,fjall", value_name = "NAMES")]
        peers: String,
        #[command(flatten)]
        options: Options,
    },
    /// The engine's I/O backends beside fio, or beside plain pread where fio is not installed.
    Io(Options),
    /// Tables of the extension beside heap tables, in one private cluster of Postgres.
    Pg(Options),
}

/// Options passed on to the benchmark.
#[derive(Args)]
struct Options {
    /// Less data, shorter runs, one repetition: a look rather than a result.
    #[arg(long)]
    quick: bool,
    /// More options of the benchmark itself, after `--`; `-- --help` lists them.
    #[arg(last = true)]
    more: Vec<String>,
}

/// Runs the verb.
///
/// # Errors
/// When there is no such benchmark, or it cannot be started.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<bool> {
    let (binary, features, options) = match &arguments.subject {
        Subject::Engine { peers, options } => ("engine", peers.as_str(), options),
        Subject::Txn { peers, options } => ("txn", peers.as_str(), options),
        Subject::Io(options) => ("io", "", options),
        Subject::Pg(options) => ("pg", "", options),
    };
    if !workspace.has_binary("bench", binary) {
        return Err(Failure::new(format!("bench/src/bin/{binary}.rs does not exist")));
    }
    let mut command = workspace.cargo();
    command.args([
        "run",
        "--profile",
        "bench",
        "--package",
        BENCH_CRATE,
        "--bin",
        binary,
        "--features",
        features,
        "--",
    ]);
    if options.quick {
        command.arg("--quick");
    }
    command.args(&options.more);
    run::inherited(command)
}
