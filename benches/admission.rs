//! `admit()` by size of the review, beside the floor of any webhook: reading the same bytes as JSON and keeping nothing.

mod inputs;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use promsidecar::admission::admit;
use serde::de::IgnoredAny;
use std::hint::black_box;

fn admission(criterion: &mut Criterion) {
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

criterion_group!(benches, admission);
criterion_main!(benches);
