//! The task of a running terminal that looks after its registrations and licenses, and works towards its goal.
//!
//! It renews a registration when two thirds of its life are over, notices when the app server does not know the computer
//! any more, fetches the newest status list now and then, and puts licenses where the applications look. With
//! `goal = "PRODUCT"` it asks what the owner has to spend, from time to time and after receipts; as soon as that pays the
//! whole price it orders the license, and it renews the license in time.
//!
//! Invariants: nothing is ordered while an order for the same thing is under way, which a file says, so also after a
//! restart; a license that was suspended or revoked is neither renewed nor bought again; whatever fails is tried again
//! later, and the node goes on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tally_protocol::account::Money;
use tally_protocol::app_server::{Fault, OrderStatus};
use tally_protocol::id::NodeId;
use tally_protocol::license::{Code, Renewal};
use tally_protocol::points::Points;
use tally_protocol::product::ProductId;
use tally_protocol::purse::Purse;
use tally_protocol::rate_card::Price;
use tally_protocol::registration::Registration;
use tally_protocol::signed::{Signed, Verified};
use tally_protocol::terminal::Input;
use tally_protocol::time::Timestamp;
use tokio::sync::{Notify, mpsc, watch};

use super::enrolling;
use super::kept::{Membership, checked_registration};
use super::line::{Desk, Line};
use super::ordering::{Ordering, What, is_at_rest};
use super::shelf::{Judged, Shelf};
use super::spending::{Plan, Spender, spendable};
use super::{Member, MemberError};
use crate::clock;
use crate::error::chain;
use crate::terminal;

/// Registrations that wait to be taken in: a command is asked to wait if there are more.
pub const MAILBOX_MAX: usize = 16;
/// How often an app server is asked what the owner has.
const PURSE_EVERY: Duration = Duration::from_secs(60);
/// How often if there is no goal: only to see that the computer is still known.
const PURSE_EVERY_IDLE: Duration = Duration::from_secs(600);
/// How often after a receipt, which a coordinator tells its app servers of within ten seconds, or when it leaves escrow.
const PURSE_AFTER_RECEIPT: Duration = Duration::from_secs(12);
/// For how long after a receipt.
const RECEIPT_IS_NEW: Duration = Duration::from_secs(120);
/// The longest time without a look at the status list, and the shortest.
const LIST_EVERY: (Duration, Duration) = (Duration::from_secs(3_600), Duration::from_secs(10));
/// How long an order is followed before something else is looked after.
const FOLLOW: Duration = Duration::from_secs(120);
/// A license is renewed when this much of its life is left, or a quarter if that is less.
const RENEW_BEFORE: Duration = Duration::from_secs(14 * 86_400);

/// How it stands at an app server, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// The app server.
    pub app_server: NodeId,
    /// The vendor's name.
    pub vendor: String,
    /// The product that the computer works for.
    pub product: ProductId,
    /// Until when it is registered.
    pub registered_until: Timestamp,
    /// Since when the app server does not know it any more; none while it does.
    pub ended: Option<Timestamp>,
    /// The goal, if it is one of this app server's products.
    pub goal: Option<GoalStatus>,
}

/// How far a terminal is from its goal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoalStatus {
    /// The product.
    pub product: ProductId,
    /// What is going on, in a few words.
    pub state: String,
    /// Points of the owner that can be spent there.
    pub points: Points,
    /// Points that cannot be spent yet.
    pub escrowed: Points,
    /// About how many points the license, or its renewal, takes; none if no coordinator has an agreement.
    pub needed: Option<Points>,
    /// What is the case with the license; none if there is none.
    pub license: Option<Code>,
    /// Until when it holds.
    pub license_until: Option<Timestamp>,
}

