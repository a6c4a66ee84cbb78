//! The books of a coordinator on disk: appends, restart, proofs, and what verifying an export costs.
//!
//! Appends are receipts of one unit with their batch and posting, of a thousand computers, in durable commits of 256, as a
//! coordinator makes them at most, and of 1,024. Beside the time stands that of the processor, which says more where
//! others use the same disk. For speed of the benchmark itself only as many are really signed as are verified later; the others have the same bytes
//! but for the signature, and the ledger does not look at it. The export is verified in memory, on one thread, beside the
//! bare cost of it: each signature checked once and each entry hashed once.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ed25519_dalek::SigningKey;
use tally_ledger::audit::audit_entries;
use tally_ledger::store::{Change, Draft, Identity, Store};
use tally_protocol::account::{Account, Holder, Money};
use tally_protocol::entry::{Event, Fund, ValidatedUnit};
use tally_protocol::id::{Hash, NetworkId, NodeId};
use tally_protocol::merkle::leaf_hash;
use tally_protocol::message::work::Batch;
use tally_protocol::points::Points;
use tally_protocol::posting::{self, Cost};
use tally_protocol::rate_card::{Measured, Price, RateCard, Rates};
use tally_protocol::receipt::{BatchShare, LeafRun, Receipt, Validation};
use tally_protocol::signed::{Signed, Verified};
use tally_protocol::task::{BlobRef, LineSplit, Merge, OnFailure, Quorum, Split, Task, UNITS_MAX};
use tally_protocol::time::Timestamp;
use tally_protocol::unit::{Limits, Outcome};

use crate::report::Report;
use crate::{Options, cpu, progress};

/// Entries of a commit, as many as a coordinator takes inputs.
const COMMIT: u32 = 256;
/// Entries of a large commit.
const COMMIT_LARGE: u32 = 1_024;
/// Computers that earn.
const DEVICES: u32 = 1_000;
/// Receipts that are signed, and verified as an export.
const SIGNED: u32 = 10_240;
/// Proofs that are made.
const PROOFS: u64 = 1_000;
/// The time of all that happens.
const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

pub(crate) fn measure(options: &Options) -> Result<Report> {
    let goal = ">= 50,000/s at 10^6, >= 20,000/s at 10^7; verifying <= 1.3 x signatures and hashes";
    let mut report = Report::new("ledger", goal);
    let folder = tempfile::Builder::new()
        .prefix("tally-bench-")
        .tempdir_in(&options.dir)?;
    let mut runs = vec![
        (100_000, COMMIT),
        (1_000_000, COMMIT),
        (1_000_000, COMMIT_LARGE),
    ];
    if options.large {
        runs.push((10_000_000, COMMIT_LARGE));
    }
    if let Some(units) = options.units {
        runs = vec![(units, COMMIT), (units, COMMIT_LARGE)];
    }
    for (size, commit) in runs {
        append(&mut report, folder.path(), (size, commit))?;
    }
    verify(&mut report, folder.path())?;
    Ok(report)
}

/// Measures appends of so many receipts in commits of so many, then what can be done with the file.
fn append(report: &mut Report, folder: &Path, (size, commit): (u32, u32)) -> Result<()> {
    let name = format!("{size} by {commit}");
    let path = folder.join(format!("{size}-{commit}.redb"));
    let mut desk = Desk::open(&path)?;
    let template = (desk.sign(0), batch(0));
    let (mut spent, mut busy) = (Duration::ZERO, Duration::ZERO);
    let (mut window, mut last) = (Duration::ZERO, 0.0);
    let every = (size / 10).max(commit).next_multiple_of(commit);
    for first in (0..size).step_by(commit as usize) {
        let receipts = (first..first + commit).map(|number| desk.copy(&template, number));
        let events = receipts.collect::<Result<Vec<_>>>()?;
        let (start, used) = (Instant::now(), cpu::exact_time_of(std::process::id()));
        desk.commit(events)?;
        let took = start.elapsed();
        busy += cpu::exact_time_of(std::process::id()).saturating_sub(used);
        (spent, window) = (spent + took, window + took);
        if (first + commit).is_multiple_of(every) {
            last = f64::from(every) / window.as_secs_f64();
            progress(&format!(
                "ledger: {} of {name}, {last:.0}/s",
                first + commit
            ));
            window = Duration::ZERO;
        }
    }
    let count = f64::from(size.next_multiple_of(commit));
    report.add(&format!("{name}: appends/s"), count / spent.as_secs_f64());
    report.add(&format!("{name}: at the end, /s"), last);
    report.add(
        &format!("{name}: processor us"),
        millis(busy) * 1_000.0 / count,
    );
    let kibibytes = f64::from(u32::try_from(std::fs::metadata(&path)?.len() >> 10)?);
    report.add(&format!("{name}: file, bytes"), kibibytes * 1_024.0 / count);
    prove(report, &desk.store, &name)?;
    balances(report, &desk.store, &name)?;
    restart(report, &path, &name)?;
    drop(desk);
    Ok(std::fs::remove_file(&path)?)
}

