//! Money and points between real processes: deposits, receipts, owners, and deaths of the coordinator in between.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use tally_ledger::store::Reader;
use tally_node::admin::Request;
use tally_node::fault::Point;
use tally_protocol::account::{Account, Commodity, Money};
use tally_protocol::books::Books;
use tally_protocol::coordinator::Movement;
use tally_protocol::entry::{Event, Fund};
use tally_protocol::id::{NodeId, PostingId};
use tally_protocol::message::customer::TaskStatus;
use tally_protocol::message::work::Batch;
use tally_protocol::rate_card::RateCard;
use tally_protocol::receipt::Receipt;
use tally_protocol::signed::{Signed, Statement};
use tally_tests::job::Job;
use tally_tests::net::{NETWORK, Net};
use tally_tests::node::Node;
use tally_tests::{ledger, until};

use crate::crash::free_address;
use crate::net;

/// One cent for 1,000 upt, so each small unit costs one for each terminal that must agree; escrow for a second.
const RATES: &str = "[coordinator.rates]\nprice = \"10.00 EUR\"\nreserve = \"5.00 EUR\"\nper_points = 1\n\
                     escrow_seconds = 1\nlot_seconds = 1\n";
/// What each customer pays in, in cents.
const DEPOSIT: u64 = 10_000;

/// The points of the coordinator's work at which money is about to be written, or was.
const MONEY_POINTS: [Point; 10] = [
    Point::BeforeAccept,
    Point::AfterAccept,
    Point::BeforeAgree,
    Point::AfterAgree,
    Point::BeforeReceipt,
    Point::AfterReceipt,
    Point::BeforeSettle,
    Point::AfterSettle,
    Point::BeforeRelease,
    Point::AfterRelease,
];

/// Three units of the least size, at quorum 1.
fn small_job() -> Job {
    Job::builtin("wordcount")
        .text("one\ntwo words\nthree more words\n")
        .split("by = \"lines\"\nlines = 1")
        .agree(1)
        .table("limits", "fuel = 1_000_000\noutput = \"100 B\"")
}

fn euro(cents: u64) -> Money {
    let currency = "EUR".parse().unwrap();
    Money {
        currency,
        minor: cents,
    }
}

fn deposit(coordinator: &mut Node, customer: NodeId, reference: &str) {
    let request = Request::Move {
        movement: Movement::Deposit(Fund::Customer(customer)),
        money: euro(DEPOSIT),
        reference: reference.to_owned(),
    };
    let _: PostingId = coordinator.answer(&request);
}

fn start(net: &Net, listen: &str, fault: Option<&str>) -> Node {
    let node = net
        .node("coordinator", "coordinator")
        .args(&["--listen", listen])
        .config(RATES);
    match fault {
        Some(fault) => node.args(&["--fault", fault]).start(),
        None => node.start(),
    }
}

fn books(net: &Net) -> Books {
    let reader = Reader::open(&net.path("coordinator/coordinator.redb")).unwrap();
    reader.books().unwrap()
}

/// Has the audit of a coordinator that does not run say that all is well.
fn audit(net: &Net) {
    let folder = net.path("coordinator");
    let args = [
        "ledger",
        "audit",
        "--json",
        "--dir",
        folder.to_str().unwrap(),
    ];
    let report: serde_json::Value = net.run(&args).done().json();
    assert_eq!(report["finding"], serde_json::Value::Null, "{report}");
}

/// Escrowed and spendable points of each owner.
fn points(books: &Books) -> BTreeMap<NodeId, (i128, i128)> {
    let mut points: BTreeMap<NodeId, (i128, i128)> = BTreeMap::new();
    for ((account, _), balance) in books.balances() {
        let Some(holder) = account.holder() else {
            continue;
        };
        let (escrowed, spendable) = points.entry(holder.owner).or_default();
        if let Account::Escrow(_) = account {
            *escrowed += balance.posted();
        } else {
            *spendable += balance.posted();
        }
    }
    points
}

fn cents(books: &Books, account: Account) -> i128 {
    let commodity = Commodity::Money("EUR".parse().unwrap());
    books.balance(account, commodity).available()
}

