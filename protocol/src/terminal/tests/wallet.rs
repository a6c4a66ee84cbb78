//! Stories about what coordinators owe.

use std::ops::Range;

use super::*;
use crate::account::Holder;
use crate::message::work::UnpaidReason;
use crate::points::Points;
use crate::receipt::{BatchShare, Validation};

#[test]
fn a_receipt_is_checked_kept_and_acknowledged_once_it_is_durable() {
    let mut bench = Bench::new(1);
    let batch = bench.counted(0..3);
    assert_eq!(bench.owed(), 3);
    let receipt = bench.receipt(&batch, 0..3);
    let pull = bench.collect();
    bench.pay(&pull, &[&receipt]);
    assert_eq!(bench.kept(), [(receipt.id(), Standing::Checked)]);
    assert_eq!(bench.owed(), 0);
    assert!(
        bench.collect_now().is_none(),
        "nothing may be acknowledged yet"
    );
    let (by, receipts) = (node(1), vec![receipt.id()]);
    bench.step(Input::Kept { by, receipts });
    let pull = bench.collect();
    assert_eq!(pull.kept, [receipt.id()]);
    bench.step(Input::Failed {
        question: pull.question,
        refusal: None,
    });
    let again = bench.collect();
    assert_eq!(again.kept, [receipt.id()], "nobody has heard it");
    bench.pay(&again, &[&receipt]);
    assert!(bench.kept().is_empty(), "it is here");
    assert_eq!(bench.collect().kept, [receipt.id()]);
}

#[test]
fn a_receipt_that_pays_a_result_again_is_disputed_once() {
    let mut bench = Bench::new(1);
    let batch = bench.counted(0..3);
    let first = bench.receipt(&batch, 0..2);
    let again = bench.receipt_with(&batch, 1..3, |receipt| receipt.sequence = 1);
    let twice = bench.receipt_with(&batch, 2..3, |receipt| {
        receipt.sequence = 1;
        receipt.shares.push(receipt.shares[0].clone());
        receipt.units = 2;
    });
    for receipt in [&again, &twice] {
        let pull = bench.collect();
        bench.pay(&pull, &[&first, receipt]);
        assert_eq!(bench.faults(), [ReceiptFault::Twice]);
    }
    let pull = bench.collect();
    bench.pay(&pull, &[&again]);
    assert!(bench.faults().is_empty(), "it was said already");
    assert_eq!(bench.owed(), 1);
}

#[test]
fn whatever_a_forged_receipt_says_otherwise_is_found() {
    type Forge = fn(&mut Receipt);
    let forgeries: [(ReceiptFault, Forge); 16] = [
        (ReceiptFault::OtherAmounts, |r| r.fuel += 1),
        (ReceiptFault::OtherAmounts, |r| r.bytes -= 1),
        (ReceiptFault::OtherAmounts, |r| r.pixels += 1),
        (ReceiptFault::OtherAmounts, |r| {
            r.points = Points::from_micro(r.points.as_micro() - 1);
        }),
        (ReceiptFault::Malformed, |r| r.units += 1),
        (ReceiptFault::Malformed, |r| r.shares[0].runs.clear()),
        (ReceiptFault::OtherDevice, |r| {
            r.holder = Holder::alone(node(8));
        }),
        (ReceiptFault::OtherOwner, |r| r.holder.owner = node(8)),
        (ReceiptFault::UnknownLeaf, |r| r.shares[0].runs[0].unit += 1),
        (ReceiptFault::UnknownLeaf, |r| r.shares[0].runs[0].leaf += 9),
        (ReceiptFault::OtherTask, |r| {
            r.task = TaskId::from_bytes([9; 32]);
        }),
        (ReceiptFault::OtherCard, |r| {
            r.rate_card = card(node(2)).id()
        }),
        (ReceiptFault::OtherProfile, |r| {
            r.profile = "test-2".parse().unwrap();
        }),
        (ReceiptFault::Times, |r| {
            r.done_at = r.done_at + Duration::from_secs(900);
        }),
        (ReceiptFault::Times, |r| {
            r.leased_at = r.done_at + Duration::from_millis(1);
        }),
        (ReceiptFault::Times, |r| {
            (r.leased_at, r.done_at) = (Timestamp::default(), Timestamp::from_millis(1));
        }),
    ];
    for (place, (fault, forge)) in forgeries.into_iter().enumerate() {
        let mut bench = Bench::new(1);
        let batch = bench.counted(0..3);
        let receipt = bench.receipt_with(&batch, 0..3, forge);
        let pull = bench.collect();
        bench.pay(&pull, &[&receipt]);
        assert_eq!(bench.faults(), [fault], "forgery {place}");
        assert_eq!((bench.owed(), bench.kept().len()), (3, 0));
    }
}

