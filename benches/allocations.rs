//! Heap allocations of one `admit()`, by size of the review. Counts are exact: the same on every machine.

mod inputs;

use std::io::Write;

use promsidecar::admission::{Answer, OutcomeKind, admit};

fn main() -> std::io::Result<()> {
    let (catalog, policy) = inputs::catalog();
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{:<8} {:>9} {:<7} {:>12} {:>14} {:>9}",
        "review", "bytes", "outcome", "allocations", "bytes at most", "answer"
    )?;
    for (name, review) in inputs::reviews() {
        let silent = inputs::without_request(&review);
        for (outcome, kind, body) in
            [("skip", OutcomeKind::Skipped, &silent), ("inject", OutcomeKind::Injected, &review)]
        {
            let mut size = 0;
            let counted = allocation_counter::measure(|| {
                if let Answer::Reviewed { body, outcome } = admit(body, &catalog, &policy) {
                    assert_eq!(outcome.kind, kind, "{outcome:?}");
                    size = body.len();
                }
            });
            assert!(size > 0, "{name}: the review was not answered");
            writeln!(
                out,
                "{name:<8} {:>9} {outcome:<7} {:>12} {:>14} {size:>9}",
                body.len(),
                counted.count_total,
                counted.bytes_max
            )?;
        }
    }
    Ok(())
}
