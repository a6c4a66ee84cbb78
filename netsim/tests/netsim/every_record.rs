//! A crash between every two records, one world for each: the books in the end are those of the world without a crash.
//!
//! What an input changes is one group, which reaches the disk as a whole, so a coordinator crashes with each group in
//! turn: once before it is on the disk, and once when it is there and nothing that follows from it has left. Every entry
//! of the log is in one of these groups.
//!
//! A unit is worth ten points to the micro-point and a point is worth whole cents, so that nothing is rounded and sums
//! do not depend on which results share a receipt. All units are agreed by one device of each owner, so that it does
//! not matter who is first. What may differ: how many entries there are, in which lots points stood, and which
//! computer of an owner did a unit.

use std::collections::BTreeMap;

use tally_ledger::audit;
use tally_ledger::store::Store;
use tally_netsim::peer::Peer;
use tally_netsim::scenario::Scenario;
use tally_netsim::world::{Crash, Loss, Options, World};
use tally_protocol::account::{Account, Commodity, Holder};
use tally_protocol::books::Balance;
use tally_protocol::entry::Event;
use tally_protocol::id::{NodeId, TaskId};

/// Two owners, one of them with two computers.
const EARNED: &str = r#"
    about = "a task that is paid, until the last point has expired"
    until = "40 min"
    settle = "13 min"
    [[coordinators]]
    rates = "priced"
    known_per_mille = 0
    down = "2 s"
    [[terminals]]
    count = 3
    owners = 2
    [[tasks]]
    units = 5
    unit_time = "1s 249999us 375ns"
    input = 250
    output = 250
    lease = "10 s"
    max_price = "2000 EUR"
"#;

/// The task whose receipt is taken back has one unit, so that this is always the same receipt.
const ORDERED: &str = r#"
    about = "all that an operator has done with money"
    until = "40 min"
    settle = "13 min"
    [[coordinators]]
    rates = "priced"
    known_per_mille = 0
    down = "2 s"
    [[terminals]]
    count = 2
    [[tasks]]
    units = 1
    unit_time = "1s 249999us 375ns"
    input = 250
    output = 250
    lease = "10 s"
    max_price = "2000 EUR"
    [[tasks]]
    at = "40 s"
    units = 2
    unit_time = "1s 249999us 375ns"
    input = 250
    output = 250
    lease = "10 s"
    max_price = "2000 EUR"
    [[orders]]
    at = "20 s"
    what.deposit = { task = 1, money = "3 EUR" }
    [[orders]]
    at = "20 s"
    what.claw-back = { terminal = 0 }
    [[orders]]
    at = "130 s"
    what.pay-out = { terminal = 1, money = "0.16 EUR" }
    [[orders]]
    at = "130 s"
    what.refund = { task = 1, money = "0.03 EUR" }
    [[orders]]
    at = "140 s"
    what.earnings = { money = "0.02 EUR" }
    [[orders]]
    at = "140 s"
    what.withdrawal = { task = 0, money = "5 EUR" }
"#;

#[test]
fn a_crash_with_any_record_costs_nobody_anything() {
    let right = same_with_every_crash(EARNED);
    // Five units, paid to both owners, a cent for a point.
    let earned: Vec<u64> = right.earned.values().copied().collect();
    assert_eq!(earned, [50_000_000, 50_000_000]);
    assert_eq!(
        (right.sum(is_customer), right.sum(is_reserve)),
        (200_000 - 100, 0)
    );
    for kind in [
        "accepted",
        "ended",
        "receipted",
        "released",
        "expired",
        "settled",
    ] {
        assert!(
            right.entries.contains_key(kind),
            "{kind}: {:?}",
            right.entries
        );
    }
}

#[test]
fn a_crash_with_any_order_has_it_carried_out_once() {
    let right = same_with_every_crash(ORDERED);
    // 4,003 EUR came in. Of six results at ten cents one was taken back; of the operator's ten cents three were given
    // back and two taken out; 16 cents were paid for points, the rest of them expired.
    assert_eq!(right.sum(is_customer), 400_300 - 50 + 3 - 500);
    assert_eq!(right.sum(is_reserve), 0);
    let once = ["clawed back", "refunded"];
    for (kind, count) in [("deposited", 3), ("paid out", 3)]
        .into_iter()
        .chain(once.map(|kind| (kind, 1)))
    {
        assert_eq!(right.entries[kind], count, "{kind}");
    }
}

/// What a world has come to.
#[derive(Debug, PartialEq, Eq)]
struct Ended {
    /// What stands on accounts that stay, with all that ever came and went.
    books: BTreeMap<(Account, Commodity), Balance>,
    /// Micro-points that each owner has receipts for.
    earned: BTreeMap<NodeId, u64>,
    /// How often each unit was paid to each owner.
    paid: BTreeMap<(TaskId, u32, NodeId), u32>,
    /// Entries that move money or end something, by their kind.
    entries: BTreeMap<&'static str, u64>,
}

impl Ended {
    fn sum(&self, of: fn(&Account) -> bool) -> i128 {
        let lines = self.books.iter();
        let lines = lines.filter(|((account, _), _)| of(account));
        lines.map(|(_, balance)| balance.available()).sum()
    }
}

fn is_customer(account: &Account) -> bool {
    matches!(account, Account::Customer(_))
}

