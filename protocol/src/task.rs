//! A task: what a customer asks for, in its canonical form.
//!
//! The customer signs a [`Task`]; the BLAKE3 hash of the signed payload is its [`TaskId`]. Everything that
//! decides what a unit computes stands in the task or follows from it: the program by the hash of its module, the
//! input by its root, the way it is split, the limits. So two coordinators would make the same units of it.
//!
//! [`job`] reads the TOML file that people write, [`split`] cuts the input, [`tiles`] is the geometry of images,
//! [`merge`] puts results together.

pub mod job;
pub mod merge;
pub mod split;
pub mod tiles;

use serde::{Deserialize, Serialize};

use crate::id::{BlobId, NodeId, RateCardId, TaskId};
use crate::signed::{Statement, Verified};
use crate::time::Timestamp;
use crate::unit::Limits;

/// The most units that one task is cut into.
pub const UNITS_MAX: u32 = 1_000_000;
/// The most arguments of a program, and the most bytes of all of them together.
pub const ARGS_MAX: usize = 64;
/// See [`ARGS_MAX`].
pub const ARGS_BYTES_MAX: usize = 16 << 10;
/// The most results of one unit that a quorum may wait for.
pub const QUORUM_TOTAL_MAX: u8 = 64;
/// The longest name of a task, in bytes.
pub const NAME_BYTES_MAX: usize = 100;

/// The longest time that a task may take: 90 days, in milliseconds.
pub const DEADLINE_MILLIS_MAX: u64 = 90 * 86_400_000;

/// Content with its length, so that a reader knows what it will get before it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlobRef {
    /// The BLAKE3 root.
    pub id: BlobId,
    /// The length in bytes.
    pub bytes: u64,
}

impl BlobRef {
    /// Returns the reference to `content`.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        Self {
            id: BlobId::of(content),
            bytes: content.len() as u64,
        }
    }
}

/// What a customer asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// The customer's name for it, at most [`NAME_BYTES_MAX`] bytes.
    pub name: String,
    /// Who asks. Must be the signer.
    pub customer: NodeId,
    /// When it was made: tells two equal tasks apart.
    pub created: Timestamp,
    /// The program that runs on each unit.
    pub program: BlobRef,
    /// The program's arguments after its name.
    pub args: Vec<String>,
    /// The whole input as the customer has it.
    pub input: BlobRef,
    /// How the input becomes units.
    pub split: Split,
    /// Bounds of each unit.
    pub limits: Limits,
    /// How long a terminal may hold a lease without a sign of progress, in milliseconds.
    pub lease_millis: u64,
    /// How many terminals must agree.
    pub quorum: Quorum,
    /// How unit outputs become the result.
    pub merge: Merge,
    /// A program that is run over the merged result, if any.
    pub edit: Option<Edit>,
    /// What happens to the task when a unit cannot be had.
    pub on_failure: OnFailure,
    /// The rate card by which its units are paid.
    pub rate_card: RateCardId,
    /// The most that the customer pays, in minor units of the card's currency.
    pub max_price: u64,
    /// How long after it was accepted it must have ended, in milliseconds.
    pub deadline_millis: u64,
}

impl Statement for Task {
    const TYPE: &'static str = "application/tally-task+cbor";
    const BYTES_MAX: usize = 64 << 10;
}

/// How an input becomes units. Whatever the way, an empty input is one unit with nothing in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Whole lines: a unit ends with the line that fills it.
    Lines(LineSplit),
    /// Pieces of this many bytes, the last may be shorter.
    Bytes(u64),
    /// Image tiles.
    Tiles(TileSplit),
}

/// Bounds of a unit of lines: it is full when it reaches either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineSplit {
    /// Lines in a unit, at least 1.
    pub lines: u64,
    /// Bytes in a unit, at least 1; the line that passes it still belongs to the unit.
    pub bytes: u64,
}

/// Geometry of image units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TileSplit {
    /// Width and height of the part of the result that a tile yields, in pixels.
    pub core: u32,
    /// Pixels around the core that the program also sees.
    pub halo: u32,
}

/// When a unit counts as computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quorum {
    /// Terminals that must report the same outcome, output and fuel.
    pub agree: u8,
    /// Failed attempts (lost leases do not count) after which a unit is given up.
    pub error_max: u8,
    /// Results of any kind after which a unit is given up.
    pub total_max: u8,
}

/// How unit outputs become one result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Merge {
    /// One after another, in the order of the units.
    Concat,
    /// Decimal numbers, added.
    Sum,
    /// Image cores, put together to a PNG.
    Stitch,
}

/// A program over the merged result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    /// The program.
    pub program: BlobRef,
    /// Its arguments after its name.
    pub args: Vec<String>,
    /// Its bounds.
    pub limits: Limits,
}

/// What becomes of a task with a unit that failed for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The task fails at once.
    Fail,
    /// The unit is left out of the result, which says so.
    Skip,
}

