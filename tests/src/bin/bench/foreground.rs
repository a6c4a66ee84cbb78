//! How much slower a compiler gets beside a terminal that follows the preset `light`: what the person at the computer
//! notices of it.
//!
//! Pairs of runs, one while the owner has paused the terminal and one while it is at work as the compiler starts. Each
//! comes after the same time without other programs, after which the terminal is at work if it may. With this preset it is
//! only if nobody has used the computer for a quarter of an hour.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tally_protocol::manners::Said;

use crate::efficiency::{self, BURN};
use crate::manners::{in_a_session, processors};
use crate::report::Report;
use crate::world::{Terminal, World};
use crate::{Options, progress};

/// Pairs of runs.
const PAIRS: u32 = 10;
/// Functions of the file that is compiled: some ten seconds of work.
const FUNCTIONS: u32 = 100;
/// The time before each run: longer than the terminal waits after others have used the processors.
const QUIET: Duration = Duration::from_secs(35);
/// Units, more than are ever done.
const UNITS: u32 = 20_000;
/// What the owner prefers.
const LIGHT: &str = "preset = \"light\"\n";

/// How much longer a compiler takes.
pub(crate) async fn measure(options: &Options) -> Result<Report> {
    let module = wat::parse_str(BURN)?;
    let rounds = tokio::task::block_in_place(|| efficiency::rounds_of_a_unit(&module))?;
    let mut world = World::start(&options.dir, 1).await?;
    let program = world.put(&module)?;
    // Units of a second, so that each pause stops some in their midst.
    let input = world.put(&efficiency::inputs(10 * rounds, UNITS))?;
    let job = efficiency::job()?;
    let source = world.folder().join("source.rs");
    std::fs::write(&source, source_text())?;
    let terminal = world.terminal(0);
    let pairs = options.units.unwrap_or(PAIRS);
    let measured = tokio::select! {
        ended = world.run(&job, program, input) => {
            ended?;
            bail!("compile beside units: they have ended")
        }
        measured = compare(&terminal, &source, pairs) => measured,
    };
    world.stop().await;
    measured
}

async fn compare(terminal: &Terminal, source: &Path, pairs: u32) -> Result<Report> {
    terminal.prefer(LIGHT).await?;
    let mut report = Report::new("foreground", "< 3 % slower");
    let mut ratios = Vec::new();
    let (mut with, mut without, mut guests) = (Vec::new(), Vec::new(), Vec::new());
    compile(source).await?;
    for pair in 0..pairs {
        let mut order = [Said::Pause, Said::Resume];
        // Each comes as often first as last.
        order.rotate_left(usize::try_from(pair % 2)?);
        let mut times = [0.0; 2];
        for said in order {
            terminal.say(said).await?;
            tokio::time::sleep(QUIET).await;
            let works = matches!(said, Said::Resume);
            let why = terminal.why().await?;
            ensure!(
                why.computing == works,
                "compile beside a terminal that is told to {said:?}: {}",
                why.summary
            );
            let before = terminal.sandbox_time();
            let wall = compile(source).await?.as_secs_f64();
            times[usize::from(works)] = wall;
            if works {
                let used = terminal.sandbox_time().saturating_sub(before);
                guests.push(used.as_secs_f64());
            }
        }
        without.push(times[0]);
        with.push(times[1]);
        let slower = (times[1] / times[0] - 1.0) * 1e2;
        progress(&format!(
            "foreground: pair {} of {pairs}: {slower:.1} % slower",
            pair + 1
        ));
        ratios.push(slower);
    }
    for (name, values) in [
        ("slower_percent", ratios),
        ("seconds_without", without),
        ("seconds_with", with),
        ("seconds_in_guests", guests),
    ] {
        report.add_places(name, values, &[("p25", 0.25), ("p50", 0.5), ("p75", 0.75)]);
    }
    Ok(report)
}

/// Compiles as many times at once as there are processors, in a session of its own.
async fn compile(source: &Path) -> Result<Duration> {
    // Each has a folder of its own: they give their temporary files the same names.
    let one = format!(
        "mkdir -p {0}.$i && rustc --edition=2024 -Copt-level=2 -Ccodegen-units=1 --crate-type=lib --emit=obj -o {0}.$i/source.o {0}",
        source.display()
    );
    let all = format!("for i in $(seq {}); do {one} & done; wait", processors());
    let start = Instant::now();
    let status = tokio::process::Command::from(in_a_session(&all))
        .status()
        .await;
    let status = status.context("compile")?;
    let took = start.elapsed();
    let object = PathBuf::from(format!("{}.1/source.o", source.display()));
    ensure!(
        status.success() && object.exists(),
        "compile with rustc: {status}"
    );
    Ok(took)
}

/// Returns a module that takes a compiler some seconds.
fn source_text() -> String {
    let function = |number: u32| {
        format!(
            "pub fn f{number}(words: &[u64]) -> Vec<u64> {{\n\
             let mut all: Vec<u64> = words.iter().map(|word| word.rotate_left({}).wrapping_mul({number})).collect();\n\
             all.sort_by_key(|word| word % {});\n all.dedup();\n all\n}}\n",
            number % 63,
            number + 3
        )
    };
    (1..=FUNCTIONS).map(function).collect()
}
