//! The owner's side of a terminal: watches the computer, follows the preferences and what the owner says, and has the
//! sandboxes and the terminal obey.
//!
//! One task owns the [manners](tally_protocol::manners). It looks once a second, and at once when somebody is back at the
//! computer, says something or saves preferences; what it decides reaches the sandboxes on the same step, before anything
//! else hears of it.
//!
//! Invariants: what the owner said holds over restarts; a file of preferences that cannot be followed changes nothing,
//! and is named in the status until it is mended.

pub mod preferences;
pub mod why;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tally_host::{Host, Observed};
use tally_protocol::manners::{
    AtHand, Because, Decision, Facts, Machine, Manners, MinuteOfWeek, Power, Preset, Said, Space,
    When,
};
use tally_protocol::terminal::Input;
use tally_protocol::time::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use crate::clock;
use crate::error::chain;
use crate::folder::{Folder, write_whole};
use crate::terminal;
use preferences::{PreferencesError, PreferencesFile};

/// How often the computer is looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Words of the owner that wait: each is a command of a person.
const ASKS_MAX: usize = 16;

/// What the owner's side needs.
pub struct Setup {
    /// The data folder.
    pub folder: Folder,
    /// Sees the computer.
    pub host: Box<dyn Host>,
    /// What there is.
    pub machine: Machine,
    /// Has sandboxes and network obey: returns at once, and is called before the terminal hears of a decision.
    pub obey: Box<dyn FnMut(&Decision) + Send>,
    /// Tells the processor time that this node has used.
    pub own_cpu: Box<dyn Fn() -> Duration + Send>,
    /// Tells the bytes that this node has sent and received today.
    pub traffic_today: Box<dyn Fn() -> u64 + Send>,
    /// How often the computer is looked at, see [`LOOK_EVERY`].
    pub look_every: Duration,
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup")
            .field("folder", &self.folder)
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}

/// What is allowed now and why, for people and programs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OwnerStatus {
    /// Why nothing is computed, or nothing taken; empty if work is taken.
    pub because: Vec<Because>,
    /// Whether somebody uses the computer.
    pub in_use: bool,
    /// The share of all processors for units, in percent.
    pub cpu: u8,
    /// The most units at a time.
    pub slots: usize,
    /// The most memory of all units, in bytes.
    pub memory_bytes: u64,
    /// What the owner said last.
    pub said: Said,
    /// When.
    pub said_at: Timestamp,
    /// The preset of the preferences.
    pub preset: Preset,
    /// When they let it compute.
    pub run: When,
    /// Why the file of preferences is not followed as it stands.
    pub preferences_fault: Option<String>,
    /// What the computer tells, a line for each thing; and what it cannot tell, and why.
    pub computer: Vec<String>,
    /// All memory of the computer, in bytes, where it can tell.
    pub memory_total: Option<u64>,
}

/// The way to the owner's side.
#[derive(Debug, Clone)]
pub struct Owner {
    asks: mpsc::Sender<Ask>,
    status: watch::Receiver<OwnerStatus>,
}

/// Something that the owner says.
#[derive(Debug)]
enum Ask {
    /// Do this.
    Say(Said, Done),
    /// Read the preferences, now.
    Look(Done),
}

/// Told when it is done.
type Done = oneshot::Sender<Result<(), SaidError>>;

/// What the owner said could not be written down, so it holds until the node ends; a word that lets more run does not hold.
#[derive(Debug, thiserror::Error)]
#[error("write down what you said in {path}")]
pub struct SaidError {
    path: PathBuf,
    source: std::io::Error,
}

impl Owner {
    /// Does what the owner says. When this returns, the sandboxes have obeyed.
    ///
    /// # Errors
    /// [`SaidError`] if it could not be kept: then it holds only until the node ends, and [`Said::Resume`] not at all. None
    /// if the node stops.
    pub async fn say(&self, said: Said) -> Result<(), Option<SaidError>> {
        let (done, answer) = oneshot::channel();
        self.asks
            .send(Ask::Say(said, done))
            .await
            .map_err(|_| None)?;
        answer.await.map_err(|_| None)?.map_err(Some)
    }

