//! Getting what a grant needs before it can run: the program's module and the units' inputs.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;

use tally_protocol::id::BlobId;
use tally_protocol::message::blob::BlobRange;
use tally_protocol::message::work::{Grant, Leased};
use tally_protocol::signed::Verified;
use tally_sandbox::Program;

use crate::error::chain;
use crate::peers::Peers;
use crate::worker::Inputs;

/// The most bytes of the inputs of one grant.
const INPUTS_BYTES_MAX: u64 = 1 << 30;
/// The largest module that is fetched: what the sandbox takes.
const MODULE_BYTES_MAX: u64 = 32 << 20;
/// Modules kept in memory: the latest ones, of at most so many bytes together.
const PROGRAMS_MAX: usize = 16;
const PROGRAMS_BYTES_MAX: usize = 128 << 20;

/// A grant that can run.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The grant.
    pub(super) grant: Arc<Grant>,
    /// Its program.
    pub(super) program: Program,
    /// The inputs of its units.
    pub(super) inputs: Arc<Inputs>,
}

/// Programs used lately, the latest first.
#[derive(Debug, Default)]
pub(super) struct Programs(VecDeque<Program>);

impl Programs {
    /// Keeps a program for the next grant.
    pub(super) fn keep(&mut self, program: &Program) {
        self.0.retain(|other| other.id() != program.id());
        self.0.push_front(program.clone());
        let bytes = |programs: &VecDeque<Program>| {
            programs
                .iter()
                .map(|program| program.module().len())
                .sum::<usize>()
        };
        while self.0.len() > PROGRAMS_MAX
            || (self.0.len() > 1 && bytes(&self.0) > PROGRAMS_BYTES_MAX)
        {
            self.0.pop_back();
        }
    }

    fn get(&self, id: &BlobId) -> Option<Program> {
        self.0.iter().find(|program| program.id() == *id).cloned()
    }

    /// Returns the work of getting everything, to be awaited elsewhere.
    pub(super) fn prepare(
        &self,
        grant: Verified<Grant>,
        leased: Leased,
        peers: Peers,
    ) -> impl Future<Output = Result<Prepared, String>> + Send + use<> {
        let known = self.get(&grant.program.id);
        async move {
            let program = match known {
                Some(program) => program,
                None => fetch_program(&grant, &leased, &peers).await?,
            };
            let inputs = match leased.inputs {
                Some(bytes) => bytes,
                None => fetch_inputs(&grant, &leased, &peers).await?,
            };
            let grant = Arc::new(grant.value().clone());
            Ok(Prepared {
                grant,
                program,
                inputs: Arc::new(Inputs::new(inputs)),
            })
        }
    }
}

async fn fetch_program(
    grant: &Verified<Grant>,
    leased: &Leased,
    peers: &Peers,
) -> Result<Program, String> {
    let blob = grant.program;
    if blob.bytes > MODULE_BYTES_MAX {
        return Err(format!(
            "the program has {} bytes, at most {MODULE_BYTES_MAX} are taken",
            blob.bytes
        ));
    }
    let whole = BlobRange {
        blob: blob.id,
        start: 0,
        bytes: blob.bytes,
    };
    let bytes = peers
        .read_range(grant.signer(), whole, Some(leased.read.clone()))
        .await;
    let bytes = bytes.map_err(|error| chain(&error))?;
    // Hashing 32 MB takes long enough to be done elsewhere.
    let program = tokio::task::spawn_blocking(move || Program::new(bytes.into()));
    let program = program.await.map_err(|error| error.to_string())?;
    if program.id() != blob.id {
        return Err("the program is not the one that was promised".to_owned());
    }
    Ok(program)
}

/// Reads each contiguous run of inputs as one range.
async fn fetch_inputs(
    grant: &Verified<Grant>,
    leased: &Leased,
    peers: &Peers,
) -> Result<Vec<u8>, String> {
    let total = grant
        .units
        .iter()
        .try_fold(0_u64, |sum, unit| sum.checked_add(unit.bytes));
    let Some(total) = total.filter(|total| *total <= INPUTS_BYTES_MAX) else {
        return Err(format!(
            "the inputs have more than {INPUTS_BYTES_MAX} bytes"
        ));
    };
    let mut inputs = Vec::with_capacity(usize::try_from(total).map_err(|error| error.to_string())?);
    for range in runs(grant) {
        let part = peers
            .read_range(grant.signer(), range, Some(leased.read.clone()))
            .await;
        inputs.extend_from_slice(&part.map_err(|error| chain(&error))?);
    }
    Ok(inputs)
}

fn runs(grant: &Grant) -> Vec<BlobRange> {
    let mut runs: Vec<BlobRange> = Vec::new();
    for unit in &grant.units {
        match runs.last_mut() {
            Some(run) if run.start + run.bytes == unit.start => run.bytes += unit.bytes,
            _ => runs.push(BlobRange {
                blob: grant.input.id,
                start: unit.start,
                bytes: unit.bytes,
            }),
        }
    }
    runs
}
