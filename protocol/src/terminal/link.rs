//! The terminal's dealings with one coordinator: when to ask it, and what is still to be reported to it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::registered::Showing;
use super::{BAD_GRANT_PAUSE, LinkStanding, UNWANTED_GRANTS_MAX};
use crate::id::{BlobId, GrantId, NodeId};
use crate::message::Refusal;
use crate::message::wishes::Unfit;
use crate::message::work::{
    Abandoned, GRANT_UNITS_MAX, INLINE_BYTES_MAX, RENEWALS_MAX, ResultVerdict, SHOWN_MAX,
    UnitResult,
};
use crate::time::Timestamp;

/// How long a result may wait for others before it is reported.
const REPORT_AFTER: Duration = Duration::from_secs(1);
/// The first pause after a failure; each further one doubles it.
const BACK_OFF_MIN: Duration = Duration::from_millis(250);
/// The longest pause after failures.
const BACK_OFF_MAX: Duration = Duration::from_secs(30);
/// The pause after a refusal that will not change soon.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);
/// How often a result whose output could not be read is reported again.
const TRIES_MAX: u8 = 3;
/// The least pause before a coordinator that had nothing is asked again.
const IDLE_PAUSE_MIN: Duration = Duration::from_millis(100);
/// How long a coordinator may be gone before what was for it is given up: by then its leases have expired.
const LOST_KEPT: Duration = Duration::from_secs(600);

/// One coordinator.
#[derive(Debug)]
pub(super) struct Link {
    /// Since when its connection is gone, if it is.
    lost: Option<Timestamp>,
    state: State,
    failures: u32,
    /// When the last answer came.
    heard: Timestamp,
    results: Vec<Kept>,
    given_back: Vec<Abandoned>,
    /// When the oldest of both must be reported.
    report_at: Option<Timestamp>,
    /// Grants that the coordinator wants to see with their results.
    show: BTreeSet<GrantId>,
    /// Grants that it does not know, to be shown as soon as possible.
    unknown: BTreeSet<GrantId>,
    /// Those of them that were shown over this connection: never twice, whatever it says.
    shown: BTreeSet<GrantId>,
    /// Which registration it is shown.
    pub(super) showing: Showing,
    /// Whether it said last that this terminal is not registered.
    is_unregistered: bool,
    /// Since when it is connected, or is not.
    since: Timestamp,
    /// It is not asked for work before this.
    shunned_until: Timestamp,
    /// Grants in a row that the owner does not want.
    unwanted: u32,
    refusal: Option<(Refusal, Timestamp)>,
    /// Why it had nothing when it was last asked for work, and when that was.
    nothing: Option<(Timestamp, Vec<Unfit>)>,
    last_answer: Option<Timestamp>,
    last_grant: Option<Timestamp>,
}

#[derive(Debug)]
enum State {
    /// May be asked for work from this moment on.
    Ready(Timestamp),
    /// May not be asked anything before this moment.
    Paused(Timestamp),
    /// Has been asked, with these results.
    Asked {
        results: Vec<Kept>,
        given_back: Vec<Abandoned>,
        /// It said meanwhile that there are units, from this moment on.
        nudged: Option<Timestamp>,
    },
}

#[derive(Debug)]
struct Kept {
    result: UnitResult,
    /// How long its unit ran.
    took: Duration,
    tries: u8,
}

/// What goes into one message.
#[derive(Debug)]
pub(super) struct Asking {
    /// Results, each with the time that its unit ran.
    pub(super) results: Vec<(UnitResult, Duration)>,
    pub(super) abandoned: Vec<Abandoned>,
    /// Grants to be shown.
    pub(super) show: Vec<GrantId>,
}

/// What an answer settled.
#[derive(Debug, Default)]
pub(super) struct Settled {
    pub(super) counted: u64,
    pub(super) uncounted: u64,
    /// The verdicts, by kind.
    pub(super) verdicts: BTreeMap<ResultVerdict, u64>,
    /// Outputs that need not be kept any more.
    pub(super) outputs: Vec<BlobId>,
    /// The grant of each settled result.
    pub(super) grants: Vec<GrantId>,
    /// Grants that are to be shown.
    show: BTreeSet<GrantId>,
}

