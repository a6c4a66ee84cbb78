//! The engine: compiles modules and runs units in this process. Only the locked child should use it.

use std::sync::Arc;

use tally_protocol::unit::{Fault, Limits, Outcome};
use wasmtime::{
    Config, Enabled, InstanceAllocationStrategy, InstancePre, Linker, Module, OptLevel,
    PoolingAllocationConfig, Store, Strategy, WasmFeatures,
};

use crate::check::{Abi, ProgramFacts, Refusal, check};
use crate::cost::operator_cost;
use crate::fixed::{FEATURES, MEMORY_BYTES_MAX, TABLE_ELEMENTS_MAX, TABLES_MAX, WASM_STACK_BYTES};
use crate::unit::{Job, Stop, UnitState, end_of};
use crate::{kernel, wasi};

/// Address space that each memory reserves, so that most accesses need no check. It costs no memory.
pub(crate) const MEMORY_RESERVATION: u64 = 4 << 30;

/// Address space behind each memory that faults.
pub(crate) const MEMORY_GUARD: u64 = 32 << 20;

/// The configured engine with the WASI host.
pub(crate) struct Engine {
    engine: wasmtime::Engine,
    linker: Linker<UnitState>,
}

/// A program that is ready to run.
pub(crate) struct Compiled {
    pre: InstancePre<UnitState>,
    facts: ProgramFacts,
}

/// Why a module was not compiled.
#[derive(Debug)]
pub(crate) enum CompileError {
    /// The profile does not accept it.
    Refused(Refusal),
    /// The compiler or the host gave up.
    Failed(String),
}

/// How a unit ended.
#[derive(Debug)]
pub(crate) struct UnitEnd {
    pub(crate) result: Result<Outcome, Fault>,
    pub(crate) fuel: u64,
    /// Bytes that were written to the job's output; nothing unless the program ended by itself.
    pub(crate) output_len: usize,
    pub(crate) stderr: Vec<u8>,
}

impl Engine {
    /// Builds the engine of this profile.
    pub(crate) fn new() -> wasmtime::Result<Self> {
        let engine = wasmtime::Engine::new(&config())?;
        let mut linker = Linker::new(&engine);
        wasi::link(&mut linker)?;
        Ok(Self { engine, linker })
    }

    /// Checks and compiles a module.
    pub(crate) fn compile(&self, module: &[u8]) -> Result<Compiled, CompileError> {
        let facts = check(module).map_err(CompileError::Refused)?;
        self.compile_unchecked(module, facts)
    }

    /// Compiles a module about which `facts` are true.
    pub(crate) fn compile_unchecked(
        &self,
        module: &[u8],
        facts: ProgramFacts,
    ) -> Result<Compiled, CompileError> {
        let failed = |error: wasmtime::Error| CompileError::Failed(format!("{error:#}"));
        let module = Module::from_binary(&self.engine, module).map_err(failed)?;
        module.initialize_copy_on_write_image().map_err(failed)?;
        let pre = self.linker.instantiate_pre(&module).map_err(failed)?;
        Ok(Compiled { pre, facts })
    }

    /// Runs one unit in a fresh store.
    pub(crate) fn run(&self, program: &Compiled, job: Job) -> UnitEnd {
        let limit = job.limits.fuel;
        let Ok(mut store) = Store::try_new(&self.engine, UnitState::new(job)) else {
            return UnitEnd::fault(Fault::HostMemory);
        };
        store.limiter(|unit| &mut unit.bounds);
        let run = store
            .set_fuel(limit)
            .and_then(|()| program.enter(&mut store));
        let result = match run {
            Ok(()) => Ok(Outcome::Done),
            Err(error) => end_of(&error),
        };
        let left = if result == Ok(Outcome::OutOfFuel) {
            0
        } else {
            store.get_fuel().unwrap_or(0)
        };
        let unit = store.into_data();
        let whole = matches!(result, Ok(Outcome::Done | Outcome::Exit(_)));
        UnitEnd {
            result,
            fuel: limit.saturating_sub(left),
            output_len: if whole { unit.streams.output.len } else { 0 },
            stderr: unit.streams.stderr,
        }
    }
}

impl UnitEnd {
    fn fault(fault: Fault) -> Self {
        Self {
            result: Err(fault),
            fuel: 0,
            output_len: 0,
            stderr: Vec::new(),
        }
    }
}

impl Compiled {
    /// Returns whether the program can start within the limits of a task.
    pub(crate) fn fits(&self, limits: &Limits) -> Result<(), Refusal> {
        self.facts.fits(limits)
    }

    /// Returns the bytes of native code and constants.
    pub(crate) fn code_bytes(&self) -> usize {
        let image = self.pre.module().image_range();
        image.end.addr() - image.start.addr()
    }

    fn enter(&self, store: &mut Store<UnitState>) -> wasmtime::Result<()> {
        let instance = self.pre.instantiate(&mut *store)?;
        let memory = instance
            .get_memory(&mut *store, "memory")
            .ok_or(Stop::Abi)?;
        store.data_mut().memory = Some(memory);
        match self.facts.abi {
            Abi::Wasi => instance
                .get_typed_func::<(), ()>(&mut *store, "_start")?
                .call(&mut *store, ()),
            Abi::Kernel => kernel::run(store, &instance, memory),
        }
    }
}

/// The arguments of a WASI command: the program's name is the same everywhere.
pub(crate) fn argv(args: Vec<String>) -> Arc<[String]> {
    std::iter::once("unit".to_owned()).chain(args).collect()
}

/// Memory of a program that is kept and cleared for the next unit. Clearing it takes less than half as long as
/// getting fresh pages, which is most of the cost of a small unit.
const MEMORY_KEPT_BYTES: usize = 8 << 20;

/// The same for tables.
const TABLE_KEPT_BYTES: usize = 1 << 20;

/// What the engine notes for one instance: 32 bytes a function that is called by pointer, 16 a global.
const INSTANCE_BYTES: usize = 4 << 20;

/// Returns the pool of the one instance that runs at a time.
fn pool() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(1)
        .total_memories(1)
        .total_tables(TABLES_MAX)
        .max_tables_per_module(TABLES_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_memory_size(MEMORY_BYTES_MAX)
        .max_core_instance_size(INSTANCE_BYTES)
        .max_unused_warm_slots(1)
        .linear_memory_keep_resident(MEMORY_KEPT_BYTES)
        .table_keep_resident(TABLE_KEPT_BYTES)
        .pagemap_scan(Enabled::No);
    pool
}

/// Returns the configuration. What a program can notice of it stands in the profile.
fn config() -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool()))
        .cranelift_opt_level(OptLevel::Speed)
        .cranelift_nan_canonicalization(true)
        .consume_fuel(true)
        .operator_cost(operator_cost())
        .max_wasm_stack(WASM_STACK_BYTES)
        .wasm_features(WasmFeatures::all().difference(FEATURES), false)
        .memory_reservation(MEMORY_RESERVATION)
        .memory_guard_size(MEMORY_GUARD)
        .wasm_backtrace_max_frames(None)
        .native_unwind_info(false)
        .generate_address_map(false);
    config
}
