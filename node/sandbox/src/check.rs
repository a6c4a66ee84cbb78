//! The check of a module before it is compiled: what it may import and export, and how large its parts may be.
//!
//! Compiling takes time and memory that are not proportional to a module's size: 11 KB of declared locals took
//! 4.7 GiB, 280 KB of nested blocks 22 s. The limits here keep the cost of compiling near-linear in the size,
//! and are far above what honest programs of 25 MB have (CPython, Yosys). They are a part of the profile, so a
//! refusal is an outcome on which every terminal agrees. What slips through is ended by the limits of the
//! child process.

use std::fmt;

use tally_protocol::unit::Limits;
use wasmparser::{
    Encoding, ExternalKind, FuncType, Parser, Payload, TypeRef, ValidPayload, Validator,
};

use crate::fixed::{FEATURES, PAGE_BYTES, TABLE_ELEMENTS_MAX, TABLES_MAX};
use crate::wasi;

mod body;
mod refusal;

pub use refusal::Refusal;
pub(crate) use refusal::at_most;

/// How a program takes its input and gives its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abi {
    /// A WASI preview 1 command: exports `memory` and `_start`; standard input, output and error.
    Wasi,
    /// A kernel: imports nothing; exports `memory`, `alloc` and `run`.
    Kernel,
}

impl fmt::Display for Abi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Wasi => "WASI command",
            Self::Kernel => "kernel",
        })
    }
}

/// What the check found out about a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramFacts {
    /// How the program is called.
    pub abi: Abi,
    /// Size of the module in bytes.
    pub module_bytes: usize,
    /// Functions with a body.
    pub functions: u32,
    /// Bytes of function bodies.
    pub code_bytes: usize,
    /// Bytes of data segments.
    pub data_bytes: usize,
    /// Linear memory at the start, in bytes.
    pub memory_min_bytes: u64,
    /// The largest number of locals of a function, parameters included.
    pub locals_max: u32,
    /// The deepest nesting of blocks.
    pub nesting_max: u32,
}

/// The static limits. [`FIXED`](StaticLimits::FIXED) is the profile's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StaticLimits {
    pub(crate) module_bytes: usize,
    functions: u32,
    types: u32,
    params: usize,
    results: usize,
    tables: u32,
    imports: u32,
    exports: u32,
    globals: u32,
    element_segments: u32,
    data_segments: u32,
    /// Data segments that are spread over more than [`DATA_TOGETHER_BYTES`].
    data_segments_spread: u32,
    body_bytes: usize,
    locals: u32,
    locals_total: u64,
    nesting: u32,
    branch_targets: u32,
    /// Blocks times locals, and what branches carry.
    values: u64,
    values_total: u64,
}

/// Data within so many bytes becomes one image in linear time; the engine is quadratic in segments further apart.
const DATA_TOGETHER_BYTES: u64 = 16 << 20;

impl StaticLimits {
    /// The limits of this profile, several times what the largest honest programs have: CPython 3.12 (26 MB) and
    /// Yosys 0.40 (22 MB). The numbers behind are the larger of the two.
    pub(crate) const FIXED: Self = Self {
        module_bytes: 32 << 20,      // 26,267,204
        functions: 50_000,           // 30,219
        types: 5_000,                // 178
        params: 255,                 // 33
        results: 16,                 // 1
        tables: TABLES_MAX,          // 1
        imports: 1_000,              // 43
        exports: 10_000,             // 3
        globals: 10_000,             // 1
        element_segments: 1_000,     // 1
        data_segments: 40_000,       // 24,171
        data_segments_spread: 5_000, // 2 (CPython's lie within 10 MiB)
        body_bytes: 1 << 20,         // 198,326
        locals: 2_000,               // 1,221
        locals_total: 1_000_000,     // 194,060
        nesting: 1_000,              // 449
        branch_targets: 10_000,      // 710 (resvg: 1,090)
        values: 4_000_000,           // 603,020
        values_total: 50_000_000,    // 8,236,146
    };
}