#[test]
fn the_books_balance_whatever_step_of_the_money_the_coordinator_dies_at() {
    let mut net = net();
    let _bootstrap = net.start_bootstrap();
    let listen = free_address(&net);
    let terminal = net.start_terminal("terminal");
    for (number, point) in MONEY_POINTS.into_iter().enumerate() {
        let name = format!("customer-{number}");
        let customer = net.new_key(&name);
        let fault = format!("{}:1", point.name());
        let mut coordinator = start(&net, &listen, None);
        deposit(&mut coordinator, customer, &name);
        coordinator.stop();
        let mut coordinator = start(&net, &listen, Some(&fault));
        let submitted = net.submit(&name, &small_job());
        let ended = coordinator.ended();
        assert_eq!(ended.signal(), Some(9), "{fault}: {}", coordinator.log());
        drop(coordinator);
        let mut coordinator = start(&net, &listen, None);
        let status: TaskStatus = submitted.wait().done().json();
        assert_eq!(net.result(&name), b"6\n", "{fault}");
        let settled = until("the task to be settled", || {
            let status = coordinator.task(status.summary.task);
            (status.cost.held == euro(0)).then_some(status.cost)
        });
        assert_eq!(
            settled.points.as_micro(),
            3_000,
            "{fault}: three units once"
        );
        assert_eq!(settled.paid, euro(3), "{fault}");
        coordinator.stop();
        audit(&net);
        let books = books(&net);
        let left = cents(&books, Account::Customer(customer));
        assert_eq!(left, i128::from(DEPOSIT) - 3, "{fault}");
    }
    let mut coordinator = start(&net, &listen, None);
    let tasks = i128::try_from(MONEY_POINTS.len()).unwrap();
    until("the points to be released", || {
        let query = tally_ledger::cli::LedgerQuery::Balance(tally_ledger::cli::BalanceQuery {
            of: tally_ledger::cli::BalanceOf::Prefix("points:owner".to_owned()),
            limit: 1_000,
        });
        let answer: tally_ledger::cli::LedgerAnswer =
            coordinator.answer(&Request::Ledger { query });
        let tally_ledger::cli::LedgerAnswer::Balance(page) = answer else {
            panic!("{answer:?}");
        };
        let escrowed =
            |line: &tally_ledger::cli::AccountLine| matches!(line.account, Account::Escrow(_));
        (!page.lines.iter().any(escrowed)).then_some(())
    });
    coordinator.stop();
    drop(terminal);
    audit(&net);
    let books = books(&net);
    let all: Vec<(i128, i128)> = points(&books).into_values().collect();
    assert_eq!(
        all,
        [(0, tasks * 3_000)],
        "nothing paid twice, nothing lost"
    );
    let earned = (
        cents(&books, Account::Reserve),
        cents(&books, Account::Revenue),
    );
    assert_eq!(earned.0 + earned.1, tasks * 3);
}

#[test]
fn a_customer_without_funds_is_refused_before_any_upload() {
    let mut net = net();
    let mut coordinator = net.coordinator("coordinator").config(RATES).start();
    net.bootstrap(&mut coordinator);
    let job = net.write("job.toml", small_job().to_string());
    let customer = net.new_key("customer");
    let address = coordinator.address();
    let args = ["submit", job.to_str().unwrap(), "--coordinator", &address];
    let contents = || {
        let files = std::fs::read_dir(net.path("coordinator/tasks")).unwrap();
        let names = files.map(|file| file.unwrap().file_name());
        names.collect::<std::collections::BTreeSet<_>>()
    };
    let before = contents();
    let refused = net.run_task("customer", &args);
    assert_eq!(refused.exit(), 4);
    let failure = refused.failure();
    assert!(
        failure.message.contains("0.00 EUR are there to be spent"),
        "{failure:?}"
    );
    assert!(failure.hint.contains("tally account deposit"));
    assert!(coordinator.tasks().is_empty());
    assert_eq!(contents(), before, "nothing was read from the customer");
    // The same payment is entered once.
    deposit(&mut coordinator, customer, "bank 1");
    let again = Request::Move {
        movement: Movement::Deposit(Fund::Customer(customer)),
        money: euro(1),
        reference: "bank 1".to_owned(),
    };
    let error = coordinator.ask::<PostingId>(&again).unwrap().unwrap_err();
    assert_eq!(error.code, "repeated");
    let _terminal = net.start_terminal("terminal");
    let out = net.path("words.txt");
    let args = [
        "submit",
        job.to_str().unwrap(),
        "--coordinator",
        &address,
        "--out",
        out.to_str().unwrap(),
    ];
    let status: TaskStatus = net.run_task("customer", &args).done().json();
    assert_eq!(status.cost.paid, euro(3));
}

