//! The real server under load, beside one that does nothing on the same stack: CPU, throughput, latency and memory.
//!
//! Three rounds, each with fresh processes, the two servers in turn on one core and the client on another. Targets are
//! shown and fail nothing; a wrong answer fails. `docs/benchmarks.md` says what the figures mean.

#[path = "../inputs/mod.rs"]
mod inputs;
#[path = "../report/mod.rs"]
mod report;

mod client;
mod nothing;
mod process;
mod tables;

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use promsidecar::admission::{Answer, OutcomeKind, admit};

use client::{Client, Exchange, Load, Measured, Numbered, Pace, as_f64};
use process::{Cores, Memory, Server};

/// Keep-alive connections, about what one API server holds to one webhook under load.
const CONNECTIONS: usize = 25;

/// The uid of the reviews; its last group becomes the number of the review.
const UID: &str = "d09756cb-dd22-4810-b75f-85e7bca86197";

/// How much is measured.
struct Plan {
    rounds: usize,
    /// Turns of each server within one closed-loop measurement.
    turns: usize,
    /// Reviews of one turn.
    reviews: usize,
    warm_up: usize,
    /// Reviews a second of the open loop.
    rate: u32,
    seconds: u32,
    /// Reviews of the run after which memory counts, in parts, and when it ends on a machine that is too slow for it.
    many: usize,
    part: usize,
    longest: Duration,
}

const FULL: Plan = Plan {
    rounds: 3,
    turns: 4,
    reviews: 10_000,
    warm_up: 2_000,
    rate: 2_000,
    seconds: 3,
    many: 1_000_000,
    part: 50_000,
    longest: Duration::from_mins(4),
};
const TINY: Plan = Plan {
    rounds: 1,
    turns: 2,
    reviews: 100,
    warm_up: 50,
    rate: 200,
    seconds: 1,
    many: 500,
    part: 250,
    longest: Duration::from_secs(10),
};

/// A review of one kind, for both servers.
struct Case {
    name: &'static str,
    bytes: usize,
    /// Most CPU per review, as a multiple of the other server's.
    target: f64,
    ours: Exchange,
    nothing: Exchange,
}

/// What one server needed for one case in one round.
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    /// CPU per review in microseconds.
    cpu: f64,
    /// Reviews a second in the closed loop.
    throughput: f64,
    /// Share of the closed loop's time in which the server had the CPU.
    busy: f64,
    /// Latencies of the open loop in microseconds.
    p50: f64,
    p99: f64,
}

/// Both servers on one case, or whatever else is compared.
#[derive(Debug, Clone, Copy, Default)]
struct Pair<T> {
    nothing: T,
    ours: T,
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next().as_deref().and_then(|first| first.to_str()) {
        Some(process::LAUNCH) => Err(process::launch(arguments)),
        Some(nothing::SERVE) => nothing::serve(arguments),
        _ => bench(),
    }
}

fn bench() -> anyhow::Result<()> {
    let plan = if report::measuring() { FULL } else { TINY };
    let cores = process::pin();
    let note = match &cores {
        Ok(Cores { server, client }) => format!("servers on core {server}, client on core {client}"),
        Err(why) => format!("NOT PINNED ({why}): the client disturbs the servers, compare ratios only"),
    };
    writeln!(std::io::stdout(), "load: {note}")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(&plan, cores.ok(), &note))
}

async fn measure(plan: &Plan, cores: Option<Cores>, note: &str) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let cases = cases()?;
    let (mut rounds, mut memory) = (Vec::new(), Vec::new());
    for round in 1..=plan.rounds {
        let (samples, used) = one_round(plan, cores, folder.path(), &cases).await?;
        for (case, pair) in cases.iter().zip(&samples) {
            let (Pair { nothing, ours }, name) = (pair, case.name);
            writeln!(
                std::io::stdout(),
                "load: round {round}, {name}: {:.1} µs of CPU beside {:.1} µs, {:.2} times",
                ours.cpu,
                nothing.cpu,
                ours.cpu / nothing.cpu
            )?;
        }
        rounds.push(samples);
        memory.push(used);
    }
    let after_many = many(plan, cores, folder.path(), &cases).await?;
    report::publish("machine", &tables::machine(note))?;
    report::publish("cpu", &tables::cpu(&cases, &rounds))?;
    report::publish("latency", &tables::latency(&cases, &rounds, plan))?;
    report::publish("memory", &tables::memory(&memory, after_many, plan, cases.len()))
}

/// The reviews with their right answers. Those of the real server are computed here, from the same template.
fn cases() -> anyhow::Result<Vec<Case>> {
    let (catalog, policy) = inputs::catalog();
    let reviews = inputs::reviews();
    let review = |wanted| {
        let found = reviews.iter().find(|(name, _)| *name == wanted).map(|(_, review)| review.clone());
        found.with_context(|| format!("no review of {wanted}"))
    };
    let (small, medium) = (review("4KB")?, review("12KB")?);
    let kinds = [
        ("skip 4 KB", 1.5, OutcomeKind::Skipped, inputs::without_request(&small)),
        ("inject 4 KB", 2.0, OutcomeKind::Injected, small),
        ("inject 12 KB", 3.0, OutcomeKind::Injected, medium),
    ];
    let mut cases = Vec::new();
    for (name, target, kind, review) in kinds {
        let Answer::Reviewed { body, outcome } = admit(&review, &catalog, &policy) else {
            bail!("{name} is not answered");
        };
        let patched = body.windows(9).any(|window| window == b"\"patch\":\"");
        ensure!(outcome.kind == kind && patched == (kind == OutcomeKind::Injected), "{name}: {outcome:?}");
        let bytes = review.len();
        let review = Numbered::new(review, Some(UID));
        let constant = Numbered::new(nothing::ANSWER.as_bytes().to_vec(), None);
        cases.push(Case {
            name,
            bytes,
            target,
            ours: Exchange { review: review.clone(), answer: Numbered::new(body, Some(UID)) },
            nothing: Exchange { review, answer: constant },
        });
    }
    Ok(cases)
}

