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

use tally_protocol::account::{Currency, Money};
use tally_protocol::app_server::{
    DECIDE_BEFORE, Fault, IdempotencyKey, OfferId, OrderStatus, Phase, Wish,
};
use tally_protocol::id::{LicenseId, NodeId, OrderId};
use tally_protocol::message::enroll::{Issued, OrderShown, PointsShown};
use tally_protocol::product::ProductId;
use tally_protocol::redemption::Redeem;
use tally_protocol::signed::Signed;
use tally_protocol::voucher::Voucher;

use super::kept::{Membership, Pending};
use super::line::{Contact, Desk, Line};
use super::spending::{Plan, Spender, draws, too_few};
use super::{Member, MemberError, shelf};
use crate::clock;
use crate::error::chain;
use crate::folder;

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
        let (key, shown) = loop {
            match self.attempt(desk, (what, plan), spender).await? {
                (key, Attempt::Ended(shown)) => break (key, shown),
                (key, Attempt::Again(error)) => {
                    self.update(|known| known.end(&what.name(), &key))?;
                    if attempts == ATTEMPTS {
                        return Err(error);
                    }
                    attempts += 1;
                }
            }
        };
        let shown = follow(desk, *shown, patience, &mut tell).await?;
        self.conclude((what, &key), shown)
    }

    /// Opens the order and hands in the points.
    async fn attempt(
        &self,
        desk: Desk<'_>,
        (what, plan): (&What, Plan),
        spender: &Spender,
    ) -> Result<(IdempotencyKey, Attempt), MemberError> {
        let (name, wish, me) = (what.name(), what.wish(), self.member.me());
        let pending =
            self.update(|known| known.begin(&name, &wish, |attempt| what.key(me, attempt)))?;
        let key = pending.key.clone();
        let attempt = self.go_on(desk, (what, plan), spender, pending).await?;
        Ok((key, attempt))
    }

    /// Goes on with an order that is kept.
    async fn go_on(
        &self,
        desk: Desk<'_>,
        (what, plan): (&What, Plan),
        spender: &Spender,
        pending: Pending,
    ) -> Result<Attempt, MemberError> {
        let (name, wish) = (what.name(), what.wish());
        let shown = match desk.open(wish, pending.key.clone()).await {
            Ok(shown) => shown,
            Err(MemberError::Fault(fault @ Fault::KeyUsed)) => {
                return Ok(Attempt::Again(MemberError::Fault(fault)));
            }
            Err(error) => return Err(error),
        };
        if shown.owner != spender.owner() {
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
    fn conclude(
        &self,
        (what, key): (&What, &IdempotencyKey),
        shown: OrderShown,
    ) -> Result<Ordered, MemberError> {
        let status = shown.status;
        match status.phase {
            Phase::Void | Phase::Refunded => {
                self.update(|known| known.end(&what.name(), key))?;
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
        self.update(|known| known.end(&what.name(), key))?;
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
    use super::*;

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
