//! What the page looks like.
//!
//! Invariants: all text goes through the template, which escapes it; what changes by itself stands in elements with
//! `data-live`, which hold nothing that can have the focus.

mod graph;
mod money;
mod switches;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use tally_ledger::wallet::UtcOffset;
use tally_protocol::manners::{Because, Question, Reason, Until};
use tally_protocol::time::Timestamp;

use super::desk::{PageView, RunningUnits};
use super::form::FIELDS;
use super::{Faults, Values};

/// The style of the page.
pub(super) const STYLE: &str = include_str!("style.css");
/// Its script.
pub(super) const SCRIPT: &str = include_str!("script.js");

/// All that a page is made of.
pub(super) struct Frame<'a> {
    pub(super) view: &'a PageView,
    pub(super) form_token: &'a str,
    pub(super) note: Option<Note>,
    /// What stands in the fields.
    pub(super) values: &'a Values,
    /// What will not do.
    pub(super) faults: &'a Faults,
}

/// What was done by the request before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Note {
    Saved,
    Paused,
    Resumed,
    Snoozed,
    Finishing,
}

impl Note {
    const ALL: [Self; 5] = [
        Self::Saved,
        Self::Paused,
        Self::Resumed,
        Self::Snoozed,
        Self::Finishing,
    ];

    pub(super) fn named(name: &str) -> Option<Self> {
        let is_named = |note: &Self| note.address().strip_prefix("/?note=") == Some(name);
        Self::ALL.into_iter().find(is_named)
    }

    /// Returns the address of the page with this note.
    pub(super) const fn address(self) -> &'static str {
        match self {
            Self::Saved => "/?note=saved",
            Self::Paused => "/?note=paused",
            Self::Resumed => "/?note=resumed",
            Self::Snoozed => "/?note=snoozed",
            Self::Finishing => "/?note=finishing",
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Saved => "Saved. It holds from now on.",
            Self::Paused => "Paused. Nothing is computed until you resume.",
            Self::Resumed => "Resumed. The preferences decide again.",
            Self::Snoozed => "Paused for an hour.",
            Self::Finishing => "What is there is finished, then nothing more is taken.",
        }
    }
}

/// Returns the whole page.
pub(super) fn page(frame: &Frame<'_>) -> Markup {
    let view = frame.view;
    document(
        html! {
            header {
                h1 { "Tally on this computer" }
                span { a #refresh href="/" { "Refresh" } }
            }
            main {
                (notes(frame))
                div.grid {
                    section.card.wide aria-labelledby="now-head" {
                        h2 #now-head { "Now" }
                        div #now data-live role="status" { (state(view)) }
                        div #running data-live { (running(view)) }
                        (switches::buttons(frame.form_token))
                    }
                    (money::earned(view))
                    (money::unpaid(view))
                    (money::goals(view))
                    (switches::preferences(frame))
                }
            }
            footer { "Computer " (view.node) br; "earns for " (view.owner) }
        },
        html! { script { (PreEscaped(SCRIPT)) } },
    )
}

/// Returns the parts that change by themselves, under the same ids as on the page.
pub(super) fn live(view: &PageView) -> Markup {
    html! {
        div #now data-live { (state(view)) }
        div #running data-live { (running(view)) }
        (money::live(view))
    }
}

/// Returns a page that says why there is no other.
pub(super) fn refused(why: &str) -> Markup {
    document(
        html! { main { section.card { h1 { "Tally" } p { (prose(why)) } p { a href="/" { "The page" } } } } },
        html! {},
    )
}

fn document(body: Markup, end: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Tally" }
                style { (PreEscaped(STYLE)) }
            }
            body { (body) (end) }
        }
    }
}

fn notes(frame: &Frame<'_>) -> Markup {
    html! {
        p #lost.note.fault role="alert" hidden {
            "The node does not answer: what stands here is old. Once it runs again, " code { "tally open" } " opens the page."
        }
        @if let Some(note) = frame.note { p.note role="status" { (note.text()) } }
        @if !frame.faults.is_empty() {
            div.note.fault role="alert" {
                p { "Nothing was saved: some values will not do." }
                ul { @for (key, fault) in frame.faults { li { (place_of(key)) ": " (fault) } } }
            }
        }
    }
}

/// Leads to the field of a preference.
fn place_of(key: &str) -> Markup {
    match FIELDS.iter().find(|field| field.key == key) {
        Some(field) => html! { a href={ "#" (switches::id(field)) } { (field.label) } },
        None => html! { (key) },
    }
}