impl Link {
    pub(super) const fn new(now: Timestamp) -> Self {
        Self {
            lost: None,
            state: State::Ready(now),
            failures: 0,
            heard: now,
            results: Vec::new(),
            given_back: Vec::new(),
            report_at: None,
            show: BTreeSet::new(),
            unknown: BTreeSet::new(),
            shown: BTreeSet::new(),
            showing: Showing::new(),
            is_unregistered: false,
            since: now,
            shunned_until: Timestamp::from_millis(0),
            unwanted: 0,
            refusal: None,
            nothing: None,
            last_answer: None,
            last_grant: None,
        }
    }

    pub(super) fn connect(&mut self, now: Timestamp) {
        if self.lost.take().is_some() {
            self.since = now;
        }
        self.failures = 0;
        self.shown.clear();
        if let State::Ready(at) | State::Paused(at) = self.state {
            self.state = State::Ready(at.min(now));
        }
    }

    pub(super) fn lose(&mut self, now: Timestamp) {
        if self.lost.is_none() {
            (self.lost, self.since) = (Some(now), now);
        }
    }

    pub(super) const fn is_connected(&self) -> bool {
        self.lost.is_none()
    }

    /// Returns when a coordinator that is gone is given up.
    pub(super) fn given_up_at(&self) -> Option<Timestamp> {
        self.lost.map(|since| since + LOST_KEPT)
    }

    /// Returns whether nothing is to be reported.
    pub(super) fn is_done(&self) -> bool {
        let asked =
            matches!(&self.state, State::Asked { given_back, .. } if !given_back.is_empty());
        self.kept() == 0 && self.given_back.is_empty() && !asked
    }

    /// Returns the number of results that have no verdict yet.
    pub(super) fn kept(&self) -> usize {
        let asked = if let State::Asked { results, .. } = &self.state {
            results.len()
        } else {
            0
        };
        self.results.len() + asked
    }

    /// Returns the number of units to be given back.
    pub(super) fn given_back(&self) -> usize {
        let asked = if let State::Asked { given_back, .. } = &self.state {
            given_back.len()
        } else {
            0
        };
        self.given_back.len() + asked
    }

    /// Lets it be shown a registration that is new: at once, if it waits for one.
    pub(super) fn register(&mut self, now: Timestamp, app_server: NodeId) {
        self.showing.show(app_server);
        if let State::Paused(_) = self.state
            && self.is_unregistered
        {
            self.state = State::Ready(now);
        }
    }

    /// Lets the coordinator be asked from `at` on, if it would have been later.
    pub(super) fn nudge(&mut self, at: Timestamp) {
        match &mut self.state {
            State::Ready(ready) => *ready = at.min(*ready),
            // The answer that is on its way may have been given before there were units.
            State::Asked { nudged, .. } => *nudged = Some(nudged.map_or(at, |set| set.min(at))),
            State::Paused(_) => {}
        }
    }

    /// Returns when it is to be asked next: `wants` units are wanted; leases are renewed and receipts collected each
    /// `every`.
    pub(super) fn due(&self, wants: u32, every: Option<Duration>) -> Option<Timestamp> {
        let renew = every.map(|every| self.heard + every);
        let first = |work: Timestamp| {
            let work = (wants > 0).then_some(work.max(self.shunned_until));
            [work, self.report_at, renew].into_iter().flatten().min()
        };
        match self.state {
            _ if self.lost.is_some() => None,
            State::Asked { .. } => None,
            State::Ready(at) => first(at),
            State::Paused(until) => first(until).map(|at| at.max(until)),
        }
    }

    /// Notes that it had no work, and why.
    pub(super) fn note_nothing(&mut self, now: Timestamp, unfit: Vec<Unfit>) {
        self.nothing = Some((now, unfit));
    }

    /// Notes that it has leased units.
    pub(super) fn note_grant(&mut self, now: Timestamp) {
        (self.last_grant, self.nothing, self.unwanted) = (Some(now), None, 0);
    }

    /// Notes that it has leased units that the owner does not want.
    pub(super) fn note_unwanted(&mut self, now: Timestamp) {
        self.unwanted = self.unwanted.saturating_add(1);
        if self.unwanted >= UNWANTED_GRANTS_MAX {
            self.shun(now + BAD_GRANT_PAUSE);
        }
    }

    /// Lets it not be asked for work before `until`, whatever it says.
    pub(super) fn shun(&mut self, until: Timestamp) {
        self.shunned_until = self.shunned_until.max(until);
    }

    pub(super) fn is_shunned(&self, now: Timestamp) -> bool {
        self.shunned_until > now
    }

