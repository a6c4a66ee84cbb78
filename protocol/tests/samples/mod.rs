//! One value of each kind that is signed, stored or sent, with fixed keys.

pub(crate) mod members;
pub(crate) mod partners;

use std::collections::{BTreeMap, BTreeSet};

use ed25519_dalek::SigningKey;
use serde::Serialize;
use tally_protocol::account::{Account, Commodity, Holder, Lot, Money};
use tally_protocol::books::{Posting, Step, Transfer};
use tally_protocol::certificate::DeviceCertificate;
use tally_protocol::checkpoint::VerifiedCheckpoint;
use tally_protocol::checkpoint::log_proof::LogProof;
use tally_protocol::codec;
use tally_protocol::coordinator::{Compared, Division, Fact, Vote};
use tally_protocol::entry::{Ending, Entry, Event, Fund, Payee, ValidatedUnit};
use tally_protocol::id::{BlobId, GrantId, Hash, NetworkId, NodeId, OrderId, RedemptionId, TaskId};
use tally_protocol::issuer::{Issuer, IssuerCertificate};
use tally_protocol::license::{
    Basis, DeviceProof, License, LicenseOrder, LicenseTerms, Renewal, Status, StatusList,
};
use tally_protocol::merkle::proof::inclusion_spans;
use tally_protocol::merkle::{self, TreeHead, leaf_hash};
use tally_protocol::message::Refusal;
use tally_protocol::message::announce::{Offer, Role, RoleStatement};
use tally_protocol::message::blob::{BlobGrant, BlobRange, BlobReply, BlobRequest};
use tally_protocol::message::customer::{
    CustomerReply, CustomerRequest, DeviceTally, Phase, TaskCost, TaskStatus, TaskSummary, Terms,
};
use tally_protocol::message::log::{LogReply, LogRequest, LoggedEntry};
use tally_protocol::message::reach::{NotReached, ReachReply, ReachRequest};
use tally_protocol::message::wishes::{Choice, Misfit, OwnTasks, Unfit, Wishes};
use tally_protocol::message::work::{
    Abandoned, Batch, Grant, Leased, LeasedUnit, Owed, Pull, PullReply, Report, ResultVerdict,
    UnitResult, Unpaid, UnpaidReason, WorkReply, WorkRequest,
};
use tally_protocol::points::Points;
use tally_protocol::posting;
use tally_protocol::rate_card::{PixelWeight, Price, RateCard, Rates};
use tally_protocol::receipt::{BatchShare, LeafRun, Receipt, Validation};
use tally_protocol::signed::{Signed, Statement, Verified};
use tally_protocol::task::split::UnitTable;
use tally_protocol::task::tiles::TileGrid;
use tally_protocol::task::{
    BlobRef, Edit, LineSplit, Merge, OnFailure, Quorum, Split, Task, TileSplit,
};
use tally_protocol::time::Timestamp;
use tally_protocol::unit::{Fault, Limits, Outcome, Trap};
use tally_protocol::voucher::{Discount, Voucher, VoucherOrder, VoucherTerms};
use tally_protocol::witness::{self, Witness};

/// The key of all samples: 32 bytes of 1.
pub(crate) fn key() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

pub(crate) fn network() -> NetworkId {
    "example".parse().unwrap()
}

pub(crate) fn sign<T: Statement + Clone>(value: T) -> Signed<T> {
    Verified::sign(value, &network(), &key()).signed().clone()
}

fn node() -> NodeId {
    NodeId::from_bytes(key().verifying_key().to_bytes())
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000 + seconds * 1_000)
}

fn task_id() -> TaskId {
    Verified::sign(task(), &network(), &key()).task_id()
}

fn limits() -> Limits {
    Limits {
        fuel: 10_000_000_000,
        memory_bytes: 256 << 20,
        output_bytes: 16 << 20,
    }
}