/// What a steward needs.
#[derive(Debug)]
pub struct Setup {
    /// The computer.
    pub member: Member,
    /// The way to app servers.
    pub line: Line,
    /// The terminal, which is told of registrations.
    pub terminal: mpsc::Sender<terminal::Message>,
    /// Wakes when a receipt came.
    pub earned: Arc<Notify>,
    /// The product whose license is wanted.
    pub goal: Option<ProductId>,
}

/// How others in this process reach a steward.
#[derive(Debug, Clone)]
pub struct Stewardship {
    /// Takes registrations that a command has got.
    pub registered: mpsc::Sender<Signed<Registration>>,
    /// How it stands.
    pub status: watch::Receiver<Vec<MemberStatus>>,
}

/// The steward.
#[derive(Debug)]
struct Steward {
    setup: Setup,
    told: watch::Sender<Vec<MemberStatus>>,
    /// When the purse was asked last, and when a status list was fetched last, of each app server.
    looks: BTreeMap<NodeId, Looks>,
}

/// When things were looked at last.
#[derive(Debug, Clone, Copy, Default)]
struct Looks {
    list: Timestamp,
    purse: Timestamp,
}

/// Starts the steward; it ends with the runtime, or when the terminal does.
#[must_use]
pub fn start(setup: Setup) -> Stewardship {
    let (registered, mailbox) = mpsc::channel(MAILBOX_MAX);
    let (told, status) = watch::channel(Vec::new());
    let steward = Steward {
        setup,
        told,
        looks: BTreeMap::new(),
    };
    tokio::spawn(steward.run(mailbox));
    Stewardship { registered, status }
}

impl Steward {
    async fn run(mut self, mut mailbox: mpsc::Receiver<Signed<Registration>>) {
        let earned = Arc::clone(&self.setup.earned);
        let (mut next, mut receipt_at) = (clock::now(), Timestamp::default());
        loop {
            tokio::select! {
                registration = mailbox.recv() => match registration {
                    Some(registration) => self.tell_terminal(registration).await,
                    None => return,
                },
                () = earned.notified() => {
                    receipt_at = clock::now();
                    next = next.min(receipt_at + PURSE_AFTER_RECEIPT);
                    continue;
                }
                () = clock::sleep_until(Some(next)) => {}
            }
            self.look_after_all().await;
            let now = clock::now();
            let every = if now < receipt_at + RECEIPT_IS_NEW {
                PURSE_AFTER_RECEIPT
            } else {
                PURSE_EVERY
            };
            next = now + every;
        }
    }

    /// Lets the terminal show a registration to coordinators.
    async fn tell_terminal(&self, signed: Signed<Registration>) {
        let member = &self.setup.member;
        let verified = signed.verify(member.network());
        let checked = verified.map_err(MemberError::from).and_then(|shown| {
            let of = (shown.signer(), member.me());
            checked_registration(shown.signed().clone(), member.network(), of)
        });
        match checked {
            Ok(registration) => {
                let input = Input::Registered(Box::new(registration));
                let message = terminal::Message::input(input);
                let _ = self.setup.terminal.send(message).await;
            }
            Err(error) => tracing::warn!("a registration is not taken: {}", chain(&error)),
        }
    }

    async fn look_after_all(&mut self) {
        let memberships = match self.setup.member.memberships().all() {
            Ok(memberships) => memberships,
            Err(error) => return tracing::warn!("{}: {}", chain(&error), error.hint()),
        };
        let mut statuses = Vec::new();
        for membership in memberships {
            let app_server = membership.app_server;
            match self.look_after(membership).await {
                Ok(status) => statuses.push(status),
                Err(error) => {
                    tracing::info!(%app_server, "{}", chain(&error));
                    let known = self.told.borrow().clone().into_iter();
                    statuses.extend(known.filter(|known| known.app_server == app_server));
                }
            }
        }
        let _ = self.told.send(statuses);
    }

