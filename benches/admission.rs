//! `admit()` by size of the review, beside the floor of any webhook: reading the same bytes as JSON and keeping nothing.
//!
//! In CPU time of the thread where the system tells it, so that what else runs on the machine counts for little.

mod inputs;

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use promsidecar::admission::admit;
use serde::de::IgnoredAny;

/// CPU time of this thread.
struct CpuTime;

/// Since some fixed moment.
#[cfg(target_os = "linux")]
fn now() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Elsewhere the time on the wall has to do.
#[cfg(not(target_os = "linux"))]
fn now() -> Duration {
    static START: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
    START.elapsed()
}

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        now()
    }

    fn end(&self, start: Duration) -> Duration {
        now().saturating_sub(start)
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

fn admission(criterion: &mut Criterion<CpuTime>) {
    let (catalog, policy) = inputs::catalog();
    let mut group = criterion.benchmark_group("admit");
    for (name, review) in inputs::reviews() {
        let silent = inputs::without_request(&review);
        group.throughput(Throughput::Bytes(review.len() as u64));
        group.bench_function(BenchmarkId::new("floor", name), |bencher| {
            bencher.iter(|| serde_json::from_slice::<IgnoredAny>(black_box(&review)).is_ok());
        });
        group.bench_function(BenchmarkId::new("skip", name), |bencher| {
            bencher.iter(|| admit(black_box(&silent), &catalog, &policy));
        });
        group.bench_function(BenchmarkId::new("inject", name), |bencher| {
            bencher.iter(|| admit(black_box(&review), &catalog, &policy));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = admission
}
criterion_main!(benches);
