//! The price of each WebAssembly operator in fuel.
//!
//! Fuel is what owners are paid for, so equal fuel should take about equal time whatever the program does;
//! else owners would pick the programs that are cheap to run. One fuel is about one simple instruction. What
//! costs nothing in machine code (locals, constants) costs nothing here. Prices were measured on the kernels
//! that `docs/sandbox.md` lists; the table is hashed into the profile id, so that a changed price is a new
//! profile.

use wasmtime::{OperatorCost, VariableOperatorCost};

/// Returns the table.
pub(crate) fn operator_cost() -> OperatorCost {
    let mut cost = OperatorCost::new();
    free(&mut cost);
    memory(&mut cost);
    integers(&mut cost);
    floats(&mut cost);
    float_vectors(&mut cost);
    control(&mut cost);
    bulk(&mut cost);
    cost
}

/// Sets one price for several operators.
macro_rules! price {
    ($cost:ident, $fuel:literal: $($operator:ident)+) => { $( $cost.$operator = $fuel; )+ };
}

/// What the compiler turns into register names or immediate operands.
fn free(cost: &mut OperatorCost) {
    price!(cost, 0: LocalGet LocalSet LocalTee I32Const I64Const F32Const F64Const V128Const
        I32WrapI64 I64ExtendI32U I32ReinterpretF32 I64ReinterpretF64 F32ReinterpretI32 F64ReinterpretI64
        Nop Drop Block Loop Else End Unreachable);
}

fn memory(cost: &mut OperatorCost) {
    price!(cost, 2: I32Load I64Load F32Load F64Load I32Load8S I32Load8U I32Load16S I32Load16U I64Load8S
        I64Load8U I64Load16S I64Load16U I64Load32S I64Load32U);
}

fn integers(cost: &mut OperatorCost) {
    price!(cost, 2: I32Mul I64Mul);
    price!(cost, 16: I32DivS I32DivU I32RemS I32RemU I64DivS I64DivU I64RemS I64RemU);
}

fn floats(cost: &mut OperatorCost) {
    price!(cost, 6: F32Add F32Sub F32Mul F64Add F64Sub F64Mul);
    price!(cost, 16: F32Div F32Sqrt F64Div F64Sqrt);
}

fn float_vectors(cost: &mut OperatorCost) {
    price!(cost, 6: F32x4Add F32x4Sub F32x4Mul F64x2Add F64x2Sub F64x2Mul);
    price!(cost, 20: F32x4Div F32x4Sqrt F64x2Div F64x2Sqrt);
}

fn control(cost: &mut OperatorCost) {
    price!(cost, 4: Call CallIndirect);
}

fn bulk(cost: &mut OperatorCost) {
    price!(cost, 255: MemoryGrow TableGrow);
    price!(cost, 20: MemoryCopy MemoryFill MemoryInit TableCopy TableFill TableInit);
    cost.variable = VariableOperatorCost {
        memory_grow_per_page: 255,
        ..VariableOperatorCost::new()
    };
}