    async fn look_after(&mut self, membership: Membership) -> Result<MemberStatus, MemberError> {
        let member = self.setup.member.clone();
        let (network, me) = (member.network(), member.me());
        let registration = membership.registration(network, me)?;
        let (membership, registration, purse) = self.stand(membership, registration).await?;
        let product = self.goal_of(&membership).cloned();
        if membership.ended.is_none() {
            self.refresh(&membership).await;
        }
        let mut status = MemberStatus {
            app_server: membership.app_server,
            vendor: membership.vendor.clone(),
            product: registration.product.clone(),
            registered_until: registration.expires,
            ended: membership.ended,
            goal: None,
        };
        if let Some(product) = product {
            status.goal = Some(self.work_towards(&membership, &product, purse).await?);
        }
        Ok(status)
    }

    /// Returns the goal, if it is a product of this membership.
    fn goal_of(&self, membership: &Membership) -> Option<&ProductId> {
        let goal = self.setup.goal.as_ref()?;
        membership.has(goal).then_some(goal)
    }

    /// Sees whether the computer is registered, and renews the registration in time. Returns what its owner has; none
    /// if the app server is not reached or knows it no more.
    async fn stand(
        &mut self,
        mut membership: Membership,
        mut registration: Verified<Registration>,
    ) -> Result<(Membership, Verified<Registration>, Option<Purse>), MemberError> {
        if membership.ended.is_some() {
            return Ok((membership, registration, None));
        }
        let member = &self.setup.member;
        let contact = membership.contact();
        let desk = Desk {
            line: &self.setup.line,
            contact: &contact,
        };
        let now = clock::now();
        let idle = self.goal_of(&membership).is_none();
        let looks = self.looks.entry(membership.app_server).or_default();
        let life = registration.expires.since(registration.issued);
        // A computer that was certified meanwhile earns for another owner.
        let is_due =
            now >= registration.issued + life * 2 / 3 || registration.holder != member.holder()?.0;
        if idle && !is_due && now < looks.purse + PURSE_EVERY_IDLE {
            return Ok((membership, registration, None));
        }
        let purse = match desk.purse().await {
            Ok(purse) => {
                looks.purse = now;
                Some(purse)
            }
            Err(MemberError::Fault(Fault::UnknownDevice)) if now < registration.expires => {
                let app_server = membership.app_server;
                tracing::warn!(
                    %app_server, product = %registration.product,
                    "the app server has ended the registration of this computer: `tally enroll` asks for another"
                );
                membership.ended = Some(now);
                let memberships = member.memberships();
                let asked = membership.registration.clone();
                memberships.update(app_server, |known| {
                    // A command may have enrolled it anew meanwhile.
                    if known.registration == asked {
                        known.ended = Some(now);
                    }
                })?;
                return Ok((membership, registration, None));
            }
            Err(error) => {
                tracing::debug!("{}", chain(&error));
                None
            }
        };
        if is_due {
            registration = enrolling::register(member, desk, &registration.product).await?;
            let signed = registration.signed().clone();
            let before = std::mem::replace(&mut membership.registration, signed.clone());
            let memberships = member.memberships();
            memberships.update(membership.app_server, |known| {
                // A command may have enrolled it for something else meanwhile.
                if known.registration == before {
                    known.registration = signed.clone();
                }
            })?;
            tracing::info!(until = %registration.expires, "the registration is renewed");
            self.tell_terminal(signed).await;
        }
        Ok((membership, registration, purse))
    }

    /// Fetches the newest status list if it is time, and puts licenses where the applications look.
    async fn refresh(&mut self, membership: &Membership) {
        let now = clock::now();
        let ages = membership.applications.values();
        let ages = ages.map(|product| product.terms.status_max_age_seconds / 4);
        let every = Duration::from_secs(ages.min().unwrap_or(u64::MAX));
        let every = every.clamp(LIST_EVERY.1, LIST_EVERY.0);
        let looks = self.looks.entry(membership.app_server).or_default();
        if now < looks.list + every {
            return;
        }
        match fetch_list(&self.setup.member, &self.setup.line, membership).await {
            Ok(()) => looks.list = now,
            Err(error) => tracing::debug!("no status list: {}", chain(&error)),
        }
    }

