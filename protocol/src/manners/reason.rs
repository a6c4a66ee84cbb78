//! Why a terminal does not compute, has no work, is not paid, or did not finish a unit: one closed list.
//!
//! `docs/why.md` shows the list; a test compares both.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// What a reason explains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// Why nothing is computed although there may be work.
    Paused,
    /// Why no more work is taken.
    NoWork,
    /// Why work that was done is not paid, or not yet.
    NotPaid,
    /// Why a unit gave no result.
    NoResult,
}

/// What there is to say of each reason.
struct Entry {
    reason: Reason,
    question: Question,
    code: &'static str,
    about: &'static str,
    remedy: &'static str,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident: $question:ident, $code:literal, $about:literal, $remedy:literal;)+) => {
        /// A reason. Closed, so that each can be explained, counted and tested.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        const ENTRIES: &[Entry] = &[
            $(Entry {
                reason: Reason::$name,
                question: Question::$question,
                code: $code,
                about: $about,
                remedy: $remedy,
            },)+
        ];
    };
}

reasons! {
    /// The owner has paused it.
    Paused: Paused, "paused", "paused by you", "`tally resume` goes on";
    /// The owner has put it off.
    Snoozed: Paused, "snoozed", "paused by you for a while", "`tally resume` goes on at once";
    /// The owner wants no more work.
    Finished: Paused, "finished", "you let it finish, and everything is reported", "`tally resume` takes work again";
    /// `run = "never"`.
    Never: Paused, "never", "the preferences say run = \"never\"", "`tally preferences set run idle` or `always`";
    /// The hours of the preferences are others.
    OutsideHours: Paused, "outside_hours", "it is outside of the hours of the preferences", "change `hours`, or wait";
    /// Somebody uses the computer.
    InUse: Paused, "in_use", "somebody uses the computer", "`run = \"always\"` computes also then, within the limits of [in_use]";
    /// The computer runs on battery.
    OnBattery: Paused, "on_battery", "the computer runs on battery", "plug it in, or set `on_battery = true`";
    /// Its battery is low.
    BatteryLow: Paused, "battery_low", "the battery is below `battery_min`", "plug it in, or lower `battery_min`";
    /// Other programs need the processors.
    OthersBusy: Paused, "others_busy", "other programs use the processors", "raise `others_cpu` of [in_use] or [idle]; 100 never pauses for others";
    /// Other programs need the memory.
    MemoryShort: Paused, "memory_short", "memory is short; what units held was given back", "close programs; units go on when memory is free again";
    /// A program runs for which it is to pause.
    ProgramRuns: Paused, "program_runs", "a program of `pause_for` runs", "end it, or take it from `pause_for`";
    /// The owner wants no more work, and what is there is finished.
    Finishing: NoWork, "finishing", "you let it finish: what is there is computed, nothing more is taken", "`tally resume` takes work again";
    /// The node stops.
    Stopping: NoWork, "stopping", "the node stops; what is there is reported or left to others", "start it again";
    /// The disk is full.
    DiskFull: NoWork, "disk_full", "less of the disk is free than `disk.free_min`", "free some space, or lower `disk.free_min`";
    /// The network costs.
    Metered: NoWork, "metered", "the network costs by what it carries", "set `network.metered = true` to take work all the same";
    /// The traffic of the day is used up.
    TrafficUsedUp: NoWork, "traffic_used_up", "what may be sent and received in a day was", "raise `network.daily`, or wait for midnight UTC";
    /// Nobody is connected.
    NoPeers: NoWork, "no_peers", "no other node is connected", "check the network and `bootstrap` in tally.toml";
    /// No coordinator was found.
    NoCoordinator: NoWork, "no_coordinator", "no coordinator was found yet", "`tally net find` looks again; name one in `bootstrap`";
    /// The coordinators are gone.
    CoordinatorAway: NoWork, "coordinator_away", "the connection to the coordinator is gone, or it does not answer", "nothing: it is tried again, less and less often";
    /// There is nothing to be done.
    NothingOpen: NoWork, "nothing_open", "the coordinator has no open units", "nothing: it tells when it has some";
    /// All open units were computed here.
    AlreadyComputed: NoWork, "already_computed", "what is open was already computed by a computer of yours", "nothing: results of others are needed";
    /// Only programs that the owner does not want.
    ProgramDenied: NoWork, "program_denied", "open units are of programs that you do not want", "change `units.only_programs` or `units.not_programs`";
    /// Only customers that the owner does not want.
    CustomerDenied: NoWork, "customer_denied", "open units are of customers that you do not want", "change `units.only_customers` or `units.not_customers`";
    /// Units are too large.
    UnitTooLarge: NoWork, "unit_too_large", "open units need more memory than they may have here", "raise `units.memory`, or the `memory` of [in_use] and [idle]";
    /// Units earn too little.
    PaysTooLittle: NoWork, "pays_too_little", "open units earn less an hour here than `units.hourly_min`", "lower `units.hourly_min`; they are tried again after an hour";
    /// Only the owner's own tasks are wanted.
    OwnTasksOnly: NoWork, "own_tasks_only", "open units are not of your own tasks", "set `own_tasks = \"first\"`";
    /// The owner's own tasks are not wanted.
    OwnTask: NoWork, "own_task", "open units are of your own tasks, which are for other computers", "set `own_tasks = \"first\"`";
    /// The computer has contradicted others.
    Contradicted: NoWork, "contradicted", "results of this computer were contradicted by others, so it rests", "check its memory and processor (overclocking) if this comes often";
    /// The computer is not registered.
    NotRegistered: NoWork, "not_registered", "the coordinator takes only registered computers", "`tally enroll` with an invitation of a vendor that it knows";
    /// The certificate does not hold.
    BadCertificate: NoWork, "bad_certificate", "the coordinator does not take this computer's certificate", "`tally key certify` makes a new one";
    /// The sandbox is of another version.
    WrongProfile: NoWork, "wrong_profile", "the coordinator works with another version of the sandbox", "update Tally";
    /// The coordinator is busy.
    CoordinatorBusy: NoWork, "coordinator_busy", "the coordinator is at a limit", "nothing: it is asked again";
    /// The coordinator refuses.
    Refused: NoWork, "refused", "the coordinator refuses what it is asked", "`tally status` and the log name the refusal; tell its operator";
    /// The coordinator owes too much.
    Owing: NoWork, "owing", "the coordinator owes receipts for too much work", "nothing: it is tried again with single units; `tally wallet` shows what it owes";
    /// The coordinator has told two stories.
    Forked: NoWork, "forked", "the coordinator's log contradicts itself", "`tally net witness` shows the evidence; nothing is done for it any more";
    /// The results are not receipted yet.
    ReceiptPending: NotPaid, "receipt_pending", "results wait until others agree and a receipt comes", "nothing: `tally wallet` shows whose";
    /// Points are in escrow.
    InEscrow: NotPaid, "in_escrow", "points are in escrow until the day that is named", "nothing: they are released then";
    /// Others agreed on something else.
    Outvoted: NotPaid, "outvoted", "a quorum agreed on another result", "check memory and processor if this comes often";
    /// Nobody agreed.
    NoQuorum: NotPaid, "no_quorum", "no quorum came about for the unit", "nothing: the program may not be deterministic";
    /// The task ended.
    TaskEnded: NotPaid, "task_ended", "the task ended before a quorum came about", "nothing: customers may cancel";
    /// The receipt is wrong.
    Disputed: NotPaid, "disputed", "a receipt does not say what was done and was not taken", "`tally wallet` keeps it as evidence against the coordinator";
    /// The result came too late.
    TooLate: NotPaid, "too_late", "others had computed the unit before the result came", "nothing, or let the computer run longer at a time";
    /// The unit's sandbox was over its time.
    TimedOut: NoResult, "timed_out", "a unit took longer than `units.minutes`", "raise `units.minutes`";
    /// Memory of the host was short.
    HostMemory: NoResult, "host_memory", "the computer had too little memory for a unit", "lower `memory` of [in_use] and [idle], or close programs";
    /// The program could not be compiled.
    CompileLimit: NoResult, "compile_limit", "a program took too long or too much memory to compile", "nothing: others try it";
    /// The stack was exhausted.
    StackOverflow: NoResult, "stack_overflow", "a unit used up its stack", "nothing: the customer is told";
    /// The sandbox died.
    Killed: NoResult, "killed", "the sandbox of a unit was killed", "check the log: memory may have been short";
    /// Program or input could not be had.
    Unavailable: NoResult, "unavailable", "program or input could not be read in time", "check the network, and the free space for `disk.max`";
    /// The owner wanted the computer.
    Withdrawn: NoResult, "withdrawn", "units were given back because you wanted the computer", "nothing: others compute them";
}