    /// Returns what is allowed now.
    #[must_use]
    pub fn status(&self) -> OwnerStatus {
        self.status.borrow().clone()
    }

    /// Has the preferences read again at once. When this returns, they are followed, or the status says why not.
    pub async fn look(&self) {
        let (done, answer) = oneshot::channel();
        if self.asks.send(Ask::Look(done)).await.is_ok() {
            let _ = answer.await;
        }
    }
}

/// The row of the file `said`.
#[derive(Debug, Default, Serialize, Deserialize)]
struct SaidRow {
    said: Said,
    at: Timestamp,
}

/// Watches the computer.
pub struct Watch {
    setup: Setup,
    file: PreferencesFile,
    fault: Option<String>,
    manners: Manners,
    seen: Observed,
    decision: Decision,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("manners", &self.manners)
            .finish_non_exhaustive()
    }
}

impl Watch {
    /// Looks for the first time, and has the sandboxes obey.
    ///
    /// # Errors
    /// [`PreferencesError`] if the preferences cannot be followed.
    pub fn start(mut setup: Setup) -> Result<Self, PreferencesError> {
        let mut file = PreferencesFile::of(&setup.folder);
        let seen = setup.host.observe((setup.own_cpu)());
        let memory = memory_total(&seen);
        let preferences = file.read(memory)?;
        setup.host.look_for(&preferences.pause_for);
        let row = read_said(&setup.folder.said());
        let manners = Manners::new(preferences, (row.said, row.at), setup.machine);
        let mut watch = Self {
            decision: Decision::nothing(),
            setup,
            file,
            fault: None,
            manners,
            seen,
        };
        watch.decide(AtHand::Work);
        Ok(watch)
    }

    /// Returns what is allowed at the start.
    #[must_use]
    pub const fn decision(&self) -> &Decision {
        &self.decision
    }

    /// Starts to watch, until the terminal ends.
    #[must_use]
    pub fn run(self, terminal: mpsc::Sender<terminal::Message>) -> Owner {
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        let (told, status) = watch::channel(self.status());
        tokio::spawn(self.watch(terminal, asked, told));
        Owner { asks, status }
    }

    async fn watch(
        mut self,
        terminal: mpsc::Sender<terminal::Message>,
        mut asked: mpsc::Receiver<Ask>,
        told: watch::Sender<OwnerStatus>,
    ) {
        let returned = self.setup.host.owner_returned();
        let mut ticks = tokio::time::interval(self.setup.look_every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let ask = tokio::select! {
                _ = ticks.tick() => None,
                () = returned.notified() => None,
                () = clock::sleep_until(self.snoozed()) => None,
                Some(ask) = asked.recv() => Some(ask),
                () = terminal.closed() => return,
            };
            let done = match ask {
                Some(Ask::Say(said, done)) => self.hear(said, done),
                Some(Ask::Look(done)) => {
                    self.look_again();
                    Some(done)
                }
                None => {
                    self.look_again();
                    None
                }
            };
            let at_hand = at_hand(self.manners.said().0, &terminal).await;
            let allowed = self.decide(at_hand);
            told.send_replace(self.status());
            if allowed {
                let input = Input::Allowed(Box::new(self.decision.allowance.clone()));
                let _ = terminal.send(terminal::Message::input(input)).await;
            }
            if self.decision.give_back {
                let _ = terminal
                    .send(terminal::Message::input(Input::Withdraw))
                    .await;
            }
            if let Some(done) = done {
                let _ = done.send(Ok(()));
            }
        }
    }

