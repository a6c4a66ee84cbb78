//! A blur of 24 megapixels from PNG to PNG: cut into tiles, leased to two terminals, blurred in the sandbox, stitched.
//!
//! Pillow's radius is a standard deviation that it comes near to with three box blurs. So it is done twice: with
//! Tally's radius 3 (7 taps, sigma 1.5), and with the taps that Pillow's sigma of 3 needs (radius 9).

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tally_imaging::{DecodeLimits, decode_file};
use tally_node::programs::builtin;
use tally_protocol::message::customer::Phase;
use tally_protocol::task::job::Job;

use crate::report::{Figures, Report};
use crate::world::World;
use crate::{Options, peers, progress};

/// Runs of each, of which the median counts.
const RUNS: u32 = 3;
/// Width and height of a tile's core.
const CORE: u32 = 512;
/// Names, radii and standard deviations.
const CASES: [(&str, u32, &str); 2] = [
    ("radius_3_sigma_1.5", 3, "1.5"),
    ("radius_9_sigma_3", 9, "3"),
];

pub(crate) async fn measure(options: &Options) -> Result<Report> {
    let mut report = Report::new("image", "< 1 x Pillow's seconds, output no larger");
    let picture = peers::picture().await?;
    let runs = options.units.unwrap_or(RUNS);
    let folder = tempfile::Builder::new()
        .prefix("tally-bench-")
        .tempdir_in(&options.dir)?;
    let out = folder.path().join("blurred.png");
    for (name, radius, sigma) in CASES {
        let job = blur_job(radius, sigma)?;
        let mut blurred = Vec::new();
        for run in 1..=runs {
            progress(&format!("image: {name}, run {run} of {runs}"));
            blurred.push(blur(options, &job, (&picture, &out)).await?);
        }
        // The run in the middle as a whole, so that its parts add up.
        blurred.sort_by(|one, other| one["seconds"].total_cmp(&other["seconds"]));
        let middle = blurred.swap_remove(blurred.len() / 2);
        for (figure, value) in middle {
            report.add(&format!("{name}_{figure}"), value);
        }
        report.add(&format!("{name}_output_mb"), megabytes(&out)?);
    }
    if options.peers {
        let theirs = folder.path().join("pillow.png");
        let (from, to) = (picture.display().to_string(), theirs.display().to_string());
        let count = runs.to_string();
        let more = ["--units", &count, "--image", &from, "--out", &to];
        let peers = peers::measure("image", &more).await?;
        let pillow = peers.get("pillow").and_then(|pillow| pillow.get("seconds"));
        let pillow = *pillow.context("find Pillow's time")?;
        for (name, _, _) in CASES {
            let ratio = report.ours[&format!("{name}_seconds")] / pillow;
            report.ratio.insert(format!("{name}_pillow"), ratio);
        }
        report.peers.extend(peers);
        // The last one is blurred as much as Pillow's.
        let (most, mean) = difference(&out, &theirs)?;
        report.add("difference_to_pillow_most", most);
        report.add("difference_to_pillow_mean", mean);
    }
    Ok(report)
}

/// Blurs once, with nodes that have just been started: others would know program, picture and result. Returns the
/// seconds from file to file and of the steps.
async fn blur(options: &Options, job: &Job, (from, to): (&Path, &Path)) -> Result<Figures> {
    let mut world = World::start(&options.dir, 2).await?;
    let module = builtin("gaussian-blur").context("find the blur")?.module;
    let start = Instant::now();
    let program = world.put(module)?;
    let input = world.import(from)?;
    let hashed = start.elapsed();
    let run = world.run(job, program, input).await?;
    let fetched = start.elapsed();
    world.write(run.result, to)?;
    let total = start.elapsed();
    world.stop().await;
    let at = |wanted: &Phase| {
        let found = run.phases.iter().find(|(phase, _)| phase == wanted);
        found.map_or(Duration::ZERO, |(_, at)| *at)
    };
    let (running, merging) = (at(&Phase::Running), at(&Phase::Merging));
    let steps = [
        ("seconds", total),
        ("hash_s", hashed),
        ("upload_and_divide_s", running),
        ("run_s", merging.saturating_sub(running)),
        ("merge_s", run.done.saturating_sub(merging)),
        ("fetch_s", run.result_here.saturating_sub(run.done)),
        ("write_s", total.saturating_sub(fetched)),
    ];
    let figure = |(name, time): (&str, Duration)| (name.to_owned(), time.as_secs_f64());
    Ok(steps.into_iter().map(figure).collect())
}

fn blur_job(radius: u32, sigma: &str) -> Result<Job> {
    let text = format!(
        "[job]\nname = \"blur\"\n[program]\nbuiltin = \"gaussian-blur\"\n\
         args = [\"--radius\", \"{radius}\", \"--sigma\", \"{sigma}\"]\n[input]\nfile = \"picture.png\"\n\
         [split]\nby = \"tiles\"\ncore = {CORE}\nhalo = {radius}\n[quorum]\nagree = 1\n[merge]\nhow = \"stitch\"\n"
    );
    Ok(text.parse()?)
}

fn megabytes(path: &Path) -> Result<f64> {
    #[expect(clippy::cast_precision_loss, reason = "a size for people to read")]
    let bytes = std::fs::metadata(path)?.len() as f64;
    Ok(bytes / 1e6)
}

/// Returns by how much the channels of two pictures differ: at most, and on average.
fn difference(one: &Path, other: &Path) -> Result<(f64, f64)> {
    let open = |path: &Path| decode_file(path, DecodeLimits::default());
    let (one, other) = (open(one)?, open(other)?);
    let pairs = one.pixels().iter().zip(other.pixels());
    let (mut most, mut sum) = (0, 0_u64);
    for (a, b) in pairs {
        let apart = a.abs_diff(*b);
        most = apart.max(most);
        sum += u64::from(apart);
    }
    #[expect(clippy::cast_precision_loss, reason = "a mean for people to read")]
    let mean = sum as f64 / one.pixels().len() as f64;
    Ok((f64::from(most), mean))
}
