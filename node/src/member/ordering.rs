//! Orders of an owner: a license, its renewal, a voucher; points pay as far as they go.
//!
//! ```text
//! begin (key written) -> open -> draw and sign (redeems written) -> redeem -> follow -> goods written -> end
//! ```
//!
//! Each step finds what the one before has left, at the app server or in the file, so an order that was broken off
//! anywhere goes on where it was. The key is a function of the computer, what is ordered and how often it came to an end
//! before: two processes that begin the same order at the same time have the same key, and the first to write the redeems
//! has signed them for both.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use tally_protocol::account::{Currency, Money};
use tally_protocol::app_server::{
    DECIDE_BEFORE, Fault, IdempotencyKey, OfferId, OrderStatus, Phase, Wish,
};
use tally_protocol::certificate::DeviceCertificate;
use tally_protocol::id::{LicenseId, NodeId, OrderId};
use tally_protocol::message::enroll::{Issued, OrderShown, PointsShown};
use tally_protocol::points::Points;
use tally_protocol::product::ProductId;
use tally_protocol::purse::{Draw, Purse};
use tally_protocol::redemption::Redeem;
use tally_protocol::signed::{Signed, Verified};
use tally_protocol::voucher::Voucher;

use super::kept::{Membership, Pending};
use super::line::{Contact, Desk, Line};
use super::{Member, MemberError, shelf};
use crate::clock;
use crate::error::chain;
use crate::folder;
use crate::keys::{self, Kind};

/// How long points may be asked for: shorter than they are set aside, longer than an order may take to be decided.
const REDEEM_LIFE: Duration = Duration::from_secs(23 * 3_600);
/// How often an order that came to nothing earlier is begun anew before whoever ordered hears of it.
const ATTEMPTS: u32 = 3;
/// The first pause between two looks at an order, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What is ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A license, for these computers; for any if there are none.
    License(ProductId, Vec<NodeId>),
    /// This license goes on.
    Renewal(ProductId, LicenseId),
    /// A voucher for a fee.
    Voucher(OfferId, Money),
}

impl What {
    fn wish(&self) -> Wish {
        match self.clone() {
            Self::License(product, devices) => Wish::License { product, devices },
            Self::Renewal(_, license) => Wish::Renewal { license },
            Self::Voucher(offer, fee) => Wish::Voucher { offer, fee },
        }
    }

    /// Returns by what name it stands among the orders under way.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::License(product, devices) => {
                let mut name = format!("license {product}");
                for device in devices {
                    name.push_str(&format!(" {device}"));
                }
                name
            }
            Self::Renewal(_, license) => format!("renewal {license}"),
            Self::Voucher(offer, fee) => format!("voucher {offer} {fee}"),
        }
    }

    pub(super) fn key(&self, device: NodeId, attempt: u32) -> IdempotencyKey {
        let said = format!("{device} {} {attempt}", self.name());
        let hash = blake3::hash(said.as_bytes()).to_hex();
        let key = format!("tally-{}", &hash[..32]);
        key.parse().expect("38 printable bytes are a key")
    }
}

/// How points pay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// As far as they go, up to so much money and so many points.
    UpTo(Money, Option<Points>),
    /// All of this, or there is no order.
    All(Money),
    /// Exactly so many, as a renewal costs.
    Exactly(Points),
}

/// With what the owner's points are spent.
pub struct Spender {
    key: SigningKey,
    owner: NodeId,
    /// What allows the device; none if the owner signs.
    certificate: Option<Verified<DeviceCertificate>>,
}

impl std::fmt::Debug for Spender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key stays out of logs.
        f.debug_struct("Spender")
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

impl Spender {
    /// Returns what this computer may spend with: the owner's key if it is named, the computer's own if it is its own
    /// owner or its certificate allows it, else the owner's key in the data folder.
    ///
    /// # Errors
    /// [`MemberError::MayNot`] if there is nothing of this.
    pub fn of(member: &Member, owner_key: Option<&Path>) -> Result<Self, MemberError> {
        let (holder, certificate) = member.holder()?;
        let owner = holder.owner;
        let may = |shown: &Verified<DeviceCertificate>| shown.redeem_points > Points::ZERO;
        let key = member.key.clone();
        let default = member.folder().owner_key();
        let path = match (owner_key, certificate) {
            (Some(path), _) => path.to_owned(),
            (None, None) => {
                let certificate = None;
                return Ok(Self {
                    key,
                    owner,
                    certificate,
                });
            }
            (None, Some(shown)) if may(&shown) => {
                let certificate = Some(shown);
                return Ok(Self {
                    key,
                    owner,
                    certificate,
                });
            }
            (None, Some(_)) if default.exists() => default,
            (None, Some(_)) => {
                let why = "this computer's certificate does not allow it".to_owned();
                return Err(MemberError::MayNot { owner, why });
            }
        };
        let may_not = |why| MemberError::MayNot { owner, why };
        let key = keys::read_of(Kind::Owner, &path).map_err(|error| may_not(chain(&error)))?;
        if keys::node_id(&key) != owner {
            return Err(may_not(format!("{} is another's key", path.display())));
        }
        Ok(Self {
            key,
            owner,
            certificate: None,
        })
    }