    /// Returns how things stand; `due` is when it is asked next.
    pub(super) fn standing(&self, due: Option<Timestamp>) -> LinkStanding {
        let nothing = self.nothing.as_ref();
        LinkStanding {
            connected: self.is_connected(),
            since: self.since,
            asked_again_at: due,
            refusal: self.refusal.clone(),
            failures: self.failures,
            unfit: nothing.map_or_else(Vec::new, |(_, unfit)| unfit.clone()),
            empty_at: nothing.map(|(at, _)| *at),
            last_answer: self.last_answer,
            last_grant: self.last_grant,
        }
    }

    /// Keeps a result, to be reported soon: within `within`, or with enough others.
    pub(super) fn keep(
        &mut self,
        now: Timestamp,
        within: Duration,
        (result, took): (UnitResult, Duration),
    ) {
        let tries = 0;
        self.results.push(Kept {
            result,
            took,
            tries,
        });
        let at = if self.results.len() >= GRANT_UNITS_MAX as usize / 2 {
            now
        } else {
            now + REPORT_AFTER.min(within)
        };
        self.report_at = Some(self.report_at.map_or(at, |set| set.min(at)));
    }

    pub(super) fn give_back(&mut self, now: Timestamp, abandoned: Abandoned) {
        self.given_back.push(abandoned);
        self.report_at = Some(self.report_at.map_or(now, |set| set.min(now)));
    }

    /// Reports what there is without waiting for more.
    pub(super) fn report_now(&mut self, now: Timestamp) {
        if self.report_at.is_some() {
            self.report_at = Some(now);
        }
    }

    /// Takes what fits one message: results, units given back, and the grants to be shown with them.
    pub(super) fn ask(&mut self, now: Timestamp) -> Asking {
        let mut inline = 0;
        let mut show = BTreeSet::new();
        let fits = |kept: &&Kept| {
            inline += kept.result.inline.as_ref().map_or(0, Vec::len);
            let grant = kept.result.grant;
            let shows = self.show.contains(&grant) && !show.contains(&grant);
            if inline > INLINE_BYTES_MAX || (shows && show.len() == SHOWN_MAX) {
                return false;
            }
            if shows {
                show.insert(grant);
            }
            true
        };
        let most = GRANT_UNITS_MAX as usize;
        let count = self.results.iter().take(most).take_while(fits).count();
        while show.len() < SHOWN_MAX
            && let Some(grant) = self.unknown.pop_first()
        {
            show.insert(grant);
        }
        let results: Vec<Kept> = self.results.drain(..count).collect();
        let given_back: Vec<Abandoned> = self
            .given_back
            .drain(..self.given_back.len().min(most))
            .collect();
        let more =
            !self.results.is_empty() || !self.given_back.is_empty() || !self.unknown.is_empty();
        self.report_at = more.then_some(now);
        let sent = results.iter();
        let asking = Asking {
            results: sent.map(|kept| (kept.result.clone(), kept.took)).collect(),
            abandoned: given_back.clone(),
            show: show.into_iter().collect(),
        };
        self.state = State::Asked {
            results,
            given_back,
            nudged: None,
        };
        asking
    }

    /// Notes grants that the coordinator does not know and wants to see.
    pub(super) fn show_unknown(&mut self, now: Timestamp, grants: impl Iterator<Item = GrantId>) {
        if self.shown.len() > RENEWALS_MAX {
            self.shown.clear();
        }
        let new = grants.filter(|grant| self.shown.insert(*grant));
        self.unknown.extend(new);
        if !self.unknown.is_empty() {
            self.report_at = Some(now);
        }
    }

    /// Takes the verdicts on the results that the question carried.
    pub(super) fn answered(
        &mut self,
        now: Timestamp,
        pause: Pause,
        verdicts: &[ResultVerdict],
    ) -> Settled {
        let mut settled = Settled::default();
        let State::Asked {
            results, nudged, ..
        } = std::mem::replace(&mut self.state, State::Ready(now))
        else {
            return settled;
        };
        self.state = State::Ready(match pause {
            Pause::None => now,
            Pause::Idle(pause) => {
                let at = now + pause.max(IDLE_PAUSE_MIN);
                nudged.map_or(at, |nudged| nudged.min(at))
            }
        });
        (self.failures, self.heard) = (0, now);
        (self.last_answer, self.refusal) = (Some(now), None);
        self.is_unregistered = false;
        for (place, mut kept) in results.into_iter().enumerate() {
            let verdict = verdicts.get(place);
            if let Some(verdict) = verdict {
                *settled.verdicts.entry(*verdict).or_default() += 1;
            }
            match verdict {
                Some(ResultVerdict::Counted) => settled.add(&kept.result, true),
                Some(ResultVerdict::ShowGrant) if !self.show.contains(&kept.result.grant) => {
                    settled.show.insert(kept.result.grant);
                    self.results.push(kept);
                    self.report_at = Some(now);
                }
                Some(ResultVerdict::OutputMissing) | None if kept.tries < TRIES_MAX => {
                    kept.tries += 1;
                    self.keep_again(now, kept);
                }
                Some(_) | None => settled.add(&kept.result, false),
            }
        }
        self.show.append(&mut settled.show);
        // Only results that are still to be reported need their grant shown.
        let waiting = |grant: &GrantId| self.results.iter().any(|kept| kept.result.grant == *grant);
        self.show.retain(waiting);
        settled
    }