#[test]
fn two_computers_of_one_owner_earn_into_one_balance() {
    let mut net = net();
    let mut coordinator = net.coordinator("coordinator").config(RATES).start();
    net.bootstrap(&mut coordinator);
    let key = net.path("owner-key");
    let key = key.to_str().unwrap();
    let made = net.run(&["key", "owner", "new", "--file", key, "--json"]);
    let owner: NodeId = made.done().json::<serde_json::Value>()["node"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    for name in ["one", "two"] {
        net.new_key(name);
        let folder = net.path(name);
        let folder = folder.to_str().unwrap();
        let certify = [
            "key",
            "certify",
            "--dir",
            folder,
            "--owner-key",
            key,
            "--network",
            NETWORK,
        ];
        let _ = net.run(&certify).done();
    }
    let _terminals = ["one", "two", "other"].map(|name| net.start_terminal(name));
    let customer = net.new_key("customer");
    deposit(&mut coordinator, customer, "bank 1");
    let lines: String = (0..60).map(|_| "a b c\n").collect();
    let job = Job::builtin("wordcount")
        .text(&lines)
        .split("by = \"lines\"\nlines = 1")
        .agree(2)
        .table("limits", "fuel = 1_000_000\noutput = \"100 B\"");
    let status: TaskStatus = net.submit("customer", &job).wait().done().json();
    assert_eq!(status.cost.points.as_micro(), 60 * 2 * 1_000);
    coordinator.stop();
    audit(&net);
    let books = books(&net);
    let earned = points(&books);
    let of = |owner: &NodeId| earned[owner].0 + earned[owner].1;
    assert_eq!(earned.len(), 2, "{earned:?}");
    // Each unit needs two owners, so the other one has computed all of them, and the two of one owner shared them.
    assert_eq!(of(&owner), 60_000);
    let mut paid: BTreeMap<(NodeId, u32), u32> = BTreeMap::new();
    for event in ledger::events(&net.path("coordinator")) {
        if let Event::Receipted { receipt, .. } = event {
            let receipt = receipt.verify(&NETWORK.parse().unwrap()).unwrap();
            for (_, _, unit) in receipt.results() {
                *paid.entry((receipt.holder.owner, unit)).or_default() += 1;
            }
        }
    }
    assert_eq!(paid.len(), 120);
    assert!(
        paid.values().all(|times| *times == 1),
        "no unit twice for one owner"
    );
}

#[test]
fn a_stock_cose_library_verifies_receipts_batches_and_rate_cards() {
    let Some(packages) = std::env::var_os("TALLY_COSE") else {
        eprintln!(
            "not run: TALLY_COSE does not name a folder with the Python package cwt; tests/all makes one"
        );
        return;
    };
    let mut net = net();
    let mut coordinator = net.coordinator("coordinator").config(RATES).start();
    net.bootstrap(&mut coordinator);
    let mut terminal = net.start_terminal("terminal");
    let customer = net.new_key("customer");
    deposit(&mut coordinator, customer, "bank 1");
    let _: TaskStatus = net.submit("customer", &small_job()).wait().done().json();
    let (me, device) = (coordinator.id(), terminal.id());
    coordinator.stop();
    let reader = CoseReader {
        net: &net,
        packages,
    };
    let (mut cards, mut receipts) = (0, 0);
    for event in ledger::events(&net.path("coordinator")) {
        if let Event::RateCardPublished { card } = event {
            let said = reader.believes(&card, me);
            assert_eq!(said["version"], 1);
            assert_eq!(said["rates"]["currency"], "EUR");
            reader.refuses_all_but(&card, (me, device), RateCard::TYPE);
            cards += 1;
        } else if let Event::Receipted { receipt, batches } = event {
            let said = reader.believes(&receipt, me);
            let units = said["units"].as_u64().unwrap();
            assert_eq!(said["points"].as_u64(), Some(units * 1_000));
            reader.refuses_all_but(&receipt, (me, device), Receipt::TYPE);
            for batch in batches {
                let said = reader.believes(&batch, device);
                assert!(said["count"].as_u64() >= Some(1));
                reader.refuses_all_but(&batch, (device, me), Batch::TYPE);
            }
            receipts += 1;
        }
    }
    assert!(
        cards == 1 && receipts >= 1,
        "{cards} cards, {receipts} receipts"
    );
}

/// A program that verifies statements and knows nothing of Tally's code.
struct CoseReader<'a> {
    net: &'a Net,
    packages: std::ffi::OsString,
}

