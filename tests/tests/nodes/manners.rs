//! A terminal minds its owner: it pauses, goes on, finishes and says why, whatever happens to it meanwhile.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;
use tally_node::admin::{OwnerAsk, Request};
use tally_node::owner::OwnerStatus;
use tally_node::owner::why::Why;
use tally_protocol::entry::Event;
use tally_protocol::id::{NetworkId, TaskId};
use tally_protocol::manners::{Reason, Said, Until};
use tally_protocol::message::customer::{Phase, TaskStatus};
use tally_protocol::receipt::Validation;
use tally_tests::job::Job;
use tally_tests::ledger;
use tally_tests::lines::Lines;
use tally_tests::net::{NETWORK, Net};
use tally_tests::node::Node;
use tally_tests::{until, until_true};

use crate::crash::free_address;
use crate::net;

/// Primes below ten million.
const PRIMES: u64 = 664_579;
/// Units that take one terminal some ten seconds: the computer is looked at meanwhile.
const UNITS: u32 = 1_000;
/// Where the coordinator listens in a network of its own.
const PORT: u16 = 4001;
/// The variable that replays what happened.
const SEED: &str = "TALLY_SEED";
/// The variable that says how long everything goes wrong, in seconds.
const SECONDS: &str = "TALLY_MANNERS_SECONDS";

/// A job of so many units, each of some ten milliseconds.
fn primes(units: u32, agree: u8) -> Job {
    let ranges: String = (0..units).map(|_| "0 10000000\n").collect();
    Job::builtin("prime-count").text(&ranges).agree(agree)
}

fn why(node: &mut Node) -> Why {
    node.answer(&Request::Owner {
        question: OwnerAsk::Why,
    })
}

fn say(node: &mut Node, said: Said) -> OwnerStatus {
    let question = OwnerAsk::Say { said };
    node.answer(&Request::Owner { question })
}

fn has(why: &Why, reason: Reason) -> bool {
    why.because.iter().any(|because| because.reason == reason)
}

/// Runs a command of the owner in the folder of a node.
#[track_caller]
fn tally(net: &Net, name: &str, args: &[&str]) -> String {
    let folder = net.path(name);
    let args = [args, &["--dir", folder.to_str().unwrap()]].concat();
    net.run(&args).done().text().to_owned()
}

/// A computer whose battery and keyboard a test holds.
struct Computer(PathBuf);