fn is_reserve(account: &Account) -> bool {
    *account == Account::Reserve
}

/// Runs a world without a crash, then with one at each group of records. Returns what all have come to.
fn same_with_every_crash(text: &str) -> Ended {
    let scenario = Scenario::parse("every-record", text).expect("a scenario");
    let coordinator = Peer(0);
    let world = run(&scenario, None);
    let (right, groups) = (ended(&world), world.groups(coordinator));
    assert!(right.paid.values().all(|times| *times == 1), "{right:?}");
    for group in 1..=groups {
        for loss in [Loss::Group, Loss::Effects] {
            // The first group is the rate card. Lost, there is another one with another time, and the tasks, which
            // name this one, are refused.
            if (group, loss) == (1, Loss::Group) {
                continue;
            }
            let crash = Crash {
                node: coordinator,
                group,
                loss,
            };
            let mut ended = ended(&run(&scenario, Some(crash)));
            // A lot that a crash has torn in two leaves escrow, and expires, twice.
            for kind in ["receipted", "released", "expired"] {
                let times = ended.entries.insert(kind, right.entries[kind]);
                assert!(times.is_some(), "{crash:?}: nothing was {kind}");
            }
            assert_eq!(ended, right, "{crash:?} of {groups}");
        }
    }
    right
}

fn run(scenario: &Scenario, crash: Option<Crash>) -> World {
    let options = Options {
        crash,
        ..Options::default()
    };
    let mut world = World::new(scenario, 0, &options);
    world.run();
    assert_eq!(world.finding(), None, "{crash:?}");
    assert!(world.has_settled(), "{crash:?}");
    world
}

fn ended(world: &World) -> Ended {
    let (_, machine, store) = world.coordinators().next().expect("it is up");
    let audited = audit::audit(store, &mut |_| {}).expect("the disk can be read");
    assert!(audited.report.is_sound(), "{:?}", audited.report);
    let mut books: BTreeMap<(Account, Commodity), Balance> = BTreeMap::new();
    for ((account, commodity), balance) in machine.books().balances() {
        assert!(
            !account.is_transient(),
            "{account} is left with {balance:?}"
        );
        let sum = books.entry((of_owner(*account), *commodity)).or_default();
        sum.debits += balance.debits;
        sum.credits += balance.credits;
        sum.pending_debits += balance.pending_debits;
        sum.pending_credits += balance.pending_credits;
    }
    let mut ended = Ended {
        books,
        earned: BTreeMap::new(),
        paid: BTreeMap::new(),
        entries: BTreeMap::new(),
    };
    for event in events(store) {
        if let Event::Receipted { receipt, .. } = &event {
            let receipt = receipt.clone().verify(&"netsim".parse().expect("a name"));
            let receipt = receipt.expect("what it wrote it has signed");
            let owner = receipt.holder.owner;
            *ended.earned.entry(owner).or_default() += receipt.points.as_micro();
            for (_, _, unit) in receipt.results() {
                *ended.paid.entry((receipt.task, unit, owner)).or_default() += 1;
            }
        }
        *ended.entries.entry(kind(&event)).or_default() += 1;
    }
    ended
}

/// Returns the account as if the owner had one computer.
fn of_owner(account: Account) -> Account {
    let alone = |holder: Holder| Holder::alone(holder.owner);
    if let Account::Redeemed(holder) = account {
        Account::Redeemed(alone(holder))
    } else if let Account::Expired(holder) = account {
        Account::Expired(alone(holder))
    } else {
        account
    }
}

fn events(store: &Store) -> Vec<Event> {
    let size = store.head().expect("the disk can be read").size();
    let entries = store.entries(0..size).expect("the disk can be read");
    let decoded = entries.map(|entry| entry.expect("it is there").decode().expect("it is one"));
    decoded
        .map(|entry| entry.event)
        // A report that comes in two parts validates its units in two.
        .filter(|event| !matches!(event, Event::BatchValidated { .. }))
        .collect()
}

const fn kind(event: &Event) -> &'static str {
    match event {
        Event::RateCardPublished { .. } => "published",
        Event::DeviceCertified { .. } => "certified",
        Event::TaskAccepted { .. } => "accepted",
        Event::BatchValidated { .. } => "validated",
        Event::TaskEnded { .. } => "ended",
        Event::Receipted { .. } => "receipted",
        Event::TaskSettled { .. } => "settled",
        Event::Deposited { .. } => "deposited",
        Event::PaidOut { .. } => "paid out",
        Event::Refunded { .. } => "refunded",
        Event::ClawedBack { .. } => "clawed back",
        Event::AgreementMade { .. } => "agreement made",
        Event::DeviceRegistered { .. } => "device registered",
        Event::RegistrationRevoked { .. } => "registration revoked",
        Event::PointsReserved { .. } => "points reserved",
        Event::ReservationEnded { .. } => "reservation ended",
        Event::PointsRedeemed { .. } => "points redeemed",
        Event::RedemptionReversed { .. } => "redemption reversed",
        Event::SettlementMade { .. } => "settlement made",
        Event::SettlementPaid { .. } => "settlement paid",
        Event::OrderCharged { .. } => "order charged",
        Event::OrderPaid { .. } => "order paid",
        Event::OrderRefunded { .. } => "order refunded",
        Event::Released { .. } => "released",
        Event::Expired { .. } => "expired",
    }
}
