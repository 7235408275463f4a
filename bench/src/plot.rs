//! Plots of a report: the throughput ratio of each workload, latencies, and what stores in a host take of it.

mod bars;

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::Result;
use crate::report::Report;

/// Colours by store or peer, in order; told apart by readers who do not see red and green.
const COLOURS: [RGBColor; 4] =
    [RGBColor(0, 90, 160), RGBColor(220, 130, 0), RGBColor(110, 110, 110), RGBColor(150, 60, 140)];

const WIDTH: u32 = 1000;
/// Height of the band of one workload.
const BAND: u32 = 26;
const MARGIN: u32 = 90;
const LABELS: u32 = 260;

/// Writes `NAME-ratios.svg` and `NAME-latency.svg` into `dir`; for stores in a host, `NAME-throughput.svg`, `NAME-size.svg`
/// and `NAME-wal.svg`, too.
///
/// # Errors
/// When they cannot be written.
pub fn write(report: &Report, dir: &Path) -> Result<()> {
    if report.workloads.is_empty() {
        return Ok(());
    }
    latencies(report, &dir.join(format!("{}-latency.svg", report.name)))?;
    bars::write(report, dir)?;
    if report.rows.is_empty() { Ok(()) } else { ratios(report, &dir.join(format!("{}-ratios.svg", report.name))) }
}

fn area(path: &Path, bands: usize) -> Result<DrawingArea<SVGBackend<'_>, Shift>> {
    let height = MARGIN + BAND * u32::try_from(bands)?;
    let area = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    area.fill(&WHITE)?;
    Ok(area)
}

/// A bar for each workload and peer, to the right of 1 where we are faster. The axis is the ratio's binary logarithm.
fn ratios(report: &Report, path: &Path) -> Result<()> {
    let area = area(path, report.workloads.len())?;
    let peers: Vec<_> = report.geomean.keys().collect();
    let (low, high) = bounds(report.rows.iter().map(|r| r.ratio).chain([0.5, 2.0]));
    let (low, high) = (low.log2(), high.log2());
    let bands = report.workloads.len() as f64;
    let title = format!("{} ÷ peer, operations per second (log scale)", report.subject);
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(LABELS)
        .build_cartesian_2d(low..high, 0.0..bands)?;
    let label = |x: &f64| format!("{:.2}", x.exp2());
    chart.configure_mesh().disable_y_mesh().disable_y_axis().x_label_formatter(&label).draw()?;
    name_bands(&area, report, |y| chart.backend_coord(&(low, y)))?;
    for (p, peer) in peers.iter().enumerate() {
        let colour = COLOURS[(p + 1) % COLOURS.len()];
        let bars = report.rows.iter().filter(|row| row.peer == **peer).filter_map(|row| {
            let (from, to) = slot(band(report, &row.workload)?, p, peers.len());
            let log = row.ratio.max(f64::MIN_POSITIVE).log2();
            Some(Rectangle::new([(log.min(0.0), from), (log.max(0.0), to)], colour.filled()))
        });
        let name = format!("vs {peer}: {:.2}", report.geomean[*peer]);
        let series = chart.draw_series(bars)?;
        series.label(name).legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled()));
    }
    chart.draw_series([PathElement::new([(0.0, 0.0), (0.0, bands)], BLACK)])?;
    legend(&mut chart)?;
    Ok(area.present()?)
}

/// For each workload and store a line from p50 to p99.9 with dots at p50, p99 and p99.9.
fn latencies(report: &Report, path: &Path) -> Result<()> {
    let area = area(path, report.workloads.len())?;
    let all = report.summaries.values().flat_map(|stores| stores.values());
    let (low, high) = bounds(all.flat_map(|s| [s.p50_us, s.p999_us]).filter(|us| *us > 0.0));
    let bands = report.workloads.len() as f64;
    let mut chart = ChartBuilder::on(&area)
        .caption("latency in microseconds: p50, p99, p99.9 (log scale)", ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(LABELS)
        .build_cartesian_2d((low..high).log_scale(), 0.0..bands)?;
    chart.configure_mesh().disable_y_mesh().disable_y_axis().draw()?;
    name_bands(&area, report, |y| chart.backend_coord(&(low, y)))?;
    for (s, store) in report.stores.iter().enumerate() {
        let colour = COLOURS[s % COLOURS.len()];
        let points: Vec<_> = report
            .workloads
            .iter()
            .filter_map(|workload| {
                let summary = report.summaries.get(workload)?.get(store)?;
                let (from, to) = slot(band(report, workload)?, s, report.stores.len());
                let y = f64::midpoint(from, to);
                Some([(summary.p50_us, y), (summary.p99_us, y), (summary.p999_us, y)])
            })
            .collect();
        chart.draw_series(points.iter().map(|p| PathElement::new(p.to_vec(), colour)))?;
        let dots = points.iter().flatten().map(|p| Circle::new(*p, 3, colour.filled()));
        let series = chart.draw_series(dots)?;
        series.label(store).legend(move |(x, y)| Circle::new((x + 6, y), 4, colour.filled()));
    }
    legend(&mut chart)?;
    Ok(area.present()?)
}

/// The box that says which colour is whose.
fn legend<'a, X: Ranged<ValueType = f64>, Y: Ranged<ValueType = f64>>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>,
) -> Result<()> {
    let mut labels = chart.configure_series_labels();
    Ok(labels.position(SeriesLabelPosition::LowerRight).background_style(WHITE).border_style(BLACK).draw()?)
}

/// A range a little wider than the numbers.
fn bounds(numbers: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = numbers.fold((f64::MAX, f64::MIN), |(low, high), n| (low.min(n), high.max(n)));
    if low > high { (0.5, 2.0) } else { (low.max(1e-4) * 0.8, high.max(1e-3) * 1.25) }
}

/// The lower edge of a workload's band; the first workload is on top.
fn band(report: &Report, workload: &str) -> Option<f64> {
    let index = report.workloads.iter().position(|w| w == workload)?;
    Some((report.workloads.len() - 1 - index) as f64)
}

/// The part of a band that belongs to the `index`th of `count`.
fn slot(band: f64, index: usize, count: usize) -> (f64, f64) {
    let height = 0.8 / count.max(1) as f64;
    let from = band + 0.9 - height * (index + 1) as f64;
    (from, from + height)
}

/// Writes the names of the workloads to the left of their bands; `place` finds a height on the picture.
fn name_bands(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    report: &Report,
    place: impl Fn(f64) -> (i32, i32),
) -> Result<()> {
    let style = ("sans-serif", 13).into_text_style(area).pos(Pos::new(HPos::Right, VPos::Center));
    for workload in &report.workloads {
        let (x, y) = place(band(report, workload).unwrap_or_default() + 0.5);
        area.draw_text(workload, &style, (x - 6, y))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_share_their_height() {
        let (from, to) = slot(3.0, 0, 2);
        assert!((from - 3.5).abs() < 1e-9 && (to - 3.9).abs() < 1e-9);
        let (from, _) = slot(3.0, 1, 2);
        assert!((from - 3.1).abs() < 1e-9);
    }

    #[test]
    fn bounds_are_wider_than_the_numbers() {
        let (low, high) = bounds([1.0, 4.0].into_iter());
        assert!(low < 1.0 && high > 4.0);
        assert_eq!(bounds(std::iter::empty()), (0.5, 2.0));
    }
}