pub(crate) fn task() -> Task {
    Task {
        name: "count words".to_owned(),
        customer: node(),
        created: at(0),
        program: BlobRef::of(b"program"),
        args: vec!["--fast".to_owned()],
        input: BlobRef::of(b"input"),
        split: Split::Lines(LineSplit {
            lines: u64::MAX,
            bytes: 65_536,
        }),
        limits: limits(),
        lease_millis: 60_000,
        quorum: Quorum {
            agree: 2,
            error_max: 3,
            total_max: 8,
        },
        merge: Merge::Sum,
        edit: Some(Edit {
            program: BlobRef::of(b"editor"),
            args: vec![],
            limits: limits(),
        }),
        on_failure: OnFailure::Fail,
        rate_card: sign(rate_card()).id(),
        max_price: 250,
        deadline_millis: 86_400_000,
    }
}

pub(crate) fn rate_card() -> RateCard {
    let mut rates = Rates::free("EUR".parse().unwrap());
    let (program, fuel) = (BlobRef::of(b"blur").id, 48);
    rates.pixel_weights = vec![PixelWeight { program, fuel }];
    let micro_points = 1_000_000;
    rates.price = Price {
        minor: 3,
        micro_points,
    };
    rates.reserve = Price {
        minor: 2,
        micro_points,
    };
    RateCard {
        version: 2,
        published: at(0),
        rates,
    }
}

fn holder() -> Holder {
    Holder {
        owner: NodeId::from_bytes([8; 32]),
        device: node(),
    }
}

pub(crate) fn certificate() -> DeviceCertificate {
    DeviceCertificate {
        device: node(),
        not_before: at(0),
        not_after: at(31_536_000),
        serial: 1,
        redeem_points: Points::from_micro(500_000),
    }
}

pub(crate) fn receipt() -> Receipt {
    let run = |leaf, unit, count| LeafRun { leaf, unit, count };
    Receipt {
        sequence: 4,
        holder: holder(),
        task: task_id(),
        shares: vec![BatchShare {
            batch: batch().root,
            runs: vec![run(0, 7, 2), run(3, 11, 1)],
        }],
        units: 3,
        fuel: 3_000_000_000,
        bytes: 300,
        pixels: 0,
        points: Points::from_micro(3_000_003),
        rate_card: sign(rate_card()).id(),
        profile: "wasmtime48-1".parse().unwrap(),
        validation: Validation::Quorum(2),
        leased_at: at(1),
        done_at: at(6),
    }
}

/// One posting with each step, account and commodity; it would not balance.
fn posting() -> Posting {
    let (holder, customer, task) = (holder(), node(), task_id());
    let lot = Lot {
        holder,
        since: at(86_400),
        card: 2,
    };
    let hold = posting::hold_of(task);
    let euro = Commodity::Money("EUR".parse().unwrap());
    let transfer = |from, to, commodity, step| Transfer {
        from,
        to,
        commodity,
        amount: 1_000,
        step,
    };
    let (points, held) = (Commodity::Points, Account::Held(task));
    let reserved = Account::Reserved(RedemptionId::from_bytes([5; 16]));
    let of_customer = |step| transfer(Account::Customer(customer), held, euro, step);
    let moved = |from, to, commodity| transfer(from, to, commodity, Step::Move);
    Posting {
        id: posting::posting_id("receipt", b"sample"),
        transfers: vec![
            moved(Account::Issued, Account::Escrow(lot), points),
            moved(Account::Escrow(lot), Account::Spendable(lot), points),
            moved(
                Account::Spendable(lot),
                Account::Redeemed(lot.holder),
                points,
            ),
            moved(
                Account::Spendable(lot),
                Account::Expired(lot.holder),
                points,
            ),
            of_customer(Step::Hold { until: at(9) }),
            of_customer(Step::Post(hold)),
            of_customer(Step::Void(hold)),
            of_customer(Step::Expire(hold)),
            moved(held, Account::Revenue, euro),
            moved(held, Account::Reserve, euro),
            moved(Account::Subsidy, Account::Credit(customer), euro),
            moved(Account::Credit(customer), Account::Outside, euro),
            moved(Account::Spendable(lot), reserved, points),
            moved(Account::Reserve, Account::Payable(customer), euro),
        ],
    }
}

