//! `tally demo`: the whole overlay on this computer, as separate processes that talk over loopback only.
//!
//! A bootstrap node, a coordinator, an app server, terminals and a customer, each with its own key and folder: computers
//! enrol, earn, and what they earn becomes a license, a discount and a settlement. Whatever way the demo ends, the nodes end too: they stop when the pipe to their standard input breaks.

mod money;
mod nodes;
mod shop;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;
use tally_imaging::{DecodeLimits, Picture, decode_file};
use tally_protocol::id::NodeId;
use tally_protocol::message::customer::{DeviceTally, TaskStatus};
use tally_protocol::unit::Limits;
use tally_sandbox::Program;

use super::output::{grouped, table};
use super::program::run_here;
use super::{Common, Exit, Failure, Output};
use crate::programs::builtin;
use money::Earned;
use nodes::Nodes;
use shop::{Discounted, PRODUCT, SHOP, Sale, Settled};

/// The photograph that is blurred unless another is named.
const PHOTOGRAPH: &[u8] = include_bytes!("../../assets/astronaut.png");
/// The text whose words are counted.
const TEXT: &str = include_str!("../../../LICENSE-APACHE");
/// Radius of the blur, and so the halo of a tile.
const RADIUS: u32 = 6;
/// Width and height of a tile's core.
const CORE: u32 = 128;
/// How often the picture is blurred at most, until each terminal has had a tile.
const TRIES_MAX: u32 = 5;
/// The terminal whose owner wants a license.
const FIRST: &str = "terminal-1";
/// How long one step may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// `tally demo`.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Terminals to start.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u8).range(2..=32))]
    terminals: u8,
    /// A PNG or JPEG to blur instead of the bundled photograph.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Where the blurred picture goes.
    #[arg(long, value_name = "FILE", default_value = "tally-demo.png")]
    out: PathBuf,
    /// Keep the folders of all nodes here, to be looked at afterwards.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// What the demo showed, for programs.
#[derive(Debug, serde::Serialize)]
struct Shown {
    #[serde(flatten)]
    worked: Worked,
    /// How the application ended before there was a license, and after the terminal had reached its goal.
    application: (i32, i32),
    thumbnail: PathBuf,
    sale: Sale,
    discount: Discounted,
    settled: Settled,
    audit: tally_ledger::audit::Report,
    app_server_audit: tally_ledger::audit::Report,
    seconds: f64,
    folders: Option<PathBuf>,
}

/// What the customer got, and the owners for it.
#[derive(Debug, serde::Serialize)]
struct Worked {
    picture: PathBuf,
    identical_to_one_piece: bool,
    blur: TaskStatus,
    words: u64,
    count: TaskStatus,
    /// What each owner has earned, before any of it was spent.
    earned: BTreeMap<NodeId, Earned>,
}

