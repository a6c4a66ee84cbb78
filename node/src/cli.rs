//! The command line.
//!
//! Results go to standard output, everything else to standard error. With `--json` the result is one JSON object (or
//! one a line where there are many), and an error is `{"error": {"code", "message", "hint"}}` on standard error.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 refused by another node, 5 nobody reached, 6 the task
//! or the unit itself did not succeed, 130 interrupted.

mod account;
mod agreement;
mod app;
mod demo;
mod enroll;
mod failure;
mod key;
mod ledger;
mod license;
#[path = "../examples/licensed_app.rs"]
#[expect(
    dead_code,
    reason = "here it is started by a command, and not by its own main"
)]
mod licensed_app;
mod net;
mod open;
mod output;
mod owner;
mod program;
mod receipt;
mod redeem;
mod run;
mod service;
mod start;
mod task;
mod wallet;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use libp2p::Multiaddr;
use tally_protocol::id::NetworkId;

use crate::config::{Config, Optional};
use crate::folder::Folder;
pub use failure::{Exit, Failure};
use output::Output;

/// Lend idle computers, or have them compute for you.
#[derive(Debug, Parser)]
#[command(
    name = "tally",
    version,
    about,
    propagate_version = true,
    max_term_width = 100
)]
#[command(
    after_help = "Start with `tally demo`. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, \
    4 refused, 5 nobody reached, 6 the task did not succeed, 130 interrupted."
)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
struct Common {
    /// The data folder: key, configuration, database. [default: ~/.local/share/tally]
    #[arg(long, global = true, env = "TALLY_DIR", value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    /// Say more on standard error; twice for even more.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

/// How to find others, for commands that join the overlay.
#[derive(Debug, Clone, Args)]
struct Joining {
    /// The configuration. [default: tally.toml in the data folder]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The name of the network. [default: tally]
    #[arg(long, value_name = "NAME")]
    network: Option<NetworkId>,
    /// A node to connect to first, as /ip4/ADDRESS/tcp/PORT/p2p/ID; may be given several times.
    #[arg(long, value_name = "ADDRESS")]
    bootstrap: Vec<Multiaddr>,
    /// Do not look for nodes on the local network.
    #[arg(long)]
    no_mdns: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// See it all work on this computer, in a minute.
    Demo(demo::Demo),
    /// The application that the demo delivers: the example for vendors.
    #[command(hide = true, disable_help_flag = true)]
    DemoApplication {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Make, show or save this node's key.
    #[command(subcommand)]
    Key(key::Key),
    /// Run a node in one or more roles, until Ctrl-C.
    Run(run::Run),
    /// How the node of this folder is.
    Status,
    /// Why the terminal computes nothing, has no work, or is not paid.
    Why,
    /// Compute nothing until `tally resume`.
    Pause,
    /// Go on, as the preferences say.
    Resume,
    /// Compute nothing for a while.
    Snooze(owner::Snooze),
    /// Finish what is there and take nothing more.
    Finish(owner::Finish),
    /// When, how much and what this computer computes.
    #[command(subcommand)]
    Preferences(owner::Preferences),
    /// Have the node run in the background, from your session's start on.
    #[command(subcommand)]
    Service(service::Service),
    /// Have a task done: submit, follow, get the result.
    #[command(subcommand)]
    Task(task::TaskCommand),
    /// Check and try programs.
    #[command(subcommand)]
    Program(program::ProgramCommand),
    /// Money and points: payments that came or go, refunds, what a customer has.
    #[command(subcommand)]
    Account(account::Account),
    /// Sell for points: products, agreements, users, orders, charges, settlements of an app server.
    #[command(subcommand)]
    App(app::App),
    /// What app servers may give for a coordinator's points.
    #[command(subcommand)]
    Agreement(agreement::AgreementCommand),
    /// Look at the overlay through the node of this folder.
    #[command(subcommand)]
    Net(net::Net),
    /// Read and verify a coordinator's permanent log.
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
    /// What this computer has earned: points, receipts, who owes.
    Wallet(wallet::WalletCommand),
    /// Open the page of this computer: what it does and earns, and its switches.
    Open(open::Open),
    /// Check receipts, and run their units again.
    #[command(subcommand)]
    Receipt(receipt::ReceiptCommand),
    /// Accept an invitation: this computer works for a product, and gets its application.
    Enroll(enroll::Enroll),
    /// Spend points on a license or a discount.
    #[command(subcommand)]
    Redeem(redeem::Redeem),
    /// Check, apply and renew licenses.
    #[command(subcommand)]
    License(license::LicenseCommand),
    /// Start an application that was delivered, with its license.
    Start(start::Start),
}

impl Common {
    fn folder_path(&self) -> Result<PathBuf, Failure> {
        if let Some(dir) = &self.dir {
            return Ok(dir.clone());
        }
        let under_home =
            || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
        let data = std::env::var_os("XDG_DATA_HOME")
            .filter(|path| !path.is_empty())
            .map(PathBuf::from);
        let data = data.or_else(under_home).ok_or_else(|| {
            Failure::new(Exit::Failed, "find the data folder: HOME is not set")
                .hint("name it with --dir")
        })?;
        Ok(data.join("tally"))
    }