/// Checks a module against the rules of the profile.
///
/// # Errors
/// What is wrong, with the values at hand.
pub fn check(module: &[u8]) -> Result<ProgramFacts, Refusal> {
    let limits = StaticLimits::FIXED;
    at_most("bytes", module.len(), limits.module_bytes)?;
    let mut survey = Survey::new(limits);
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload.map_err(|error| Refusal::invalid(module, &error))?;
        survey
            .payload(&payload)
            .map_err(|error| error.explain(module))?;
    }
    survey.finish(module.len())
}

impl ProgramFacts {
    /// Returns whether the program can start within the limits of a task.
    ///
    /// # Errors
    /// The memory that the program starts with and the memory that it may have.
    pub fn fits(&self, limits: &Limits) -> Result<(), Refusal> {
        if self.memory_min_bytes > limits.memory_bytes {
            return Err(Refusal::MemoryMinimum {
                found: self.memory_min_bytes,
                max: limits.memory_bytes,
            });
        }
        Ok(())
    }
}

/// Why a payload was not accepted, before it is known how to say it.
enum Objection {
    Refusal(Refusal),
    Parser(wasmparser::BinaryReaderError),
}

impl From<Refusal> for Objection {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

impl From<wasmparser::BinaryReaderError> for Objection {
    fn from(error: wasmparser::BinaryReaderError) -> Self {
        Self::Parser(error)
    }
}

impl Objection {
    fn explain(self, module: &[u8]) -> Refusal {
        match self {
            Self::Refusal(refusal) => refusal,
            Self::Parser(error) => Refusal::invalid(module, &error),
        }
    }
}

/// What is known of a module so far.
struct Survey {
    limits: StaticLimits,
    validator: Validator,
    allocations: wasmparser::FuncValidatorAllocations,
    types: Vec<FuncType>,
    /// Index of the type of each function, imported ones first.
    function_types: Vec<u32>,
    exports: Exports,
    imports: u32,
    bodies: body::Totals,
    data: body::DataExtent,
    memory_min_bytes: u64,
}

/// The exports that decide on the ABI.
#[derive(Default)]
struct Exports {
    memory: bool,
    start: Option<u32>,
    initialize: bool,
    alloc: Option<u32>,
    run: Option<u32>,
}

impl Survey {
    fn new(limits: StaticLimits) -> Self {
        Self {
            limits,
            validator: Validator::new_with_features(FEATURES),
            allocations: wasmparser::FuncValidatorAllocations::default(),
            types: Vec::new(),
            function_types: Vec::new(),
            exports: Exports::default(),
            imports: 0,
            bodies: body::Totals::default(),
            data: body::DataExtent::default(),
            memory_min_bytes: 0,
        }
    }

    fn payload(&mut self, payload: &Payload<'_>) -> Result<(), Objection> {
        self.count(payload)?;
        if let ValidPayload::Func(function, body) = self.validator.payload(payload)? {
            let validator = function.into_validator(std::mem::take(&mut self.allocations));
            self.allocations = self.bodies.add(
                body::Rules {
                    limits: &self.limits,
                    types: &self.types,
                },
                validator,
                &body,
            )?;
        }
        self.read(payload)
    }

