//! What was earned, what is not paid, and what the points are for.

use maud::{Markup, html};
use tally_ledger::wallet::{PointsAt, Unpaid, UnpaidBy};
use tally_protocol::manners::Reason;
use tally_protocol::message::work::UnpaidReason;
use tally_protocol::points::Points;

use super::super::desk::{GoalView, PageView};
use super::{Clock, graph, prose, remedy};

/// Dates of releases that are shown; later ones are one sum.
const DATES_SHOWN: usize = 5;

pub(super) fn earned(view: &PageView) -> Markup {
    html! {
        section.card aria-labelledby="earned-head" {
            h2 #earned-head { "Earned" }
            div #earned data-live { (sums(view)) }
            div #graph data-live { (graph::bars(&view.earnings.days)) }
            details {
                summary { "The same as a table" }
                table #days data-live { (graph::table(&view.earnings.days)) }
            }
            div #escrow data-live { (escrow(view)) }
        }
    }
}

pub(super) fn unpaid(view: &PageView) -> Markup {
    html! {
        section.card aria-labelledby="unpaid-head" {
            h2 #unpaid-head { "Why not paid" }
            p.quiet { "Results of this computer that brought nothing so far, and receipts that were not taken." }
            div #unpaid data-live { (reasons(view)) }
        }
    }
}

pub(super) fn goals(view: &PageView) -> Markup {
    html! {
        section.card.wide aria-labelledby="goal-head" {
            h2 #goal-head { "Goal" }
            div #goals data-live { (goal_list(view)) }
        }
    }
}

pub(super) fn live(view: &PageView) -> Markup {
    html! {
        div #earned data-live { (sums(view)) }
        div #graph data-live { (graph::bars(&view.earnings.days)) }
        table #days data-live { (graph::table(&view.earnings.days)) }
        div #escrow data-live { (escrow(view)) }
        div #unpaid data-live { (reasons(view)) }
        div #goals data-live { (goal_list(view)) }
    }
}

fn sums(view: &PageView) -> Markup {
    let (earnings, unpaid) = (&view.earnings, &view.unpaid);
    let sums = [
        ("today", earnings.latest(1).points),
        ("7 days", earnings.latest(7).points),
        ("in all", earnings.total.points),
        ("spendable", unpaid.spendable),
        ("in escrow", unpaid.escrowed()),
    ];
    html! {
        dl.sums {
            @for (name, points) in sums { div { dt { (name) } dd { (exact(points)) } } }
            div { dt { "results pending" } dd { (unpaid.waiting()) } }
        }
        p.quiet { "Points; paid by coordinators for " (earnings.total.units) " units so far." }
    }
}

fn escrow(view: &PageView) -> Markup {
    let (unpaid, clock) = (&view.unpaid, Clock::of(view));
    let later = unpaid
        .escrow
        .iter()
        .skip(DATES_SHOWN)
        .map(|part| part.points);
    let later = later.chain([unpaid.escrow_later]).map(Points::as_micro);
    let later = Points::from_micro(later.fold(0, u64::saturating_add));
    let rest = [("later", later), ("rate card not known", unpaid.undated)];
    html! {
        @if unpaid.escrowed() > Points::ZERO {
            h3 { "In escrow" }
            table {
                thead { tr { th scope="col" { "released" } th.number scope="col" { "points" } } }
                tbody {
                    @for PointsAt { at, points } in unpaid.escrow.iter().take(DATES_SHOWN) {
                        tr { td { (clock.time(*at)) } td.number { (exact(*points)) } }
                    }
                    @for (name, points) in rest.iter().filter(|(_, points)| *points > Points::ZERO) {
                        tr { td { (name) } td.number { (exact(*points)) } }
                    }
                }
            }
        }
        @for PointsAt { at, points } in &unpaid.expiring {
            p.fault { "Lost at " (clock.time(*at)) " unless spent before: " (exact(*points)) }
        }
    }
}

fn reasons(view: &PageView) -> Markup {
    let Unpaid { coordinators, .. } = &view.unpaid;
    html! {
        @if coordinators.is_empty() { p { "Everything that was done is paid." } }
        @for by in coordinators { (of_coordinator(by, Clock::of(view))) }
    }
}

fn of_coordinator(by: &UnpaidBy, clock: Clock) -> Markup {
    let declared = by
        .declared
        .iter()
        .map(|(declared, count)| (*count, reason(*declared)));
    let waiting = (by.waiting, Reason::ReceiptPending);
    let disputed = (by.disputed, Reason::Disputed);
    let all = [waiting].into_iter().chain(declared).chain([disputed]);
    html! {
        h3 { "Coordinator .." (by.coordinator.short()) }
        ul {
            @for (place, (count, reason)) in all.enumerate().filter(|(_, (count, _))| *count > 0) {
                li {
                    strong { (count) } ": " (prose(reason.about()))
                    @if place == 0 && let Some(since) = by.waiting_since {
                        ", the oldest since " (clock.time(since))
                    }
                    (remedy(reason))
                }
            }
        }
    }
}

/// Returns the reason of the closed list. Of what is settled a receipt may still be found.
const fn reason(declared: UnpaidReason) -> Reason {
    match declared {
        UnpaidReason::Outvoted => Reason::Outvoted,
        UnpaidReason::NoQuorum => Reason::NoQuorum,
        UnpaidReason::TaskEnded => Reason::TaskEnded,
        UnpaidReason::Settled => Reason::ReceiptPending,
    }
}

fn goal_list(view: &PageView) -> Markup {
    html! {
        @if view.goals.is_empty() {
            p { "None. " (prose("`tally enroll` with a vendor's invitation, and `goal` in tally.toml, let this computer earn a license.")) }
        }
        @for goal in &view.goals { (goal_of(goal, Clock::of(view))) }
    }
}

fn goal_of(goal: &GoalView, clock: Clock) -> Markup {
    html! {
        h3 { (goal.product.as_str()) " of " (goal.vendor) }
        p { (goal.state) }
        p {
            (exact(goal.points))
            @if let Some(needed) = goal.needed { " of about " (exact(needed)) }
            " points" @if goal.escrowed > Points::ZERO { ", " (exact(goal.escrowed)) " more in escrow" }
        }
        @if let Some(needed) = goal.needed {
            progress max=(needed.as_micro()) value=(goal.points.as_micro().min(needed.as_micro())) aria-label="Points of the goal" {}
        }
        @if let Some(license) = &goal.license {
            p { "License: " (license) @if let Some(until) = goal.license_until { ", until " (clock.time(until)) } }
        }
    }
}

/// Shows all decimals that there are.
pub(super) fn exact(points: Points) -> String {
    let text = points.to_string();
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