impl Reason {
    /// Returns all reasons.
    pub fn all() -> impl Iterator<Item = Self> {
        ENTRIES.iter().map(|entry| entry.reason)
    }

    fn entry(self) -> &'static Entry {
        // The entries stand in the order of the variants.
        &ENTRIES[self as usize]
    }

    /// Returns what it explains.
    #[must_use]
    pub fn question(self) -> Question {
        self.entry().question
    }

    /// Returns its name for programs.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.entry().code
    }

    /// Returns what it means.
    #[must_use]
    pub fn about(self) -> &'static str {
        self.entry().about
    }

    /// Returns what the owner can do.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        self.entry().remedy
    }
}

/// A reason that holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Because {
    /// The reason.
    pub reason: Reason,
    /// Since when.
    pub since: Timestamp,
    /// Until when.
    pub until: Until,
    /// The values: which coordinator, how much, which limit. Empty if there are none.
    pub detail: String,
}

/// When a reason ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// At this moment, if nothing changes.
    At(Timestamp),
    /// When the owner says so.
    YouAct,
    /// When the computer, the network or others change.
    ItChanges,
    /// It is over: it tells what happened.
    Over,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_reason_has_its_own_entry() {
        let all: Vec<Reason> = Reason::all().collect();
        for (place, reason) in all.iter().enumerate() {
            assert_eq!(reason.entry().reason, *reason);
            assert_eq!(*reason as usize, place);
            let name = serde_json::to_string(reason).unwrap();
            assert_eq!(name.trim_matches('"'), reason.code());
        }
        let codes: BTreeSet<&str> = all.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), all.len());
    }
}