    /// Does what can be done for the license that is wanted, and says how far that is.
    async fn work_towards(
        &self,
        membership: &Membership,
        product: &ProductId,
        purse: Option<Purse>,
    ) -> Result<GoalStatus, MemberError> {
        let shelf = Shelf::new(&self.setup.member, membership, product);
        let licenses = shelf.apply()?;
        self.note_time(membership, &licenses)?;
        let offered = &membership.applications[product];
        let wanted = Wanted::of(&self.setup.member, (offered.price, product), &licenses);
        let mut goal = GoalStatus {
            product: product.clone(),
            state: wanted.state().to_owned(),
            points: Points::ZERO,
            escrowed: Points::ZERO,
            needed: None,
            license: licenses.first().map(|best| best.verdict.code),
            license_until: until(&licenses),
        };
        if let Some(purse) = &purse {
            goal.points = spendable(purse, offered.price.currency);
            let escrowed = purse.points.iter().map(|at| at.escrowed.as_micro());
            goal.escrowed = Points::from_micro(escrowed.fold(0, u64::saturating_add));
            goal.needed = wanted.needed(purse);
        }
        let Some((what, plan)) = wanted.order() else {
            return Ok(goal);
        };
        let is_under_way = membership.orders.contains_key(&what.name());
        let suffice = goal.needed.is_some_and(|needed| goal.points >= needed)
            && purse.is_some_and(|purse| wanted.is_paid_by(&purse));
        if !is_under_way && !suffice || membership.ended.is_some() {
            return Ok(goal);
        }
        goal.state = self.order(membership, (&what, plan)).await;
        let licenses = shelf.judge()?;
        goal.license = licenses.first().map(|best| best.verdict.code);
        goal.license_until = until(&licenses);
        Ok(goal)
    }

    /// Orders, or goes on with an order. Returns what came of it, in a few words.
    async fn order(&self, membership: &Membership, (what, plan): (&What, Plan)) -> String {
        let Setup { member, line, .. } = &self.setup;
        let ordering = Ordering {
            member,
            line,
            membership,
        };
        let noted = |status: &OrderStatus| tracing::info!(order = %status.order, phase = %status.phase, "goal");
        let placed = async {
            let spender = Spender::of(member, None)?;
            ordering.place((what, plan), &spender, FOLLOW, noted).await
        };
        match placed.await {
            Ok(ordered) if ordered.goods.is_some() => {
                tracing::info!(what = %what.name(), "the goal is reached");
                "reached".to_owned()
            }
            Ok(ordered) if is_at_rest(&ordered.status) => {
                let (order, status) = (ordered.status.order, ordered.status);
                let minor = status.due;
                let due = Money {
                    minor,
                    ..status.fee
                };
                format!("order {order} is {}, {due} to be paid", status.phase)
            }
            Ok(ordered) => {
                let OrderStatus { order, phase, .. } = ordered.status;
                format!("order {order} is {phase}")
            }
            Err(error) => {
                tracing::warn!(what = %what.name(), "{}; {}", chain(&error), error.hint());
                chain(&error)
            }
        }
    }

    /// Remembers the latest time known.
    fn note_time(&self, membership: &Membership, licenses: &[Judged]) -> Result<(), MemberError> {
        let seen = licenses.iter().map(|judged| judged.verdict.seen).max();
        let Some(seen) = seen.filter(|seen| *seen > membership.seen) else {
            return Ok(());
        };
        let memberships = self.setup.member.memberships();
        memberships.update(membership.app_server, |known| {
            known.seen = known.seen.max(seen);
        })
    }
}

