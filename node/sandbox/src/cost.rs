//! The price of each WebAssembly operator in fuel.
//!
//! Fuel is what owners are paid for, so equal fuel should take about equal time whatever the program does;
//! else owners would pick the programs that are cheap to run. One fuel is about one simple instruction: a third
//! of a nanosecond where each waits for the one before, a tenth where four run at once. What becomes no machine
//! code of its own (locals, constants, the ends of blocks) costs nothing. Prices were measured by
//! `examples/fuel_rates.rs`, and `docs/sandbox.md` says what came out; the table is hashed into the profile id,
//! so that a changed price is a new profile.

use wasmtime::{OperatorCost, VariableOperatorCost};

/// Sets one price for several operators. What is not mentioned costs 1.
macro_rules! price {
    ($cost:ident, $fuel:literal: $($operator:ident)+) => { $( $cost.$operator = $fuel; )+ };
}

/// Returns the table.
pub(crate) fn operator_cost() -> OperatorCost {
    let mut cost = OperatorCost::new();
    free(&mut cost);
    control(&mut cost);
    memory(&mut cost);
    bulk(&mut cost);
    integers(&mut cost);
    floats(&mut cost);
    integer_vectors(&mut cost);
    float_vectors(&mut cost);
    cost
}

/// What the compiler turns into names of registers, operands, or nothing.
fn free(cost: &mut OperatorCost) {
    price!(cost, 0: LocalGet LocalSet LocalTee I32Const I64Const F32Const F64Const V128Const
        I32WrapI64 I64ExtendI32U I32ReinterpretF32 I64ReinterpretF64 F32ReinterpretI32 F64ReinterpretI64
        Nop Drop Block Loop Else End Unreachable Return);
}

/// A comparison and its branch are one machine instruction, but are priced apart: 1 each.
fn control(cost: &mut OperatorCost) {
    price!(cost, 8: Call);
    price!(cost, 10: CallIndirect);
    price!(cost, 4: BrTable);
}

fn memory(cost: &mut OperatorCost) {
    price!(cost, 2: I32Load I64Load F32Load F64Load I32Load8S I32Load8U I32Load16S I32Load16U I64Load8S
        I64Load8U I64Load16S I64Load16U I64Load32S I64Load32U);
    price!(cost, 3: I32Store I64Store F32Store F64Store I32Store8 I32Store16 I64Store8 I64Store16 I64Store32);
    price!(cost, 2: V128Store V128Load8x8S V128Load8x8U V128Load16x4S V128Load16x4U V128Load32x2S
        V128Load32x2U V128Load8Splat V128Load16Splat V128Load32Splat V128Load64Splat V128Load32Zero
        V128Load64Zero V128Store8Lane V128Store16Lane V128Store32Lane V128Store64Lane);
    price!(cost, 3: V128Load8Lane V128Load16Lane V128Load32Lane V128Load64Lane);
    price!(cost, 2: GlobalSet TableGet TableSet TableSize MemorySize);
}

/// Bulk operators call into the host, then cost 1 a byte or element. Growing asks the kernel for pages, which
/// it must clear.
fn bulk(cost: &mut OperatorCost) {
    price!(cost, 40: MemoryCopy MemoryFill MemoryInit DataDrop TableCopy TableFill TableInit ElemDrop);
    price!(cost, 255: MemoryGrow TableGrow);
    cost.variable = VariableOperatorCost {
        memory_grow_per_page: 255,
        ..VariableOperatorCost::new()
    };
}

fn integers(cost: &mut OperatorCost) {
    price!(cost, 3: I32Mul I64Mul);
    price!(cost, 2: I32Clz I32Ctz I32Popcnt I64Clz I64Ctz I64Popcnt);
    price!(cost, 16: I32DivS I32DivU I32RemS I32RemU I64DivS I64DivU I64RemS I64RemU);
}

/// Arithmetic that may give a NaN is followed by a comparison and a choice that make it the canonical one.
fn floats(cost: &mut OperatorCost) {
    price!(cost, 10: F32Add F32Sub F32Mul F32Min F32Max F64Add F64Sub F64Mul F64Min F64Max);
    price!(cost, 20: F32Div F32Sqrt F64Div F64Sqrt);
    price!(cost, 12: F32Ceil F32Floor F32Trunc F32Nearest F64Ceil F64Floor F64Trunc F64Nearest);
    price!(cost, 6: I32TruncF32S I32TruncF32U I32TruncF64S I32TruncF64U I64TruncF32S I64TruncF32U I64TruncF64S
        I64TruncF64U I32TruncSatF32S I32TruncSatF32U I32TruncSatF64S I32TruncSatF64U I64TruncSatF32S
        I64TruncSatF32U I64TruncSatF64S I64TruncSatF64U F32DemoteF64 F64PromoteF32);
    price!(cost, 3: F32ConvertI32S F32ConvertI32U F32ConvertI64S F32ConvertI64U F64ConvertI32S F64ConvertI32U
        F64ConvertI64S F64ConvertI64U F32Copysign F64Copysign);
}

/// Most vector operators are one machine instruction, like their scalar kin; these are more.
fn integer_vectors(cost: &mut OperatorCost) {
    price!(cost, 2: I8x16Swizzle I8x16Shuffle I16x8Q15MulrSatS I8x16ExtractLaneS I8x16ExtractLaneU I16x8ExtractLaneS I16x8ExtractLaneU I32x4ExtractLane I64x2ExtractLane
        F32x4ExtractLane F64x2ExtractLane I8x16Bitmask I16x8Bitmask I32x4Bitmask I64x2Bitmask V128AnyTrue
        I8x16AllTrue I16x8AllTrue I32x4AllTrue I64x2AllTrue V128Bitselect I64x2Abs I64x2ShrS
        I16x8ExtAddPairwiseI8x16S I16x8ExtAddPairwiseI8x16U I32x4ExtAddPairwiseI16x8S I32x4ExtAddPairwiseI16x8U);
    price!(cost, 3: I16x8ExtMulLowI8x16S I16x8ExtMulHighI8x16S I16x8ExtMulLowI8x16U I16x8ExtMulHighI8x16U
        I32x4ExtMulLowI16x8S I32x4ExtMulHighI16x8S I32x4ExtMulLowI16x8U I32x4ExtMulHighI16x8U
        I64x2ExtMulLowI32x4S I64x2ExtMulHighI32x4S I64x2ExtMulLowI32x4U I64x2ExtMulHighI32x4U);
    price!(cost, 4: I32x4Mul I8x16Shl I8x16ShrS I8x16ShrU);
    price!(cost, 6: I64x2Mul I8x16Popcnt);
}

fn float_vectors(cost: &mut OperatorCost) {
    price!(cost, 10: F32x4Add F32x4Sub F32x4Mul F32x4Min F32x4Max F64x2Add F64x2Sub F64x2Mul F64x2Min F64x2Max);
    price!(cost, 20: F32x4Div F32x4Sqrt F64x2Div F64x2Sqrt);
    price!(cost, 12: F32x4Ceil F32x4Floor F32x4Trunc F32x4Nearest F64x2Ceil F64x2Floor F64x2Trunc F64x2Nearest);
    price!(cost, 6: I32x4TruncSatF32x4S I32x4TruncSatF32x4U I32x4TruncSatF64x2SZero I32x4TruncSatF64x2UZero
        F32x4ConvertI32x4S F32x4ConvertI32x4U F64x2ConvertLowI32x4S F64x2ConvertLowI32x4U F32x4DemoteF64x2Zero
        F64x2PromoteLowF32x4 F32x4PMin F32x4PMax F64x2PMin F64x2PMax);
}
