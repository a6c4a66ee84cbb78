//! The bodies of the functions: validated and measured in one pass.

use std::ops::Range;

use wasmparser::{
    BlockType, Data, DataKind, FuncType, FuncValidator, FuncValidatorAllocations, FunctionBody,
    Operator, ValidatorResources,
};

use super::{Objection, Refusal, StaticLimits, refusal};

/// Sums and maxima over the bodies so far.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) functions: u32,
    pub(super) code_bytes: usize,
    pub(super) locals_max: u32,
    pub(super) nesting_max: u32,
    pub(super) locals_total: u64,
    pub(super) values_total: u64,
}

/// What a body is checked against.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) limits: &'a StaticLimits,
    pub(super) types: &'a [FuncType],
}

impl Totals {
    /// Validates one body and adds it. Returns the memory of the validator, for the next body.
    pub(super) fn add(
        &mut self,
        rules: Rules<'_>,
        mut validator: FuncValidator<ValidatorResources>,
        body: &FunctionBody<'_>,
    ) -> Result<FuncValidatorAllocations, Objection> {
        let limits = rules.limits;
        let bytes = body.range().len();
        refusal::at_most("bytes in one function", bytes, limits.body_bytes)?;
        let mut reader = body.get_binary_reader();
        validator.read_locals(&mut reader)?;
        let locals = validator.len_locals();
        refusal::at_most("locals in one function", locals, limits.locals)?;
        self.functions += 1;
        self.code_bytes += bytes;
        self.locals_total += u64::from(locals);
        self.locals_max = self.locals_max.max(locals);
        refusal::at_most(
            "locals in all functions",
            self.locals_total,
            limits.locals_total,
        )?;
        let mut shape = Shape::default();
        let mut operators = wasmparser::OperatorsReader::new(reader);
        while !operators.eof() {
            let (operator, offset) = operators.read_with_offset()?;
            shape.add(rules, &operator)?;
            validator.op(offset, &operator)?;
        }
        operators.finish()?;
        // The compiler may keep a value for each local at each block, beside those that branches carry.
        let values = shape.blocks * u64::from(locals) + shape.values;
        self.values_total += values;
        refusal::at_most(
            "possible values at the joins of one function",
            values,
            limits.values,
        )?;
        refusal::at_most(
            "possible values at the joins of all functions",
            self.values_total,
            limits.values_total,
        )?;
        self.nesting_max = self.nesting_max.max(shape.nesting_max);
        Ok(validator.into_allocations())
    }
}

/// What makes a body expensive to compile.
#[derive(Default)]
struct Shape {
    nesting: u32,
    nesting_max: u32,
    blocks: u64,
    branch_targets: u32,
    /// Values that blocks and branches carry, at most.
    values: u64,
    arity_max: u64,
}

impl Shape {
    fn add(&mut self, rules: Rules<'_>, operator: &Operator<'_>) -> Result<(), Refusal> {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "all other operators cost the same to compile"
        )]
        match operator {
            Operator::Block { blockty } | Operator::Loop { blockty } | Operator::If { blockty } => {
                let arity = arity(rules.types, *blockty);
                self.arity_max = self.arity_max.max(arity);
                self.values += arity;
                self.nesting += 1;
                self.blocks += 1;
                self.nesting_max = self.nesting_max.max(self.nesting);
                refusal::at_most("nested blocks", self.nesting, rules.limits.nesting)?;
            }
            // The last `end` of a body closes no block.
            Operator::End => self.nesting = self.nesting.saturating_sub(1),
            Operator::Br { .. } | Operator::BrIf { .. } => self.values += self.arity_max,
            Operator::BrTable { targets } => {
                self.values += self.arity_max * u64::from(targets.len());
                self.branch_targets = self.branch_targets.saturating_add(targets.len());
                let what = "branch table targets in one function";
                refusal::at_most(what, self.branch_targets, rules.limits.branch_targets)?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// Returns how many values a block takes and gives. The validator refuses a type that does not exist.
fn arity(types: &[FuncType], block: BlockType) -> u64 {
    match block {
        BlockType::Empty => 0,
        BlockType::Type(_) => 1,
        BlockType::FuncType(index) => types
            .get(index as usize)
            .map_or(0, |ty| (ty.params().len() + ty.results().len()) as u64),
    }
}

/// How much data there is, and where it goes.
#[derive(Default)]
pub(super) struct DataExtent {
    pub(super) bytes: usize,
    range: Option<Range<u64>>,
}

impl DataExtent {
    pub(super) fn add(&mut self, segment: &Data<'_>) {
        self.bytes += segment.data.len();
        let DataKind::Active { offset_expr, .. } = &segment.kind else {
            return;
        };
        // An address that is not a plain constant is found when the program starts, and costs nothing here.
        let Ok(Operator::I32Const { value }) = offset_expr.get_operators_reader().read() else {
            return;
        };
        let start = u64::from(value.cast_unsigned());
        let end = start + segment.data.len() as u64;
        let range = self.range.take().unwrap_or(start..end);
        self.range = Some(range.start.min(start)..range.end.max(end));
    }

    /// Returns the bytes from the start of the first segment to the end of the last.
    pub(super) fn span(&self) -> u64 {
        self.range
            .as_ref()
            .map_or(0, |range| range.end - range.start)
    }
}