impl Computer {
    fn new(net: &Net) -> Self {
        let computer = Self(net.path("computer"));
        computer.write(
            "proc/meminfo",
            "MemTotal: 16000000 kB\nMemAvailable: 12000000 kB\n",
        );
        computer.write("sys/class/power_supply/AC/type", "Mains\n");
        computer.write("sys/class/power_supply/BAT0/type", "Battery\n");
        computer.write("sys/class/power_supply/BAT0/capacity", "71\n");
        computer.plug(true);
        computer.write("dev/tty1", "");
        computer.used(Duration::from_secs(3_600));
        computer
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn plug(&self, is_in: bool) {
        let (online, status) = if is_in {
            ("1", "Full")
        } else {
            ("0", "Discharging")
        };
        self.write("sys/class/power_supply/AC/online", online);
        self.write("sys/class/power_supply/BAT0/status", status);
    }

    /// Says how long ago somebody has typed.
    fn used(&self, ago: Duration) {
        let file = std::fs::File::options()
            .write(true)
            .open(self.0.join("dev/tty1"))
            .unwrap();
        let times = std::fs::FileTimes::new().set_accessed(SystemTime::now() - ago);
        file.set_times(times).unwrap();
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

#[test]
fn units_wait_for_mains_and_for_the_owner_to_go_and_then_go_on() {
    let mut net = net();
    let _coordinator = net.start_coordinator();
    let computer = Computer::new(&net);
    let preferences = "preset = \"full\"\nrun = \"idle\"\n[disk]\nfree_min = 1\n";
    net.write("terminal/preferences.toml", preferences);
    let terminal = net.terminal("terminal");
    let mut terminal = terminal.args(&["--computer", computer.path()]).start();
    terminal.until_found(1);
    let submitted = net.submit("customer", &primes(UNITS, 1));
    until_true("work", || terminal.status().terminal.unwrap().units > 3);

    computer.plug(false);
    until_true("the battery to be noticed", || {
        has(&why(&mut terminal), Reason::OnBattery)
    });
    let status = terminal.status();
    let (owner, units) = (status.owner.unwrap(), status.terminal.unwrap());
    assert_eq!(owner.because[0].detail, "71 % are left");
    assert_eq!(units.stored, 0, "what waits is given back");
    // Units end only if they run: the process of the sandbox stands still.
    assert!(units.at_work.iter().all(|at| at.paused), "{units:?}");
    let told = tally(&net, "terminal", &["why"]);
    assert!(told.contains("on_battery: plug it in"), "{told}");

    computer.used(Duration::ZERO);
    until_true("the keyboard to be noticed", || {
        has(&why(&mut terminal), Reason::InUse)
    });
    let in_use = why(&mut terminal).because;
    let in_use = in_use
        .iter()
        .find(|because| because.reason == Reason::InUse)
        .unwrap();
    let Until::At(end) = in_use.until else {
        panic!("{in_use:?}");
    };
    assert!(end > in_use.since);
    let before = terminal.status().terminal.unwrap().units;
    computer.plug(true);
    until_true("mains to be noticed", || {
        !has(&why(&mut terminal), Reason::OnBattery)
    });
    assert_eq!(
        terminal.status().terminal.unwrap().units,
        before,
        "somebody is there"
    );
    computer.used(Duration::from_secs(3_600));
    let status: TaskStatus = submitted.wait().done().json();
    assert_eq!(status.summary.phase, Phase::Done);
    assert_eq!(
        net.result("customer"),
        format!("{}\n", u64::from(UNITS) * PRIMES).as_bytes()
    );
    until_true("nothing to stand in the way", || {
        !has(&why(&mut terminal), Reason::InUse)
    });
}

#[test]
fn what_the_owner_says_holds_over_a_power_cut_until_something_else_is_said() {
    let mut net = net();
    let mut coordinator = net.start_coordinator();
    let mut terminal = net.start_terminal("terminal");
    terminal.until_found(1);
    assert!(tally(&net, "terminal", &["pause"]).contains("tally resume"));
    let paused = why(&mut terminal).because.remove(0);
    assert_eq!(
        (paused.reason, paused.until),
        (Reason::Paused, Until::YouAct)
    );
    let submitted = net.submit("customer", &primes(20, 1));
    until_true("the task", || !coordinator.tasks().is_empty());
    terminal.kill();
    let mut terminal = net.start_terminal("terminal");
    terminal.until_found(1);
    let again = why(&mut terminal).because.remove(0);
    assert_eq!((again.reason, again.since), (Reason::Paused, paused.since));
    assert_eq!(terminal.status().terminal.unwrap().units, 0);

    let told = tally(&net, "terminal", &["snooze", "2h"]);
    assert!(told.contains("paused until 20"), "{told}");
    let snoozed = why(&mut terminal).because.remove(0);
    let Until::At(end) = snoozed.until else {
        panic!("{snoozed:?}");
    };
    assert_eq!(end.since(snoozed.since).as_secs().div_ceil(60), 120);
    assert_eq!(tally(&net, "terminal", &["resume"]), "it goes on\n");
    let _: TaskStatus = submitted.wait().done().json();

    let more = net.submit("other", &primes(40, 1));
    until_true("more work", || {
        terminal.status().terminal.unwrap().units > 21
    });
    tally(&net, "terminal", &["finish"]);
    until_true("the end of what is there", || {
        has(&why(&mut terminal), Reason::Finished)
    });
    let finished = terminal.status().terminal.unwrap();
    assert_eq!((finished.stored, finished.running), (0, 0));
    tally(&net, "terminal", &["resume"]);
    let _: TaskStatus = more.wait().done().json();
    tally(&net, "terminal", &["finish", "--stop"]);
    assert!(terminal.ended().success());
}

#[test]
fn preferences_are_followed_live_and_a_broken_file_stops_nobody() {
    let net = net();
    let mut terminal = net.start_terminal("terminal");
    let slots = |terminal: &mut Node| terminal.status().owner.unwrap();
    assert_eq!(slots(&mut terminal).cpu, 100);
    let told = tally(&net, "terminal", &["preferences", "set", "in_use.cpu", "7"]);
    assert!(
        told.contains("in_use.cpu is 7; the running node follows it"),
        "{told}"
    );
    let told = tally(&net, "terminal", &["preferences", "set", "run", "never"]);
    assert!(told.contains("run is never"), "{told}");
    assert!(has(&why(&mut terminal), Reason::Never));

    let path = net.path("terminal/preferences.toml");
    let whole = std::fs::read_to_string(&path).unwrap();
    let folder = net.path("terminal");
    let wrong = ["preferences", "set", "in_use.cpu", "400", "--json", "--dir"];
    let failure = net
        .run(&[&wrong[..], &[folder.to_str().unwrap()]].concat())
        .failure();
    assert_eq!((failure.exit, failure.code.as_str()), (2, "usage"));
    assert!(
        failure.message.contains("400 is not a percentage"),
        "{failure:?}"
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);

    std::fs::write(&path, "run = \"always\"\nidle_minute = 5\n").unwrap();
    let fault = until("the fault to be seen", || {
        slots(&mut terminal).preferences_fault
    });
    assert!(
        fault.contains("unknown field `idle_minute`") && fault.contains("line 2"),
        "{fault}"
    );
    assert!(
        has(&why(&mut terminal), Reason::Never),
        "those of before hold"
    );
    let status = tally(&net, "terminal", &["status"]);
    assert!(status.contains("NOT READ"), "{status}");
    assert!(terminal.stop().success());

    let mut again = net.node("terminal", "terminal").start();
    assert!(!again.ended().success());
    let log = again.log();
    assert!(log.contains("idle_minute"), "{log}");
}

/// Everything that happens to a computer at home, one after another: the owner pauses and resumes, the computer sleeps,
/// loses its power or its network. Every unit of the tasks ends once, is paid for as often as it was agreed on, and the
/// terminal says the right reason each time.
#[test]
fn nothing_is_lost_or_paid_twice_whatever_happens_at_home() {
    let seed = std::env::var(SEED).map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    let seconds = std::env::var(SECONDS).map_or(15, |seconds| seconds.parse().unwrap());
    eprintln!("replay with {SEED}={seed}");
    let mut home = Home::start(StdRng::seed_from_u64(seed));
    let units = 400;
    let job = primes(units, 2).table("lease", "seconds = 3");
    let begin = Instant::now();
    let mut tasks = 0;
    while begin.elapsed() < Duration::from_secs(seconds) {
        let customer = format!("customer-{tasks}");
        let mut submitted = home.net.submit(&customer, &job);
        while submitted.is_running() && begin.elapsed() < Duration::from_secs(seconds) {
            home.trouble();
        }
        home.calm();
        let status: TaskStatus = submitted.wait().done().json();
        assert_eq!(
            (status.summary.phase, status.summary.done),
            (Phase::Done, units)
        );
        let sum = format!("{}\n", u64::from(units) * PRIMES);
        assert_eq!(home.net.result(&customer), sum.as_bytes());
        tasks += 1;
    }
    eprintln!("{tasks} tasks, {:?}", home.happened);
    home.end(tasks, units);
}

/// Three terminals at home, and a coordinator elsewhere.
struct Home {
    /// The line from each terminal to the rest of the world, where a test may make such.
    lines: Option<Lines>,
    net: Net,
    listen: String,
    coordinator: Option<Node>,
    terminals: Vec<Option<Node>>,
    chance: StdRng,
    happened: std::collections::BTreeMap<&'static str, u32>,
}

const NAMES: [&str; 3] = ["terminal-0", "terminal-1", "terminal-2"];

impl Home {
    fn start(chance: StdRng) -> Self {
        let mut net = net();
        let lines = Lines::new(NAMES.len());
        let listen = if let Some(lines) = &lines {
            net.settle(lines.hub());
            format!("/ip4/0.0.0.0/tcp/{PORT}")
        } else {
            eprintln!("no line is cut: only root may make network namespaces");
            free_address(&net)
        };
        let mut coordinator = start_coordinator(&net, &listen);
        net.bootstrap(&mut coordinator);
        let mut home = Self {
            lines,
            net,
            listen,
            coordinator: Some(coordinator),
            terminals: vec![None, None, None],
            chance,
            happened: std::collections::BTreeMap::new(),
        };
        for place in 0..NAMES.len() {
            home.switch_on(place);
        }
        home
    }

    fn switch_on(&mut self, place: usize) {
        let start = self.net.terminal(NAMES[place]);
        let mut node = match &self.lines {
            None => start.start(),
            Some(lines) => {
                let (_, id) = self.net.first_address().rsplit_once('/').unwrap();
                let address = format!("{}/p2p/{id}", lines.address(place, PORT));
                let command = self.net.tally_in(Some(&lines.end(place)), &[]);
                start.bootstrap(&[address]).start_with(command)
            }
        };
        let _ = node.status();
        self.terminals[place] = Some(node);
    }

    /// Lets something happen, and looks whether it is told.
    fn trouble(&mut self) {
        let place = self.chance.random_range(0..NAMES.len());
        let happens = self.chance.random_range(0..8);
        let while_it_lasts = Duration::from_millis(self.chance.random_range(1..600));
        let Some(node) = self.terminals[place].as_mut() else {
            return;
        };
        let what = match happens {
            0 => {
                assert!(!say(node, Said::Pause).because.is_empty());
                let told = why(node);
                assert!(has(&told, Reason::Paused) && !told.computing, "{told:?}");
                "pause"
            }
            1 => {
                assert_eq!(say(node, Said::Resume).because, []);
                assert!(!has(&why(node), Reason::Paused));
                "resume"
            }
            2 => {
                let now = tally_node::clock::now();
                let until = now + while_it_lasts;
                say(node, Said::Snooze { until });
                until_true("the end of the snooze", || {
                    let told = why(node);
                    let is_over = tally_node::clock::now() >= until;
                    is_over && !has(&told, Reason::Snoozed)
                });
                "snooze"
            }
            3 => {
                say(node, Said::Finish);
                let told = why(node);
                assert!(
                    has(&told, Reason::Finishing) || has(&told, Reason::Finished),
                    "{told:?}"
                );
                say(node, Said::Resume);
                "finish"
            }
            4 => {
                node.signal(Signal::STOP);
                std::thread::sleep(while_it_lasts);
                node.signal(Signal::CONT);
                "sleep"
            }
            5 => {
                self.cut_power(place);
                "power cut"
            }
            6 => {
                self.lose_coordinator(place);
                "coordinator lost"
            }
            _ => {
                let is_noticed = self.chance.random_range(0..4) == 0;
                let time = (!is_noticed).then_some(while_it_lasts);
                match self.cut_line(place, time) {
                    None => "no line to cut",
                    Some(()) if is_noticed => "line cut",
                    Some(()) => "line cut for a moment",
                }
            }
        };
        *self.happened.entry(what).or_default() += 1;
    }

    /// A terminal ends at once and starts again, and knows what its owner has said.
    fn cut_power(&mut self, place: usize) {
        let mut node = self.terminals[place].take().unwrap();
        let said = node.status().owner.unwrap().said;
        node.kill();
        self.switch_on(place);
        let node = self.terminals[place].as_mut().unwrap();
        if matches!(said, Said::Pause) {
            assert!(
                has(&why(node), Reason::Paused),
                "it was said before the power cut"
            );
        }
    }

    /// What goes over a terminal's line is lost: for so long, or until that is noticed.
    fn cut_line(&mut self, place: usize, time: Option<Duration>) -> Option<()> {
        let lines = self.lines.as_ref()?;
        lines.cut(place);
        match time {
            Some(time) => std::thread::sleep(time),
            None => misses_coordinator(self.terminals[place].as_mut().unwrap()),
        }
        lines.mend(place);
        Some(())
    }

    /// All connections break, and nobody is there for a while.
    fn lose_coordinator(&mut self, place: usize) {
        self.coordinator.take().unwrap().kill();
        misses_coordinator(self.terminals[place].as_mut().unwrap());
        self.coordinator = Some(start_coordinator(&self.net, &self.listen));
    }

    /// Lets all go on.
    fn calm(&mut self) {
        for node in self.terminals.iter_mut().flatten() {
            say(node, Said::Resume);
        }
    }

    /// Looks at the books: each unit was validated once, and each of its two results paid once.
    fn end(mut self, tasks: u32, units: u32) {
        let mut coordinator = self.coordinator.take().unwrap();
        let all: Vec<TaskId> = coordinator.tasks().iter().map(|task| task.task).collect();
        assert_eq!(all.len(), tasks as usize);
        coordinator.stop();
        let folder = self.net.path("coordinator");
        // What was agreed on last may not be paid yet.
        until_true("all receipts", || {
            if paid(&folder) >= u64::from(tasks) * u64::from(units) * 2 {
                return true;
            }
            let coordinator = start_coordinator(&self.net, &self.listen);
            std::thread::sleep(Duration::from_secs(1));
            coordinator.stop();
            false
        });
        assert_eq!(paid(&folder), u64::from(tasks) * u64::from(units) * 2);
        tally(&self.net, "coordinator", &["ledger", "audit"]);
        for task in all {
            let validated = ledger::validations(Path::new(&folder), task);
            assert_eq!(validated.len(), units as usize);
            assert!(validated.values().all(|(times, _)| *times == 1));
        }
    }
}

/// Starts the coordinator, and waits until it answers.
fn start_coordinator(net: &Net, listen: &str) -> Node {
    let args = ["--listen", listen, "--customers", "any"];
    let mut node = net.node("coordinator", "coordinator").args(&args).start();
    let _ = node.status();
    node
}

/// Waits until a terminal has noticed that nobody is there, and has it say so.
fn misses_coordinator(node: &mut Node) {
    until_true("the coordinator to be missed", || {
        node.status().terminal.unwrap().coordinators.is_empty()
    });
    let told = why(node);
    let may_be_told = [
        Reason::CoordinatorAway,
        Reason::NoCoordinator,
        Reason::NoPeers,
        Reason::Paused,
        Reason::Finished,
    ];
    let is_told = may_be_told.iter().any(|reason| has(&told, *reason));
    assert!(told.computing || is_told, "{told:?}");
}

/// Returns for how many results of quorums the receipts of a coordinator pay. Some units are computed once more to see who
/// tells the truth, and paid by the coordinator itself.
fn paid(folder: &Path) -> u64 {
    let network: NetworkId = NETWORK.parse().unwrap();
    let mut paid = 0;
    for event in ledger::events(folder) {
        if let Event::Receipted { receipt, .. } = event {
            let receipt = receipt.verify(&network).unwrap();
            if let Validation::Quorum(agreed) = receipt.validation {
                assert_eq!(agreed, 2);
                paid += u64::from(receipt.units);
            }
        }
    }
    paid
}
