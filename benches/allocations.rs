//! Heap allocations of one `admit()`, by size of the review, beside the times that the benchmark `admission` measured
//! before. Counts are exact: the same on every machine.

mod inputs;
mod report;

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use promsidecar::admission::{Answer, OutcomeKind, admit};
use serde::Deserialize;

/// Microseconds for a 4 KB review, skipped and injected; 1.5 times what a sketch without checks and hints took.
const TARGETS: [f64; 2] = [6.7, 12.9];

fn main() -> anyhow::Result<()> {
    let (catalog, policy) = inputs::catalog();
    let head = [
        "review",
        "bytes",
        "outcome",
        "time",
        "of floor",
        "target",
        "",
        "allocations",
        "bytes at most",
        "answer",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (name, review) in inputs::reviews() {
        let silent = inputs::without_request(&review);
        let floor = median_micros("floor", name)?;
        rows.push(row(name, review.len(), "floor", floor, floor, None, [0; 3]));
        let cases =
            [("skip", OutcomeKind::Skipped, &silent), ("inject", OutcomeKind::Injected, &review)].into_iter();
        for ((outcome, kind, body), target) in cases.zip(TARGETS) {
            let mut size = 0;
            let mut found = None;
            let counted = allocation_counter::measure(|| {
                if let Answer::Reviewed { body, outcome } = admit(body, &catalog, &policy) {
                    size = body.len();
                    found = Some(outcome.kind);
                }
            });
            ensure!(found == Some(kind), "{name}: {outcome} was wanted, got {found:?}");
            let target = (name == "4KB").then_some(target);
            let counts = [counted.count_total, counted.bytes_max, u64::try_from(size)?];
            rows.push(row(name, body.len(), outcome, median_micros(outcome, name)?, floor, target, counts));
        }
    }
    report::publish("admit", &report::table(&rows))
}

fn row(
    name: &str,
    bytes: usize,
    outcome: &str,
    micros: Option<f64>,
    floor: Option<f64>,
    target: Option<f64>,
    counts: [u64; 3],
) -> Vec<String> {
    let time = micros.map_or_else(|| "not measured".to_owned(), |micros| format!("{micros:.1} µs"));
    let of_floor =
        micros.zip(floor).map_or_else(String::new, |(micros, floor)| format!("{:.2}", micros / floor));
    let verdict = micros.map_or("", |micros| report::verdict(micros, target));
    let target = target.map_or_else(String::new, |target| format!("≤ {target} µs"));
    let mut row = vec![name.to_owned(), bytes.to_string(), outcome.to_owned(), time, of_floor, target];
    row.push(verdict.to_owned());
    row.extend(counts.map(|count| count.to_string()));
    row
}

/// What criterion keeps of a benchmark.
#[derive(Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Deserialize)]
struct Estimate {
    /// In nanoseconds.
    point_estimate: f64,
}

/// Median of the last run of the benchmark `admission`, where there was one; nothing while nothing is measured.
fn median_micros(function: &str, name: &str) -> anyhow::Result<Option<f64>> {
    // `CARGO_TARGET_TMPDIR` is a folder of the target directory, as criterion's is.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().context("a folder has a parent")?;
    let path = target.join(format!("criterion/admit/{function}/{name}/new/estimates.json"));
    if !report::measuring() || !path.exists() {
        return Ok(None);
    }
    let estimates: Estimates = serde_json::from_slice(&fs::read(path)?)?;
    Ok(Some(estimates.median.point_estimate / 1000.0))
}
