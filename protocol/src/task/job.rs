//! The job file: the TOML that a customer writes. Paths in it are texts here; the shell reads the files.
//!
//! ```toml
//! [job]
//! name = "count the words of a book"
//! max_price = "2.50 EUR"        # without it: a multiple of the estimate
//! deadline_hours = 24           # without it: a week
//! [program]
//! builtin = "wordcount"         # or file = "my-program.wasm"
//! args = []
//! [input]
//! file = "book.txt"
//! [split]
//! by = "lines"                  # lines, bytes or tiles
//! bytes = "64 KiB"
//! [merge]
//! how = "sum"                   # concat, sum or stitch
//! ```
//!
//! `[limits]`, `[lease]`, `[quorum]`, `[edit]` and `[failure]` have defaults. A key that is not known is an error.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

use super::{
    BlobRef, Edit, LineSplit, Merge, OnFailure, Quorum, Split, Task, TaskError, TileSplit,
};
use crate::account::Money;
use crate::id::{NodeId, RateCardId};
use crate::time::Timestamp;
use crate::unit::Limits;

/// A job file as written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    job: Head,
    /// The program that runs on each unit.
    pub program: Program,
    /// The input.
    pub input: Input,
    split: SplitTable,
    #[serde(default)]
    limits: LimitsTable,
    #[serde(default)]
    lease: Lease,
    #[serde(default)]
    quorum: QuorumTable,
    merge: MergeTable,
    /// The program that runs over the merged result.
    pub edit: Option<Program>,
    #[serde(default)]
    failure: Failure,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    name: String,
    max_price: Option<Money>,
    #[serde(default = "default_deadline_hours")]
    deadline_hours: u64,
}

/// A week.
const fn default_deadline_hours() -> u64 {
    7 * 24
}

/// A program and its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// The path of a WebAssembly module, relative to the job file.
    pub file: Option<String>,
    /// The name of a program that comes with Tally.
    pub builtin: Option<String>,
    /// Arguments after the program's name.
    #[serde(default)]
    pub args: Vec<String>,
    limits: Option<LimitsTable>,
}