    /// Returns the most points that may be spent at a time.
    fn most(&self) -> Option<Points> {
        self.certificate.as_ref().map(|shown| shown.redeem_points)
    }

    fn sign(
        &self,
        member: &Member,
        (order, app_server): (OrderId, NodeId),
        draw: Draw,
    ) -> PointsShown {
        let (coordinator, points) = draw;
        let redeem = Redeem {
            owner: self.owner,
            coordinator,
            app_server,
            points,
            order,
            nonce: rand::random(),
            expires: clock::now() + REDEEM_LIFE,
        };
        let redeem = Verified::sign(redeem, member.network(), &self.key);
        let certificate = self.certificate.as_ref();
        (
            redeem.signed().clone(),
            certificate.map(|shown| shown.signed().clone()),
        )
    }
}

/// Plans which points to draw.
///
/// # Errors
/// [`MemberError::TooFew`] if there are not enough for a plan that needs all; [`MemberError::MayNot`] if the computer may
/// not spend so many.
pub fn draws(
    purse: &Purse,
    (plan, currency): (Plan, Currency),
    spender: &Spender,
) -> Result<Vec<Draw>, MemberError> {
    let draws = match plan {
        Plan::UpTo(most, at_most) => {
            let bounds = [at_most, spender.most()];
            let at_most = bounds.into_iter().flatten().min();
            return Ok(cut(purse.draw(most), at_most));
        }
        Plan::All(price) => {
            let worth = purse.worth(price.currency);
            if worth < price.minor {
                return Err(too_few(purse, price));
            }
            purse.draw(price)
        }
        Plan::Exactly(points) => {
            exactly(purse, points, currency).ok_or_else(|| MemberError::TooFew {
                worth: format!("{} points", spendable(purse, currency)),
                price: format!("{points} points"),
            })?
        }
    };
    let sum = draws.iter().map(|(_, points)| points.as_micro());
    let sum = Points::from_micro(sum.fold(0, u64::saturating_add));
    match spender.most() {
        Some(most) if sum > most => Err(MemberError::MayNot {
            owner: spender.owner,
            why: format!("this computer may redeem {most} points a day, {sum} are needed"),
        }),
        _ => Ok(draws),
    }
}

/// Says that there are not enough points for so much money.
#[must_use]
pub fn too_few(purse: &Purse, price: Money) -> MemberError {
    let minor = purse.worth(price.currency);
    MemberError::TooFew {
        worth: Money { minor, ..price }.to_string(),
        price: price.to_string(),
    }
}

/// Returns the draws up to so many points together.
fn cut(draws: Vec<Draw>, at_most: Option<Points>) -> Vec<Draw> {
    let Some(at_most) = at_most else {
        return draws;
    };
    let mut left = at_most.as_micro();
    let mut kept = Vec::new();
    for (coordinator, points) in draws {
        let part = points.as_micro().min(left);
        left -= part;
        if part > 0 {
            kept.push((coordinator, Points::from_micro(part)));
        }
    }
    kept
}

/// Returns the points that count in a currency.
#[must_use]
pub fn spendable(purse: &Purse, currency: Currency) -> Points {
    let counting = purse.points.iter();
    let counting = counting.filter(|at| at.value.is_some_and(|(_, of)| of == currency));
    let sum = counting.map(|at| at.spendable.as_micro());
    Points::from_micro(sum.fold(0, u64::saturating_add))
}

/// Draws exactly so many points, where there are most first.
fn exactly(purse: &Purse, points: Points, currency: Currency) -> Option<Vec<Draw>> {
    if spendable(purse, currency) < points {
        return None;
    }
    let counting = purse.points.iter();
    let counting = counting.filter(|at| at.value.is_some_and(|(_, of)| of == currency));
    let mut all: Vec<Draw> = counting.map(|at| (at.coordinator, at.spendable)).collect();
    all.sort_by_key(|(coordinator, points)| (std::cmp::Reverse(*points), *coordinator));
    Some(cut(all, Some(points)))
}

