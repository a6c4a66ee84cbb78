//! Modules with flipped bits: the check and the child never fall over one.

use tally_sandbox::{Batch, Program};

use crate::common::{LIMITS, guest, sandbox};
use tally_protocol::unit::Limits;

const MUTANTS: u64 = 400;

#[test]
fn modules_with_flipped_bits_are_refused_or_run() {
    let originals = ["echo", "kernel-echo", "spin"].map(guest);
    let mut sandbox = sandbox();
    let (mut refused, mut ran) = (0, 0);
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..MUTANTS {
        let original = &originals[(round % 3) as usize];
        let mut bytes = original.module().to_vec();
        for _ in 0..=round % 3 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let bit = (random >> 20) as usize % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        let mutant = Program::new(bytes.into());
        sandbox.input(4).unwrap().copy_from_slice(b"abcd");
        let units = [tally_sandbox::UnitSpec {
            index: 0,
            params: String::new(),
            input: 0..4,
        }];
        let limits = Limits {
            fuel: 10_000_000,
            ..LIMITS
        };
        let batch = Batch {
            program: &mutant,
            args: &[],
            unit_count: 1,
            seed: [0; 32],
            limits,
            units: &units,
        };
        let report = sandbox.run(&batch, &mut |_| {}).unwrap();
        assert!(report.deaths.is_empty(), "mutant {round}: {report:?}");
        if report.refusal.is_some() {
            refused += 1
        } else {
            ran += 1
        }
    }
    assert!(refused > 100 && ran > 10, "{refused} refused, {ran} ran");
}
