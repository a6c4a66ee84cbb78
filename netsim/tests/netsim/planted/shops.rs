//! Bugs of app servers, and of coordinators in their talk with them.

use std::collections::BTreeSet;
use std::fmt;

use tally_netsim::scenario::Scenario;
use tally_netsim::world::{Options, World};
use tally_netsim::wrap::{AppServerWrap, Wrap};
use tally_protocol::app_server::{Answer, AppServer, Effect, Fault, Input, Phase, Reply, Request};
use tally_protocol::coordinator::{self, Coordinator, Fact};
use tally_protocol::entry::Event;
use tally_protocol::id::NodeId;
use tally_protocol::message::redeem::{RedeemReply, RedeemRequest};
use tally_protocol::time::Timestamp;
use tally_protocol::voucher::Split;

/// Two coordinators and two app servers, owners who buy everything, one of them not honest, and a terminal that is not
/// registered.
const WORLD: &str = r#"
    about = "points are redeemed"
    until = "40 min"
    calm_after = "5 min"
    settle = "90 s"
    [lines.bad]
    latency = "20 ms"
    up = "2 MiB"
    down = "8 MiB"
    loss = 0.02
    duplicate = 0.1
    reorder = 0.05
    [[coordinators]]
    count = 2
    rates = "priced"
    [[app_servers]]
    count = 2
    line = "bad"
    crash_every = "60 s"
    down = "5 s"
    snapshot_every = 50
    settle_every = "90 s"
    [[terminals]]
    count = 4
    app_servers = [0, 1]
    [[terminals]]
    [[owners]]
    count = 3
    line = "bad"
    at = "75 s"
    orders = 7
    every = "5 s"
    patience = "8 min"
    [[owners]]
    terminal = 3
    conduct = "voucher-replaying"
    at = "75 s"
    orders = 7
    every = "5 s"
    patience = "8 min"
    [[tasks]]
    count = 3
    every = "60 s"
    units = 30
    unit_time = "3 s"
    lease = "15 s"
    max_price = "100000 EUR"
"#;

#[test]
fn worlds_with_app_servers_and_without_a_bug_are_clean() {
    for seed in 0..4 {
        assert_eq!(found(seed, &Options::default()), None, "seed {seed}");
    }
}

#[test]
fn a_coordinator_takes_points_twice() {
    finds_at_coordinators(&["spent once"], || Box::new(AtCoordinators(take_twice)));
}

#[test]
fn a_coordinator_says_that_points_are_taken_and_forgets_it() {
    finds_at_coordinators(&["spent once"], || Box::new(AtCoordinators(forget_taken)));
}

#[test]
fn a_coordinator_takes_a_terminal_for_another_one() {
    // A receipt of what was leased before goes to the wrong one too.
    finds_at_coordinators(&["registered only", "receipts hold"], || {
        Box::new(Mistakes::default())
    });
}

#[test]
fn an_app_server_gives_points_back_without_asking() {
    finds("spent once", || Box::new(Planted(AsksNobody)));
}

#[test]
fn an_app_server_takes_a_payment_that_nobody_made() {
    finds("sold for what was paid", || {
        Box::new(Planted(PaysItself::default()))
    });
}

#[test]
fn an_app_server_says_that_a_used_voucher_is_good() {
    finds("sold for what was paid", || Box::new(Planted(TakesAgain)));
}

#[test]
fn an_app_server_never_takes_the_points_of_a_decided_order() {
    finds("sold for what was paid", || Box::new(Planted(NeverPosts)));
}

#[test]
fn an_app_server_does_not_post_what_it_is_paid() {
    finds("both books agree", || Box::new(Planted(ForgetsMoney)));
}

#[test]
fn a_settlement_is_posted_by_one_side_only() {
    finds("both books agree", || Box::new(Planted(ForgetsPayment)));
}

/// A mistake of an app server.
trait Bug: fmt::Debug {
    /// Makes something else of what follows from an input.
    fn after(
        &mut self,
        machine: &mut AppServer,
        now: Timestamp,
        effects: Vec<Effect>,
    ) -> Vec<Effect>;
}