pub(crate) fn offer() -> Offer {
    Offer {
        task: task_id(),
        epoch: 1_800_000_000_000,
        program: task().program.id,
        program_bytes: 7,
        profile: "wasmtime48-1".parse().unwrap(),
        limits: limits(),
        open_units: 64,
        spread_millis: 500,
        sortition: u16::MAX,
        addresses: vec!["/ip4/192.0.2.1/tcp/4700".to_owned()],
        issued: at(0),
        expires: at(60),
    }
}

pub(crate) fn role() -> RoleStatement {
    RoleStatement {
        protocol: 3,
        roles: vec![Role::Coordinator, Role::Terminal, Role::Bootstrap],
        expires: at(3_600),
    }
}

pub(crate) fn blob_grant() -> BlobGrant {
    let range = BlobRange {
        blob: BlobRef::of(b"input").id,
        start: 16,
        bytes: 1 << 20,
    };
    BlobGrant {
        reader: node(),
        ranges: vec![range],
        expires: at(600),
    }
}

fn result() -> UnitResult {
    UnitResult {
        grant: GrantId::from_bytes([2; 16]),
        unit: 7,
        outcome: Outcome::Done,
        fuel: 123_456,
        output: BlobRef::of(b"42\n"),
        inline: Some(b"42\n".to_vec()),
    }
}

pub(crate) fn batch() -> Batch {
    Batch::of(&[result()], node(), at(5))
}

pub(crate) fn grant() -> Grant {
    Grant {
        id: GrantId::from_bytes([2; 16]),
        device: node(),
        customer: task().customer,
        task: task_id(),
        unit_count: 9,
        program: task().program,
        args: task().args,
        limits: limits(),
        profile: "wasmtime48-1".parse().unwrap(),
        input: task().input,
        units: vec![LeasedUnit {
            unit: 7,
            attempt: 1,
            start: 70,
            bytes: 10,
            params: "53 81 9 9 44 72".to_owned(),
        }],
        rate_card: task().rate_card,
        issued: at(1),
        deadline: at(61),
    }
}

fn validated() -> ValidatedUnit {
    let UnitResult {
        unit,
        outcome,
        fuel,
        output,
        ..
    } = result();
    ValidatedUnit {
        unit,
        outcome,
        fuel,
        input_bytes: 10,
        pixels: 3_168,
        output,
        agreed: vec![node()],
        outvoted: vec![NodeId::from_bytes([9; 32])],
    }
}

