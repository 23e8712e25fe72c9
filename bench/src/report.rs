//! The figures as a table and plots for the documentation.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use crate::Failed;
use crate::figures::Figure;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 260.0;
const MARGIN: f64 = 56.0;
const COLOURS: [&str; 4] = ["#1f6feb", "#bf3989", "#1a7f37", "#9a6700"];

/// What a plot shows: figures over one measure of the fleet, the other one fixed.
struct Plot {
    file: &'static str,
    title: &'static str,
    unit: &'static str,
    names: &'static [&'static str],
    over: fn(&Figure) -> usize,
    fixed: fn(&Figure) -> usize,
    axis: &'static str,
}

const PLOTS: [Plot; 6] = [
    Plot {
        file: "engine-pods.svg",
        title: "Engine: CPU against pods, images fixed",
        unit: "s CPU",
        names: &[
            "engine.first_from_disk.cpu",
            "engine.claims_dropped.cpu",
            "engine.key_edit.cpu",
        ],
        over: |figure| figure.fleet.pods,
        fixed: |figure| figure.fleet.images,
        axis: "pods",
    },
    Plot {
        file: "engine-images.svg",
        title: "Engine: CPU against images, pods fixed",
        unit: "s CPU",
        names: &[
            "engine.first_from_disk.cpu",
            "engine.claims_dropped.cpu",
            "engine.key_edit.cpu",
        ],
        over: |figure| figure.fleet.images,
        fixed: |figure| figure.fleet.pods,
        axis: "images",
    },
    Plot {
        file: "fleet-memory-pods.svg",
        title: "Operator: memory against pods, images fixed",
        unit: "MB",
        names: &["fleet.relisted.peak", "fleet.relisted.resident"],
        over: |figure| figure.fleet.pods,
        fixed: |figure| figure.fleet.images,
        axis: "pods",
    },
    Plot {
        file: "fleet-memory-images.svg",
        title: "Operator: memory against images, pods fixed",
        unit: "MB",
        names: &["fleet.relisted.peak", "fleet.relisted.resident"],
        over: |figure| figure.fleet.images,
        fixed: |figure| figure.fleet.pods,
        axis: "images",
    },
    Plot {
        file: "fleet-cpu-pods.svg",
        title: "Operator: CPU against pods, images fixed",
        unit: "s CPU",
        names: &[
            "fleet.warm.synced.cpu",
            "fleet.cold.settled.cpu",
            "fleet.key_edit.cpu",
        ],
        over: |figure| figure.fleet.pods,
        fixed: |figure| figure.fleet.images,
        axis: "pods",
    },
    Plot {
        file: "fleet-cpu-images.svg",
        title: "Operator: CPU against images, pods fixed",
        unit: "s CPU",
        names: &[
            "fleet.warm.synced.cpu",
            "fleet.cold.settled.cpu",
            "fleet.key_edit.cpu",
        ],
        over: |figure| figure.fleet.images,
        fixed: |figure| figure.fleet.pods,
        axis: "images",
    },
];

/// Prints the table and writes the plots that there are figures for into the folder.
pub(crate) fn run(figures: &[Figure], folder: &Path) -> Result<(), Failed> {
    print!("{}", table(figures));
    let failed = |error| Failed::new(format!("write into {}", folder.display()), error);
    std::fs::create_dir_all(folder).map_err(failed)?;
    for plot in &PLOTS {
        if let Some(drawn) = drawn(plot, figures) {
            std::fs::write(folder.join(plot.file), drawn).map_err(failed)?;
        }
    }
    Ok(())
}

/// One line a figure.
fn table(figures: &[Figure]) -> String {
    let mut text = "| figure | pods | images | value |\n|---|---|---|---|\n".to_owned();
    let mut sorted: Vec<&Figure> = figures.iter().collect();
    sorted.sort_by_key(|figure| (&figure.name, figure.fleet.pods, figure.fleet.images));
    for figure in sorted {
        let Figure {
            name,
            value,
            unit,
            fleet,
        } = figure;
        let line = writeln!(
            text,
            "| `{name}` | {} | {} | {value:.2} {unit} |",
            fleet.pods, fleet.images
        );
        line.unwrap_or_default();
    }
    text
}

/// None where fewer than two points lie on a line.
fn drawn(plot: &Plot, figures: &[Figure]) -> Option<String> {
    let named = || {
        figures
            .iter()
            .filter(|figure| plot.names.contains(&figure.name.as_str()))
    };
    let fixed: BTreeSet<usize> = named().map(plot.fixed).collect();
    let points_at = |fixed: usize| -> BTreeSet<usize> {
        named()
            .filter(|figure| (plot.fixed)(figure) == fixed)
            .map(plot.over)
            .collect()
    };
    let fixed = fixed.into_iter().max_by_key(|fixed| points_at(*fixed).len())?;
    if points_at(fixed).len() < 2 {
        return None;
    }
    let shown: Vec<&Figure> = named().filter(|figure| (plot.fixed)(figure) == fixed).collect();
    let most = shown.iter().map(|figure| (plot.over)(figure)).max()? as f64;
    let highest = shown
        .iter()
        .map(|figure| figure.value)
        .fold(f64::MIN_POSITIVE, f64::max);
    let place = |figure: &Figure| {
        let x = MARGIN + (WIDTH - 2.0 * MARGIN) * (plot.over)(figure) as f64 / most;
        let y = HEIGHT - MARGIN - (HEIGHT - 2.0 * MARGIN) * figure.value / highest;
        (x, y)
    };
    let mut body = String::new();
    for (name, colour) in plot.names.iter().zip(COLOURS) {
        let mut line: Vec<(f64, f64, f64)> = shown
            .iter()
            .filter(|figure| figure.name == *name)
            .map(|figure| (place(figure).0, place(figure).1, figure.value))
            .collect();
        line.sort_by(|one, other| one.0.total_cmp(&other.0));
        let points: Vec<String> = line.iter().map(|(x, y, _)| format!("{x:.1},{y:.1}")).collect();
        body += &format!(
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>\n",
            points.join(" ")
        );
        for (x, y, value) in &line {
            body += &format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>\n");
            body += &format!(
                "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value:.2}</text>\n",
                y - 6.0
            );
        }
    }
    for (row, (name, colour)) in plot.names.iter().zip(COLOURS).enumerate() {
        let y = 34.0 + 13.0 * row as f64;
        body += &format!("<text x=\"{MARGIN}\" y=\"{y}\" fill=\"{colour}\">{name}</text>\n");
    }
    let base = HEIGHT - MARGIN;
    let mut ticks = String::new();
    for over in points_at(fixed) {
        let x = MARGIN + (WIDTH - 2.0 * MARGIN) * over as f64 / most;
        ticks += &format!(
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{over}</text>\n",
            base + 16.0
        );
    }
    Some(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <text x=\"{MARGIN}\" y=\"18\" font-size=\"13\">{} ({})</text>\n\
         <path d=\"M{MARGIN} {MARGIN} V{base} H{}\" fill=\"none\" stroke=\"#57606a\"/>\n\
         {ticks}<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n{body}</svg>\n",
        plot.title,
        plot.unit,
        WIDTH - MARGIN,
        WIDTH - MARGIN,
        base + 32.0,
        plot.axis
    ))
}