    /// Takes what the owner says, and returns whom to tell once it is done.
    fn hear(&mut self, said: Said, done: Done) -> Option<Done> {
        let now = clock::now();
        match write_said(&self.setup.folder.said(), &SaidRow { said, at: now }) {
            Ok(()) => {
                self.manners.say(now, said);
                Some(done)
            }
            Err(error) => {
                // Who wants the computer gets it, whatever the disk says.
                if said != Said::Resume {
                    self.manners.say(now, said);
                }
                let _ = done.send(Err(error));
                None
            }
        }
    }

    /// Looks at the computer and at the preferences.
    fn look_again(&mut self) {
        self.seen = self.setup.host.observe((self.setup.own_cpu)());
        match self.file.changed(memory_total(&self.seen)) {
            None => {}
            Some(Ok(preferences)) => {
                tracing::info!("the preferences have changed");
                self.setup.host.look_for(&preferences.pause_for);
                self.manners.prefer(preferences);
                self.fault = None;
            }
            Some(Err(error)) => {
                let fault = chain(&error);
                tracing::warn!("the preferences are followed as they were before: {fault}");
                self.fault = Some(fault);
            }
        }
    }

    /// Returns when what was put off goes on.
    fn snoozed(&self) -> Option<Timestamp> {
        match self.manners.said().0 {
            Said::Snooze { until } => Some(until),
            Said::Resume | Said::Pause | Said::Finish => None,
        }
    }

    /// Decides, has the sandboxes obey, and returns whether the terminal is to be told.
    fn decide(&mut self, at_hand: AtHand) -> bool {
        let facts = facts_of(&self.seen, (self.setup.traffic_today)());
        let decision = self.manners.decide(clock::now(), &facts, at_hand);
        (self.setup.obey)(&decision);
        let is_new = decision.allowance != self.decision.allowance;
        if is_new {
            match decision.because.first() {
                Some(because) => {
                    tracing::info!("{}: {}", because.reason.about(), because.detail);
                }
                None => tracing::info!(cpu = %decision.cpu, in_use = decision.in_use, "takes work"),
            }
        }
        self.decision = decision;
        is_new
    }

    fn status(&self) -> OwnerStatus {
        let (said, said_at) = self.manners.said();
        let (decision, preferences) = (&self.decision, self.manners.preferences());
        OwnerStatus {
            because: decision.because.clone(),
            in_use: decision.in_use,
            cpu: decision.cpu.get(),
            slots: decision.allowance.slots,
            memory_bytes: decision.allowance.memory_bytes,
            said,
            said_at,
            preset: preferences.preset,
            run: preferences.run,
            preferences_fault: self.fault.clone(),
            computer: self.seen.to_string().lines().map(str::to_owned).collect(),
            memory_total: memory_total(&self.seen),
        }
    }
}

/// Asks the terminal whether it has anything at hand, where that matters.
async fn at_hand(said: Said, terminal: &mpsc::Sender<terminal::Message>) -> AtHand {
    if said != Said::Finish {
        return AtHand::Work;
    }
    let (reply, answered) = oneshot::channel();
    let _ = terminal.send(terminal::Message::IsDone(reply)).await;
    match answered.await {
        Ok(true) => AtHand::Nothing,
        Ok(false) | Err(_) => AtHand::Work,
    }
}

fn memory_total(seen: &Observed) -> Option<u64> {
    seen.memory.as_ref().ok().map(|memory| memory.total)
}

/// Takes what was seen as the manners know it.
fn facts_of(seen: &Observed, traffic_today: u64) -> Facts {
    let percent = |share: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the share is clamped to 0 to 1"
        )]
        let percent = (share.clamp(0.0, 1.0) * 100.0).round() as u8;
        percent
    };
    let power = |power: &tally_host::Power| match *power {
        tally_host::Power::NoBattery | tally_host::Power::Mains { .. } => Power::Mains,
        // One that does not say how full it is may be empty.
        tally_host::Power::Battery { percent } => Power::Battery {
            percent: percent.unwrap_or(0),
        },
    };
    let local = seen.local;
    let minute = u16::try_from(local.second / 60).unwrap_or(0);
    Facts {
        idle: seen.idle.as_ref().ok().map(|idle| idle.duration),
        power: seen.power.as_ref().ok().map(power),
        others_cpu: seen.others_cpu.as_ref().ok().map(|share| percent(*share)),
        memory: seen.memory.as_ref().ok().map(|memory| Space {
            total: memory.total,
            free: memory.available,
        }),
        disk: seen.disk.as_ref().ok().map(|disk| Space {
            total: disk.total,
            free: disk.free,
        }),
        metered: seen.metered.as_ref().ok().copied(),
        local: Some(MinuteOfWeek::new(local.weekday, minute)),
        running: seen.running.clone().ok(),
        traffic_today,
    }
}