/// Measures how long a store needs to open a file as a kill leaves it.
fn restart(report: &mut Report, path: &Path, name: &str) -> Result<()> {
    let killed = path.with_extension("killed");
    std::fs::copy(path, &killed).context("copy the file of the open store")?;
    // Else the first flush of the opened store is that of the copy.
    File::open(&killed)?.sync_all()?;
    let start = Instant::now();
    let store = Store::create_or_open(&killed, &identity(), NOW)?;
    report.add(&format!("{name}: restart ms"), millis(start.elapsed()));
    drop(store);
    Ok(std::fs::remove_file(&killed)?)
}

fn prove(report: &mut Report, store: &Store, name: &str) -> Result<()> {
    let head = store.head()?.size();
    let (start, mut hashes) = (Instant::now(), 0);
    for number in 0..PROOFS {
        let sequence = head / PROOFS * number;
        let proved = store.inclusion(sequence, head)?;
        hashes = proved
            .context("an entry that is there")?
            .path
            .len()
            .max(hashes);
    }
    let each = start.elapsed() / u32::try_from(PROOFS)?;
    report.add(&format!("{name}: proof us"), millis(each) * 1_000.0);
    report.add(
        &format!("{name}: proof bytes"),
        f64::from(u32::try_from(hashes * 32)?),
    );
    Ok(())
}

/// Measures what the books are asked: the balance of an owner, and all of them.
fn balances(report: &mut Report, store: &Store, name: &str) -> Result<()> {
    let start = Instant::now();
    for number in 0..DEVICES {
        let lots = store.lines_of_owner(device_id(number))?;
        ensure!(!lots.is_empty(), "find the points of a device");
    }
    let each = start.elapsed() / DEVICES;
    report.add(&format!("{name}: balance us"), millis(each) * 1_000.0);
    let start = Instant::now();
    std::hint::black_box(store.books()?);
    report.add(&format!("{name}: books ms"), millis(start.elapsed()));
    Ok(())
}

/// Measures signing with appending, and the verification of what was signed.
fn verify(report: &mut Report, folder: &Path) -> Result<()> {
    let mut desk = Desk::open(&folder.join("signed.redb"))?;
    let start = Instant::now();
    for first in (0..SIGNED).step_by(COMMIT as usize) {
        let receipts = (first..first + COMMIT).map(|number| {
            let (receipt, batch) = (desk.sign(number), batch(number));
            desk.draft(receipt.signed().clone(), receipt.value(), batch)
        });
        let mut events = receipts.collect::<Result<Vec<_>>>()?;
        events.insert(0, desk.validated(first));
        desk.commit(events)?;
    }
    let seconds = start.elapsed().as_secs_f64();
    report.add("sign and append/s", f64::from(SIGNED) / seconds);
    let entries = desk.store.entries(0..u64::MAX)?;
    let log = entries
        .map(|entry| Ok(entry?.bytes))
        .collect::<Result<Vec<_>>>()?;
    let start = Instant::now();
    bare(&log)?;
    let bare = start.elapsed();
    let start = Instant::now();
    let open = || Ok::<_, anyhow::Error>(log.iter().cloned().map(Ok));
    let audited = audit_entries(&identity(), log.len() as u64, open, &mut |_| ())?;
    let audit = start.elapsed();
    ensure!(audited.report.is_sound(), "audit: {:?}", audited.report);
    report.add(
        "export verified, entries/s",
        f64::from(SIGNED) / audit.as_secs_f64(),
    );
    let ratio = audit.as_secs_f64() / bare.as_secs_f64();
    report
        .ratio
        .insert("verify / signatures and hashes".to_owned(), ratio);
    Ok(())
}

