//! The results as Markdown.
//!
//! Input: samples of each round. Output: tables of medians; ratios are medians of the rounds' own ratios.

use std::process::Command;

use super::client::as_f64;
use super::process::Memory;
use super::report::{table, verdict};
use super::{CONNECTIONS, Case, Pair, Plan, Sample};

/// Most memory in MiB after very many reviews.
const MEMORY_TARGET: f64 = 16.0;

/// A row of texts.
fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// The middle value; of an even number, the upper one of the middle two.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// One case in each round.
fn of_case(rounds: &[Vec<Pair<Sample>>], index: usize) -> impl Iterator<Item = &Pair<Sample>> {
    rounds.iter().filter_map(move |round| round.get(index))
}

/// A server's name, and where its values are.
type Side<T> = (&'static str, fn(&Pair<T>) -> T);

fn sides<T: Copy>() -> [Side<T>; 2] {
    [("no-op", |pair| pair.nothing), ("promsidecar", |pair| pair.ours)]
}

pub(crate) fn cpu(cases: &[Case], rounds: &[Vec<Pair<Sample>>]) -> String {
    let mut rows = vec![row(["review", "bytes", "no-op", "promsidecar", "ratio", "rounds", "target", ""])];
    for (index, case) in cases.iter().enumerate() {
        let of_rounds = || of_case(rounds, index);
        let ratios = || of_rounds().map(|pair| pair.ours.cpu / pair.nothing.cpu);
        let ratio = median(ratios());
        let (low, high) = (ratios().fold(f64::INFINITY, f64::min), ratios().fold(0.0, f64::max));
        rows.push(row([
            case.name,
            &case.bytes.to_string(),
            &format!("{:.1} µs", median(of_rounds().map(|pair| pair.nothing.cpu))),
            &format!("{:.1} µs", median(of_rounds().map(|pair| pair.ours.cpu))),
            &format!("{ratio:.2}"),
            &format!("{low:.2} – {high:.2}"),
            &format!("≤ {:.1}", case.target),
            verdict(ratio, Some(case.target)),
        ]));
    }
    table(&rows)
}

pub(crate) fn latency(cases: &[Case], rounds: &[Vec<Pair<Sample>>], plan: &Plan) -> String {
    let rate = plan.rate;
    let mut rows = vec![row([
        "review",
        "server",
        &format!("reviews/s, {CONNECTIONS} connections"),
        "server's core in use",
        &format!("p50 at {rate}/s"),
        &format!("p99 at {rate}/s"),
    ])];
    for (index, case) in cases.iter().enumerate() {
        for (server, of) in sides::<Sample>() {
            let of_rounds =
                |value: fn(Sample) -> f64| median(of_case(rounds, index).map(|pair| value(of(pair))));
            rows.push(row([
                case.name,
                server,
                &format!("{:.0}", of_rounds(|sample| sample.throughput)),
                &format!("{:.0} %", of_rounds(|sample| sample.busy) * 100.0),
                &format!("{:.0} µs", of_rounds(|sample| sample.p50)),
                &format!("{:.0} µs", of_rounds(|sample| sample.p99)),
            ]));
        }
    }
    table(&rows)
}

pub(crate) fn memory(
    rounds: &[Pair<Memory>],
    (many, after_many): (usize, Memory),
    plan: &Plan,
    cases: usize,
) -> String {
    let of_round = plan.warm_up + plan.turns * plan.reviews;
    let of_round = cases * (of_round + usize::try_from(plan.rate * plan.seconds).unwrap_or(usize::MAX));
    let mut rows = vec![row(["server", "reviews", "resident", "peak", "target", ""])];
    let mut add = |server: &str, reviews: usize, resident: f64, peak: f64, target: Option<f64>| {
        rows.push(row([
            server,
            &reviews.to_string(),
            &format!("{resident:.1} MiB"),
            &format!("{peak:.1} MiB"),
            &target.map_or_else(String::new, |target| format!("≤ {target} MiB resident")),
            verdict(resident, target),
        ]));
    };
    for (server, of) in sides::<Memory>() {
        let resident = median(rounds.iter().map(|pair| mebibytes(of(pair).resident)));
        let peak = median(rounds.iter().map(|pair| mebibytes(of(pair).peak)));
        add(server, of_round, resident, peak, None);
    }
    let (resident, peak) = (mebibytes(after_many.resident), mebibytes(after_many.peak));
    add("promsidecar", many, resident, peak, Some(MEMORY_TARGET));
    table(&rows)
}

fn mebibytes(kibibytes: u64) -> f64 {
    as_f64(usize::try_from(kibibytes).unwrap_or(usize::MAX)) / 1024.0
}

/// What the figures were measured on, in a list; nothing that names the machine.
pub(crate) fn machine(note: &str) -> String {
    let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let processors = file("/proc/cpuinfo");
    let field = |name: &str| {
        let mut lines = processors.lines();
        lines.find_map(|line| {
            line.strip_prefix(name)?.split_once(':').map(|(_, value)| value.trim().to_owned())
        })
    };
    let count = processors.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = file("/proc/sys/kernel/osrelease");
    let kernel = kernel.trim().split('-').next().unwrap_or_default();
    let rust = Command::new("rustc").arg("--version").output();
    let rust = rust.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_default();
    let model = field("model name").unwrap_or_default();
    let kind = std::env::consts::ARCH;
    let profile = if cfg!(debug_assertions) { "not optimised" } else { "release profile" };
    format!("- {count} cores, {model}, {kind}; {note}\n- Linux {kernel}\n- {rust}, {profile}\n")
}
