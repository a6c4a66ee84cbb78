//! The command line.
//!
//! Results go to standard output, everything else to standard error. With `--json` each run is one JSON object on a
//! line of its own, and an error is `{"error": {"code", "message", "hint"}}` on standard error.
//!
//! Exit codes: 0 all that was checked holds, 1 an oracle found something wrong, 2 wrong usage.

mod explain;
mod failure;
mod list;
mod many;
mod output;
mod run;
mod seeds;
mod source;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use failure::Failure;
use output::Output;
use seeds::Seeds;

/// Run the Tally roles on a simulated network, disk and clock.
#[derive(Debug, Parser)]
#[command(
    name = "netsim",
    version,
    about,
    propagate_version = true,
    max_term_width = 100
)]
#[command(
    after_help = "Start with `netsim run hello`. A run is a function of its scenario and its seed: the same command \
    shows the same run. Exit codes: 0 all that was checked holds, 1 an oracle found something wrong, 2 wrong usage."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a scenario, with one seed or with many.
    Run(RunArgs),
    /// Show the scenarios that come with netsim.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Tell what happened to one unit or one node, in order.
    Explain(ExplainArgs),
}

/// What is run.
#[derive(Debug, Args)]
struct RunArgs {
    /// The name of a scenario that `netsim list` shows, or a file.
    scenario: String,
    /// The seed: everything that is left to chance follows from it.
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "seeds")]
    seed: u64,
    /// Many seeds, from A up to and without B; as many at a time as there are processors.
    #[arg(long, value_name = "A..B")]
    seeds: Option<Seeds>,
    /// Write a page with plots to this file.
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Print JSON, one object on a line for each run.
    #[arg(long)]
    json: bool,
}

/// What is told.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("subject").required(true))]
#[command(
    after_help = "Nodes are numbered: coordinators from 0, then two bootstrap nodes, then the customers, one for each \
    task, then the terminals, in the order of the scenario. Findings and reports use the same numbers: \"terminal 17\" \
    is node 17."
)]
struct ExplainArgs {
    /// The name of a scenario that `netsim list` shows, or a file.
    scenario: String,
    /// The seed.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// A unit: the task, as its number from 0 in the order of the scenario or as the first digits of its id, and the
    /// number of the unit in it, from 0.
    #[arg(long, value_name = "TASK/UNIT", group = "subject")]
    unit: Option<explain::UnitName>,
    /// A node, by its number.
    #[arg(long, value_name = "NODE", group = "subject")]
    device: Option<u32>,
}

/// Runs the command that was given.
pub(crate) fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    let output = match &command {
        Command::Run(RunArgs { json, .. }) | Command::List { json } => Output::new(*json),
        Command::Explain(_) => Output::new(false),
    };
    let done = match command {
        Command::Run(args) => run::run(output, &args),
        Command::List { .. } => list::list(output),
        Command::Explain(args) => explain::explain(output, &args),
    };
    done.unwrap_or_else(|failure: Failure| output.failure(&failure))
}
