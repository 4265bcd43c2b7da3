//! Tables of results: printed, and written into `docs/benchmarks.md` on request. IO.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context;

/// Whether to measure; else everything runs once and tiny, as `cargo test` and `BENCH_QUICK=1 make bench` want it.
pub(crate) fn measuring() -> bool {
    let given = |wanted| std::env::args().any(|argument| argument == wanted);
    given("--bench") && !given("--test")
}

/// Prints a part of the report. With `UPDATE_BENCHMARKS=1`, it replaces that part of the document as well.
pub(crate) fn publish(part: &str, markdown: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "\n{}", markdown.trim_end())?;
    if !measuring() || std::env::var_os("UPDATE_BENCHMARKS").is_none() {
        return Ok(());
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/benchmarks.md");
    let text = fs::read_to_string(&path)?;
    let (begin, end) = (format!("<!-- begin {part} -->\n"), format!("<!-- end {part} -->"));
    let split = text.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    let (before, after) = split.with_context(|| format!("docs/benchmarks.md has no part {part}"))?;
    fs::write(path, format!("{before}{begin}{}\n{end}{after}", markdown.trim_end()))?;
    Ok(())
}

/// Rows of a Markdown table; the first is the head.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let mut out = String::new();
    for (index, row) in rows.iter().enumerate() {
        let _ = writeln!(out, "| {} |", row.join(" | "));
        if index == 0 {
            let _ = writeln!(out, "|{}", " --- |".repeat(row.len()));
        }
    }
    out
}

/// A target beside what was measured. It is shown and never fails anything: machines differ.
pub(crate) fn verdict(measured: f64, target: Option<f64>) -> &'static str {
    match target {
        _ if !measuring() => "a trial run",
        None => "",
        Some(target) if measured <= target => "met",
        Some(_) => "missed",
    }
}