#[test]
fn a_receipt_of_another_coordinator_pays_nothing() {
    let mut bench = Bench::new(1);
    let batch = bench.counted(0..1);
    let own = bench.receipt(&batch, 0..1);
    let key = SigningKey::from_bytes(&[2; 32]);
    let foreign = Verified::sign(own.value().clone(), &network(), &key);
    let pull = bench.collect();
    bench.pay(&pull, &[&foreign]);
    assert_eq!(bench.faults(), [ReceiptFault::OtherSigner]);
    let other = bench.found(2);
    bench.pay(&other, &[&foreign]);
    assert_eq!(
        bench.kept(),
        [(foreign.id(), Standing::Unchecked)],
        "a gift, for all that is known"
    );
    assert_eq!(bench.owed(), 1);
}

#[test]
fn two_receipts_of_one_sequence_are_found_and_a_missing_one_is_asked_for() {
    let mut bench = Bench::new(1);
    let batch = bench.counted(0..4);
    let at = |bench: &Bench, unit, number| {
        bench.receipt_with(&batch, unit..unit + 1, |receipt| receipt.sequence = number)
    };
    let receipts = [
        at(&bench, 0, 0),
        at(&bench, 1, 0),
        at(&bench, 2, 2),
        at(&bench, 1, 1),
    ];
    let pull = bench.collect();
    bench.pay(&pull, &[&receipts[0], &receipts[1]]);
    assert_eq!(bench.faults(), [ReceiptFault::SequenceUsed]);
    assert!(!bench.out.contains(&Effect::CatchUp(node(1))));
    let pull = bench.collect();
    bench.pay(&pull, &[&receipts[2]]);
    assert_eq!(bench.kept().len(), 1, "it is as good as any");
    assert!(bench.out.contains(&Effect::CatchUp(node(1))));
    let pull = bench.collect();
    bench.pay(&pull, &[&receipts[3]]);
    assert_eq!((bench.kept().len(), bench.faults().len()), (1, 0));
}

#[test]
fn a_receipt_from_the_log_pays_like_one_from_an_answer() {
    let mut bench = Bench::new(1);
    let batch = bench.counted(0..2);
    let (good, forged) = (
        bench.receipt(&batch, 0..1),
        bench.receipt_with(&batch, 1..2, |receipt| {
            (receipt.sequence, receipt.fuel) = (1, 9);
        }),
    );
    bench.step(Input::Logged {
        by: node(1),
        receipts: vec![good.clone(), forged],
    });
    assert_eq!(bench.kept(), [(good.id(), Standing::Checked)]);
    assert_eq!(bench.faults(), [ReceiptFault::OtherAmounts]);
    assert_eq!(bench.owed(), 1);
}

#[test]
fn a_receipt_that_was_kept_before_the_start_is_acknowledged() {
    let mut bench = Bench::new(1);
    let pull = bench.found(1);
    let id = ReceiptId::from_bytes([7; 32]);
    let (by, receipts) = (node(1), vec![id]);
    bench.step(Input::Kept { by, receipts });
    bench.answer(&pull, None);
    assert_eq!(bench.collect().kept, [id]);
}

#[test]
fn what_is_not_paid_is_cleared_with_its_reason() {
    let mut bench = Bench::new(1);
    let batch = bench.counted(0..3);
    let pull = bench.collect();
    let (task, reason) = (TaskId::from_bytes([1; 32]), UnpaidReason::Outvoted);
    let unpaid = [7, 1].map(|unit| Unpaid { task, unit, reason });
    let answer = Answer {
        unpaid: unpaid.to_vec(),
        ..Answer::default()
    };
    bench.answer_with(&pull, answer);
    let leaf = UnpaidLeaf {
        batch: batch.0,
        leaf: 1,
        reason,
    };
    assert!(bench.out.contains(&Effect::GiveUp(node(1), vec![leaf])));
    let totals = bench.credit().totals;
    assert_eq!((totals.owed().results, totals.unpaid.results), (2, 1));
    let receipt = bench.receipt(&batch, 0..3);
    let pull = bench.collect();
    bench.pay(&pull, &[&receipt]);
    let totals = bench.credit().totals;
    assert_eq!(
        (totals.paid.results, totals.unpaid.results),
        (3, 0),
        "paid after all"
    );
}