impl Demo {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        let output = common.output();
        tokio::select! {
            shown = self.show(output) => shown,
            _ = tokio::signal::ctrl_c() => {
                Err(Failure::new(Exit::Interrupted, "stopped; all nodes of the demo are stopped too"))
            }
        }
    }

    async fn show(&self, output: Output) -> Result<(), Failure> {
        let start = Instant::now();
        let scratch = tempfile::Builder::new()
            .prefix("tally-demo-")
            .tempdir()
            .context("make a folder")?;
        let root = match &self.keep {
            Some(folder)
                if folder.exists()
                    && folder
                        .read_dir()
                        .is_ok_and(|mut files| files.next().is_some()) =>
            {
                let message = format!("keep the folders in {}: it is not empty", folder.display());
                return Err(
                    Failure::new(Exit::Usage, message).hint("name a new folder with --keep")
                );
            }
            Some(folder) => folder.clone(),
            None => scratch.path().to_owned(),
        };
        std::fs::create_dir_all(&root)
            .with_context(|| format!("make the folder {}", root.display()))?;
        let root = root.canonicalize()?;
        let mut nodes = Nodes::new(&root);
        let say = |line: String| {
            if !output.is_json() {
                output.note(line)
            }
        };
        let shown = self.steps(&root, &mut nodes, &say).await;
        say("stopping all nodes".to_owned());
        nodes.stop().await;
        let mut shown = shown?;
        shown.seconds = start.elapsed().as_secs_f64();
        shown.folders.clone_from(&self.keep);
        output.result(&shown, || self.summary(&shown))
    }

    async fn steps(&self, root: &Path, nodes: &mut Nodes, say: &impl Fn(String)) -> Result<Shown> {
        say("starting a bootstrap node, a coordinator and an app server on loopback".to_owned());
        nodes.start(PATIENCE).await?;
        let vendor = shop::open(nodes, PATIENCE).await?;
        shop::sell(nodes, &vendor).await?;
        let value = shop::agree(nodes, PATIENCE).await?;
        say(format!(
            "  coordinator and app server agree: points are worth {value}"
        ));
        self.enrol(nodes, say).await?;
        nodes.start_terminals(self.terminals)?;
        for line in nodes.met(PATIENCE).await? {
            say(line);
        }
        let image = self.image(root)?;
        let (refused, _) = shop::start(nodes, FIRST, &image).await?;
        if refused == 0 {
            bail!("start the application without a license: it started");
        }
        say(format!(
            "\n{FIRST} starts the application: it refuses, there is no license yet"
        ));
        let paid_in = money::deposit(nodes, nodes.customer().await?).await?;
        say(format!("\nthe customer has paid in {paid_in}"));
        let picture = decode_file(&image, DecodeLimits::default())?;
        let (width, height) = (picture.width(), picture.height());
        say(format!(
            "\nblurring {width} x {height} pixels in tiles of {CORE}; two terminals must agree on each"
        ));
        let out = std::path::absolute(&self.out)?;
        let job = root.join("blur.toml");
        std::fs::write(&job, blur_job(&image))?;
        say(format!("the estimate is {}", nodes.estimate(&job).await?));
        let blur = self.blur(nodes, &job, &out, say).await?;
        let identical_to_one_piece = self.compare(&picture, &out)?;
        let (text, job) = (root.join("text.txt"), root.join("words.toml"));
        std::fs::write(&text, TEXT)?;
        std::fs::write(&job, WORDS_JOB)?;
        say("counting the words of the Apache License".to_owned());
        say(format!("the estimate is {}", nodes.estimate(&job).await?));
        let counted = root.join("words.txt");
        let count = nodes.submit(&job, &counted, PATIENCE).await?;
        say(who_did_what(&count));
        let earned = money::owners_table(&money::earned(nodes).await?);
        say(format!("what the owners have earned\n{earned}"));
        say("waiting for the points to leave escrow".to_owned());
        let earned = money::released(nodes, PATIENCE).await?;
        say(money::owners_table(&earned));
        let words = std::fs::read_to_string(&counted)?
            .trim()
            .parse()
            .context("read the count")?;
        let worked = Worked {
            picture: out,
            identical_to_one_piece,
            blur,
            words,
            count,
            earned,
        };
        self.spend(nodes, (worked, refused, &image), say).await
    }

    /// Returns the picture to be blurred.
    fn image(&self, root: &Path) -> Result<PathBuf> {
        if let Some(path) = &self.image {
            let found = path.canonicalize();
            return found.with_context(|| format!("read the image {}", path.display()));
        }
        let path = root.join("astronaut.png");
        std::fs::write(&path, PHOTOGRAPH)?;
        Ok(path)
    }

    /// Registers the terminals: one as a computer that has no Tally yet, the others by an invitation.
    async fn enrol(&self, nodes: &Nodes, say: &impl Fn(String)) -> Result<()> {
        // Each unit needs two owners, so only with three terminals or more two of them may have the same.
        if self.terminals > 2 {
            let owned = ["terminal-1".to_owned(), "terminal-2".to_owned()];
            let owner = nodes.certify(&owned).await?.short();
            say(format!("  terminal-1 and terminal-2 belong to ..{owner}"));
        }
        for number in 1..=self.terminals {
            let goal = (number == 1).then_some(PRODUCT);
            nodes.prepare_terminal(number, goal)?;
        }
        let bytes = shop::install(nodes, FIRST).await?;
        say(format!(
            "  {FIRST} had no Tally: it fetched {} MB over HTTP, installed and enrolled; its goal is {PRODUCT}",
            bytes / 1_000_000
        ));
        for number in 2..=self.terminals {
            shop::enrol(nodes, &format!("terminal-{number}")).await?;
        }
        say(format!(
            "  {} others enrolled by an invitation",
            self.terminals - 1
        ));
        Ok(())
    }

    /// What was earned becomes a license, a discount and a settlement.
    async fn spend(
        &self,
        nodes: &Nodes,
        (worked, refused, image): (Worked, i32, &Path),
        say: &impl Fn(String),
    ) -> Result<Shown> {
        say(format!("waiting for {FIRST} to reach its goal"));
        shop::goal(nodes, FIRST, PATIENCE).await?;
        let (started, thumbnail) = shop::start(nodes, FIRST, image).await?;
        if started != 0 {
            bail!("start the application with its license: it ended with {started}");
        }
        say("  the terminal has redeemed points by itself, and the application starts".to_owned());
        let last = format!("terminal-{}", self.terminals);
        let sale = shop::buy(nodes, &last).await?;
        say(format!(
            "  the owner of {last} paid {} for a license with points and {} with money",
            sale.by_points, sale.by_owner
        ));
        let discount = shop::discount(nodes, FIRST).await?;
        say(format!(
            "  a camera shop wanted {}: its customer pays {},\n    the coordinator {}",
            discount.fee, discount.due, discount.charged
        ));
        let settled = shop::settle(nodes, PATIENCE).await?;
        say(format!(
            "  both signed the settlement of {} redemptions: the coordinator paid {}",
            settled.redemptions, settled.paid
        ));
        let audit = money::audit(nodes, "coordinator").await?;
        let app_server_audit = money::audit(nodes, SHOP).await?;
        Ok(Shown {
            worked,
            application: (refused, started),
            thumbnail,
            sale,
            discount,
            settled,
            audit,
            app_server_audit,
            seconds: 0.0,
            folders: None,
        })
    }

    /// Blurs the picture, again if a terminal came too late to get a tile: tiles take a millisecond each.
    async fn blur(
        &self,
        nodes: &Nodes,
        job: &Path,
        out: &Path,
        say: &impl Fn(String),
    ) -> Result<TaskStatus> {
        let mut tries = 0;
        loop {
            tries += 1;
            let blur = nodes.submit(job, out, PATIENCE * 10).await?;
            say(who_did_what(&blur));
            let worked = blur
                .devices
                .values()
                .filter(|tally| tally.agreed > 0)
                .count();
            if worked == usize::from(self.terminals) || tries == TRIES_MAX {
                return Ok(blur);
            }
            say("a terminal came too late to get a tile; once more".to_owned());
        }
    }

    /// Runs the program over the whole picture in one piece and compares every pixel.
    fn compare(&self, picture: &Picture, out: &Path) -> Result<bool> {
        let (width, height) = (picture.width(), picture.height());
        let module = builtin("gaussian-blur")
            .context("find the blur")?
            .module
            .to_vec();
        let args = ["--radius".to_owned(), RADIUS.to_string()];
        let limits = Limits {
            fuel: 1 << 50,
            memory_bytes: 4 << 30,
            output_bytes: 1 << 30,
        };
        let params = format!("{width} {height} 0 0 {width} {height}");
        let whole = run_here(
            &Program::new(module.into()),
            &args,
            limits,
            (0, 1, params),
            picture.pixels(),
        );
        let whole = whole.map_err(|failure| anyhow::anyhow!(failure.message))?;
        let tiled = decode_file(out, DecodeLimits::default())?;
        if tiled.pixels() != whole.unit.output {
            bail!("compare the picture with one made in one piece: they differ");
        }
        Ok(true)
    }

    fn summary(&self, shown: &Shown) -> String {
        let Shown {
            worked,
            sale,
            discount,
            settled,
            ..
        } = shown;
        let look = match &self.keep {
            Some(folder) => format!(
                "Look: tally ledger entries --dir {0}/coordinator\n      tally ledger entries --dir {0}/{SHOP}\n      \
                 tally wallet --dir {0}/terminal-1",
                folder.display()
            ),
            None => "Look: run it with --keep DIR, then at the folders of the nodes.".to_owned(),
        };
        format!(
            "\nWhat happened, in {:.0} s:\n\
             1. A customer paid {} and {}. Three computers blurred its\n   photograph, and counted {} words; each \
             piece was done twice and compared\n   bit for bit.\n   picture: {}\n\
             2. The owners of the computers got points for it, with receipts that both\n   sides signed. Points can be \
             spent at the vendor Photo Works.\n\
             3. {FIRST} had no Tally before. It fetched all from the app server, and its\n   owner agreed. The \
             application refused to start (code {}); the computer worked,\n   the terminal redeemed by itself and got \
             the license; the application started.\n\
             4. Another owner bought the same license for {}: points paid {},\n   the owner {}. A camera shop \
             took a voucher off {}:\n   its customer pays {}, the coordinator {}.\n\
             5. The coordinator owed {} for {} redemptions; both signed that, and\n   it paid.\n\
             6. Both logs are whole, and both books follow from them: {} entries with\n   {} receipts at the \
             coordinator, {} entries at the app server.\n{look}",
            shown.seconds,
            worked.blur.cost.paid,
            worked.count.cost.paid,
            worked.words,
            worked.picture.display(),
            shown.application.0,
            sale.fee,
            sale.by_points,
            sale.by_owner,
            discount.fee,
            discount.due,
            discount.charged,
            settled.paid,
            settled.redemptions,
            shown.audit.entries,
            shown.audit.receipts,
            shown.app_server_audit.entries,
        )
    }
}