/// Fetches the newest status list and puts it, with the licenses, where each application of an app server looks.
///
/// # Errors
/// [`MemberError`] if the app server does not give it, or the disk does not take it.
pub async fn fetch_list(
    member: &Member,
    line: &Line,
    membership: &Membership,
) -> Result<(), MemberError> {
    let contact = membership.contact();
    let desk = Desk {
        line,
        contact: &contact,
    };
    let list = desk.status_list().await?;
    for product in membership.applications.keys() {
        let shelf = Shelf::new(member, membership, product);
        shelf.keep_list(&list)?;
        shelf.apply()?;
    }
    Ok(())
}

fn until(licenses: &[Judged]) -> Option<Timestamp> {
    let best = licenses.first()?;
    if !best.verdict.code.allows_start() {
        return None;
    }
    let ends = licenses.iter().filter_map(Judged::content);
    ends.map(|license| license.expires).max()
}

/// What is to be ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    /// A license, for the whole price.
    License(What, Money),
    /// A renewal, for exactly these points.
    Renewal(What, (Points, Money)),
    /// Nothing, for this reason.
    Nothing(&'static str),
}

impl Wanted {
    /// Returns what is to be ordered for a product whose price is known, with these licenses, the best first.
    fn of(member: &Member, (price, product): (Money, &ProductId), licenses: &[Judged]) -> Self {
        let new = || What::License(product.clone(), vec![member.me()]);
        let Some(best) = licenses.first() else {
            return Self::License(new(), price);
        };
        match best.verdict.code {
            Code::Suspended => return Self::Nothing("the license is suspended"),
            Code::Revoked => return Self::Nothing("the license is revoked"),
            Code::ClockRollback => return Self::Nothing("this computer's clock was set back"),
            Code::StatusStale => return Self::Nothing("no fresh status list can be had"),
            Code::NotYet => return Self::Nothing("the license begins later"),
            Code::Valid | Code::Grace | Code::Expired => {}
            Code::DeviceMismatch
            | Code::ProductMismatch
            | Code::UnknownKey
            | Code::BadSignature
            | Code::Malformed => return Self::License(new(), price),
        }
        let last = licenses.iter().filter_map(Judged::content);
        let Some(last) = last.max_by_key(|license| license.expires) else {
            return Self::License(new(), price);
        };
        let now = clock::now();
        let before = (last.expires.since(last.not_before) / 4).min(RENEW_BEFORE);
        match last.renewal {
            Some(Renewal { points, .. }) if now + before >= last.expires => {
                Self::Renewal(What::Renewal(product.clone(), last.id), (points, price))
            }
            None if now >= last.expires => Self::License(new(), price),
            Some(_) | None => Self::Nothing("reached"),
        }
    }

    const fn state(&self) -> &'static str {
        match self {
            Self::License(..) => "earning",
            Self::Renewal(..) => "earning the renewal",
            Self::Nothing(why) => why,
        }
    }

    fn order(&self) -> Option<(What, Plan)> {
        match self {
            Self::License(what, price) => Some((what.clone(), Plan::All(*price))),
            Self::Renewal(what, (points, _)) => Some((what.clone(), Plan::Exactly(*points))),
            Self::Nothing(_) => None,
        }
    }

    fn is_paid_by(&self, purse: &Purse) -> bool {
        match self {
            Self::License(_, price) => purse.worth(price.currency) >= price.minor,
            Self::Renewal(_, (points, price)) => spendable(purse, price.currency) >= *points,
            Self::Nothing(_) => false,
        }
    }

    /// Returns about how many points are needed: exactly if those that can be spent suffice.
    fn needed(&self, purse: &Purse) -> Option<Points> {
        match self {
            Self::License(_, price) if self.is_paid_by(purse) => {
                let drawn = purse.draw(*price);
                let drawn = drawn.iter().map(|(_, points)| points.as_micro());
                Some(Points::from_micro(drawn.fold(0, u64::saturating_add)))
            }
            Self::License(_, price) => {
                let counting = purse.points.iter();
                let values = counting.filter_map(|at| at.value.map(|value| (at, value)));
                let values = values.filter(|(_, (_, of))| *of == price.currency);
                let richest = values.max_by_key(|(at, _)| at.worth(price.currency));
                let (_, (value, currency)) = richest?;
                let missing = price.minor.saturating_sub(purse.worth(currency));
                let more = points_worth(value, missing)?;
                let needed = spendable(purse, currency).as_micro().checked_add(more)?;
                Some(Points::from_micro(needed))
            }
            Self::Renewal(_, (points, _)) => Some(*points),
            Self::Nothing(_) => None,
        }
    }
}

