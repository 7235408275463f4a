//! Plots of what stores in a host do and take: operations per second, bytes on disk, bytes logged; a bar for each store.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{COLOURS, area, band, legend, name_bands, slot};
use crate::Result;
use crate::report::{Report, Summary, grouped};

/// One plot.
struct Plot {
    /// Ends the name of its file.
    name: &'static str,
    title: &'static str,
    /// What is shown; `None` where there is nothing to show.
    figure: fn(&Summary) -> Option<f64>,
    /// The figure in words.
    show: fn(f64) -> String,
}

const PLOTS: [Plot; 3] = [
    Plot {
        name: "throughput",
        title: "operations per second (each band to its own scale; longer is better)",
        figure: |s| Some(s.ops_per_second),
        show: |x| format!("{}/s", grouped(x)),
    },
    Plot {
        name: "size",
        title: "size on disk after the load, MiB (shorter is better)",
        figure: |s| Some(s.hosted.as_ref()?.space_bytes),
        show: |x| format!("{:.1} MiB", x / 1_048_576.0),
    },
    Plot {
        name: "wal",
        title: "bytes logged per operation (each band to its own scale; shorter is better)",
        figure: |s| Some(s.hosted.as_ref()?.wal_per_op),
        show: |x| format!("{} B", grouped(x)),
    },
];

/// The end of the axis: the longest bar of a band is 1, and its label needs room.
const AXIS: f64 = 1.2;

/// Writes all plots of a report about stores in a host; none of another.
pub(super) fn write(report: &Report, dir: &Path) -> Result<()> {
    if report.summaries.values().flat_map(|stores| stores.values()).all(|s| s.hosted.is_none()) {
        return Ok(());
    }
    PLOTS.iter().try_for_each(|plot| draw(report, plot, &dir.join(format!("{}-{}.svg", report.name, plot.name))))
}

fn draw(report: &Report, plot: &Plot, path: &Path) -> Result<()> {
    let area = area(path, report.workloads.len())?;
    let bands = report.workloads.len() as f64;
    let mut chart = ChartBuilder::on(&area)
        .caption(plot.title, ("sans-serif", 18))
        .margin(10)
        .y_label_area_size(super::LABELS)
        .build_cartesian_2d(0.0..AXIS, 0.0..bands)?;
    chart.configure_mesh().disable_mesh().disable_axes().draw()?;
    name_bands(&area, report, |y| chart.backend_coord(&(0.0, y)))?;
    let label = ("sans-serif", 12).into_text_style(&area).pos(Pos::new(HPos::Left, VPos::Center));
    for (s, store) in report.stores.iter().enumerate() {
        let colour = COLOURS[s % COLOURS.len()];
        let bars: Vec<_> = report
            .workloads
            .iter()
            .filter_map(|workload| {
                let value = figure(report, plot, workload, store)?;
                let longest = report.stores.iter().filter_map(|store| figure(report, plot, workload, store));
                let share = value / longest.fold(f64::MIN_POSITIVE, f64::max);
                let (from, to) = slot(band(report, workload)?, s, report.stores.len());
                Some((share, from, to, (plot.show)(value)))
            })
            .collect();
        let shapes =
            bars.iter().map(|(share, from, to, _)| Rectangle::new([(0.0, *from), (*share, *to)], colour.filled()));
        let series = chart.draw_series(shapes)?;
        series.label(store).legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled()));
        for (share, from, to, words) in &bars {
            let (x, y) = chart.backend_coord(&(*share, f64::midpoint(*from, *to)));
            area.draw_text(words, &label, (x + 4, y))?;
        }
    }
    legend(&mut chart)?;
    Ok(area.present()?)
}

fn figure(report: &Report, plot: &Plot, workload: &str, store: &str) -> Option<f64> {
    (plot.figure)(report.summaries.get(workload)?.get(store)?)
}