/// Reads what the owner said last. What cannot be read is taken for the most careful word: pause.
fn read_said(path: &Path) -> SaidRow {
    let read = match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(SaidRow::default()),
        Err(error) => Err(error.to_string()),
    };
    read.unwrap_or_else(|error| {
        tracing::warn!(
            "cannot read {}: {error}; paused until you say `tally resume`",
            path.display()
        );
        SaidRow {
            said: Said::Pause,
            at: clock::now(),
        }
    })
}

fn write_said(path: &Path, row: &SaidRow) -> Result<(), SaidError> {
    let bytes = serde_json::to_vec(row).unwrap_or_default();
    write_whole(path, &bytes).map_err(|source| SaidError {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tally_host::{Fake, Idle, Source};
    use tally_protocol::manners::Reason;
    use tally_protocol::terminal::Allowance;

    use super::*;
    use crate::terminal::Message;

    /// A terminal at a computer that a test holds.
    struct Home {
        _dir: tempfile::TempDir,
        folder: Folder,
        host: Fake,
        /// What the sandboxes were told, in order.
        obeyed: Arc<Mutex<Vec<bool>>>,
        owner: Owner,
        heard: mpsc::Receiver<Message>,
    }

    fn start_in(dir: tempfile::TempDir, preferences: &str) -> Home {
        let folder = Folder::open(dir.path()).unwrap();
        if !preferences.is_empty() {
            std::fs::write(folder.preferences(), preferences).unwrap();
        }
        let (host, obeyed) = (Fake::default(), Arc::new(Mutex::new(Vec::new())));
        let told = Arc::clone(&obeyed);
        let watch = Watch::start(Setup {
            folder: folder.clone(),
            host: Box::new(host.clone()),
            machine: Machine {
                processors: 2,
                slots: 2,
                output_bytes: 1 << 20,
            },
            obey: Box::new(move |decision| {
                let mut told = told.lock().unwrap();
                if told.last() != Some(&decision.allowance.run) {
                    told.push(decision.allowance.run);
                }
            }),
            own_cpu: Box::new(|| Duration::ZERO),
            traffic_today: Box::new(|| 0),
            // Nothing here waits for the next look.
            look_every: Duration::from_secs(3_600),
        });
        let (terminal, heard) = mpsc::channel(64);
        Home {
            _dir: dir,
            folder,
            host,
            obeyed,
            owner: watch.unwrap().run(terminal),
            heard,
        }
    }

    fn start(preferences: &str) -> Home {
        start_in(tempfile::tempdir().unwrap(), preferences)
    }

    impl Home {
        /// Waits for the next allowance that the terminal hears of.
        async fn allowed(&mut self) -> Allowance {
            loop {
                let message = self.heard.recv().await.unwrap();
                if let Message::IsDone(reply) = message {
                    reply.send(true).unwrap();
                } else if let Message::Input(input) = message
                    && let Input::Allowed(allowance) = *input
                {
                    return *allowance;
                }
            }
        }

        fn obeyed(&self) -> Vec<bool> {
            self.obeyed.lock().unwrap().clone()
        }
    }

    #[tokio::test]
    async fn who_comes_back_does_not_wait_for_the_next_look() {
        let mut home = start("run = \"idle\"\n");
        home.owner.status.changed().await.unwrap();
        assert_eq!(home.obeyed(), [true]);
        home.host.change(|seen| {
            let (duration, source) = (Duration::ZERO, Source::X11);
            seen.idle = Ok(Idle { duration, source });
        });
        assert!(!home.allowed().await.run);
        assert_eq!(
            home.obeyed(),
            [true, false],
            "the sandboxes heard of it first"
        );
        let status = home.owner.status();
        assert_eq!(
            (status.because[0].reason, status.in_use),
            (Reason::InUse, true)
        );
    }

    #[tokio::test]
    async fn what_is_said_is_done_when_it_is_answered_and_holds_after_a_restart() {
        let mut home = start("preset = \"full\"\n");
        home.owner.say(Said::Pause).await.unwrap();
        assert_eq!(home.obeyed(), [true, false]);
        assert!(!home.allowed().await.run);
        let before = home.owner.status();
        assert_eq!(before.because[0].reason, Reason::Paused);
        let Home { _dir: dir, .. } = home;
        let again = start_in(dir, "").owner.status();
        assert_eq!((again.said, again.said_at), (Said::Pause, before.said_at));
        assert_eq!(again.because, before.because);
    }

    #[tokio::test]
    async fn a_snooze_ends_by_itself_and_finishing_becomes_finished() {
        let mut home = start("preset = \"full\"\n");
        let until = clock::now() + Duration::from_millis(30);
        home.owner.say(Said::Snooze { until }).await.unwrap();
        assert!(!home.allowed().await.run);
        // The time of day goes on, whatever the runtime's clock does.
        while clock::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(home.allowed().await.run);
        let asked = home.owner.clone();
        let said = tokio::spawn(async move { asked.say(Said::Finish).await });
        assert!(!home.allowed().await.take);
        said.await.unwrap().unwrap();
        assert_eq!(home.owner.status().because[0].reason, Reason::Finished);
    }

    #[tokio::test]
    async fn a_disk_that_keeps_nothing_does_not_keep_it_computing() {
        let home = start("preset = \"full\"\n");
        std::fs::create_dir(home.folder.said()).unwrap();
        let error = home.owner.say(Said::Pause).await.unwrap_err().unwrap();
        assert!(error.to_string().contains("said"), "{error}");
        home.owner.look().await;
        assert_eq!(
            home.owner.status().said,
            Said::Pause,
            "all the same, until the node ends"
        );
        assert_eq!(home.obeyed(), [true, false]);
        home.owner.say(Said::Resume).await.unwrap_err().unwrap();
        assert_eq!(home.owner.status().said, Said::Pause);
    }

    #[tokio::test]
    async fn preferences_are_followed_when_looked_at_and_a_broken_file_is_named() {
        let home = start("preset = \"full\"\n");
        std::fs::write(home.folder.preferences(), "run = \"never\"\n").unwrap();
        home.owner.look().await;
        assert_eq!(home.owner.status().run, When::Never);
        std::fs::write(home.folder.preferences(), "run = 7 # not a word\n").unwrap();
        home.owner.look().await;
        let status = home.owner.status();
        assert_eq!(status.run, When::Never);
        assert!(status.preferences_fault.unwrap().contains("run = 7"));
        std::fs::remove_file(home.folder.preferences()).unwrap();
        home.owner.look().await;
        let status = home.owner.status();
        assert_eq!((status.run, status.preferences_fault), (When::Always, None));
    }

    #[test]
    fn a_damaged_word_of_the_owner_counts_as_pause() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("said");
        assert_eq!(read_said(&path).said, Said::Resume);
        std::fs::write(&path, b"{\"said\":").unwrap();
        assert_eq!(read_said(&path).said, Said::Pause);
        let row = SaidRow {
            said: Said::Snooze {
                until: Timestamp::from_millis(7),
            },
            at: Timestamp::from_millis(5),
        };
        write_said(&path, &row).unwrap();
        assert_eq!(read_said(&path).said, row.said);
    }
}