fn state(view: &PageView) -> Markup {
    let clock = Clock::of(view);
    let computes = view.running.iter().any(|units| !units.suspended);
    let first = main_reason(&view.because, computes);
    let is_first = |because: &Because| first.is_some_and(|first| std::ptr::eq(first, because));
    // What is not paid has a part of its own.
    let is_other =
        |because: &&Because| !is_first(because) && because.reason.question() != Question::NotPaid;
    let mut also = view.because.iter().filter(is_other).peekable();
    let (class, sentence) = match first.map(|because| (because, because.reason.question())) {
        None if computes => ("computing", html! { "Computing." }),
        None => ("", html! { "Waiting for work." }),
        Some((because, Question::Paused)) => (
            "paused",
            html! { "Paused: " (prose(because.reason.about())) "." },
        ),
        Some((because, _)) if computes => (
            "computing",
            html! { "Computing, and takes nothing more: " (prose(because.reason.about())) "." },
        ),
        Some((because, _)) => (
            "",
            html! { "No work: " (prose(because.reason.about())) "." },
        ),
    };
    html! {
        p.state.(class) { span.dot {} (sentence) }
        @if let Some(because) = first { (explained(because, clock)) }
        @if also.peek().is_some() {
            p.quiet { "Also:" }
            ul.quiet { @for because in also { li { (prose(because.reason.about())) (detail(because)) } } }
        }
    }
}

/// Returns why nothing is computed, or nothing more is taken, if that is so: one coordinator that has no work matters only
/// while there is none at all.
fn main_reason(because: &[Because], computes: bool) -> Option<&Because> {
    let matters = |because: &&Because| match because.reason.question() {
        Question::Paused => true,
        Question::NoWork => !computes || stops_all(because.reason),
        Question::NotPaid | Question::NoResult => false,
    };
    because.iter().find(matters)
}

/// Returns whether no coordinator is asked for work any more.
fn stops_all(reason: Reason) -> bool {
    use Reason::{DiskFull, Finishing, Metered, Stopping, TrafficUsedUp};
    [Finishing, Stopping, DiskFull, Metered, TrafficUsedUp].contains(&reason)
}

fn explained(because: &Because, clock: Clock) -> Markup {
    html! {
        p.quiet {
            "Since " (clock.time(because.since))
            @match because.until {
                Until::At(at) => { ", goes on at " (clock.time(at)) " if nothing changes" }
                Until::YouAct => ", until you say otherwise",
                Until::ItChanges => ", until that changes",
                Until::Over => {}
            }
            (detail(because)) "."
            (remedy(because.reason))
        }
    }
}

/// Says what the owner can do, on a line of its own.
fn remedy(reason: Reason) -> Markup {
    html! { br; span.quiet { "What you can do: " (prose(reason.remedy())) "." } }
}

fn detail(because: &Because) -> Markup {
    html! { @if !because.detail.is_empty() { " (" (because.detail) ")" } }
}

fn running(view: &PageView) -> Markup {
    html! {
        @if view.running.is_empty() { p.quiet { "Nothing is being computed." } }
        @else { ul { @for units in &view.running { li { (at_work(units, Clock::of(view))) } } } }
    }
}

fn at_work(units: &RunningUnits, clock: Clock) -> Markup {
    let (first, last) = units.units;
    html! {
        strong { (units.program) }
        @if first == last { ", unit " (first) } @else { ", units " (first) " to " (last) }
        " of task " code { (units.task.short()) } ", since " (clock.time(units.since))
        @if units.suspended { ", suspended" }
        @if let Some(percent) = units.percent {
            ", " (percent) " %"
            progress max="100" value=(percent) aria-label="Units that are done" {}
        }
    }
}

/// The clock on the wall.
#[derive(Clone, Copy)]
struct Clock {
    now: Timestamp,
    offset: UtcOffset,
}

impl Clock {
    const fn of(view: &PageView) -> Self {
        Self {
            now: view.now,
            offset: view.offset,
        }
    }

    /// Shows the time of a moment of today, else its day too.
    fn time(self, at: Timestamp) -> Markup {
        let (today, text) = (self.day(self.now), self.offset.local(at).to_string());
        let time = text.get(11..16).unwrap_or_default();
        let day = self.day(at);
        html! { time datetime=(at) { @if day != today { (day) " " } (time) } }
    }

    fn day(self, at: Timestamp) -> String {
        let text = self.offset.local(at).to_string();
        text.split('T').next().unwrap_or_default().to_owned()
    }
}

/// Shows text in which commands stand between backquotes.
fn prose(text: &str) -> Markup {
    html! {
        @for (place, part) in text.split('`').enumerate() {
            @if place % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}