#[test]
fn a_coordinator_that_owes_gets_reports_and_questions_and_no_more_work_until_it_pays() {
    let mut bench = Bench::new(1);
    let mut batches = Vec::new();
    for unit in 0..3 {
        assert!(!bench.credit_or_default().owing);
        batches.push(bench.counted_slow(unit..unit + 1, 16_000));
    }
    let credit = bench.credit();
    assert_eq!(
        (credit.owing, credit.limit),
        (true, Duration::from_secs(30))
    );
    assert_eq!(credit.totals.owed().time(), Duration::from_secs(48));
    let mut pauses = Vec::new();
    for _ in 0..9 {
        let before = bench.now;
        let pull = bench.collect();
        pauses.push(bench.now.since(before).as_secs());
        let tried = pauses.iter().sum::<u64>() > 60;
        assert_eq!(
            pull.want,
            u32::from(tried),
            "a unit on trial after a minute"
        );
        bench.pay(&pull, &[]);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    bench.step(Input::Nudged {
        by: node(1),
        task: TaskId::from_bytes([1; 32]),
    });
    assert!(bench.pull().is_none(), "it may call as it likes");
    let first = bench.receipt(&batches[0], 0..1);
    let pull = bench.collect();
    bench.pay(&pull, &[&first]);
    assert!(!bench.credit().owing);
    assert_eq!(
        bench.credit().limit,
        Duration::from_millis(31_600),
        "a tenth more"
    );
    let before = bench.now;
    assert!(bench.collect().want > 0);
    assert!(bench.now.since(before) < Duration::from_secs(1));
}

#[test]
fn a_coordinator_that_owes_gets_a_unit_on_trial_at_once_if_it_pays_and_less_and_less_often_if_not()
{
    let mut bench = Bench::new(1);
    for unit in 0..3 {
        bench.counted_slow(unit..unit + 1, 16_000);
    }
    assert!(bench.credit().owing);
    let mut pauses = Vec::new();
    let mut before = bench.now;
    let mut unit = 3;
    while pauses.len() < 13 {
        let pull = bench.trial();
        pauses.push(bench.now.since(before).as_secs() / 60);
        before = bench.now;
        bench.work_off(&pull, unit);
        unit += 1;
    }
    // The questions on which they ride are a minute apart.
    assert_eq!(pauses[..7], [1, 2, 4, 8, 16, 32, 64]);
    assert_eq!(pauses[11..], [1_440, 1_440], "at last one a day");
    let pull = bench.trial();
    let batch = bench.work_off(&pull, unit);
    let receipt = bench.receipt(&batch, 0..1);
    let pull = bench.collect();
    assert_eq!(pull.want, 0, "the last one is not paid");
    bench.pay(&pull, &[&receipt]);
    before = bench.now;
    assert!(bench.credit().owing, "it owes as much as before");
    bench.trial();
    assert_eq!(bench.now.since(before).as_secs(), 1, "from hand to mouth");
}

#[test]
fn receipts_come_with_the_answers_to_renewals_while_there_is_work() {
    let mut bench = Bench::new(1);
    bench.counted_slow(0..1, 5_000);
    let pull = bench.collect();
    assert!(pull.want > 0);
    let before = bench.now;
    let grant = bench.grant(1, 1..2, 60_000);
    bench.answer(&pull, Some(&grant));
    let renewal = bench.collect();
    assert_eq!(renewal.renew, [grant.id]);
    assert_eq!(
        bench.now.since(before).as_secs(),
        20,
        "a third of the lease"
    );
}

#[test]
fn nothing_is_tried_while_a_slot_is_busy_or_the_last_unit_is_not_reported() {
    let mut bench = Bench::new(1);
    for unit in 0..3 {
        bench.counted_slow(unit..unit + 1, 16_000);
    }
    let pull = bench.trial();
    let grant = bench.grant(1, 3..4, 7_200_000);
    bench.answer(&pull, Some(&grant));
    for _ in 0..100 {
        let pull = bench.collect();
        assert_eq!(pull.want, 0);
        bench.answer(&pull, None);
    }
}

#[test]
fn results_that_are_owed_for_long_are_asked_about_and_what_is_settled_is_looked_up_in_the_log() {
    let mut bench = Bench::new(1);
    let batch = bench.counted(0..3);
    let asked = |pull: &PullOut| {
        let all = pull.owed.iter().flat_map(|owed| owed.units.clone());
        all.collect::<Vec<u32>>()
    };
    for _ in 0..3 {
        let pull = bench.collect();
        assert_eq!(asked(&pull), [0; 0], "a receipt is on its way");
        bench.pay(&pull, &[]);
    }
    let pull = bench.collect();
    assert_eq!(asked(&pull), [0, 1, 2]);
    let task = TaskId::from_bytes([1; 32]);
    let unpaid = |unit, reason| Unpaid { task, unit, reason };
    let answer = Answer {
        unpaid: vec![
            unpaid(0, UnpaidReason::Settled),
            unpaid(2, UnpaidReason::Outvoted),
        ],
        ..Answer::default()
    };
    bench.answer_with(&pull, answer);
    assert!(bench.out.contains(&Effect::CatchUp(node(1))));
    assert_eq!(bench.owed(), 1);
    let receipt = bench.receipt(&batch, 0..1);
    bench.step(Input::Logged {
        by: node(1),
        receipts: vec![receipt],
    });
    let totals = bench.credit().totals;
    assert_eq!((totals.paid.results, totals.unpaid.results), (1, 1));
}

#[test]
fn what_is_not_paid_of_results_that_a_restart_forgot_is_owed_no_more() {
    let totals = Totals {
        counted: Effort {
            results: 4,
            nanos: 64_000_000_000,
        },
        ..Totals::default()
    };
    let mut bench = Bench::new(1);
    bench.machine.remember(node(1), totals);
    bench.step(Input::Found(node(1)));
    let pull = bench.collect();
    assert!(pull.owed.is_empty(), "nobody knows which they were");
    let (task, reason) = (TaskId::from_bytes([1; 32]), UnpaidReason::TaskEnded);
    let answer = Answer {
        unpaid: (0..3).map(|unit| Unpaid { task, unit, reason }).collect(),
        ..Answer::default()
    };
    bench.answer_with(&pull, answer);
    let totals = bench.credit().totals;
    assert_eq!((totals.owed().results, totals.unpaid.results), (1, 3));
    assert!(!bench.credit().owing);
}

#[test]
fn results_that_run_for_hours_may_be_owed_for_each_slot() {
    let mut bench = Bench::new(2);
    for unit in 0..4 {
        bench.counted_slow(unit..unit + 1, 3_600_000);
        assert!(!bench.credit().owing, "somebody else has to run them too");
    }
    bench.counted_slow(4..5, 3_600_000);
    assert!(bench.credit().owing);
}

#[test]
fn a_restart_forgets_the_leaves_and_not_the_debt() {
    let mut bench = Bench::new(1);
    let batches = [0, 1, 2, 3].map(|unit| bench.counted_slow(unit..unit + 1, 16_000));
    let receipts = [0, 1].map(|unit: u32| {
        let units = unit..unit + 1;
        bench.receipt_with(&batches[unit as usize], units, |receipt| {
            receipt.sequence = u64::from(unit) + 5;
        })
    });
    let totals = bench.credit().totals;
    let mut bench = Bench::new(1);
    bench.now = bench.now + Duration::from_secs(60);
    bench.machine.remember(node(1), totals);
    bench.step(Input::Found(node(1)));
    bench.pass(1_000);
    let pull = bench.pull().expect("asks for receipts");
    assert_eq!((pull.want, bench.credit().owing), (0, true));
    bench.pay(&pull, &[&receipts[1], &receipts[0]]);
    let standings: Vec<Standing> = bench.kept().into_iter().map(|(_, how)| how).collect();
    assert_eq!(standings, [Standing::Unchecked; 2]);
    let totals = bench.credit().totals;
    assert_eq!(
        totals.owed(),
        Effort {
            results: 2,
            nanos: 32_000_000_000
        }
    );
}

#[test]
fn a_receipt_of_a_batch_that_nobody_made_is_disputed_unless_a_crash_may_have_lost_it() {
    for (seconds, fault) in [(500, None), (601, Some(ReceiptFault::UnknownBatch))] {
        let mut bench = Bench::new(1);
        let batch = bench.counted(0..1);
        let later = bench.now + Duration::from_secs(seconds);
        let receipt = bench.receipt_with(&batch, 0..1, |receipt| {
            receipt.shares[0].batch = Hash::from_bytes([7; 32]);
            (receipt.leased_at, receipt.done_at) = (later, later);
        });
        bench.pass(700_000);
        bench.fail_all();
        let pull = bench.collect();
        bench.pay(&pull, &[&receipt]);
        assert_eq!(bench.faults(), fault.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn a_batch_whose_answer_was_lost_is_paid_nevertheless() {
    let mut bench = Bench::new(1);
    let pull = bench.found(1);
    let grant = bench.grant(1, 0..1, 60_000);
    bench.answer(&pull, Some(&grant));
    bench.run(Job(1), 0, 10);
    let lost = bench.pull().unwrap();
    bench.step(Input::Failed {
        question: lost.question,
        refusal: None,
    });
    let again = bench.collect();
    assert_eq!(again.results, lost.results);
    let batch = (lost.batch.as_ref().unwrap().root, bench.now, 0);
    let receipt = bench.receipt(&batch, 0..1);
    let answer = Answer {
        verdicts: vec![ResultVerdict::NotLeased],
        receipts: vec![receipt.clone()],
        ..Answer::default()
    };
    bench.answer_with(&again, answer);
    assert_eq!(bench.kept(), [(receipt.id(), Standing::Checked)]);
    assert_eq!((bench.owed(), bench.credit().totals.paid.results), (0, 1));
}

#[test]
fn forgotten_leaves_stay_owed_and_no_more_than_the_bound_are_remembered() {
    let mut bench = Bench::new(1);
    let mut first = None;
    let batch = 1_000;
    let batches = u32::try_from(LEAVES_MAX).unwrap() / batch + 3;
    for number in 0..batches {
        let units = number * batch..(number + 1) * batch;
        let made = bench.counted_of(units, 0);
        first.get_or_insert(made);
    }
    let gauges = bench.machine.gauges();
    assert!(gauges.leaves <= LEAVES_MAX, "{gauges:?}");
    assert_eq!(gauges.owed, u64::from(batches * batch));
    let receipt = bench.receipt(&first.unwrap(), 0..10);
    let pull = bench.collect();
    bench.pay(&pull, &[&receipt]);
    assert_eq!(bench.kept(), [(receipt.id(), Standing::Unchecked)]);
    assert_eq!(bench.owed(), u64::from(batches * batch) - 10);
}

#[test]
fn a_certified_terminal_shows_whose_it_is_until_that_ends() {
    let mut bench = Bench::new(1);
    let owner = SigningKey::from_bytes(&[77; 32]);
    let certificate = DeviceCertificate {
        device: node(9),
        not_before: bench.now,
        not_after: bench.now + Duration::from_secs(100),
        serial: 1,
        redeem_points: Points::ZERO,
    };
    let certificate = Verified::sign(certificate, &network(), &owner);
    bench.machine.config.certificate = Some(certificate.clone());
    let batch = bench.counted(0..1);
    let pull = bench.collect();
    assert_eq!(pull.certificate, Some(certificate.signed().clone()));
    let alone = bench.receipt(&batch, 0..1);
    let owned = bench.receipt_with(&batch, 0..1, |receipt| {
        receipt.holder.owner = certificate.signer();
    });
    bench.pay(&pull, &[&alone, &owned]);
    assert_eq!(bench.faults(), [ReceiptFault::OtherOwner]);
    assert_eq!(bench.kept(), [(owned.id(), Standing::Checked)]);
    bench.pass(100_000);
    bench.fail_all();
    assert_eq!(bench.collect().certificate, None);
}

#[test]
fn a_grant_without_the_rate_card_that_it_names_is_not_taken() {
    let other = |card: &RateCard| RateCard {
        version: 2,
        ..card.clone()
    };
    let absurd = |card: &RateCard| {
        let mut rates = card.rates.clone();
        rates.fuel_min = 0;
        RateCard {
            rates,
            ..card.clone()
        }
    };
    let own = card(node(1));
    let sign = |card, by: u8| Verified::sign(card, &network(), &SigningKey::from_bytes(&[by; 32]));
    let cards = [
        None,
        Some(sign(own.value().clone(), 2)),
        Some(sign(other(own.value()), 1)),
        Some(sign(absurd(own.value()), 1)),
    ];
    for shown in cards {
        let mut bench = Bench::new(1);
        let pull = bench.found(1);
        let mut grant = bench.grant(1, 0..1, 60_000).value().clone();
        // The last one is named, and makes no sense.
        if shown.as_ref().is_some_and(|card| card.rates.fuel_min == 0) {
            grant.rate_card = shown.as_ref().unwrap().id();
        }
        let answer = Answer {
            grant: Some(sign_grant(grant)),
            card: shown,
            ..Answer::default()
        };
        bench.answer_with(&pull, answer);
        assert!(bench.out.is_empty(), "{:?}", bench.out);
        assert_eq!(bench.machine.gauges().grants, 0);
    }
}

/// The root of a batch, when its units were leased, and the first of them.
type Made = (Hash, Timestamp, u32);

impl Bench {
    /// Has units run in one job and counted.
    fn counted(&mut self, units: Range<u32>) -> Made {
        self.counted_slow(units, 10)
    }

    /// The same, each unit taking so long.
    fn counted_slow(&mut self, units: Range<u32>, millis: u64) -> Made {
        self.counted_of(units, millis)
    }

    fn counted_of(&mut self, units: Range<u32>, millis: u64) -> Made {
        let pull = if self.machine.links.is_empty() {
            self.found(1)
        } else {
            self.collect()
        };
        // As if so many had been wanted: these stories are not about the store.
        let asked = self.machine.questions.get_mut(&pull.question).unwrap();
        asked.want = u32::try_from(units.len()).unwrap();
        let (grant, leased_at) = (self.grant(1, units.clone(), 600_000), self.now);
        // And as if nothing more were, until all is run.
        self.machine.draining = true;
        self.answer(&pull, Some(&grant));
        while let Some((job, places)) = self.first_job() {
            let runs = places.map(|place| run_of(grant.units[place].unit, millis));
            let runs = runs.collect();
            self.step(Input::Ran { job, runs });
            self.step(Input::Finished(job));
        }
        self.machine.draining = false;
        let pull = loop {
            let pull = self.collect();
            if !pull.results.is_empty() {
                break pull;
            }
            self.answer(&pull, None);
        };
        assert_eq!(pull.results.len(), units.len(), "all in one batch");
        let answer = Answer {
            verdicts: vec![ResultVerdict::Counted; units.len()],
            ..Answer::default()
        };
        self.answer_with(&pull, answer);
        (pull.batch.unwrap().root, leased_at, units.start)
    }

    fn first_job(&self) -> Option<(Job, Range<usize>)> {
        self.out.iter().find_map(|effect| match effect {
            Effect::Execute { job, places, .. } => Some((*job, places.clone())),
            _ => None,
        })
    }

    /// Makes the receipt that an honest coordinator gives for these leaves of a batch.
    fn receipt(&self, made: &Made, leaves: Range<u32>) -> Verified<Receipt> {
        self.receipt_with(made, leaves, |_| {})
    }

    fn receipt_with(
        &self,
        (batch, leased_at, first): &Made,
        leaves: Range<u32>,
        forge: impl FnOnce(&mut Receipt),
    ) -> Verified<Receipt> {
        let units = u32::try_from(leaves.len()).unwrap();
        let mut share = BatchShare {
            batch: *batch,
            runs: Vec::new(),
        };
        for leaf in leaves {
            share.push(leaf, first + leaf);
        }
        let mut receipt = Receipt {
            sequence: 0,
            holder: Holder::alone(node(9)),
            task: TaskId::from_bytes([1; 32]),
            shares: vec![share],
            units,
            fuel: 5 * u64::from(units),
            bytes: 4 * u64::from(units),
            pixels: 0,
            points: Points::from_micro(1_000 * u64::from(units)),
            rate_card: card(node(1)).id(),
            profile: profile(),
            validation: Validation::Quorum(2),
            leased_at: *leased_at,
            done_at: self.now,
        };
        forge(&mut receipt);
        Verified::sign(receipt, &network(), &SigningKey::from_bytes(&[1; 32]))
    }

    fn pay(&mut self, pull: &PullOut, receipts: &[&Verified<Receipt>]) {
        let answer = Answer {
            receipts: receipts.iter().map(|receipt| (*receipt).clone()).collect(),
            ..Answer::default()
        };
        self.answer_with(pull, answer);
    }

    /// Lets time pass, without receipts, until a unit is asked for. The coordinator knows all that it owes.
    fn trial(&mut self) -> PullOut {
        loop {
            let pull = self.collect();
            if pull.want > 0 {
                assert_eq!(pull.want, 1);
                return pull;
            }
            self.pay(&pull, &[]);
        }
    }

    /// Leases a unit, has it run and counted.
    fn work_off(&mut self, pull: &PullOut, unit: u32) -> Made {
        let (grant, leased_at) = (self.grant(1, unit..unit + 1, 7_200_000), self.now);
        self.answer(pull, Some(&grant));
        let (job, _) = self.first_job().expect("it is run");
        let runs = vec![run_of(unit, 10_000)];
        self.step(Input::Ran { job, runs });
        self.step(Input::Finished(job));
        let pull = self.collect();
        let answer = Answer {
            verdicts: vec![ResultVerdict::Counted],
            ..Answer::default()
        };
        self.answer_with(&pull, answer);
        (pull.batch.expect("a report").root, leased_at, unit)
    }

    /// Lets time pass until the coordinator is asked next.
    fn collect(&mut self) -> PullOut {
        loop {
            if let Some(pull) = self.pull() {
                return pull;
            }
            self.now = self
                .machine
                .next_deadline()
                .expect("it asks again")
                .max(self.now);
            self.step(Input::DeadlineReached);
        }
    }

    /// Returns the question for receipts that is due, if any.
    fn collect_now(&mut self) -> Option<PullOut> {
        self.step(Input::DeadlineReached);
        let pull = self.pull()?;
        (!pull.kept.is_empty()).then_some(pull)
    }

    fn kept(&self) -> Vec<(ReceiptId, Standing)> {
        let kept = self.out.iter().filter_map(|effect| match effect {
            Effect::KeepReceipt(kept) => Some((kept.receipt.id(), kept.standing)),
            _ => None,
        });
        kept.collect()
    }

    fn faults(&self) -> Vec<ReceiptFault> {
        let faults = self.out.iter().filter_map(|effect| match effect {
            Effect::Dispute(dispute) => Some(dispute.fault),
            _ => None,
        });
        faults.collect()
    }

    fn credit(&self) -> Credit {
        let mut credits = self.machine.credits();
        let own = credits.find(|(coordinator, _)| *coordinator == node(1));
        own.expect("it has worked for it").1
    }

    fn credit_or_default(&self) -> Credit {
        let known = self.machine.credits().next().is_some();
        if known {
            self.credit()
        } else {
            Credit::of(Totals::default(), 1)
        }
    }

    fn owed(&self) -> u64 {
        self.credit().totals.owed().results
    }
}

fn run_of(unit: u32, millis: u64) -> Run {
    let ran = Ran {
        outcome: Outcome::Done,
        fuel: 5,
        output: BlobRef::of(b"out"),
        inline: Some(b"out".to_vec()),
    };
    Run {
        unit,
        result: Ok(ran),
        took: Duration::from_millis(millis),
    }
}

fn sign_grant(grant: Grant) -> Verified<Grant> {
    Verified::sign(grant, &network(), &SigningKey::from_bytes(&[1; 32]))
}

#[test]
fn what_is_declared_unpaid_costs_a_coordinator_its_terminals_later_than_what_it_owes() {
    let effort = |results, seconds: u64| Effort {
        results,
        nanos: seconds * 1_000_000_000,
    };
    let owing = |owed: (u64, u64), unpaid: (u64, u64)| {
        let (owed, unpaid) = (effort(owed.0, owed.1), effort(unpaid.0, unpaid.1));
        let totals = Totals {
            counted: effort(
                owed.results + unpaid.results,
                (owed.nanos + unpaid.nanos) / 1_000_000_000,
            ),
            unpaid,
            ..Totals::default()
        };
        Credit::of(totals, 1).owing
    };
    assert!(!owing((10, 30), (0, 0)));
    assert!(owing((10, 31), (0, 0)));
    assert!(!owing((0, 0), (20, 600)));
    assert!(owing((0, 0), (20, 601)));
    assert!(owing((1, 2), (20, 599)));
}