/// Checks each signature and hashes each entry, and nothing else.
fn bare(log: &[Vec<u8>]) -> Result<()> {
    let network = identity().network;
    for bytes in log {
        std::hint::black_box(leaf_hash(bytes));
        let entry: tally_protocol::entry::Entry =
            tally_protocol::codec::from_bytes(bytes, tally_protocol::entry::ENTRY_BYTES_MAX)?;
        if let Event::Receipted { receipt, batches } = entry.event {
            receipt.verify(&network)?;
            for batch in batches {
                batch.verify(&network)?;
            }
        }
    }
    Ok(())
}

/// A coordinator with one task that has all units.
struct Desk {
    store: Store,
    card: Verified<RateCard>,
    task: Verified<Task>,
    cost: Cost,
    points: Points,
}

impl Desk {
    fn open(path: &Path) -> Result<Self> {
        let store = Store::create_or_open(path, &identity(), NOW)?;
        let card = sign(rate_card(), &own_key());
        let task = sign(task(&card), &key(u32::MAX));
        let measured = Measured {
            outcome: Outcome::Done,
            fuel: FUEL,
            fuel_limit: task.limits.fuel,
            bytes: 2_048,
            pixels: 0,
        };
        let points = card.rates.points(task.program.id, &measured);
        let (customer, rates) = (task.customer, &card.rates);
        let (money, reference) = (rates.money(task.max_price), "all".to_owned());
        let deposit = posting::deposit(Account::Customer(customer), money, &reference);
        let until = NOW + Duration::from_millis(task.deadline_millis);
        let hold = posting::acceptance(task.task_id(), customer, money, until);
        let to = Fund::Customer(customer);
        let deposited = deposited((to, money, reference));
        let accepted = Event::TaskAccepted {
            task: task.task_id(),
            signed: task.signed().clone(),
        };
        let published = Event::RateCardPublished {
            card: card.signed().clone(),
        };
        let points = points.context("count a unit")?;
        let mut desk = Self {
            store,
            card,
            task,
            cost: Cost::default(),
            points,
        };
        desk.commit(vec![
            draft(published, None),
            draft(deposited, deposit),
            draft(accepted, hold),
        ])?;
        Ok(desk)
    }

    fn commit(&mut self, events: Vec<Draft>) -> Result<()> {
        self.store.commit(Change {
            events,
            ..Change::default()
        })?;
        Ok(())
    }

    fn receipt(&self, number: u32, batch: Hash) -> Receipt {
        let device = node(&key(number % DEVICES));
        let (leaf, unit, count) = (0, number % UNITS_MAX, 1);
        Receipt {
            sequence: u64::from(number / DEVICES),
            holder: Holder::alone(device),
            task: self.task.task_id(),
            shares: vec![BatchShare {
                batch,
                runs: vec![LeafRun { leaf, unit, count }],
            }],
            units: 1,
            fuel: FUEL,
            bytes: 2_048,
            pixels: 0,
            points: self.points,
            rate_card: self.card.id(),
            profile: "benchmark".parse().expect("a profile id"),
            validation: Validation::Quorum(1),
            leased_at: NOW,
            done_at: NOW,
        }
    }

    fn sign(&self, number: u32) -> Verified<Receipt> {
        sign(self.receipt(number, root(number)), &own_key())
    }

    /// Makes the draft of another receipt: that of `template` with other bytes in the place of the signature.
    fn copy(
        &mut self,
        (template, batch): &(Verified<Receipt>, Signed<Batch>),
        number: u32,
    ) -> Result<Draft> {
        let mut bytes = template.signed().as_bytes().to_vec();
        let end = bytes.len() - 4;
        bytes[end..].copy_from_slice(&number.to_be_bytes());
        let receipt = Receipt {
            holder: Holder::alone(device_id(number % DEVICES)),
            ..template.value().clone()
        };
        self.draft(Signed::from_bytes(bytes), &receipt, batch.clone())
    }