    fn keep_again(&mut self, now: Timestamp, kept: Kept) {
        self.results.push(kept);
        self.report_at = Some(now + REPORT_AFTER);
    }

    /// Takes back what the question carried and pauses, longer with each failure. Results that are refused again
    /// and again are dropped.
    pub(super) fn failed(
        &mut self,
        now: Timestamp,
        refusal: Option<&Refusal>,
        jitter: impl Fn(Duration) -> Duration,
    ) -> Settled {
        let mut settled = Settled::default();
        let pause = match refusal {
            None | Some(Refusal::Busy) => {
                (BACK_OFF_MIN * 2_u32.pow(self.failures.min(8))).min(BACK_OFF_MAX)
            }
            Some(_) => REFUSED_PAUSE,
        };
        self.failures += 1;
        if let Some(refusal) = refusal {
            let same = self.refusal.take().filter(|(before, _)| before == refusal);
            let since = same.map_or(now, |(_, since)| since);
            self.refusal = Some((refusal.clone(), since));
        }
        self.shown.clear();
        self.is_unregistered = refusal == Some(&Refusal::NotRegistered);
        if self.is_unregistered {
            self.showing.show_next();
        }
        let paused = State::Paused(now + jitter(pause));
        if let State::Asked {
            results,
            given_back,
            ..
        } = std::mem::replace(&mut self.state, paused)
        {
            let is_refused = refusal.is_some_and(|refusal| *refusal != Refusal::Busy);
            let (kept, dropped): (Vec<Kept>, Vec<Kept>) = results
                .into_iter()
                .map(|kept| kept.tried(u8::from(is_refused)))
                .partition(|kept| kept.tries <= TRIES_MAX);
            for kept in &dropped {
                settled.add(&kept.result, false);
            }
            self.results.splice(0..0, kept);
            self.given_back.splice(0..0, given_back);
            let any = !self.results.is_empty() || !self.given_back.is_empty();
            self.report_at = any.then_some(now);
        }
        settled
    }

    /// Drops everything. Returns the outputs of the results.
    pub(super) fn give_up(self) -> Vec<BlobId> {
        let asked = match self.state {
            State::Asked { results, .. } => results,
            State::Ready(_) | State::Paused(_) => Vec::new(),
        };
        let all = self.results.into_iter().chain(asked);
        let large = all.filter(|kept| kept.result.inline.is_none());
        large.map(|kept| kept.result.output.id).collect()
    }

    /// Drops what belongs to a grant that is over. Returns its outputs.
    pub(super) fn forget(&mut self, grant: GrantId) -> Vec<BlobId> {
        self.show.remove(&grant);
        self.unknown.remove(&grant);
        self.given_back.retain(|abandoned| abandoned.grant != grant);
        let gone = self
            .results
            .extract_if(.., |kept| kept.result.grant == grant);
        gone.filter(|kept| kept.result.inline.is_none())
            .map(|kept| kept.result.output.id)
            .collect()
    }
}

impl Kept {
    fn tried(self, times: u8) -> Self {
        Self {
            tries: self.tries.saturating_add(times),
            ..self
        }
    }
}

/// When a coordinator that has answered may be asked again.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pause {
    /// At once: it gave units, or was not asked for any.
    None,
    /// It has nothing: after so long, or when it says that it has.
    Idle(Duration),
}

impl Settled {
    fn add(&mut self, result: &UnitResult, counted: bool) {
        *(if counted {
            &mut self.counted
        } else {
            &mut self.uncounted
        }) += 1;
        if result.inline.is_none() {
            self.outputs.push(result.output.id);
        }
        self.grants.push(result.grant);
    }
}