    /// Refuses sections that are too long before anything is done with them.
    fn count(&self, payload: &Payload<'_>) -> Result<(), Refusal> {
        let limits = &self.limits;
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the other sections have no limit of their own"
        )]
        let (what, found, max) = match payload {
            Payload::TypeSection(section) => ("types", section.count(), limits.types),
            Payload::ImportSection(section) => ("imports", section.count(), limits.imports),
            Payload::FunctionSection(section) => ("functions", section.count(), limits.functions),
            Payload::TableSection(section) => ("tables", section.count(), limits.tables),
            Payload::ExportSection(section) => ("exports", section.count(), limits.exports),
            Payload::GlobalSection(section) => ("globals", section.count(), limits.globals),
            Payload::ElementSection(section) => {
                ("element segments", section.count(), limits.element_segments)
            }
            Payload::DataSection(section) => {
                ("data segments", section.count(), limits.data_segments)
            }
            Payload::TagSection(_) => return Err(Refusal::exceptions()),
            Payload::Version {
                encoding: Encoding::Component,
                ..
            } => return Err(Refusal::Component),
            _ => return Ok(()),
        };
        at_most(what, found, max)
    }

    /// Takes what the facts need from a valid section.
    fn read(&mut self, payload: &Payload<'_>) -> Result<(), Objection> {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the other sections add nothing to the facts"
        )]
        match payload {
            Payload::TypeSection(section) => {
                for ty in section.clone().into_iter_err_on_gc_types() {
                    let ty = ty?;
                    at_most(
                        "parameters of one function",
                        ty.params().len(),
                        self.limits.params,
                    )?;
                    at_most(
                        "results of one function",
                        ty.results().len(),
                        self.limits.results,
                    )?;
                    self.types.push(ty);
                }
            }
            Payload::ImportSection(section) => {
                for import in section.clone().into_imports() {
                    let import = import?;
                    self.import(import.module, import.name, import.ty)?;
                }
            }
            Payload::FunctionSection(section) => {
                for index in section.clone() {
                    self.function_types.push(index?);
                }
            }
            Payload::TableSection(section) => {
                for table in section.clone() {
                    at_most(
                        "table elements at the start",
                        table?.ty.initial,
                        TABLE_ELEMENTS_MAX as u64,
                    )?;
                }
            }
            Payload::MemorySection(section) => {
                for memory in section.clone() {
                    self.memory_min_bytes = memory?.initial.saturating_mul(PAGE_BYTES);
                }
            }
            Payload::ExportSection(section) => {
                for export in section.clone() {
                    let export = export?;
                    self.exports.add(export.name, export.kind, export.index);
                }
            }
            Payload::DataSection(section) => {
                for segment in section.clone() {
                    self.data.add(&segment?);
                }
                if self.data.span() > DATA_TOGETHER_BYTES {
                    at_most(
                        "data segments far apart",
                        section.count(),
                        self.limits.data_segments_spread,
                    )?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn import(&mut self, module: &str, name: &str, ty: TypeRef) -> Result<(), Refusal> {
        let TypeRef::Func(index) = ty else {
            return Err(Refusal::import(module, name));
        };
        let found = self
            .types
            .get(index as usize)
            .expect("the validator has checked the index");
        let expected =
            wasi::signature(module, name).ok_or_else(|| Refusal::import(module, name))?;
        if !expected.is(found) {
            return Err(Refusal::ImportType {
                name: name.to_owned(),
                expected: expected.to_string(),
            });
        }
        self.function_types.push(index);
        self.imports += 1;
        Ok(())
    }

    fn finish(self, module_bytes: usize) -> Result<ProgramFacts, Refusal> {
        let abi = self.abi()?;
        Ok(ProgramFacts {
            abi,
            module_bytes,
            functions: self.bodies.functions,
            code_bytes: self.bodies.code_bytes,
            data_bytes: self.data.bytes,
            memory_min_bytes: self.memory_min_bytes,
            locals_max: self.bodies.locals_max,
            nesting_max: self.bodies.nesting_max,
        })
    }

    fn abi(&self) -> Result<Abi, Refusal> {
        let typed = |function: Option<u32>, text: &'static str| {
            function
                .and_then(|index| self.function_types.get(index as usize))
                .and_then(|index| self.types.get(*index as usize))
                .is_some_and(|ty| wasi::Signature::parse(text).is(ty))
        };
        let kernel = typed(self.exports.alloc, "i -> i") && typed(self.exports.run, "ii -> I");
        if !self.exports.memory {
            Err(Refusal::NoMemory)
        } else if kernel && self.imports == 0 {
            Ok(Abi::Kernel)
        } else if typed(self.exports.start, "") {
            Ok(Abi::Wasi)
        } else {
            Err(Refusal::NoEntry {
                reactor: self.exports.initialize,
            })
        }
    }
}

impl Exports {
    fn add(&mut self, name: &str, kind: ExternalKind, index: u32) {
        match (name, kind) {
            ("memory", ExternalKind::Memory) => self.memory = true,
            ("_start", ExternalKind::Func) => self.start = Some(index),
            ("_initialize", ExternalKind::Func) => self.initialize = true,
            ("alloc", ExternalKind::Func) => self.alloc = Some(index),
            ("run", ExternalKind::Func) => self.run = Some(index),
            _ => {}
        }
    }
}