    fn folder(&self) -> Result<Folder, Failure> {
        Ok(Folder::open(&self.folder_path()?)?)
    }

    fn output(&self) -> Output {
        Output::new(self.json)
    }
}

impl Joining {
    fn config(&self, folder: &Folder) -> Result<Config, Failure> {
        let mut config = match &self.config {
            Some(path) => Config::read(path, Optional::No)?,
            None => Config::read(&folder.config(), Optional::Yes)?,
        };
        if let Some(network) = &self.network {
            config.network = network.clone();
        }
        config.bootstrap.extend(self.bootstrap.iter().cloned());
        config.mdns &= !self.no_mdns;
        Ok(config)
    }
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = cli.common.output();
    log(&cli);
    if let Command::DemoApplication { args } = cli.command {
        return licensed_app::start(args);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return output.failure(&Failure::from(anyhow::Error::from(error))),
    };
    let result = runtime.block_on(dispatch(cli));
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => output.failure(&failure),
    }
}

async fn dispatch(cli: Cli) -> Result<(), Failure> {
    let Cli { common, command } = cli;
    match command {
        Command::Demo(demo) => demo.run(&common).await,
        Command::DemoApplication { .. } => Ok(()),
        Command::Key(key) => key.run(&common),
        Command::Run(run) => run.run(&common).await,
        Command::Status => net::status(&common).await,
        Command::Why => owner::why(&common).await,
        Command::Pause => owner::pause(&common).await,
        Command::Resume => owner::resume(&common).await,
        Command::Snooze(snooze) => snooze.run(&common).await,
        Command::Finish(finish) => finish.run(&common).await,
        Command::Preferences(preferences) => preferences.run(&common).await,
        Command::Service(service) => service.run(&common),
        Command::Task(task) => task.run(&common).await,
        Command::Program(program) => program.run(&common),
        Command::Account(account) => account.run(&common).await,
        Command::App(app) => app.run(&common).await,
        Command::Agreement(agreement) => agreement.run(&common).await,
        Command::Net(net) => net.run(&common).await,
        Command::Ledger(ledger) => ledger.run(&common),
        Command::Wallet(wallet) => wallet.run(&common).await,
        Command::Open(open) => open.run(&common).await,
        Command::Receipt(receipt) => receipt.run(&common).await,
        Command::Enroll(enroll) => enroll.run(&common).await,
        Command::Redeem(redeem) => redeem.run(&common).await,
        Command::License(license) => license.run(&common).await,
        Command::Start(start) => start.run(&common).await,
    }
}

/// Sends the log to standard error: warnings, or what `-v` or `RUST_LOG` asks for.
fn log(cli: &Cli) {
    let running = matches!(cli.command, Command::Run(_));
    // Kademlia warns of every look-up before it knows anybody.
    let level = match (cli.common.verbose, running) {
        (0, false) => "error,libp2p_kad=off",
        (0, true) => "warn,tally_node=info,libp2p_kad=error",
        (1, _) => "info,tally_node=debug",
        _ => "debug,tally_node=trace",
    };
    let filter =
        tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| level.into());
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let _ = lines.with_target(false).with_ansi(colours).try_init();
}
