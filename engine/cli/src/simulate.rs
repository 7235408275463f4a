//! `ssd-engine simulate`: what a stream of writes costs with given options, without a disk.

use ssd_engine::base::ids::Level;
use ssd_engine::lsm::compaction::simulate::{Pattern, SimulateOptions, SimulateReport, simulate};

use crate::cells::Cell;
use crate::report::{Report, Section};
use crate::verify::bar;
use crate::{FINE, Failure, World};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// What to simulate. The defaults are those of an engine that holds 25 GiB and overwrites all of it by chance.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// GiB of rows that the engine holds.
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u64).range(1..=1000), value_name = "GIB")]
    data: u64,
    /// GiB to write; as much as there is when left out.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1000), value_name = "GIB")]
    write: Option<u64>,
    /// GiB written before counting starts.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1000), value_name = "GIB")]
    warm: u64,
    /// Which rows are written.
    #[arg(long, value_enum, default_value_t = Rows::Uniform)]
    rows: Rows,
    /// The engine is empty at first.
    #[arg(long)]
    empty: bool,
    /// MiB of a memtable.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=4095), value_name = "MIB")]
    memtable: Option<u64>,
    /// MiB of an SST.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=4096), value_name = "MIB")]
    file: Option<u64>,
    /// Factor between the sizes of neighbouring levels.
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..=100))]
    multiplier: Option<u32>,
    /// Compactions that run at once.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    compactions: u8,
    /// Report for machines.
    #[arg(long)]
    json: bool,
}

/// Names of the patterns.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Rows {
    /// Every row is as likely as any other.
    Uniform,
    /// Few rows get most writes (Zipf, exponent 0.99).
    Zipf,
    /// One after the other.
    Sequential,
}

impl Arguments {
    fn options(&self) -> SimulateOptions {
        let mut options = SimulateOptions {
            data_bytes: self.data * GIB,
            write_bytes: self.write.unwrap_or(self.data) * GIB,
            warm_bytes: self.warm * GIB,
            pattern: match self.rows {
                Rows::Uniform => Pattern::Uniform,
                Rows::Zipf => Pattern::Zipf(0.99),
                Rows::Sequential => Pattern::Sequential,
            },
            loaded: !self.empty,
            compactions: self.compactions.into(),
            ..SimulateOptions::default()
        };
        if let Some(mib) = self.memtable {
            options.engine.memtable_bytes = (mib * MIB) as usize;
        }
        if let Some(mib) = self.file {
            options.engine.target_file_bytes = mib * MIB;
        }
        if let Some(multiplier) = self.multiplier {
            options.engine.level_multiplier = multiplier;
        }
        options
    }
}

/// Runs the subcommand.
pub(crate) fn run(world: &mut World<'_>, arguments: &Arguments) -> Result<u8, Failure> {
    let bar = bar();
    let found = simulate(&arguments.options(), &mut |progress| {
        bar.set_length(progress.total_bytes);
        bar.set_position(progress.written_bytes);
    });
    bar.finish_and_clear();
    let mut report = Report::default();
    describe(&found, &mut report);
    report.write(arguments.json, world.out)?;
    Ok(FINE)
}

fn describe(found: &SimulateReport, report: &mut Report) {
    let mut costs = Section::new("costs");
    costs.field("rows written", Cell::Size(found.user_bytes));
    costs.field("log", Cell::Size(found.log_bytes));
    costs.field("flushes", Cell::Size(found.flush_bytes));
    costs.field("compactions", Cell::Size(found.compaction_bytes.iter().sum()));
    costs.field("write amplification", format!("{:.2}", found.write_amplification()));
    costs.field("space amplification, at most", format!("{:.2}", found.space_amplification_max));
    costs.field("sorted runs of L0, at most", found.l0_depth_max as u64);
    costs.field("merges", found.merges);
    costs.field("moves", found.moves);
    report.add(costs);
    let mut levels = Section::table("levels", &["level", "bytes at the end", "written by compactions"]);
    for (level, (bytes, written)) in (0u8..).zip(found.level_bytes.iter().zip(found.compaction_bytes)) {
        if *bytes > 0 || written > 0 {
            levels.row([Cell::from(Level(level).to_string()), Cell::Size(*bytes), Cell::Size(written)]);
        }
    }
    report.add(levels);
}