/// Where the input is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The path of a file, relative to the job file.
    pub file: Option<String>,
    /// The input itself.
    pub text: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SplitBy {
    Lines,
    Bytes,
    Tiles,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct SplitTable {
    by: SplitBy,
    lines: Option<u64>,
    bytes: Option<ByteSize>,
    core: Option<u32>,
    halo: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LimitsTable {
    fuel: u64,
    memory: ByteSize,
    output: ByteSize,
}

impl Default for LimitsTable {
    fn default() -> Self {
        Self {
            fuel: 100_000_000_000,
            memory: ByteSize(256 << 20),
            output: ByteSize(16 << 20),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Lease {
    seconds: u64,
}

impl Default for Lease {
    fn default() -> Self {
        Self { seconds: 60 }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct QuorumTable {
    agree: u8,
    error_max: u8,
    total_max: u8,
}

impl Default for QuorumTable {
    fn default() -> Self {
        Self {
            agree: 2,
            error_max: 3,
            total_max: 8,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct MergeTable {
    how: Merge,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Failure {
    units: OnFailure,
}

impl Default for Failure {
    fn default() -> Self {
        Self {
            units: OnFailure::Fail,
        }
    }
}

/// A size in a job file: a number of bytes, or a text such as `"64 KiB"` (KiB, MiB, GiB).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteSize(pub u64);

impl fmt::Display for ByteSize {
    /// Writes the size in the largest unit that needs no fraction: `64 KiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        let whole = |(scale, _): &(u32, &str)| self.0 > 0 && self.0.is_multiple_of(1_u64 << scale);
        match units.into_iter().find(whole) {
            Some((scale, unit)) => write!(f, "{} {unit}", self.0 >> scale),
            None => write!(f, "{} B", self.0),
        }
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let scale = match text[digits..].trim() {
            "" | "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            _ => {
                return Err(format!(
                    "{text:?} is not a size; write it as 65536 or \"64 KiB\" (KiB, MiB, GiB)"
                ));
            }
        };
        let number: Option<u64> = text[..digits].parse().ok();
        let bytes = number.and_then(|number| number.checked_mul(1 << scale));
        bytes
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not a size; write it as 65536 or \"64 KiB\""))
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as 65536 or \"64 KiB\"")
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
                u64::try_from(bytes)
                    .map(ByteSize)
                    .map_err(|_| E::custom(format!("{bytes} is not a size")))
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Why a job file is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// Not TOML, a key that is not known, or a value of another type; the text shows the line.
    #[error("read the job file\n{0}")]
    Toml(String),
    /// Two keys that exclude each other, or one that is missing.
    #[error("read the job file: {0}")]
    Keys(String),
    /// A value out of its bounds.
    #[error("accept the job: {0}")]
    Task(#[from] TaskError),
}

/// What the shell found at the places that the job names.
#[derive(Debug, Clone, Copy)]
pub struct Contents {
    /// The program.
    pub program: BlobRef,
    /// The input.
    pub input: BlobRef,
    /// The program of `[edit]`, if the job has one.
    pub edit: Option<BlobRef>,
}

/// What the customer agrees to pay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payment {
    /// The rate card of the coordinator.
    pub rate_card: RateCardId,
    /// The most that the task may cost, in minor units of the card's currency.
    pub max_price: u64,
}

impl Payment {
    /// A payment for a task that is never submitted.
    pub const NOTHING: Self = Self {
        rate_card: RateCardId::from_bytes([0; 32]),
        max_price: 0,
    };
}

impl FromStr for Job {
    type Err = JobError;

    fn from_str(text: &str) -> Result<Self, JobError> {
        let job: Self = toml::from_str(text)
            .map_err(|error| JobError::Toml(error.to_string().trim_end().to_owned()))?;
        let one_of = |table: &str, first: bool, second: bool, names: &str| match (first, second) {
            (true, false) | (false, true) => Ok(()),
            _ => Err(JobError::Keys(format!(
                "[{table}] needs exactly one of {names}"
            ))),
        };
        one_of(
            "program",
            job.program.file.is_some(),
            job.program.builtin.is_some(),
            "file, builtin",
        )?;
        one_of(
            "input",
            job.input.file.is_some(),
            job.input.text.is_some(),
            "file, text",
        )?;
        if let Some(edit) = &job.edit {
            one_of(
                "edit",
                edit.file.is_some(),
                edit.builtin.is_some(),
                "file, builtin",
            )?;
        }
        if job.program.limits.is_some() {
            return Err(JobError::Keys(
                "limits of the units stand in [limits], not in [program]".to_owned(),
            ));
        }
        job.split.split()?;
        Ok(job)
    }
}

impl Job {
    /// Returns the job's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.job.name
    }

    /// Returns the most that the job may cost, if it says so.
    #[must_use]
    pub const fn max_price(&self) -> Option<Money> {
        self.job.max_price
    }

    /// Returns the task that `customer` asks for with this job.
    ///
    /// # Errors
    /// [`JobError`] for values out of their bounds.
    pub fn task(
        &self,
        customer: NodeId,
        created: Timestamp,
        contents: Contents,
        payment: Payment,
    ) -> Result<Task, JobError> {
        let edit = self
            .edit
            .as_ref()
            .zip(contents.edit)
            .map(|(edit, program)| Edit {
                program,
                args: edit.args.clone(),
                limits: edit.limits.as_ref().unwrap_or(&self.limits).limits(),
            });
        let task = Task {
            name: self.job.name.clone(),
            customer,
            created,
            program: contents.program,
            args: self.program.args.clone(),
            input: contents.input,
            split: self.split.split()?,
            limits: self.limits.limits(),
            lease_millis: self.lease.seconds.saturating_mul(1_000),
            quorum: Quorum {
                agree: self.quorum.agree,
                error_max: self.quorum.error_max,
                total_max: self.quorum.total_max,
            },
            merge: self.merge.how,
            edit,
            on_failure: self.failure.units,
            rate_card: payment.rate_card,
            max_price: payment.max_price,
            deadline_millis: self.job.deadline_hours.saturating_mul(3_600_000),
        };
        task.check()?;
        Ok(task)
    }
}

impl LimitsTable {
    const fn limits(&self) -> Limits {
        Limits {
            fuel: self.fuel,
            memory_bytes: self.memory.0,
            output_bytes: self.output.0,
        }
    }
}

impl SplitTable {
    fn split(&self) -> Result<Split, JobError> {
        let keys = |text: &str| Err(JobError::Keys(format!("[split] {text}")));
        match (self.by, self.lines, self.bytes, self.core, self.halo) {
            (SplitBy::Lines, None, None, None, None) => {
                keys("by = \"lines\" needs lines, bytes or both")
            }
            (SplitBy::Lines, lines, bytes, None, None) => Ok(Split::Lines(LineSplit {
                lines: lines.unwrap_or(u64::MAX),
                bytes: bytes.map_or(u64::MAX, |bytes| bytes.0),
            })),
            (SplitBy::Bytes, None, Some(bytes), None, None) => Ok(Split::Bytes(bytes.0)),
            (SplitBy::Bytes, ..) => keys("by = \"bytes\" needs bytes and nothing else"),
            (SplitBy::Tiles, None, None, Some(core), halo) => Ok(Split::Tiles(TileSplit {
                core,
                halo: halo.unwrap_or(0),
            })),
            (SplitBy::Tiles, ..) => {
                keys("by = \"tiles\" needs core, may have halo and nothing else")
            }
            (SplitBy::Lines, ..) => keys("core and halo belong to by = \"tiles\""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = r#"
        [job]
        name = "count"
        [program]
        builtin = "wordcount"
        [input]
        file = "book.txt"
        [split]
        by = "lines"
        bytes = "64 KiB"
        [merge]
        how = "sum"
    "#;

    fn contents() -> Contents {
        Contents {
            program: BlobRef::of(b"program"),
            input: BlobRef::of(b"input"),
            edit: None,
        }
    }

    fn task_of(text: &str) -> Result<Task, JobError> {
        let job: Job = text.parse()?;
        job.task(
            NodeId::from_bytes([1; 32]),
            Timestamp::from_millis(5),
            contents(),
            Payment {
                rate_card: RateCardId::from_bytes([3; 32]),
                max_price: 500,
            },
        )
    }

    #[test]
    fn a_short_job_file_has_safe_defaults() {
        let task = task_of(MINIMAL).unwrap();
        assert_eq!(
            task.split,
            Split::Lines(LineSplit {
                lines: u64::MAX,
                bytes: 65_536
            })
        );
        assert_eq!(
            task.quorum,
            Quorum {
                agree: 2,
                error_max: 3,
                total_max: 8
            }
        );
        assert_eq!(task.limits.memory_bytes, 256 << 20);
        assert_eq!((task.on_failure, task.merge), (OnFailure::Fail, Merge::Sum));
    }

    #[test]
    fn a_misspelt_key_is_named_with_its_line() {
        let error = task_of(&MINIMAL.replace("bytes =", "byte ="))
            .unwrap_err()
            .to_string();
        assert!(error.contains("unknown field `byte`"), "{error}");
        assert!(error.contains("line 10"), "{error}");
    }

    #[test]
    fn values_that_make_no_sense_are_refused_by_name() {
        let cases = [
            ("\"64 KiB\"", "\"64 KB\"", "\"64 KB\" is not a size"),
            ("\"64 KiB\"", "-1", "-1 is not a size"),
            (
                "\"64 KiB\"",
                "0",
                "split.lines is 18446744073709551615 lines or 0 bytes",
            ),
            (
                "\"sum\"",
                "\"stitch\"",
                "merge \"stitch\" needs split \"tiles\"",
            ),
            (
                "builtin = \"wordcount\"",
                "",
                "[program] needs exactly one of file, builtin",
            ),
            ("\"count\"", "\"\"", "name is \"\""),
            ("bytes = \"64 KiB\"", "", "needs lines, bytes or both"),
            (
                "[merge]",
                "[quorum]\nagree = 0\n[merge]",
                "quorum.agree is 0",
            ),
            ("[merge]", "[limits]\nfuel = 0\n[merge]", "limits.fuel is 0"),
            (
                "[merge]",
                "[lease]\nseconds = 0\n[merge]",
                "lease.seconds is 0 ms",
            ),
            (
                "by = \"lines\"",
                "by = \"tiles\"",
                "by = \"tiles\" needs core",
            ),
        ];
        for (from, to, expected) in cases {
            let error = task_of(&MINIMAL.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(expected), "{to}: {error}");
        }
    }
}