/// Why a task is not one that a node takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// A value outside its bounds.
    #[error("{field} is {value}, it must be {bounds}")]
    OutOfBounds {
        /// The field, as in the job file.
        field: &'static str,
        /// The value.
        value: String,
        /// What it may be.
        bounds: &'static str,
    },
    /// A merger that needs another splitter.
    #[error("merge \"stitch\" needs split \"tiles\", and tiles can only be merged by \"stitch\"")]
    StitchWithoutTiles,
}

impl Task {
    /// Checks every bound that can be seen without the input.
    ///
    /// # Errors
    /// The first [`TaskError`] found.
    pub fn check(&self) -> Result<(), TaskError> {
        let (quorum, bounds) = (self.quorum, out_of_bounds);
        if self.name.is_empty()
            || self.name.len() > NAME_BYTES_MAX
            || self.name.chars().any(char::is_control)
        {
            return Err(bounds(
                "name",
                format!(
                    "{:?}",
                    self.name.chars().take(NAME_BYTES_MAX).collect::<String>()
                ),
                "1 to 100 bytes without control characters",
            ));
        }
        check_program("program.args", &self.args, self.limits)?;
        if let Some(edit) = &self.edit {
            check_program("edit.args", &edit.args, edit.limits)?;
        }
        if !(1..=16).contains(&quorum.agree) {
            return Err(bounds("quorum.agree", quorum.agree.to_string(), "1 to 16"));
        }
        let totals = quorum.agree..=QUORUM_TOTAL_MAX;
        if !totals.contains(&quorum.total_max) || quorum.error_max < 1 {
            let value = format!("{} with error_max {}", quorum.total_max, quorum.error_max);
            return Err(bounds(
                "quorum.total_max",
                value,
                "agree to 64, and error_max at least 1",
            ));
        }
        if !(1_000..=86_400_000).contains(&self.lease_millis) {
            return Err(bounds(
                "lease.seconds",
                format!("{} ms", self.lease_millis),
                "1 second to 1 day",
            ));
        }
        if !(1_000..=DEADLINE_MILLIS_MAX).contains(&self.deadline_millis) {
            let value = format!("{} ms", self.deadline_millis);
            return Err(bounds("deadline", value, "1 second to 90 days"));
        }
        self.check_split()?;
        match (self.split, self.merge) {
            (Split::Tiles(_), Merge::Stitch)
            | (Split::Lines(_) | Split::Bytes(_), Merge::Concat | Merge::Sum) => Ok(()),
            _ => Err(TaskError::StitchWithoutTiles),
        }
    }

    fn check_split(&self) -> Result<(), TaskError> {
        match self.split {
            Split::Lines(LineSplit {
                lines: 1..,
                bytes: 1..,
            })
            | Split::Bytes(1..) => Ok(()),
            Split::Lines(lines) => {
                let value = format!("{} lines or {} bytes", lines.lines, lines.bytes);
                Err(out_of_bounds(
                    "split.lines",
                    value,
                    "at least 1 line and 1 byte",
                ))
            }
            Split::Bytes(bytes) => Err(out_of_bounds(
                "split.bytes",
                bytes.to_string(),
                "at least 1",
            )),
            Split::Tiles(TileSplit { core, halo })
                if !(8..=4_096).contains(&core) || halo > 256 =>
            {
                Err(out_of_bounds(
                    "split.core",
                    format!("{core} with halo {halo}"),
                    "8 to 4096 with a halo of at most 256",
                ))
            }
            Split::Tiles(_) => Ok(()),
        }
    }
}

impl Verified<Task> {
    /// Returns the id of the task: BLAKE3 of the payload that the customer signed.
    #[must_use]
    pub fn task_id(&self) -> TaskId {
        TaskId::from_bytes(*blake3::hash(self.payload()).as_bytes())
    }
}

fn check_program(field: &'static str, args: &[String], limits: Limits) -> Result<(), TaskError> {
    let bytes: usize = args.iter().map(String::len).sum();
    if args.len() > ARGS_MAX || bytes > ARGS_BYTES_MAX || args.iter().any(|arg| arg.contains('\0'))
    {
        let value = format!("{} arguments of {bytes} bytes", args.len());
        return Err(out_of_bounds(
            field,
            value,
            "at most 64 arguments of 16 KiB together, without NUL",
        ));
    }
    if limits.fuel == 0 || limits.fuel > 1 << 50 {
        return Err(out_of_bounds(
            "limits.fuel",
            limits.fuel.to_string(),
            "1 to 2^50",
        ));
    }
    if !(64 << 10..=4 << 30).contains(&limits.memory_bytes) {
        return Err(out_of_bounds(
            "limits.memory",
            format!("{} bytes", limits.memory_bytes),
            "64 KiB to 4 GiB",
        ));
    }
    if limits.output_bytes > 1 << 30 {
        return Err(out_of_bounds(
            "limits.output",
            format!("{} bytes", limits.output_bytes),
            "at most 1 GiB",
        ));
    }
    Ok(())
}

const fn out_of_bounds(field: &'static str, value: String, bounds: &'static str) -> TaskError {
    TaskError::OutOfBounds {
        field,
        value,
        bounds,
    }
}