/// Plants a bug of an app server.
#[derive(Debug)]
struct Planted<B>(B);

impl<B: Bug> AppServerWrap for Planted<B> {
    fn handle(
        &mut self,
        machine: &mut AppServer,
        now: Timestamp,
        input: Input,
        out: &mut Vec<Effect>,
    ) {
        let mut effects = Vec::new();
        machine.handle(now, input, &mut effects);
        out.extend(self.0.after(machine, now, effects));
    }
}

/// Takes for answered what it should have asked: that points be given back.
#[derive(Debug)]
struct AsksNobody;

impl Bug for AsksNobody {
    fn after(
        &mut self,
        machine: &mut AppServer,
        now: Timestamp,
        effects: Vec<Effect>,
    ) -> Vec<Effect> {
        let mut out = Vec::new();
        for effect in effects {
            if let Effect::Ask {
                question,
                request: Request::Redeem(RedeemRequest::Reverse(_)),
                ..
            } = effect
            {
                let reply = Box::new(Reply::Redeem(RedeemReply::Reversed));
                machine.handle(now, Input::Answered { question, reply }, &mut out);
            } else {
                out.push(effect);
            }
        }
        out
    }
}

/// Pays each order itself as soon as its points are taken.
#[derive(Debug, Default)]
struct PaysItself(u64);

impl Bug for PaysItself {
    fn after(
        &mut self,
        machine: &mut AppServer,
        now: Timestamp,
        mut effects: Vec<Effect>,
    ) -> Vec<Effect> {
        let mut changed = BTreeSet::new();
        for effect in &effects {
            if let Effect::Changed(order) = effect {
                changed.insert(*order);
            }
        }
        for order in changed {
            let is_due = machine
                .order(order)
                .is_some_and(|order| order.phase() == Phase::Posted && order.due() > 0);
            if is_due {
                self.0 += 1;
                let input = Input::Paid {
                    question: coordinator::Question(u64::MAX - self.0),
                    order,
                    reference: format!("nobody {} {order}", self.0),
                };
                machine.handle(now, input, &mut effects);
            }
        }
        effects
    }
}

/// Says of a voucher that was used that it is good.
#[derive(Debug)]
struct TakesAgain;

impl Bug for TakesAgain {
    fn after(&mut self, _: &mut AppServer, _: Timestamp, mut effects: Vec<Effect>) -> Vec<Effect> {
        for effect in &mut effects {
            if let Effect::Answer { answer, .. } = effect
                && *answer == Err(Fault::VoucherUsed)
            {
                let split = Split {
                    discount: 1,
                    due: 0,
                };
                *answer = Ok(Answer::Split(split));
            }
        }
        effects
    }
}

/// Forgets to have points taken.
#[derive(Debug)]
struct NeverPosts;

impl Bug for NeverPosts {
    fn after(&mut self, _: &mut AppServer, _: Timestamp, mut effects: Vec<Effect>) -> Vec<Effect> {
        effects.retain(|effect| {
            !matches!(
                effect,
                Effect::Ask {
                    request: Request::Redeem(RedeemRequest::Post(_)),
                    ..
                }
            )
        });
        effects
    }
}

/// Writes that an order is paid, and not what that does to the books.
#[derive(Debug)]
struct ForgetsMoney;

impl Bug for ForgetsMoney {
    fn after(&mut self, _: &mut AppServer, _: Timestamp, mut effects: Vec<Effect>) -> Vec<Effect> {
        for effect in &mut effects {
            if let Effect::Append {
                event: Event::OrderPaid { .. },
                posting,
            } = effect
            {
                *posting = None;
            }
        }
        effects
    }
}

/// Does not write that a settlement is paid.
#[derive(Debug)]
struct ForgetsPayment;

