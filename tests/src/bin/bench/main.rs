//! Benchmarks, each beside what others do on the same machine in the same run.
//!
//! ```text
//! cargo run --release -p tally-tests --bin bench -- NAME [--json] [--peers]
//! ```
//!
//! `docs/benchmarks.md` says what each measures, what it should reach and what it reached. Nodes are processes of
//! this same program with keys and folders of their own, on loopback; whatever way a benchmark ends, they end too.
#![forbid(unsafe_code)]

mod blob;
mod cpu;
mod dispatch;
mod efficiency;
mod foreground;
mod image;
mod kernels;
mod latency;
mod ledger;
mod manners;
mod peers;
mod raw;
mod report;
mod world;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};

use report::Report;

/// Measures Tally beside its peers.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Arguments {
    /// What to measure.
    name: Name,
    /// Print one JSON object for each benchmark.
    #[arg(long)]
    json: bool,
    /// Measure Ray, Dask and Pillow beside it (Python packages of 300 MB, fetched once).
    #[arg(long)]
    peers: bool,
    /// Units, tasks or runs to measure; each benchmark has its own default.
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..=200_000))]
    units: Option<u32>,
    /// Append ten million entries too (`ledger`; 30 GB of disk).
    #[arg(long)]
    large: bool,
    /// Where the nodes have their folders. [default: the folder for temporary files]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Units that do nothing, as many as possible.
    Dispatch,
    /// One unit at a time.
    Latency,
    /// The share of the processors' time that units of 100 ms get.
    Efficiency,
    /// The programs in the sandbox beside the same compiled natively.
    Kernels,
    /// Content from node to node.
    Blob,
    /// A blur of 24 megapixels from file to file.
    Image,
    /// The books on disk: appends, restart, proofs, verification.
    Ledger,
    /// How soon sandboxes stop when the owner comes back.
    Suspend,
    /// Whether sandboxes keep to their share of the processors.
    Share,
    /// How much slower a compiler is beside sandboxes.
    Foreground,
    /// One after the other.
    All,
}

/// What every benchmark is told.
#[derive(Debug)]
pub(crate) struct Options {
    /// Whether the peers are measured too.
    pub(crate) peers: bool,
    /// Units, tasks or runs.
    pub(crate) units: Option<u32>,
    /// Whether what takes very long is measured too.
    pub(crate) large: bool,
    /// Where the nodes' folders go.
    pub(crate) dir: PathBuf,
}

fn main() -> ExitCode {
    // A sandbox is this program started again: it must lock itself before anything else happens.
    if tally_sandbox::is_child(std::env::args_os()) {
        return tally_sandbox::child_main();
    }
    // A node is too: `bench run ...` is `tally run ...`.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|argument| argument == "run")
    {
        return tally_node::cli::main();
    }
    match measure(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress(&format!("failed to {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<()> {
    let options = Options {
        peers: arguments.peers,
        units: arguments.units,
        large: arguments.large,
        dir: arguments.dir.clone().unwrap_or_else(std::env::temp_dir),
    };
    let all = Name::value_variants().iter().copied();
    let is_all = arguments.name == Name::All;
    let wanted = all.filter(|name| {
        if is_all {
            *name != Name::All
        } else {
            *name == arguments.name
        }
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start tokio")?;
    for name in wanted {
        let mut report = runtime.block_on(async {
            tokio::select! {
                report = one(name, &options) => report,
                _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("measure: interrupted, everything is stopped")),
            }
        })?;
        report.load_after = cpu::load();
        let text = if arguments.json {
            serde_json::to_string(&report)?
        } else {
            report.table()
        };
        writeln!(std::io::stdout(), "{text}").context("print the report")?;
    }
    Ok(())
}

async fn one(name: Name, options: &Options) -> Result<Report> {
    match name {
        Name::Dispatch => dispatch::measure(options).await,
        Name::Latency => latency::measure(options).await,
        Name::Efficiency => efficiency::measure(options).await,
        Name::Kernels => tokio::task::block_in_place(|| kernels::measure(options)),
        Name::Blob => blob::measure(options).await,
        Name::Image => image::measure(options).await,
        Name::Ledger => tokio::task::block_in_place(|| ledger::measure(options)),
        Name::Suspend => tokio::task::block_in_place(|| manners::suspend(options)),
        Name::Share => tokio::task::block_in_place(|| manners::share(options)),
        Name::Foreground => foreground::measure(options).await,
        Name::All => unreachable!("all is taken apart before"),
    }
}

/// Says on standard error how far it is.
pub(crate) fn progress(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