fn endings() -> [(&'static str, Ending); 3] {
    [
        ("done", Ending::Done(BlobRef::of(b"result"))),
        ("failed", Ending::Failed("unit 3: out of fuel".to_owned())),
        ("cancelled", Ending::Cancelled),
    ]
}

pub(crate) fn entries() -> Vec<(&'static str, Entry)> {
    let task = task_id();
    let (device, batch, units) = (node(), batch().root, vec![validated()]);
    let mut events = vec![
        (
            "accepted",
            Event::TaskAccepted {
                task,
                signed: sign(self::task()),
            },
        ),
        (
            "validated",
            Event::BatchValidated {
                task,
                device,
                batch,
                units,
            },
        ),
    ];
    events.extend(endings().map(|(name, ending)| (name, Event::TaskEnded { task, ending })));
    events.extend(money_events());
    events.extend(partners::events());
    let posting = |name| (name == "receipted").then(posting);
    let entry = |(name, event)| {
        (
            name,
            Entry {
                sequence: 300,
                at: at(9),
                event,
                posting: posting(name),
            },
        )
    };
    events.into_iter().map(entry).collect()
}

fn money_events() -> Vec<(&'static str, Event)> {
    let (task, customer, at) = (task_id(), node(), at(9));
    let money: Money = "12.50 EUR".parse().unwrap();
    let (receipt, reference) = (sign(receipt()), "transfer 17".to_owned());
    let deposited = |to| Event::Deposited {
        to,
        money,
        reference: reference.clone(),
    };
    let paid_out = |to| Event::PaidOut {
        to,
        money,
        reference: reference.clone(),
    };
    let (card, certificate) = (sign(rate_card()), sign(certificate()));
    vec![
        ("settled", Event::TaskSettled { task, at }),
        ("rate_card", Event::RateCardPublished { card }),
        ("certified", Event::DeviceCertified { certificate }),
        ("deposited", deposited(Fund::Customer(customer))),
        ("subsidised", deposited(Fund::Subsidy)),
        ("withdrawn", paid_out(Payee::Customer(customer))),
        ("paid_out", paid_out(Payee::Owner(customer))),
        ("taken", paid_out(Payee::Operator)),
        (
            "refunded",
            Event::Refunded {
                customer,
                money,
                reference: reference.clone(),
            },
        ),
        (
            "clawed_back",
            Event::ClawedBack {
                receipt: receipt.id(),
                reason: "wrong result".to_owned(),
            },
        ),
        ("released", Event::Released { at }),
        ("expired", Event::Expired { card: 2, at }),
        (
            "receipted",
            Event::Receipted {
                receipt,
                batches: vec![sign(batch())],
            },
        ),
    ]
}

pub(crate) fn facts() -> Vec<(&'static str, Fact)> {
    let (task, signed) = (task_id(), sign(batch()));
    let (batch, holder) = (batch().root, holder());
    let packed = BlobRef::of(b"input");
    let divided = |table| Fact::Divided {
        task,
        division: Division { table, packed },
    };
    let tiles = TileGrid::new(300, 200, TileSplit { core: 128, halo: 9 }).unwrap();
    let UnitResult {
        unit,
        outcome,
        fuel,
        output,
        ..
    } = result();
    let votes = vec![Vote {
        unit,
        outcome,
        fuel,
        output,
        leaf: 5,
    }];
    let mut facts = vec![
        (
            "accepted",
            Fact::Accepted {
                signed: sign(self::task()),
                at: at(0),
            },
        ),
        ("arrived", Fact::Arrived(task)),
        ("divided_even", divided(UnitTable::even(95, 10).unwrap())),
        ("divided_ends", divided(UnitTable::Ends(vec![10, 25, 95]))),
        ("divided_tiles", divided(UnitTable::Tiles(tiles.into()))),
        (
            "reported",
            Fact::Reported {
                task,
                holder,
                batch,
                signed,
                leased_at: at(1),
                at: at(6),
                votes,
            },
        ),
        ("forgotten", Fact::Forgotten(task)),
    ];
    facts.extend(money_facts());
    facts.extend(partners::facts());
    facts.extend(other_facts());
    facts.extend(endings().map(|(name, ending)| {
        (
            name,
            Fact::Ended {
                task,
                ending,
                at: at(9),
            },
        )
    }));
    facts
}

fn other_facts() -> Vec<(&'static str, Fact)> {
    let (task, device, unit) = (task_id(), node(), result().unit);
    vec![
        (
            "faulted",
            Fact::Faulted {
                task,
                device,
                unit,
                fault: Fault::Killed,
                at: at(6),
            },
        ),
        (
            "merged",
            Fact::Merged {
                task,
                merged: BlobRef::of(b"merged"),
            },
        ),
    ]
}

fn answered(compared: Compared) -> Fact {
    let result = result();
    let batch = batch();
    Fact::Answered {
        task: task_id(),
        holder: holder(),
        batch: batch.root,
        signed: sign(batch),
        leased_at: at(1),
        at: at(6),
        vote: Vote {
            unit: result.unit,
            outcome: result.outcome,
            fuel: result.fuel,
            output: result.output,
            leaf: 3,
        },
        compared,
    }
}

fn money_facts() -> Vec<(&'static str, Fact)> {
    let (task, holder) = (task_id(), holder());
    vec![
        (
            "receipted",
            Fact::Receipted {
                task,
                holder,
                validation: Validation::Quorum(2),
            },
        ),
        (
            "receipted_known",
            Fact::Receipted {
                task,
                holder,
                validation: Validation::KnownAnswer,
            },
        ),
        ("answered_same", answered(Compared::Same)),
        ("answered_other", answered(Compared::Other)),
        ("settled", Fact::Settled(task)),
        ("published", Fact::Published(sign(rate_card()))),
        ("certified", Fact::Certified(sign(certificate()))),
        ("ordered", Fact::Ordered(posting().id)),
    ]
}

pub(crate) fn work_requests() -> Vec<(&'static str, WorkRequest)> {
    let large = UnitResult {
        inline: None,
        ..result()
    };
    let report = Report {
        batch: sign(batch()),
        results: vec![result(), large],
        grants: vec![sign(grant())],
    };
    let pull = Pull {
        want: 16,
        profile: "wasmtime48-1".parse().unwrap(),
        wishes: Wishes {
            limits: Limits {
                fuel: 1 << 50,
                memory_bytes: 1 << 30,
                output_bytes: 1 << 30,
            },
            programs: Choice::Only(BTreeSet::from([BlobId::of(b"program")])),
            customers: Choice::AllBut(BTreeSet::from([NodeId::from_bytes([7; 32])])),
            declined: BTreeSet::from([task_id()]),
            own_tasks: OwnTasks::Normal,
        },
        renew: vec![GrantId::from_bytes([2; 16])],
        abandoned: vec![Abandoned {
            grant: GrantId::from_bytes([2; 16]),
            unit: 8,
            fault: Fault::TimedOut,
        }],
        report: Some(report),
        share: vec!["/ip4/192.0.2.2/tcp/4700".to_owned()],
        certificate: Some(sign(certificate())),
        registration: Some(sign(partners::registration())),
        kept: vec![sign(receipt()).id()],
        owed: vec![Owed {
            task: task_id(),
            units: vec![7, 300],
        }],
    };
    let idle = Pull {
        wishes: Wishes::within_memory(1 << 30),
        report: None,
        renew: vec![],
        abandoned: vec![],
        share: vec![],
        certificate: None,
        registration: None,
        kept: vec![],
        owed: vec![],
        ..pull.clone()
    };
    vec![
        ("hello", WorkRequest::Hello),
        ("pull", WorkRequest::Pull(Box::new(pull))),
        ("pull_idle", WorkRequest::Pull(Box::new(idle))),
        ("nudge", WorkRequest::Nudge(task_id())),
    ]
}

pub(crate) fn work_replies() -> Vec<(&'static str, WorkReply)> {
    let leased = Leased {
        grant: sign(grant()),
        inputs: Some(b"0123456789".to_vec()),
        read: sign(blob_grant()),
        rate_card: sign(rate_card()),
    };
    let unpaid = |unit, reason| Unpaid {
        task: task_id(),
        unit,
        reason,
    };
    let full = PullReply {
        leased: Some(leased),
        verdicts: vec![ResultVerdict::Counted, ResultVerdict::ShowGrant],
        ended: vec![GrantId::from_bytes([3; 16])],
        unknown: vec![GrantId::from_bytes([4; 16])],
        retry_millis: 0,
        peers: vec!["/ip4/192.0.2.3/tcp/4700".to_owned()],
        receipts: vec![sign(receipt())],
        unpaid: vec![
            unpaid(7, UnpaidReason::Outvoted),
            unpaid(8, UnpaidReason::NoQuorum),
            unpaid(9, UnpaidReason::TaskEnded),
            unpaid(10, UnpaidReason::Settled),
        ],
        unfit: vec![],
    };
    let empty = PullReply {
        retry_millis: 5_000,
        unfit: Misfit::ALL.map(|why| Unfit { why, tasks: 300 }).into(),
        ..PullReply::default()
    };
    vec![
        ("role", WorkReply::Role(sign(role()))),
        ("pulled", WorkReply::Pulled(Box::new(full))),
        ("pulled_nothing", WorkReply::Pulled(Box::new(empty))),
        ("nudged", WorkReply::Nudged),
        ("refused", WorkReply::Refused(Refusal::WrongProfile)),
    ]
}

pub(crate) fn customer_requests() -> Vec<(&'static str, CustomerRequest)> {
    vec![
        ("submit", CustomerRequest::Submit(sign(task()))),
        (
            "watch",
            CustomerRequest::Watch {
                task: task_id(),
                seen: 12,
            },
        ),
        ("list", CustomerRequest::List),
        ("cancel", CustomerRequest::Cancel(task_id())),
        ("terms", CustomerRequest::Terms),
    ]
}

pub(crate) fn customer_replies() -> Vec<(&'static str, CustomerReply)> {
    let summary = TaskSummary {
        task: task_id(),
        name: "count words".to_owned(),
        phase: Phase::Running,
        units: 9,
        done: 4,
        accepted: at(0),
    };
    let tally = DeviceTally {
        agreed: 4,
        outvoted: 1,
        lost: 2,
        fuel: 99,
        outvoted_units: vec![3],
    };
    let status = TaskStatus {
        summary: summary.clone(),
        version: 12,
        uploaded: (12, 12),
        leased: 3,
        failed: BTreeMap::from([(3, "out of fuel".to_owned())]),
        failed_count: 1,
        fuel: 99,
        cost: TaskCost {
            points: Points::from_micro(3_000_003),
            paid: "0.10 EUR".parse().unwrap(),
            held: "2.40 EUR".parse().unwrap(),
        },
        devices: BTreeMap::from([(node(), tally)]),
        waiting_for: Some("terminals".to_owned()),
        result: Some(BlobRef::of(b"result")),
    };
    vec![
        ("status", CustomerReply::Status(Box::new(status))),
        ("tasks", CustomerReply::Tasks(vec![summary])),
        (
            "terms",
            CustomerReply::Terms(Box::new(Terms {
                rate_card: sign(rate_card()),
                available: "7.50 EUR".parse().unwrap(),
                held: "2.50 EUR".parse().unwrap(),
            })),
        ),
        (
            "refused_funds",
            CustomerReply::Refused(Refusal::InsufficientFunds {
                needed: "2.50 EUR".parse().unwrap(),
                available: "0 EUR".parse().unwrap(),
            }),
        ),
        (
            "refused",
            CustomerReply::Refused(Refusal::InvalidTask("name is \"\"".to_owned())),
        ),
    ]
}

pub(crate) fn blob_requests() -> Vec<(&'static str, BlobRequest)> {
    let range = blob_grant().ranges[0];
    vec![
        ("own", BlobRequest { range, grant: None }),
        (
            "granted",
            BlobRequest {
                range,
                grant: Some(sign(blob_grant())),
            },
        ),
    ]
}

pub(crate) fn blob_replies() -> Vec<(&'static str, BlobReply)> {
    vec![
        ("follows", BlobReply::Follows(1 << 30)),
        ("refused", BlobReply::Refused(Refusal::UnknownBlob)),
    ]
}

/// Every variant of the closed lists, and the leaf of a result.
pub(crate) fn words() -> Vec<(String, Vec<u8>)> {
    fn list<T: Serialize>(name: &str, values: &[T]) -> (String, Vec<u8>) {
        (name.to_owned(), codec::to_bytes(&values))
    }
    let trap = Outcome::Trap(Trap::Abi);
    let outcomes = [
        Outcome::Done,
        Outcome::Exit(3),
        trap,
        Outcome::OutOfFuel,
        Outcome::OutputLimit,
        Outcome::Refused,
    ];
    let faults = [
        Fault::StackOverflow,
        Fault::TimedOut,
        Fault::HostMemory,
        Fault::CompileLimit,
        Fault::Killed,
        Fault::Unavailable,
        Fault::Withdrawn,
    ];
    let refusals = [
        Refusal::Malformed,
        Refusal::Unverified,
        Refusal::Stale,
        Refusal::NotAdmitted,
        Refusal::WrongRole,
        Refusal::WrongProfile,
        Refusal::UnknownTask,
        Refusal::UnknownBlob,
        Refusal::InvalidTask("why".to_owned()),
        Refusal::Busy,
        Refusal::UnknownEntry,
        Refusal::BadCertificate,
        Refusal::OtherRateCard,
        Refusal::NotRegistered,
        Refusal::NoAgreement,
    ];
    let phases = [
        Phase::Uploading,
        Phase::Dividing,
        Phase::Running,
        Phase::Merging,
        Phase::Editing,
        Phase::Done,
        Phase::Failed("why".to_owned()),
        Phase::Cancelled,
    ];
    let verdicts = [
        ResultVerdict::Counted,
        ResultVerdict::Redundant,
        ResultVerdict::NotLeased,
        ResultVerdict::ShowGrant,
        ResultVerdict::OutputMissing,
        ResultVerdict::TaskEnded,
    ];
    let tiles = TileSplit { core: 512, halo: 3 };
    vec![
        list("traps", &TRAPS),
        list("outcomes", &outcomes),
        list("faults", &faults),
        list("refusals", &refusals),
        list("phases", &phases),
        list("verdicts", &verdicts),
        list("splits", &[Split::Bytes(10), Split::Tiles(tiles)]),
        list("merges", &[Merge::Concat, Merge::Sum, Merge::Stitch]),
        list("on_failure", &[OnFailure::Fail, OnFailure::Skip]),
        ("result_leaf".to_owned(), result().leaf()),
    ]
}

const TRAPS: [Trap; 6] = [
    Trap::Unreachable,
    Trap::MemoryOutOfBounds,
    Trap::TableOutOfBounds,
    Trap::IndirectCall,
    Trap::Arithmetic,
    Trap::Abi,
];

/// The log of all samples of entries: what its coordinator signs.
pub(crate) fn checkpoint() -> VerifiedCheckpoint {
    let leaves = leaves();
    let head = TreeHead {
        size: leaves.len() as u64,
        root: merkle::root(leaves),
    };
    VerifiedCheckpoint::sign(head, &network(), &key())
}

/// The proof that the second of them stands in it.
pub(crate) fn log_proof() -> LogProof {
    let leaves = leaves();
    let place = |leaf: u64| usize::try_from(leaf).unwrap();
    let hash_of = |subtree: merkle::proof::Subtree| {
        let range = place(subtree.start)..=place(subtree.last());
        Ok::<_, std::convert::Infallible>(merkle::root(leaves[range].iter().copied()))
    };
    let spans = inclusion_spans(1, leaves.len() as u64).unwrap();
    LogProof {
        extra: None,
        index: 1,
        path: spans
            .into_iter()
            .map(|span| span.hash(hash_of).unwrap())
            .collect(),
        checkpoint: checkpoint().signed().clone(),
    }
}

fn leaves() -> Vec<Hash> {
    let leaf = |(_, entry): &(&str, Entry)| leaf_hash(&codec::to_bytes(entry));
    entries().iter().map(leaf).collect()
}

pub(crate) fn log_requests() -> Vec<(&'static str, LogRequest)> {
    vec![
        ("head", LogRequest::Head),
        ("consistency", LogRequest::Consistency { from: 3, to: 5 }),
        (
            "inclusion",
            LogRequest::Inclusion {
                sequence: 1,
                size: 5,
            },
        ),
        (
            "receipts",
            LogRequest::Receipts {
                device: stranger(),
                after: Some(7),
            },
        ),
    ]
}

pub(crate) fn log_replies() -> Vec<(&'static str, LogReply)> {
    let path = log_proof().path;
    vec![
        ("head", LogReply::Head(checkpoint().signed().clone())),
        ("consistency", LogReply::Consistency(path.clone())),
        (
            "inclusion",
            LogReply::Inclusion(LoggedEntry {
                entry: codec::to_bytes(&entries()[1].1),
                path,
            }),
        ),
        ("receipts", LogReply::Receipts(vec![8, 300])),
        ("refused", LogReply::Refused(Refusal::UnknownEntry)),
    ]
}

pub(crate) fn reach_requests() -> Vec<(&'static str, ReachRequest)> {
    let address = "/ip4/192.0.2.1/tcp/4810".to_owned();
    vec![("dial", ReachRequest::Dial(address))]
}

pub(crate) fn reach_replies() -> Vec<(&'static str, ReachReply)> {
    vec![
        ("reached", ReachReply::Reached(stranger())),
        ("closed", ReachReply::NotReached(NotReached::Closed)),
        ("no_node", ReachReply::NotReached(NotReached::NoNode)),
        ("other_node", ReachReply::NotReached(NotReached::OtherNode)),
        ("refused", ReachReply::Refused(Refusal::Busy)),
    ]
}

/// A node that is not the one of [`key`].
pub(crate) fn stranger() -> NodeId {
    NodeId::from_bytes([2; 32])
}

/// A witness of one log: a head, one that waits for its proof, and a fork. And of another that was not met.
pub(crate) fn witness() -> Witness {
    let mut witness = Witness::new(stranger());
    let other = SigningKey::from_bytes(&[2; 32]);
    let head = |size: u64, root: u8| TreeHead {
        size,
        root: leaf_hash(&[root]),
    };
    let mut hear = |seconds, checkpoint| {
        witness.handle(
            at(seconds),
            witness::Input::Heard(checkpoint),
            &mut Vec::new(),
        );
    };
    hear(1, checkpoint());
    hear(2, VerifiedCheckpoint::sign(head(7, 0), &network(), &key()));
    hear(3, VerifiedCheckpoint::sign(head(9, 1), &network(), &other));
    hear(4, VerifiedCheckpoint::sign(head(9, 2), &network(), &other));
    let met = NodeId::from_bytes(key().verifying_key().to_bytes());
    witness.handle(at(5), witness::Input::Found(met), &mut Vec::new());
    witness
}

/// Certifies the key of all samples as that of an issuer.
pub(crate) fn issuer_certificate() -> IssuerCertificate {
    IssuerCertificate {
        issuer: node(),
        app_server: NodeId::from_bytes([7; 32]),
        vendor: "Example Ltd".to_owned(),
        not_before: at(0),
        not_after: at(31_536_000),
        serial: 1,
    }
}

/// The vendor's root key: 32 bytes of 3.
pub(crate) fn root() -> SigningKey {
    SigningKey::from_bytes(&[3; 32])
}

/// Issues with the key of all samples.
fn issuer() -> Issuer {
    let certificate = Verified::sign(issuer_certificate(), &network(), &root());
    Issuer::new(key(), certificate, network()).unwrap()
}

fn basis() -> Basis {
    let redemptions = [6, 5].map(|byte| RedemptionId::from_bytes([byte; 16]));
    Basis::of(redemptions.to_vec(), vec![sign(receipt()).id()])
}

pub(crate) fn license() -> License {
    let order = LicenseOrder {
        order: OrderId::from_bytes([4; 16]),
        holder: holder().owner,
        devices: vec![holder().device],
        issued: at(10),
        not_before: at(20),
        status_index: 5,
        basis: basis(),
    };
    let terms = LicenseTerms {
        product: "photo-editor".parse().unwrap(),
        entitlements: vec!["filters".to_owned(), "export".to_owned()],
        life_seconds: 30 * 86_400,
        grace_seconds: 7 * 86_400,
        status_max_age_seconds: 3 * 86_400,
        renewal: Some(Renewal {
            points: Points::from_micro(5_000_000),
            period_seconds: 30 * 86_400,
        }),
    };
    let license = License::issue(order, terms, &issuer()).unwrap();
    license.value().clone()
}

pub(crate) fn status_list() -> StatusList {
    let mut bits = Vec::new();
    Status::Suspended.set(&mut bits, 4).unwrap();
    Status::Revoked.set(&mut bits, 6).unwrap();
    let list = StatusList::issue(at(30), 2, bits, &issuer()).unwrap();
    list.value().clone()
}

pub(crate) fn device_proof() -> DeviceProof {
    DeviceProof {
        license: license().id,
        nonce: [8; 32],
        at: at(40),
    }
}

pub(crate) fn voucher() -> Voucher {
    let order = VoucherOrder {
        order: OrderId::from_bytes([4; 16]),
        holder: holder().owner,
        value: "7.50 EUR".parse().unwrap(),
        issued: at(10),
        basis: basis(),
    };
    let terms = VoucherTerms {
        product: Some("photo-editor".parse().unwrap()),
        discount: Discount::Percent(20),
        fee_min: 1_000,
        life_seconds: 90 * 86_400,
    };
    let voucher = Voucher::issue(order, terms, &issuer()).unwrap();
    voucher.value().clone()
}
