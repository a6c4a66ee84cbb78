//! Running the units of a receipt again, in the same sandbox as anywhere.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use tally_ledger::wallet::{Dossier, Work};
use tally_protocol::id::{BlobId, NodeId};
use tally_protocol::message::blob::{BlobGrant, BlobRange};
use tally_protocol::message::work::{LeasedUnit, UnitResult};
use tally_protocol::signed::Signed;
use tally_protocol::task::BlobRef;
use tally_sandbox::{Priority, Program, Sandbox, SandboxConfig, UnitMax, UnitRun, UnitSpec};

use crate::admin::{Content, FETCH_BYTES_MAX, Request, ask};
use crate::cli::output::{BarUnit, grouped};
use crate::cli::{Common, Failure};
use crate::folder::Folder;
use crate::programs::BUILTINS;
use crate::worker::batch_of;

/// The most input bytes of units that are run as one batch.
const BATCH_BYTES_MAX: u64 = 64 << 20;
/// The most units that are run as one batch, so that progress is seen.
const BATCH_UNITS_MAX: usize = 64;

/// What running again has shown.
#[derive(Debug, Default, Serialize)]
pub(super) struct Outcomes {
    /// Units that gave the same again.
    pub(super) same: u64,
    /// Units that did not.
    pub(super) different: Vec<Different>,
    /// Why units could not be run.
    pub(super) missing: Vec<Missing>,
}

/// A unit that gave something else.
#[derive(Debug, Serialize)]
pub(super) struct Different {
    unit: u32,
    what: String,
}

/// Units that could not be run.
#[derive(Debug, Serialize)]
pub(super) struct Missing {
    units: u64,
    what: String,
}

impl Outcomes {
    pub(super) fn text(&self) -> String {
        let mut text = format!("  {:28}  {} units\n", "the same again", grouped(self.same));
        for different in &self.different {
            let Different { unit, what } = different;
            text += &format!("  unit {unit:<23}  DIFFERENT: {what}\n");
        }
        for missing in &self.missing {
            let Missing { units, what } = missing;
            text += &format!("  {:28}  {units} units: {what}\n", "not run");
        }
        text
    }

    fn miss(&mut self, units: usize, what: impl Into<String>) {
        let what = what.into();
        let units = units as u64;
        match self.missing.iter_mut().find(|missing| missing.what == what) {
            Some(missing) => missing.units += units,
            None => self.missing.push(Missing { units, what }),
        }
    }

    /// Compares what a unit gave with what was reported.
    fn compare(&mut self, run: &UnitRun, reported: &UnitResult) {
        let outcome = match run.result {
            Ok(outcome) => outcome,
            Err(fault) => return self.miss(1, format!("a unit could not be run here: {fault}")),
        };
        let output = BlobRef::of(&run.output);
        let mut differences = Vec::new();
        if outcome != reported.outcome {
            differences.push(format!("it ends with {outcome}, not {}", reported.outcome));
        }
        if run.fuel != reported.fuel {
            differences.push(format!("{} fuel, not {}", run.fuel, reported.fuel));
        }
        if output != reported.output {
            let (id, bytes) = (output.id.short(), output.bytes);
            let (other, others) = (reported.output.id.short(), reported.output.bytes);
            differences.push(format!(
                "output {id} ({bytes} bytes), not {other} ({others} bytes)"
            ));
        }
        if differences.is_empty() {
            self.same += 1;
        } else {
            let what = differences.join("; ");
            self.different.push(Different {
                unit: run.index,
                what,
            });
        }
    }
}

/// Runs the paid units of a receipt again.
pub(super) async fn run(
    common: &Common,
    dossier: &Dossier,
    given: &[PathBuf],
) -> Result<Outcomes, Failure> {
    let mut contents = Contents::new(common.folder()?, given)?;
    let mut outcomes = Outcomes::default();
    let receipt = dossier.receipt.clone().verify(&dossier.network)?;
    let work = dossier.work()?;
    let found: usize = work.iter().map(|work| work.units.len()).sum();
    let lost = (receipt.units as usize).saturating_sub(found);
    if lost > 0 {
        outcomes.miss(lost, "their leaves or grants are not here any more");
    }
    let bar = common.output().bar(BarUnit::Units);
    bar.set_message("running");
    bar.set_length(found as u64);
    for work in &work {
        run_grant(&mut contents, work, &mut outcomes, &|| bar.inc(1)).await?;
    }
    bar.finish_and_clear();
    Ok(outcomes)
}

async fn run_grant(
    contents: &mut Contents,
    work: &Work,
    outcomes: &mut Outcomes,
    step: &impl Fn(),
) -> Result<(), Failure> {
    let (grant, count) = (&work.grant, work.units.len());
    let profile = tally_sandbox::profile();
    if grant.profile != *profile {
        let other = &grant.profile;
        outcomes.miss(
            count,
            format!("they ran with profile {other}, this is {profile}"),
        );
        return Ok(());
    }
    let (from, read) = (grant.signer(), work.read.as_ref());
    let whole = BlobRange {
        blob: grant.program.id,
        start: 0,
        bytes: grant.program.bytes,
    };
    let Some(module) = contents.range(whole, from, read).await else {
        outcomes.miss(count, format!("program {} is not here", grant.program.id));
        return Ok(());
    };
    let program = Program::new(module.into());
    let mut sandbox: Option<Sandbox> = None;
    let mut rest = work.units.as_slice();
    while !rest.is_empty() {
        let (now, later) = rest.split_at(fitting(rest));
        rest = later;
        let mut input = Vec::new();
        let mut units = Vec::new();
        for (leased, result) in now {
            let range = BlobRange {
                blob: grant.input.id,
                start: leased.start,
                bytes: leased.bytes,
            };
            let Some(bytes) = contents.range(range, from, read).await else {
                outcomes.miss(1, format!("input {} is not here", grant.input.id));
                step();
                continue;
            };
            let place = input.len()..input.len() + bytes.len();
            input.extend_from_slice(&bytes);
            units.push((leased.clone(), place, result));
        }
        if units.is_empty() {
            continue;
        }
        if sandbox.is_none() {
            sandbox = Some(Sandbox::spawn(config(work)?)?);
        }
        let sandbox = sandbox.as_mut().expect("it was just made");
        tokio::task::block_in_place(|| {
            run_batch(sandbox, (work, &program), (&input, &units), &mut |run| {
                if let Some((_, _, result)) = units.iter().find(|unit| unit.0.unit == run.index) {
                    outcomes.compare(run, result);
                }
                step();
            })
        })?;
    }
    Ok(())
}