    fn draft(
        &mut self,
        signed: Signed<Receipt>,
        receipt: &Receipt,
        batch: Signed<Batch>,
    ) -> Result<Draft> {
        let after = self.cost.with(self.points, &self.card.rates);
        let costs = (self.cost, after.context("count the cost")?);
        let payer = (self.task.customer, self.card.value());
        let posting = posting::receipt((signed.id(), receipt), payer, costs);
        self.cost = costs.1;
        let event = Event::Receipted {
            receipt: signed,
            batches: vec![batch],
        };
        Ok(draft(event, posting))
    }

    /// Returns the entry that agrees on the units of a commit.
    fn validated(&self, first: u32) -> Draft {
        let unit = |unit: u32| ValidatedUnit {
            unit,
            outcome: Outcome::Done,
            fuel: FUEL,
            input_bytes: 1_024,
            pixels: 0,
            output: BlobRef {
                bytes: 1_024,
                ..BlobRef::of(b"output")
            },
            agreed: vec![node(&key(unit % DEVICES))],
            outvoted: Vec::new(),
        };
        let event = Event::BatchValidated {
            task: self.task.task_id(),
            device: node(&key(first % DEVICES)),
            batch: root(first),
            units: (first..first + COMMIT).map(unit).collect(),
        };
        draft(event, None)
    }
}

/// Fuel of each unit.
const FUEL: u64 = 100_000_000;

fn draft(event: Event, posting: Option<tally_protocol::books::Posting>) -> Draft {
    let at = NOW;
    Draft { at, event, posting }
}

fn deposited((to, money, reference): (Fund, Money, String)) -> Event {
    Event::Deposited {
        to,
        money,
        reference,
    }
}

fn rate_card() -> RateCard {
    let mut rates = Rates::free("EUR".parse().expect("a currency"));
    let price = |minor| Price {
        minor,
        micro_points: 100_000,
    };
    (rates.price, rates.reserve) = (price(2), price(1));
    RateCard {
        version: 1,
        published: NOW,
        rates,
    }
}

fn task(card: &Verified<RateCard>) -> Task {
    Task {
        name: "benchmark".to_owned(),
        customer: node(&key(u32::MAX)),
        created: NOW,
        program: BlobRef::of(b"program"),
        args: Vec::new(),
        input: BlobRef::of(b"input"),
        split: Split::Lines(LineSplit {
            lines: 1,
            bytes: 1_024,
        }),
        limits: Limits {
            fuel: 1_000_000_000,
            memory_bytes: 64 << 20,
            output_bytes: 1 << 20,
        },
        lease_millis: 60_000,
        quorum: Quorum {
            agree: 1,
            error_max: 3,
            total_max: 8,
        },
        merge: Merge::Concat,
        edit: None,
        on_failure: OnFailure::Fail,
        rate_card: card.id(),
        max_price: 1 << 50,
        deadline_millis: 86_400_000,
    }
}

fn identity() -> Identity {
    Identity {
        network: network(),
        node: node(&own_key()),
    }
}

fn network() -> NetworkId {
    "bench".parse().expect("a network name")
}

fn own_key() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

fn key(number: u32) -> SigningKey {
    let mut secret = [2; 32];
    secret[..4].copy_from_slice(&number.to_be_bytes());
    SigningKey::from_bytes(&secret)
}

fn node(key: &SigningKey) -> NodeId {
    NodeId::from_bytes(key.verifying_key().to_bytes())
}

/// Returns an id as good as that of a key, but quicker to make.
fn device_id(number: u32) -> NodeId {
    NodeId::from_bytes(*leaf_hash(&number.to_be_bytes()).as_bytes())
}

/// Returns the batch of a receipt, signed by its device.
fn batch(number: u32) -> Signed<Batch> {
    let batch = Batch {
        coordinator: node(&own_key()),
        count: 1,
        root: root(number),
        at: NOW,
    };
    let batch = sign(batch, &key(number % DEVICES));
    batch.signed().clone()
}

/// Returns the root of the batch of a number.
fn root(number: u32) -> Hash {
    leaf_hash(&number.to_le_bytes())
}

fn sign<T: tally_protocol::signed::Statement>(value: T, key: &SigningKey) -> Verified<T> {
    Verified::sign(value, &network(), key)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