impl Bug for ForgetsPayment {
    fn after(&mut self, _: &mut AppServer, _: Timestamp, mut effects: Vec<Effect>) -> Vec<Effect> {
        effects.retain(|effect| {
            let paid = matches!(
                effect,
                Effect::Append {
                    event: Event::SettlementPaid { .. },
                    ..
                }
            );
            !paid
        });
        effects
    }
}

/// Makes something else of what follows at a coordinator.
#[derive(Debug)]
struct AtCoordinators(fn(&mut Vec<coordinator::Effect>));

impl Wrap for AtCoordinators {
    fn handle(
        &mut self,
        machine: &mut Coordinator,
        now: Timestamp,
        input: coordinator::Input,
        out: &mut Vec<coordinator::Effect>,
    ) {
        let mut effects = Vec::new();
        machine.handle(now, input, &mut effects);
        (self.0)(&mut effects);
        out.extend(effects);
    }
}

fn take_twice(effects: &mut Vec<coordinator::Effect>) {
    let mut again = Vec::new();
    for effect in effects.iter() {
        if let coordinator::Effect::Append {
            event: event @ Event::PointsRedeemed { .. },
            ..
        } = effect
        {
            again.push(coordinator::Effect::Append {
                event: event.clone(),
                posting: None,
            });
        }
    }
    effects.extend(again);
}

fn forget_taken(effects: &mut Vec<coordinator::Effect>) {
    effects.retain(|effect| {
        !matches!(
            effect,
            coordinator::Effect::Record(Fact::Redeemed(_))
                | coordinator::Effect::Append {
                    event: Event::PointsRedeemed { .. },
                    ..
                }
        )
    });
}

/// Takes every terminal that pulls without a report for the last one that was leased something.
#[derive(Debug, Default)]
struct Mistakes(Option<NodeId>);

impl Wrap for Mistakes {
    fn handle(
        &mut self,
        machine: &mut Coordinator,
        now: Timestamp,
        mut input: coordinator::Input,
        out: &mut Vec<coordinator::Effect>,
    ) {
        let mut asker = None;
        if let coordinator::Input::Pulled { from, report, .. } = &mut input
            && report.is_none()
        {
            asker = Some(*from);
            *from = self.0.unwrap_or(*from);
        }
        let before = out.len();
        machine.handle(now, input, out);
        let leased = out.iter().skip(before).any(|effect| {
            matches!(
                effect,
                coordinator::Effect::Answer { answer: coordinator::Answer::Pulled(pulled), .. }
                    if pulled.leased.is_some()
            )
        });
        if leased && self.0.is_none() && now > Timestamp::from_millis(1_800_000_045_000) {
            self.0 = asker;
        }
    }
}

fn found(seed: u64, options: &Options) -> Option<(&'static str, String)> {
    let scenario = Scenario::parse("planted", WORLD).expect("a scenario");
    let mut world = World::new(&scenario, seed, options);
    world.run();
    let finding = world.finding()?;
    Some((finding.oracle, finding.what.clone()))
}

fn finds(oracle: &str, wrap: fn() -> Box<dyn AppServerWrap>) {
    let options = Options {
        app_server_wrap: Some(wrap),
        ..Options::default()
    };
    found_by(&[oracle], &options);
}

fn finds_at_coordinators(oracles: &[&str], wrap: fn() -> Box<dyn Wrap>) {
    let options = Options {
        wrap: Some(wrap),
        ..Options::default()
    };
    found_by(oracles, &options);
}

/// Expects that the first of these oracles finds something with one of a few seeds, and none but these first.
fn found_by(oracles: &[&str], options: &Options) {
    let findings = (0..3).filter_map(|seed| Some((seed, found(seed, options)?)));
    let findings: Vec<(u64, (&str, String))> = findings.collect();
    let by_first = findings
        .iter()
        .any(|(_, (oracle, _))| *oracle == oracles[0]);
    assert!(by_first, "{} finds nothing: {findings:?}", oracles[0]);
    for (seed, (oracle, what)) in findings {
        assert!(oracles.contains(&oracle), "seed {seed}: {oracle}: {what}");
    }
}