/// An order and where it is placed.
#[derive(Debug)]
pub struct Ordering<'a> {
    /// Who orders.
    pub member: &'a Member,
    /// The way to the app server.
    pub line: &'a Line,
    /// What is known of it.
    pub membership: &'a Membership,
}

/// What came of an order.
#[derive(Debug, Clone)]
pub struct Ordered {
    /// How it is.
    pub status: OrderStatus,
    /// What was issued, and where it was written.
    pub goods: Option<(Issued, PathBuf)>,
}

impl Membership {
    /// Returns where the app server is.
    #[must_use]
    pub fn contact(&self) -> Contact {
        Contact {
            app_server: self.app_server,
            addresses: self.addresses.clone(),
        }
    }
}

/// An order that was begun earlier came to nothing: the next attempt begins another one.
enum Attempt {
    Ended(Box<OrderShown>),
    Again(MemberError),
}

impl Ordering<'_> {
    /// Orders, or goes on with the order that is under way for the same thing, until it is fulfilled or waits for
    /// somebody, at most for `patience`.
    ///
    /// # Errors
    /// [`MemberError`]. What was begun goes on when this is called again.
    pub async fn place(
        &self,
        (what, plan): (&What, Plan),
        spender: &Spender,
        patience: Duration,
        mut tell: impl FnMut(&OrderStatus) + Send,
    ) -> Result<Ordered, MemberError> {
        let contact = self.membership.contact();
        let desk = Desk {
            line: self.line,
            contact: &contact,
        };
        let mut attempts = 1;
        let shown = loop {
            match self.attempt(desk, (what, plan), spender).await? {
                Attempt::Ended(shown) => break shown,
                Attempt::Again(error) => {
                    self.update(|known| known.end(&what.name()))?;
                    if attempts == ATTEMPTS {
                        return Err(error);
                    }
                    attempts += 1;
                }
            }
        };
        let shown = follow(desk, *shown, patience, &mut tell).await?;
        self.conclude(what, shown)
    }

    /// Opens the order and hands in the points.
    async fn attempt(
        &self,
        desk: Desk<'_>,
        (what, plan): (&What, Plan),
        spender: &Spender,
    ) -> Result<Attempt, MemberError> {
        let (name, wish, me) = (what.name(), what.wish(), self.member.me());
        let pending =
            self.update(|known| known.begin(&name, &wish, |attempt| what.key(me, attempt)))?;
        let shown = match desk.open(wish, pending.key.clone()).await {
            Ok(shown) => shown,
            Err(MemberError::Fault(fault @ Fault::KeyUsed)) => {
                return Ok(Attempt::Again(MemberError::Fault(fault)));
            }
            Err(error) => return Err(error),
        };
        if shown.owner != spender.owner {
            let why = "the order is another owner's".to_owned();
            return Err(MemberError::Answer(why));
        }
        let (order, phase) = (shown.status.order, shown.status.phase);
        if matches!(phase, Phase::Void | Phase::Refunded) {
            return Ok(Attempt::Again(void(&shown.status)));
        }
        if phase != Phase::Open {
            return Ok(Attempt::Ended(Box::new(shown)));
        }
        let currency = shown.status.fee.currency;
        let points = self
            .points((&name, &pending, order), desk, (plan, currency), spender)
            .await?;
        if points.is_empty() {
            return Ok(Attempt::Ended(Box::new(shown)));
        }
        match desk.redeem(order, points).await {
            Ok(shown) => Ok(Attempt::Ended(Box::new(shown))),
            // Somebody else of this owner was first with other points.
            Err(MemberError::Fault(Fault::Taken)) => {
                Ok(Attempt::Ended(Box::new(desk.order(order).await?)))
            }
            Err(MemberError::Fault(fault)) => {
                // These will never do: the next time others are signed.
                self.update(|known| forget_points(known, &name))?;
                Err(MemberError::Fault(fault))
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the points for an order: those that were signed for it already, or else new ones.
    async fn points(
        &self,
        (name, pending, order): (&str, &Pending, OrderId),
        desk: Desk<'_>,
        plan: (Plan, Currency),
        spender: &Spender,
    ) -> Result<Vec<PointsShown>, MemberError> {
        if pending.order == Some(order) && self.are_fresh(&pending.points) {
            return Ok(pending.points.clone());
        }
        let purse = desk.purse().await?;
        let draws = draws(&purse, plan, spender)?;
        if let (Wish::Voucher { fee, .. }, true) = (&pending.wish, draws.is_empty()) {
            // Nobody pays for it but points.
            return Err(too_few(&purse, *fee));
        }
        let to = (order, desk.contact.app_server);
        let signed = draws
            .into_iter()
            .map(|draw| spender.sign(self.member, to, draw));
        let signed: Vec<PointsShown> = signed.collect();
        self.update(|known| {
            let Some(now) = known.orders.get_mut(name) else {
                return Vec::new();
            };
            // Whoever was first has signed for both.
            if now.order == Some(order) && now.points != pending.points {
                return now.points.clone();
            }
            now.order = Some(order);
            now.points.clone_from(&signed);
            signed
        })
    }

    fn are_fresh(&self, points: &[PointsShown]) -> bool {
        let now = clock::now();
        let is_fresh = |signed: &Signed<Redeem>| {
            let redeem = signed.clone().verify(self.member.network());
            redeem.is_ok_and(|redeem| redeem.expires > now + DECIDE_BEFORE)
        };
        !points.is_empty() && points.iter().all(|(redeem, _)| is_fresh(redeem))
    }

    /// Keeps what was issued, and ends what came to an end.
    fn conclude(&self, what: &What, shown: OrderShown) -> Result<Ordered, MemberError> {
        let status = shown.status;
        match status.phase {
            Phase::Void | Phase::Refunded => {
                self.update(|known| known.end(&what.name()))?;
                return Err(void(&status));
            }
            Phase::Fulfilled => {}
            Phase::Open | Phase::Reserving | Phase::Decided | Phase::Posted | Phase::Paid => {
                return Ok(Ordered {
                    status,
                    goods: None,
                });
            }
        }
        let goods = shown.goods.ok_or_else(|| {
            MemberError::Answer("the order is fulfilled, and there is nothing".to_owned())
        })?;
        let path = match (&goods, what) {
            (Issued::License(license), What::License(product, _) | What::Renewal(product, _)) => {
                shelf::Shelf::new(self.member, self.membership, product).add(license)?
            }
            (Issued::Voucher(voucher), What::Voucher(..)) => self.keep_voucher(voucher)?,
            (Issued::License(_), What::Voucher(..))
            | (Issued::Voucher(_), What::License(..) | What::Renewal(..)) => {
                return Err(MemberError::Answer("it issued something else".to_owned()));
            }
        };
        // Only now: until it is written, the same command finds the same order.
        self.update(|known| known.end(&what.name()))?;
        Ok(Ordered {
            status,
            goods: Some((goods, path)),
        })
    }

    fn keep_voucher(&self, voucher: &Signed<Voucher>) -> Result<PathBuf, MemberError> {
        let trust = shelf::trust(self.member, self.membership);
        let certified = trust.check(voucher.clone());
        let certified = certified.map_err(|error| MemberError::Answer(chain(&error)))?;
        let path = self.member.folder().voucher(&certified.statement().id);
        write(&path, voucher.to_text().as_bytes())?;
        Ok(path)
    }

    fn update<T>(&self, update: impl FnOnce(&mut Membership) -> T) -> Result<T, MemberError> {
        let memberships = self.member.memberships();
        memberships.update(self.membership.app_server, update)
    }
}

/// Writes a file as a whole, with the folder it is in.
pub(super) fn write(path: &Path, content: &[u8]) -> Result<(), MemberError> {
    let parent = path.parent().unwrap_or(path);
    std::fs::create_dir_all(parent).map_err(MemberError::io(parent))?;
    folder::write_whole(path, content).map_err(MemberError::io(path))
}

fn forget_points(membership: &mut Membership, name: &str) {
    if let Some(pending) = membership.orders.get_mut(name) {
        pending.points.clear();
    }
}

fn void(status: &OrderStatus) -> MemberError {
    let why = match &status.void {
        Some(reason) => format!("{} is void: {reason:?}", status.order),
        None => format!("{} was refunded", status.order),
    };
    MemberError::Void(why)
}

/// Returns whether nothing happens to an order before somebody does something.
#[must_use]
pub fn is_at_rest(status: &OrderStatus) -> bool {
    match status.phase {
        Phase::Open | Phase::Fulfilled | Phase::Void | Phase::Refunded => true,
        Phase::Posted => status.due > 0,
        Phase::Reserving | Phase::Decided | Phase::Paid => false,
    }
}

/// Follows an order until it is at rest.
async fn follow(
    desk: Desk<'_>,
    mut shown: OrderShown,
    patience: Duration,
    tell: &mut (impl FnMut(&OrderStatus) + Send),
) -> Result<OrderShown, MemberError> {
    let start = std::time::Instant::now();
    let mut pause = PAUSE.0;
    loop {
        tell(&shown.status);
        if is_at_rest(&shown.status) || start.elapsed() >= patience {
            return Ok(shown);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
        match desk.order(shown.status.order).await {
            Ok(now) => shown = now,
            // The order goes on without us; so does the look at it.
            Err(error @ MemberError::Unreached(..)) if start.elapsed() < patience => {
                tracing::debug!("no word of an order: {}", chain(&error));
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use tally_protocol::purse::PointsAt;
    use tally_protocol::rate_card::Price;
    use tally_protocol::time::Timestamp;

    use super::*;

    fn at(byte: u8, spendable: u64, currency: &str) -> PointsAt {
        let price = Price {
            minor: 1,
            micro_points: 1_000,
        };
        PointsAt {
            coordinator: NodeId::from_bytes([byte; 32]),
            value: Some((price, currency.parse().unwrap())),
            earned: Points::ZERO,
            escrowed: Points::ZERO,
            spendable: Points::from_micro(spendable),
            redeemed: Points::ZERO,
            at: Timestamp::default(),
        }
    }

    fn purse() -> Purse {
        let points = vec![
            at(1, 5_000, "EUR"),
            at(2, 9_000, "EUR"),
            at(3, 90_000, "USD"),
        ];
        Purse { points }
    }

    fn spender(most: Option<u64>) -> Spender {
        let key = SigningKey::from_bytes(&[1; 32]);
        let owner = keys::node_id(&key);
        let certificate = most.map(|most| {
            let certificate = DeviceCertificate {
                device: owner,
                not_before: Timestamp::default(),
                not_after: Timestamp::from_millis(1),
                serial: 1,
                redeem_points: Points::from_micro(most),
            };
            Verified::sign(certificate, &"home".parse().unwrap(), &key)
        });
        Spender {
            key,
            owner,
            certificate,
        }
    }

    fn drawn(plan: Plan, most: Option<u64>) -> Result<Vec<(u8, u64)>, MemberError> {
        let eur = "EUR".parse().unwrap();
        let draws = draws(&purse(), (plan, eur), &spender(most))?;
        let plain = |(of, points): Draw| (of.as_bytes()[0], points.as_micro());
        Ok(draws.into_iter().map(plain).collect())
    }

    fn euro(minor: u64) -> Money {
        let currency = "EUR".parse().unwrap();
        Money { currency, minor }
    }

    #[test]
    fn points_go_as_far_as_they_do() {
        let up_to = |minor, at_most: Option<u64>| {
            let plan = Plan::UpTo(euro(minor), at_most.map(Points::from_micro));
            drawn(plan, None).unwrap()
        };
        assert_eq!(up_to(12, None), [(2, 9_000), (1, 3_000)]);
        assert_eq!(up_to(100, None), [(2, 9_000), (1, 5_000)]);
        assert_eq!(up_to(100, Some(10_000)), [(2, 9_000), (1, 1_000)]);
        assert_eq!(up_to(100, Some(0)), []);
        let plan = Plan::UpTo(euro(12), None);
        assert_eq!(drawn(plan, Some(500)).unwrap(), [(2, 500)]);
    }

    #[test]
    fn a_plan_for_all_needs_all() {
        assert_eq!(drawn(Plan::All(euro(14)), None).unwrap().len(), 2);
        let few = drawn(Plan::All(euro(15)), None);
        assert!(matches!(few, Err(MemberError::TooFew { .. })));
        let capped = drawn(Plan::All(euro(14)), Some(13_999));
        assert!(matches!(capped, Err(MemberError::MayNot { .. })));
        assert!(drawn(Plan::All(euro(14)), Some(14_000)).is_ok());
    }

    #[test]
    fn a_renewal_takes_exactly_its_points_of_one_currency() {
        let exactly = |micro| drawn(Plan::Exactly(Points::from_micro(micro)), None);
        assert_eq!(exactly(9_001).unwrap(), [(2, 9_000), (1, 1)]);
        assert_eq!(exactly(14_000).unwrap(), [(2, 9_000), (1, 5_000)]);
        assert!(matches!(exactly(14_001), Err(MemberError::TooFew { .. })));
    }

    #[test]
    fn each_order_has_a_key_of_its_own() {
        let device = NodeId::from_bytes([1; 32]);
        let license = What::License("photo".parse().unwrap(), vec![device]);
        let any = What::License("photo".parse().unwrap(), Vec::new());
        let keys = [
            license.key(device, 0),
            license.key(device, 1),
            license.key(NodeId::from_bytes([2; 32]), 0),
            any.key(device, 0),
        ];
        let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
        assert_eq!(license.key(device, 0), keys[0]);
    }
}