/// A server with its connections.
struct Running {
    server: Server,
    client: Client,
    spin: bool,
}

impl Running {
    async fn ours(cores: Option<Cores>, folder: &Path) -> anyhow::Result<Self> {
        let (templates, ca) = (folder.join("templates"), folder.join("ours.crt"));
        fs::create_dir_all(&templates)?;
        fs::write(templates.join("template.yaml"), inputs::TEMPLATE)?;
        let mut arguments: Vec<OsString> =
            ["webhook", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--log-format=json"]
                .map(OsString::from)
                .to_vec();
        arguments.extend(["--templates".into(), templates.into(), "--ca-out".into(), ca.clone().into()]);
        let program = Path::new(env!("CARGO_BIN_EXE_promsidecar"));
        Self::start(cores, program, &arguments, &ca).await
    }

    async fn nothing(cores: Option<Cores>, folder: &Path) -> anyhow::Result<Self> {
        let ca = folder.join("nothing.crt");
        let arguments = [nothing::SERVE.into(), ca.clone().into()];
        Self::start(cores, &std::env::current_exe()?, &arguments, &ca).await
    }

    async fn start(
        cores: Option<Cores>,
        program: &Path,
        arguments: &[OsString],
        ca: &Path,
    ) -> anyhow::Result<Self> {
        let server = Server::start(cores, program, arguments, ca)?;
        let client = Client::connect(server.address, &server.ca, CONNECTIONS).await?;
        Ok(Self { server, client, spin: cores.is_some() })
    }

    /// A run and the CPU time that the server spent on it.
    async fn run(
        &mut self,
        exchanges: Vec<Exchange>,
        reviews: usize,
        pace: Pace,
    ) -> anyhow::Result<(Measured, Duration)> {
        let before = self.server.cpu()?;
        let measured = self.client.run(Load { exchanges, reviews, pace, spin: self.spin }).await?;
        Ok((measured, self.server.cpu()?.saturating_sub(before)))
    }
}

/// One case on one server: totals of the closed loop so far.
#[derive(Default)]
struct Closed {
    reviews: usize,
    cpu: Duration,
    elapsed: Duration,
}

impl Closed {
    async fn turn(&mut self, running: &mut Running, exchange: &Exchange, plan: &Plan) -> anyhow::Result<()> {
        let (measured, cpu) = running.run(vec![exchange.clone()], plan.reviews, Pace::Closed).await?;
        self.reviews += plan.reviews;
        self.cpu += cpu;
        self.elapsed += measured.elapsed;
        Ok(())
    }

    /// Adds the open loop's latencies.
    async fn sample(
        &self,
        running: &mut Running,
        exchange: &Exchange,
        plan: &Plan,
    ) -> anyhow::Result<Sample> {
        let reviews = usize::try_from(plan.rate * plan.seconds)?;
        let (open, _) = running.run(vec![exchange.clone()], reviews, Pace::PerSecond(plan.rate)).await?;
        let (cpu, elapsed) = (self.cpu.as_secs_f64(), self.elapsed.as_secs_f64());
        let micros = |percent| open.percentile(percent).as_secs_f64() * 1e6;
        Ok(Sample {
            cpu: cpu * 1e6 / as_f64(self.reviews),
            throughput: as_f64(self.reviews) / elapsed,
            busy: cpu / elapsed,
            p50: micros(50),
            p99: micros(99),
        })
    }
}

/// Every case on both servers in turn, and their memory after it.
async fn one_round(
    plan: &Plan,
    cores: Option<Cores>,
    folder: &Path,
    cases: &[Case],
) -> anyhow::Result<(Vec<Pair<Sample>>, Pair<Memory>)> {
    let mut nothing = Running::nothing(cores, folder).await?;
    let mut ours = Running::ours(cores, folder).await?;
    let mut samples = Vec::new();
    for case in cases {
        nothing.run(vec![case.nothing.clone()], plan.warm_up, Pace::Closed).await?;
        ours.run(vec![case.ours.clone()], plan.warm_up, Pace::Closed).await?;
        let mut closed = Pair::<Closed>::default();
        for _ in 0..plan.turns {
            closed.nothing.turn(&mut nothing, &case.nothing, plan).await?;
            closed.ours.turn(&mut ours, &case.ours, plan).await?;
        }
        samples.push(Pair {
            nothing: closed.nothing.sample(&mut nothing, &case.nothing, plan).await?,
            ours: closed.ours.sample(&mut ours, &case.ours, plan).await?,
        });
    }
    Ok((samples, Pair { nothing: nothing.server.memory()?, ours: ours.server.memory()? }))
}

/// Memory of the real server after very many reviews of all kinds, and how many they were.
async fn many(
    plan: &Plan,
    cores: Option<Cores>,
    folder: &Path,
    cases: &[Case],
) -> anyhow::Result<(usize, Memory)> {
    let mut ours = Running::ours(cores, folder).await?;
    let exchanges: Vec<_> = cases.iter().map(|case| case.ours.clone()).collect();
    let (start, mut answered) = (Instant::now(), 0);
    while answered < plan.many && start.elapsed() < plan.longest {
        ours.run(exchanges.clone(), plan.part, Pace::Closed).await?;
        answered += plan.part;
    }
    if answered < plan.many {
        writeln!(std::io::stdout(), "load: {answered} of {} reviews in {:?}", plan.many, plan.longest)?;
    }
    Ok((answered, ours.server.memory()?))
}