fn blur_job(image: &Path) -> String {
    let image = json!(image);
    format!(
        "[job]\nname = \"blur a photograph\"\n[program]\nbuiltin = \"gaussian-blur\"\nargs = [\"--radius\", \"{RADIUS}\"]\n\
         [input]\nfile = {image}\n[split]\nby = \"tiles\"\ncore = {CORE}\nhalo = {RADIUS}\n[limits]\nfuel = 2_000_000_000\n\
         [quorum]\nagree = 2\n[merge]\nhow = \"stitch\"\n"
    )
}

const WORDS_JOB: &str = r#"[job]
name = "count words"
[program]
builtin = "wordcount"
[input]
file = "text.txt"
[split]
by = "lines"
lines = 10
[limits]
fuel = 20_000_000
output = "1 KiB"
[quorum]
agree = 2
[merge]
how = "sum"
"#;

fn who_did_what(status: &TaskStatus) -> String {
    let row = |(device, tally): (&NodeId, &DeviceTally)| {
        vec![
            format!("..{}", device.short()),
            tally.agreed.to_string(),
            grouped(tally.fuel),
        ]
    };
    let rows: Vec<Vec<String>> = status.devices.iter().map(row).collect();
    format!(
        "{} units done for {} points, {}\n{}",
        status.summary.done,
        status.cost.points,
        status.cost.paid,
        table(&["terminal", "units", "fuel"], &rows)
    )
}