impl CoseReader<'_> {
    fn read(&self, statement: &[u8], key: NodeId, kind: &str) -> Option<serde_json::Value> {
        let file = self.net.write("statement.cose", statement);
        let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("cose/verify.py");
        let mut command = self.net.command("python3");
        command
            .env("PYTHONPATH", &self.packages)
            .arg(program)
            .arg(file);
        let hex: String = key
            .as_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let ran = command.arg(hex).arg(kind).arg(NETWORK).output().unwrap();
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(
            ran.status.success() || said.starts_with("not believed"),
            "{said}"
        );
        ran.status
            .success()
            .then(|| serde_json::from_slice(&ran.stdout).unwrap())
    }

    fn believes<T: Statement>(&self, statement: &Signed<T>, by: NodeId) -> serde_json::Value {
        let said = self.read(statement.as_bytes(), by, T::TYPE);
        said.unwrap_or_else(|| panic!("{} is not believed", T::TYPE))
    }

    /// One byte other in each part, another key, another type.
    fn refuses_all_but<T: Statement>(
        &self,
        statement: &Signed<T>,
        (by, other): (NodeId, NodeId),
        kind: &str,
    ) {
        let bytes = statement.as_bytes();
        for place in [20, bytes.len() / 2, bytes.len() - 70, bytes.len() - 1] {
            let mut changed = bytes.to_vec();
            changed[place] ^= 1;
            assert_eq!(self.read(&changed, by, kind), None, "byte {place}");
        }
        assert_eq!(self.read(bytes, other, kind), None, "another key");
        assert_eq!(self.read(bytes, by, "application/tally-task+cbor"), None);
    }
}

/// Whoever has nothing but the export and the coordinator's id can follow every unit to a funded point.
#[test]
fn an_export_convinces_somebody_who_has_nothing_else() {
    let mut net = net();
    let mut coordinator = net.coordinator("coordinator").config(RATES).start();
    net.bootstrap(&mut coordinator);
    let _terminal = net.start_terminal("terminal");
    let customer = net.new_key("customer");
    deposit(&mut coordinator, customer, "bank 1");
    let _: TaskStatus = net.submit("customer", &small_job()).wait().done().json();
    let me = coordinator.id().to_string();
    let folder = net.path("coordinator");
    let file = net.path("export.jsonl");
    let export = ["ledger", "export", "--format", "jsonl", "--dir"];
    let of = [folder.to_str().unwrap(), "--out", file.to_str().unwrap()];
    let _ = net.run(&[&export[..], &of].concat()).done();
    let verify = |file: &Path, key: &str| {
        net.run(&[
            "ledger",
            "verify",
            "--export",
            file.to_str().unwrap(),
            "--key",
            key,
            "--json",
        ])
    };
    let _ = verify(&file, &me).done();
    assert_ne!(
        verify(&file, &customer.to_string()).exit(),
        0,
        "another key"
    );
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let dropped: Vec<&str> = lines
        .iter()
        .enumerate()
        .filter(|(at, _)| *at != 3)
        .map(|(_, line)| *line)
        .collect();
    let dropped = net.write("dropped.jsonl", dropped.join("\n") + "\n");
    assert_ne!(verify(&dropped, &me).exit(), 0, "an entry is missing");
    coordinator.stop();
}