/// Returns about how many micro-points are worth so much, rounded up.
fn points_worth(value: Price, minor: u64) -> Option<u64> {
    let product = u128::from(minor).checked_mul(u128::from(value.micro_points))?;
    let divisor = u128::from(value.minor);
    let points = (divisor > 0).then(|| product.div_ceil(divisor))?;
    u64::try_from(points).ok()
}

#[cfg(test)]
mod tests {
    use tally_protocol::purse::PointsAt;

    use super::super::tests::{Story, photo};
    use super::*;

    fn price() -> Money {
        "0.20 EUR".parse().unwrap()
    }

    /// So many micro-points at a cent for a thousand.
    fn purse(spendable: u64) -> Purse {
        let value = Price {
            minor: 1,
            micro_points: 1_000,
        };
        let at = PointsAt {
            coordinator: NodeId::from_bytes([1; 32]),
            value: Some((value, price().currency)),
            earned: Points::ZERO,
            escrowed: Points::ZERO,
            spendable: Points::from_micro(spendable),
            redeemed: Points::ZERO,
            at: Timestamp::default(),
        };
        Purse { points: vec![at] }
    }

    fn wanted(story: &Story) -> Wanted {
        let product = photo();
        let licenses = story.shelf(&product).judge().unwrap();
        Wanted::of(&story.member, (price(), &product), &licenses)
    }

    #[test]
    fn a_license_is_wanted_then_its_renewal_in_time() {
        let (story, product) = (Story::new(), photo());
        let first = wanted(&story);
        assert!(matches!(&first, Wanted::License(What::License(..), _)));
        assert!(!first.is_paid_by(&purse(19_999)) && first.is_paid_by(&purse(20_000)));
        assert_eq!(
            first.needed(&purse(7_000)),
            Some(Points::from_micro(20_000))
        );
        let shelf = story.shelf(&product);
        // 40 days long: renewed ten days before its end.
        shelf.add(&story.license(1, -29)).unwrap();
        assert_eq!(wanted(&story), Wanted::Nothing("reached"));
        shelf.add(&story.license(2, -31)).unwrap();
        assert_eq!(
            wanted(&story),
            Wanted::Nothing("reached"),
            "the later one counts"
        );
    }

    #[test]
    fn a_renewal_takes_the_points_of_its_rule() {
        let (story, product) = (Story::new(), photo());
        story.shelf(&product).add(&story.license(1, -31)).unwrap();
        let due = wanted(&story);
        assert!(
            matches!(due, Wanted::Renewal(What::Renewal(..), _)),
            "{due:?}"
        );
        assert!(!due.is_paid_by(&purse(4_999)) && due.is_paid_by(&purse(5_000)));
        // With the renewal beside it there is nothing to do.
        story.shelf(&product).add(&story.license(2, 9)).unwrap();
        assert_eq!(wanted(&story), Wanted::Nothing("reached"));
    }

    #[test]
    fn what_is_over_is_renewed_and_what_is_revoked_is_not_bought_again() {
        let (story, product) = (Story::new(), photo());
        story.shelf(&product).add(&story.license(1, -100)).unwrap();
        assert!(matches!(wanted(&story), Wanted::Renewal(..)));
        let (story, product) = (Story::new(), photo());
        story.shelf(&product).add(&story.license(1, -1)).unwrap();
        story.revoke(1);
        assert_eq!(wanted(&story), Wanted::Nothing("the license is revoked"));
    }
}