/// Returns how many of these units are run as one batch.
fn fitting(units: &[(LeasedUnit, UnitResult)]) -> usize {
    let mut bytes = 0_u64;
    let fits = |unit: &&(LeasedUnit, UnitResult)| {
        bytes = bytes.saturating_add(unit.0.bytes);
        bytes <= BATCH_BYTES_MAX
    };
    let fitting = units.iter().take(BATCH_UNITS_MAX).take_while(fits).count();
    fitting.max(1)
}

fn config(work: &Work) -> Result<SandboxConfig, Failure> {
    let limits = work.grant.limits;
    let largest = work
        .units
        .iter()
        .map(|unit| unit.0.bytes)
        .max()
        .unwrap_or(0);
    Ok(SandboxConfig {
        priority: Priority::Normal,
        unit_max: UnitMax {
            memory_bytes: limits.memory_bytes,
            time: Duration::from_secs(24 * 3_600),
        },
        output_bytes_max: usize::try_from(limits.output_bytes)?,
        input_bytes_max: usize::try_from(largest.max(BATCH_BYTES_MAX))?,
        ..SandboxConfig::default()
    })
}

type Placed<'a> = (LeasedUnit, Range<usize>, &'a UnitResult);

fn run_batch(
    sandbox: &mut Sandbox,
    (work, program): (&Work, &Program),
    (input, units): (&[u8], &[Placed<'_>]),
    report: &mut impl FnMut(&UnitRun),
) -> Result<(), Failure> {
    let grant = &work.grant;
    sandbox.input(input.len())?.copy_from_slice(input);
    let spec = |(leased, place, _): &Placed<'_>| UnitSpec {
        index: leased.unit,
        params: leased.params.clone(),
        input: place.clone(),
    };
    let units: Vec<UnitSpec> = units.iter().map(spec).collect();
    let task = (grant.task, grant.unit_count);
    let batch = batch_of(program, &grant.args, task, grant.limits, &units);
    sandbox.run(&batch, &mut |run| report(&run))?;
    Ok(())
}

/// Programs and inputs, from wherever they are.
struct Contents {
    folder: Folder,
    /// Files that were named, by their content.
    given: BTreeMap<BlobId, Vec<u8>>,
    /// Whole blobs that were found.
    found: BTreeMap<BlobId, Option<Vec<u8>>>,
}

impl Contents {
    fn new(folder: Folder, given: &[PathBuf]) -> Result<Self, Failure> {
        let mut contents = BTreeMap::new();
        for path in given {
            let bytes = std::fs::read(path)?;
            contents.insert(BlobId::of(&bytes), bytes);
        }
        Ok(Self {
            folder,
            given: contents,
            found: BTreeMap::new(),
        })
    }

    /// Returns a part of a blob: from a file that was named, from a program that comes with Tally, from the folder, or
    /// from the coordinator while its grant holds.
    async fn range(
        &mut self,
        range: BlobRange,
        from: NodeId,
        grant: Option<&Signed<BlobGrant>>,
    ) -> Option<Vec<u8>> {
        let part = |bytes: &[u8]| {
            let start = usize::try_from(range.start).ok()?;
            let length = usize::try_from(range.bytes).ok()?;
            Some(bytes.get(start..start.checked_add(length)?)?.to_vec())
        };
        if let Some(bytes) = self.given.get(&range.blob) {
            return part(bytes);
        }
        let data = self.folder.blobs().join("data");
        let found = self
            .found
            .entry(range.blob)
            .or_insert_with(|| on_disk(&data, range.blob));
        if let Some(bytes) = found {
            return part(bytes);
        }
        if range.bytes == 0 {
            return Some(Vec::new());
        }
        let request = Request::Fetch {
            from,
            range,
            grant: grant.filter(|_| range.bytes <= FETCH_BYTES_MAX)?.clone(),
        };
        let content: Content = ask(&self.folder.socket(), &request).await.ok()?;
        (content.0.len() as u64 == range.bytes).then_some(content.0)
    }
}

/// Returns a whole blob that comes with Tally or lies in the folder, if it is what its name says.
fn on_disk(data: &Path, blob: BlobId) -> Option<Vec<u8>> {
    let mut builtins = BUILTINS.iter();
    if let Some(builtin) = builtins.find(|program| BlobId::of(program.module) == blob) {
        return Some(builtin.module.to_vec());
    }
    let bytes = std::fs::read(data.join(blob.to_string())).ok()?;
    (BlobId::of(&bytes) == blob).then_some(bytes)
}
